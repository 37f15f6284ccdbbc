"""Files that are being written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import PutResult
from s3posixfs.data.reader import ObjectReader, Readers
from s3posixfs.data.version import ObjectVersion


class StagingArea:
    """Where staged files keep what is not in S3 yet."""

    def __init__(
        self,
        cache_dir: Path,
        *,
        memory_limit: int,
        disk_limit: int | None,
        clock: Clock,
        readers: Readers,
    ) -> None:
        self._readers = readers

    def create(self, base: ObjectReader | None) -> StagedFile:
        """A staged file over ``base`` (which stays the caller's to close), or an empty one."""
        return StagedFile(self._readers, base)

    def close(self) -> None:
        """Give the directory free for another daemon."""


class StagedFile:
    """A file's content while it differs, or may come to differ, from the object in S3."""

    def __init__(self, readers: Readers, base: ObjectReader | None) -> None:
        self._readers = readers
        self._base = base
        self._data: bytearray | None = None if base else bytearray()
        self.generation = 0  # grows with every change of the content
        self.dirty = base is None

    @property
    def size(self) -> int:
        """Bytes."""
        if self._data is not None:
            return len(self._data)
        return self._base.version.size if self._base else 0

    @property
    def version(self) -> ObjectVersion | None:
        """The object version this file is over: the last upload's, else the base's."""
        return self._base.version if self._base else None

    async def _load(self) -> bytearray:
        if self._data is None:
            assert self._base is not None
            self._data = bytearray(await self._base.read(0, self._base.version.size))
        return self._data

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """``length`` bytes at ``offset``; fewer only at the end of the file."""
        return bytes((await self._load())[offset : offset + length])

    async def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Write all of ``data``; its length."""
        content = await self._load()
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        self.generation += 1
        self.dirty = True
        return len(data)

    async def truncate(self, size: int) -> None:
        """Make the file ``size`` bytes long; what is new reads as zeros."""
        content = await self._load()
        if size < len(content):
            del content[size:]
        else:
            content.extend(bytes(size - len(content)))
        self.generation += 1
        self.dirty = True

    async def upload(
        self,
        store: ObjectStore,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None,
        content_type: str | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> PutResult:
        """Put the content into S3 in one step; a failure leaves the file dirty and intact."""
        content = bytes(await self._load())
        result = await store.put(
            bucket,
            key,
            content,
            metadata=metadata,
            content_type=content_type,
            if_match=if_match,
            if_none_match=if_none_match,
        )
        self._base = self._readers.open(
            store, ObjectVersion(bucket, key, result.etag, len(content))
        )
        self.dirty = False
        return result

    async def aclose(self) -> None:
        """Drop the staged data, uploaded or not."""
        await trio.lowlevel.checkpoint()
