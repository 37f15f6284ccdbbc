"""A filesystem over a store in memory, with identities, for tests that need no kernel."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from s3posixfs.core.clock import OffsetClock
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import Capabilities, PosixOwner
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagingArea, StagingSettings
from s3posixfs.fs.attributes import AttributeChanges, FileAttributes
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.filesystem import FileSystem
from s3posixfs.fs.signers import Signer
from s3posixfs.identity.map import Identity, IdentityMap
from tests.memory_store import ALL_CAPABILITIES, Authorize, MemoryStore

BUCKET = "shared"
PLAIN = Capabilities(conditional_put=True)  # as Ceph RGW: no rename, no metadata in listings
MIB = 1024 * 1024

ROOT = Caller(0, 0)
ALICE = Caller(1001, 1001)
BOB = Caller(1002, 1002)
CAROL = Caller(1003, 1003)
DAVE = Caller(1500, 1500)  # no identity

IDENTITIES = IdentityMap(
    tuple(
        Identity(name, (name,), (name,), PosixOwner(uid, uid))
        for name, uid in (("alice", 1001), ("bob", 1002), ("carol", 1003))
    )
)

Wrap = Callable[[ObjectStore], ObjectStore]


class MemorySigners:
    """Identities whose names are the memory store's owners."""

    def __init__(
        self, store: MemoryStore, identities: IdentityMap, wrap: Wrap = lambda store: store
    ) -> None:
        self._identities = identities
        self._daemon = Signer("daemon", wrap(store), trusted=True)
        self._signers = {
            identity.name: Signer(
                identity.name,
                wrap(store.acting_as(identity.name)),
                owner=identity.owner,
                trusted=identity.admin,
            )
            for identity in identities.identities
        }
        self.without_credentials: set[str] = set()

    def _named(self, name: str) -> Signer | None:
        return None if name in self.without_credentials else self._signers.get(name)

    def daemon(self) -> Signer:
        return self._daemon

    def for_uid(self, uid: int) -> Signer | None:
        identity = self._identities.by_uid(uid)
        return self._named(identity.name) if identity is not None else None

    def for_owner(self, owner_id: str) -> Signer | None:
        if owner_id == "daemon":
            return self._daemon
        identity = self._identities.by_owner_id(owner_id)
        return self._named(identity.name) if identity is not None else None

    def for_name(self, name: str) -> Signer | None:
        return self._daemon if name == "daemon" else self._named(name)

    def identity_map(self) -> IdentityMap:
        return self._identities

    def trusts(self, owner_id: str) -> bool:
        identity = self._identities.by_owner_id(owner_id)
        return owner_id == "daemon" or (identity is not None and identity.admin)


