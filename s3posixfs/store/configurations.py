"""The buckets' configurations as rules, read once and again only when they change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from s3posixfs.core.errors import S3Error
from s3posixfs.store.cors import CorsRule, parse_cors
from s3posixfs.store.lifecycle import LifecycleRule, parse_lifecycle

log = logging.getLogger(__name__)

Rule = TypeVar("Rule")


class Documents(Protocol):
    """Where configurations are kept."""

    def peek_document(self, bucket: str, kind: str) -> bytes | None: ...


class _Kind(Generic[Rule]):
    """One kind of configuration of all buckets."""

    __slots__ = ("_documents", "_known", "_name", "_parse")

    def __init__(
        self, documents: Documents, name: str, parse: Callable[[bytes], tuple[Rule, ...]]
    ) -> None:
        self._documents = documents
        self._name = name
        self._parse = parse
        self._known: dict[str, tuple[bytes, tuple[Rule, ...]]] = {}

    def of(self, bucket: str) -> tuple[Rule, ...]:
        """The bucket's rules; none where it has no such configuration."""
        text = self._documents.peek_document(bucket, self._name)
        if text is None:
            self._known.pop(bucket, None)
            return ()
        known = self._known.get(bucket)
        if known is not None and known[0] == text:
            return known[1]
        try:
            rules = self._parse(text)
        except S3Error as error:
            log.error("the %s of bucket %s is unreadable: %s", self._name, bucket, error.message)
            rules = ()
        self._known[bucket] = (text, rules)
        return rules


class Configurations:
    """Reading one blocks for a file, so do it in a thread."""

    __slots__ = ("cors", "lifecycle")

    def __init__(self, documents: Documents) -> None:
        self.cors: _Kind[CorsRule] = _Kind(documents, "cors", parse_cors)
        self.lifecycle: _Kind[LifecycleRule] = _Kind(documents, "lifecycle", parse_lifecycle)
