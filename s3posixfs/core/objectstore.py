"""The one interface through which the mount sees an S3 store.

The S3 client implements it bound to one identity's credentials; tests implement it in memory
and wrap it to inject faults. Every method raises :class:`~s3posixfs.core.errors.S3Error`.
A cancelled call may or may not have taken effect in the store; it leaves no half object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import (
    BucketStat,
    Capabilities,
    ListPage,
    ObjectStat,
    PartResult,
    PutResult,
)


@dataclass(frozen=True, slots=True)
class FileRange:
    """``length`` bytes at ``offset`` of an open file, as a request body.

    The descriptor is read with ``pread`` and stays the caller's to close, after the call.
    """

    fd: int
    offset: int
    length: int


Body = bytes | bytearray | memoryview | FileRange


class ObjectStore(Protocol):
    """S3 as one identity sees it."""

    @property
    def capabilities(self) -> Capabilities:
        """What the endpoint was found to do."""
        ...

    async def list_buckets(self) -> tuple[BucketStat, ...]:
        """The buckets this identity may list."""
        ...

    async def head_bucket(self, bucket: str) -> None:
        """Raise NoSuchBucket or AccessDenied unless the bucket may be listed."""
        ...

    async def create_bucket(self, bucket: str) -> None: ...

    async def delete_bucket(self, bucket: str) -> None: ...

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        token: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        """One ListObjectsV2 page, with owners, and with metadata where the store can."""
        ...

    async def head(self, bucket: str, key: str) -> ObjectStat:
        """The object's attributes; NoSuchKey where there is none."""
        ...

    async def heads(self, bucket: str, keys: Sequence[str]) -> Mapping[str, ObjectStat]:
        """Attributes of objects that nobody waits for yet, by key: of those that were answered at
        the first attempt. Why others are missing is for :meth:`head` to say."""
        ...

    async def get(
        self,
        bucket: str,
        key: str,
        *,
        offset: int = 0,
        length: int | None = None,
        if_match: str | None = None,
    ) -> tuple[ObjectStat, memoryview]:
        """``length`` bytes at ``offset`` (all that is there, where fewer are).

        The stat describes the whole object (``size`` is its full size). An offset at or past
        the end gives an empty view. PreconditionFailed where the ETag is not ``if_match``.
        """
        ...

    async def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> PutResult:
        """Write a whole object in one step. ``headers``: as in :class:`ObjectStat`.

        ``if_none_match`` asks for ``If-None-Match: *``; conditions the store does not honour
        (:class:`Capabilities`) are emulated by a HEAD before, which is not atomic.
        """
        ...

    async def delete(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Mapping[str, S3Error]:
        """Remove up to 1,000 objects; what was refused, by key."""
        ...

    async def copy(
        self,
        source_bucket: str,
        source_key: str,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        source_if_match: str | None = None,
    ) -> PutResult:
        """Copy inside the store. With ``metadata`` it replaces the source's, else it goes along.

        Then ``headers`` are the object's too; without them the source is asked for its own.
        Objects over 5 GiB are copied by parts.
        """
        ...

    async def rename(
        self, bucket: str, source_key: str, key: str, *, no_replace: bool = False
    ) -> None:
        """RenameObject; only where :attr:`Capabilities.rename_object`."""
        ...

    async def rename_folder(self, bucket: str, source: str, prefix: str) -> None:
        """Give every key that begins with ``source`` the beginning ``prefix``, in one step; both
        end in a slash. Only where :attr:`Capabilities.rename_folder`.

        FolderNotEmpty where more than a marker is there already; NoSuchKey where nothing begins
        with ``source``.
        """
        ...

    async def create_multipart(
        self,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Begin a multipart upload; its upload ID."""
        ...

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> PartResult: ...

    async def copy_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_bucket: str,
        source_key: str,
        offset: int,
        length: int,
        source_if_match: str | None = None,
    ) -> PartResult: ...

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartResult],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> PutResult: ...

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None: ...