@dataclass
class Bed:
    """The filesystem and its store, with path helpers that act as a kernel would."""

    fs: FileSystem
    store: MemoryStore
    signers: MemorySigners
    clock: OffsetClock
    owners: dict[str, str] = field(default_factory=dict)

    async def walk(self, path: str, caller: Caller = ROOT) -> FileAttributes:
        """Look a path up segment by segment."""
        found = await self.fs.getattr(1, caller)
        for name in path.strip("/").split("/"):
            if name:
                found = await self.fs.lookup(found.inode, name.encode(), caller)
        return found

    async def split(self, path: str, caller: Caller) -> tuple[int, bytes]:
        parent, _, name = path.strip("/").rpartition("/")
        return (await self.walk(parent, caller)).inode, name.encode()

    async def write(
        self,
        path: str,
        data: bytes,
        caller: Caller = ROOT,
        *,
        mode: int = 0o644,
        flags: int = os.O_CREAT | os.O_WRONLY | os.O_TRUNC,
    ) -> FileAttributes:
        """Create or replace a file and close it."""
        parent, name = await self.split(path, caller)
        found, opened = await self.fs.create(parent, name, mode, flags, caller)
        try:
            if data:
                assert await self.fs.write(opened.handle, 0, data) == len(data)
            await self.fs.flush(opened.handle)
        finally:
            await self.fs.release(opened.handle)
        return await self.fs.getattr(found.inode, caller)

    async def read(self, path: str, caller: Caller = ROOT) -> bytes:
        """A file's content."""
        found = await self.walk(path, caller)
        opened = await self.fs.open(found.inode, os.O_RDONLY, caller)
        try:
            pieces: list[bytes] = []
            offset = 0
            while piece := bytes(await self.fs.read(opened.handle, offset, 128 * 1024)):
                pieces.append(piece)
                offset += len(piece)
            return b"".join(pieces)
        finally:
            await self.fs.flush(opened.handle)
            await self.fs.release(opened.handle)

    async def list(self, path: str = "", caller: Caller = ROOT) -> dict[str, FileAttributes]:
        """A directory's entries without the dots."""
        found = await self.walk(path, caller)
        handle = await self.fs.opendir(found.inode, caller)
        entries: dict[str, FileAttributes] = {}

        def emit(name: bytes, attributes: FileAttributes, _: int) -> bool:
            assert name.decode() not in entries
            entries[name.decode()] = attributes
            return True

        try:
            await self.fs.readdir(handle, 0, emit)
        finally:
            await self.fs.releasedir(handle)
        del entries["."], entries[".."]
        return entries

    async def unlink(self, path: str, caller: Caller = ROOT) -> None:
        parent, name = await self.split(path, caller)
        await self.fs.unlink(parent, name, caller)

    async def mkdir(self, path: str, caller: Caller = ROOT, mode: int = 0o755) -> FileAttributes:
        parent, name = await self.split(path, caller)
        return await self.fs.mkdir(parent, name, mode, caller)

    async def rmdir(self, path: str, caller: Caller = ROOT) -> None:
        parent, name = await self.split(path, caller)
        await self.fs.rmdir(parent, name, caller)

    async def rename(self, old: str, new: str, caller: Caller = ROOT, flags: int = 0) -> None:
        old_parent, old_name = await self.split(old, caller)
        new_parent, new_name = await self.split(new, caller)
        await self.fs.rename(old_parent, old_name, new_parent, new_name, flags, caller)

    async def setattr(
        self, path: str, changes: AttributeChanges, caller: Caller = ROOT
    ) -> FileAttributes:
        found = await self.walk(path, caller)
        return await self.fs.setattr(found.inode, changes, None, caller)

    async def chmod(self, path: str, mode: int, caller: Caller = ROOT) -> FileAttributes:
        return await self.setattr(path, AttributeChanges(mode=mode), caller)

    async def chown(
        self, path: str, uid: int | None, gid: int | None, caller: Caller = ROOT
    ) -> FileAttributes:
        return await self.setattr(path, AttributeChanges(uid=uid, gid=gid), caller)

    async def mode(self, path: str) -> str:
        return stat.filemode((await self.walk(path)).attributes.mode)

    async def owner(self, path: str) -> tuple[int, int]:
        attributes = (await self.walk(path)).attributes
        return attributes.uid, attributes.gid

    def s3_owner(self, key: str, bucket: str = BUCKET) -> str:
        owner = self.store.stat(bucket, key).owner
        assert owner is not None
        return owner.id

    def put(
        self,
        key: str,
        data: bytes = b"x",
        *,
        owner: str = "daemon",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """What another S3 client writes."""
        self.store.acting_as(owner).put_now(BUCKET, key, data, metadata=metadata)

    async def pack(self) -> int:
        """Let time pass, and have all packed that can be; the number of packed inodes."""
        for _ in range(2):
            self.pass_time()
            await self.fs.sweeper.sweep(few=0)
        packed = self.fs.status()["packed_inodes"]
        assert isinstance(packed, int)
        return packed

    def pass_time(self, seconds: float = 10.0) -> None:
        """Let every cached answer grow old."""
        self.clock.offset += seconds


class StillClock(OffsetClock):
    """What is cached grows old by ``Bed.pass_time`` alone, not because the machine is busy."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def monotonic(self) -> float:
        return self._began + self.offset


@asynccontextmanager
async def filesystem_bed(
    tmp_path: Path,
    *,
    config: FsConfig | None = None,
    capabilities: Capabilities = ALL_CAPABILITIES,
    authorize: Authorize | None = None,
    identities: IdentityMap = IDENTITIES,
    wrap: Wrap = lambda store: store,
    writeback: bool = False,
    store: MemoryStore | None = None,
    sizes: StagingSettings | None = None,
) -> AsyncIterator[Bed]:
    """A started filesystem over a new store with the bucket ``shared``, or over ``store``."""
    clock = StillClock()
    if store is None:
        store = MemoryStore(BUCKET, clock=clock, capabilities=capabilities, authorize=authorize)
    signers = MemorySigners(store, identities, wrap)
    async with trio.open_nursery() as nursery:
        readers = Readers(
            cache=BlockCache(64 * MIB), budget=MemoryBudget(64 * MIB), nursery=nursery
        )
        staging = StagingArea(
            tmp_path / "cache",
            memory_limit=64 * MIB,
            disk_limit=None,
            clock=clock,
            readers=readers,
            owed_to="memory" if writeback else None,
            settings=sizes,
        )
        filesystem = FileSystem(
            config if config is not None else FsConfig(bucket=BUCKET),
            signers,
            readers=readers,
            staging=staging,
            clock=clock,
            nursery=nursery,
        )
        await filesystem.start()
        try:
            yield Bed(filesystem, store, signers, clock)
        finally:
            with trio.CancelScope(shield=True):
                await filesystem.close()
                staging.close()
            nursery.cancel_scope.cancel()
