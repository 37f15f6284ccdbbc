"""What ``x-amz-content-sha256`` says of a request's body."""

from __future__ import annotations

import re
from dataclasses import dataclass

from s3posixfs.sigv4 import problems
from s3posixfs.sigv4.constants import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
)

_HASH = re.compile(r"[0-9a-fA-F]{64}")
_CHUNKED = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})


@dataclass(frozen=True, slots=True)
class PayloadMode:
    """How a body is protected; ``value`` is the text that the signature covers.

    An empty ``value`` means that the request did not say (services other than S3): the
    signature covers the SHA-256 of the body, which must be read before verifying.
    """

    value: str

    @classmethod
    def parse(cls, value: str) -> PayloadMode:
        """Raises InvalidArgument for anything that is no mode and no SHA-256 in hex."""
        if value in _CHUNKED or value == UNSIGNED_PAYLOAD or _HASH.fullmatch(value):
            return cls(value)
        raise problems.payload_hash_invalid()

    @property
    def sha256(self) -> str | None:
        """The hash (lower-case hex) that the body must have, where the request gave one."""
        return self.value.lower() if _HASH.fullmatch(self.value) else None

    @property
    def declared(self) -> bool:
        return bool(self.value)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in the aws-chunked framing."""
        return self.value in _CHUNKED

    @property
    def chunks_signed(self) -> bool:
        return self.value in (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER)

    @property
    def trailer(self) -> bool:
        """Whether trailing headers follow the last chunk."""
        return self.value in (STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER)
