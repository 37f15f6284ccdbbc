"""Reading one version of an object."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import MIB
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.version import ObjectVersion


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """Sizes in bytes: what a random read fetches, the smallest and the largest range of a
    sequential reader, and how far it reads ahead at most."""

    random_range: int = 128 * 1024
    first_range: int = 1 * MIB
    largest_range: int = 8 * MIB
    window: int = 64 * MIB


class ObjectReader:
    """Reads of one object version, through the shared block cache."""

    def __init__(
        self,
        store: ObjectStore,
        version: ObjectVersion,
        *,
        cache: BlockCache,
        budget: MemoryBudget,
        nursery: trio.Nursery,
        settings: ReadSettings,
    ) -> None:
        self.store = store
        self.version = version

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """``length`` bytes at ``offset``; fewer only at the end of the object."""
        length = min(length, self.version.size - offset)
        if length <= 0:
            return b""
        _, data = await self.store.get(
            self.version.bucket,
            self.version.key,
            offset=offset,
            length=length,
            if_match=self.version.etag,
        )
        return data

    async def aclose(self) -> None:
        """Stop reading ahead."""
        await trio.lowlevel.checkpoint()


class Readers:
    """Opens readers that share one cache, one budget and one nursery."""

    def __init__(
        self,
        *,
        cache: BlockCache,
        budget: MemoryBudget,
        nursery: trio.Nursery,
        settings: ReadSettings | None = None,
    ) -> None:
        self.cache = cache
        self.budget = budget
        self._nursery = nursery
        self._settings = settings if settings is not None else ReadSettings()

    def open(self, store: ObjectStore, version: ObjectVersion) -> ObjectReader:
        """A reader of ``version`` that signs as ``store`` does; close it with ``aclose``."""
        return ObjectReader(
            store,
            version,
            cache=self.cache,
            budget=self.budget,
            nursery=self._nursery,
            settings=self._settings,
        )
