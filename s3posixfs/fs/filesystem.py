"""The filesystem: POSIX operations on inode numbers, over an S3 store.

It knows nothing of FUSE. Every operation raises OSError only and is bounded by a deadline.
Names are bytes, modes hold permission bits (and a file type for ``mknod``), flags are those of
open(2). ``lookup``, ``create``, ``mkdir``, ``mknod``, ``symlink`` and every entry that ``readdir``
hands out count one lookup of an inode, which ``forget`` takes back.
"""

from __future__ import annotations

import logging
import os

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.measuring import Meter
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagingArea
from s3posixfs.fs.access import AccessGate
from s3posixfs.fs.attributes import (
    NS,
    AttributeChanges,
    Entry,
    FileAttributes,
    NoEntry,
    Opened,
    Space,
)
from s3posixfs.fs.audit_log import AuditLog
from s3posixfs.fs.boundary import RESULTS, request, transfer
from s3posixfs.fs.buckets_folder import BucketsFolder
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.changing import Changes
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.conflicts import Conflicts
from s3posixfs.fs.creating import Creator
from s3posixfs.fs.directories import Directories, Emit
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.evicting import Evictor
from s3posixfs.fs.files import Files
from s3posixfs.fs.flat_listings import FlatListings
from s3posixfs.fs.folder_moves import FolderMover
from s3posixfs.fs.folder_times import FolderTimes
from s3posixfs.fs.folders import Folders
from s3posixfs.fs.habits import Habits
from s3posixfs.fs.host_groups import HostGroups
from s3posixfs.fs.inodes import Inode, InodeTable
from s3posixfs.fs.known_metadata import KnownMetadata
from s3posixfs.fs.listing import ListingCache
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import ObjectHeads
from s3posixfs.fs.object_moves import ObjectMover
from s3posixfs.fs.ownership import OwnershipRules
from s3posixfs.fs.permissions import allows
from s3posixfs.fs.putting import Putter
from s3posixfs.fs.removing import Remover
from s3posixfs.fs.renaming import Renamer
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.rewriting import Rewriter
from s3posixfs.fs.saving import Saver
from s3posixfs.fs.signers import Signers
from s3posixfs.fs.subtree_gate import SubtreeGate
from s3posixfs.fs.sweeping import Sweeper
from s3posixfs.fs.symlinks import read_target
from s3posixfs.fs.uploading import Uploader, Uploading
from s3posixfs.fs.watching import Watch
from s3posixfs.fs.writeback import Writeback

logger = logging.getLogger(__name__)

GROUPS_SECONDS = 60.0


class FileSystem:
    """One mount. ``nursery`` holds its background tasks; cancel it after ``close``."""

    def __init__(
        self,
        config: FsConfig,
        signers: Signers,
        *,
        readers: Readers,
        staging: StagingArea,
        clock: Clock,
        nursery: trio.Nursery,
        audit: AuditLog | None = None,
    ) -> None:
        self.config = config
        self._nursery = nursery
        self._groups = HostGroups()
        rules = OwnershipRules(config, signers, self._groups.member)
        started_ns = int(clock.time()) * NS
        root = Entry(
            rules.directory(None, None, seen_ns=started_ns), None, float("-inf"), exact=True
        )
        table = InodeTable(config.bucket, config.prefix, root)
        self._state = state = MountState(
            config=config,
            signers=signers,
            clock=clock,
            readers=readers,
            staging=staging,
            rules=rules,
            access=AccessGate(config, signers, clock, writes_back=staging.journal is not None),
            table=table,
            listings=ListingCache(config.metadata_ttl, config.listed_entries),
            flat=FlatListings(table, config.metadata_ttl),
            known=KnownMetadata(config.known_metadata),
            gate=SubtreeGate(table),
            habits=Habits(clock),
            started_ns=started_ns,
        )
        self._entries, heads, buckets = Entries(state), ObjectHeads(state), BucketsFolder(state)
        self._resolver = Resolver(state, self._entries, heads, buckets, nursery)
        rewriter = Rewriter(state, self._entries, heads)
        conflicts = Conflicts(state, self._entries, heads)
        self._saver = Saver(state, rewriter, Putter(state, rewriter, conflicts, nursery))
        self._files = Files(state, self._resolver, self._saver)
        self._directories = Directories(state, self._resolver, self._entries, buckets, nursery)
        self._times = FolderTimes(state, rewriter)
        self.evictor = Evictor(state)
        self.sweeper = Sweeper(state, self.evictor)
        folders = Folders(state, self._times)
        self._creator = Creator(state, self._resolver, buckets, self._files, folders)
        self._remover = Remover(state, self._resolver, buckets, self._saver, folders)
        mover = ObjectMover(state, heads)
        self._folder_mover = FolderMover(state, mover)
        self._renamer = Renamer(
            state, self._resolver, folders, self._remover, self._saver, mover, self._folder_mover
        )
        self._changes = Changes(state, self._resolver, self._files, rewriter, self._times)
        names = [name for name, value in vars(FileSystem).items() if hasattr(value, "__wrapped__")]
        self.meter = Meter(names, RESULTS)
        self._uploading = self._write_back(rewriter, conflicts)
        self.bytes_read = self.bytes_written = 0  # by programs, through this mount
        self.watch: Watch | None = Watch(state, self._files, self._directories, audit)

    def _write_back(self, rewriter: Rewriter, conflicts: Conflicts) -> Uploading | None:
        journal = self._state.staging.journal
        if journal is None:
            return None
        writeback = Writeback(self._state, journal, rewriter)
        uploader = Uploader(
            self._state, writeback, self._saver, conflicts, lambda: self.meter.noted_at
        )
        self._saver.writeback, self._saver.upload_now = writeback, uploader.upload_now
        return Uploading(writeback, uploader)

    # Life.

    async def start(self) -> None:
        """Look at the source once and start the background tasks; S3Error (NoSuchBucket,
        AccessDenied …) where the source cannot be read."""
        daemon = self._state.daemon_store
        if self.config.bucket is None:
            await daemon.list_buckets()
        else:
            await daemon.head_bucket(self.config.bucket)
        await self._refresh_groups()
        await self._folder_mover.finish_left()
        self._nursery.start_soon(self._folder_mover.run)
        self._nursery.start_soon(self._keep_groups)
        self._nursery.start_soon(self._saver.keep_trying)
        self._nursery.start_soon(self._saver.abort_left)
        self._nursery.start_soon(self._times.run)
        self._nursery.start_soon(self.sweeper.run)
        self._nursery.start_soon(self.evictor.run)
        if self._uploading is not None:
            self._uploading.writeback.restore()
            await self._nursery.start(self._uploading.run)

    async def _refresh_groups(self) -> None:
        identities = self._state.signers.identity_map().identities
        await self._groups.refresh(identity.owner.uid for identity in identities)

    async def _keep_groups(self) -> None:
        while True:
            await trio.sleep(GROUPS_SECONDS)
            try:
                await self._refresh_groups()
            except Exception:  # the mount must outlive what NSS modules may do
                logger.exception("groups of this host could not be read")

    async def drain(self) -> tuple[str, ...]:
        """Upload everything dirty; the paths that could not be."""
        left = await self._saver.drain()
        if self._uploading is not None:
            left += await self._uploading.uploader.drain()
        await self._times.flush()
        return left

    def left(self) -> tuple[str, ...]:
        """What ``drain`` would still have to upload."""
        kept = self._uploading.writeback.pending.values() if self._uploading is not None else ()
        waiting = {one.open_file for one in kept}
        dirty = [inode for inode in self._state.table.opened if inode.is_local]
        named = [inode.path() for inode in dirty if inode.open_file not in waiting]
        return (*sorted(named), *sorted(one.path for one in kept))

    async def close(self) -> None:
        """Let go of open files, uploaded or not; call ``drain`` before. What the journal holds
        stays there."""
        if self._uploading is not None:
            await self._uploading.stop()
        await self._files.close_all()
        if self._uploading is not None:
            await self._uploading.writeback.close()

    def status(self) -> dict[str, object]:
        """Counters and state, for the status command."""
        dirty = [inode for inode in self._state.table.opened if inode.is_local]
        return {
            "inodes": len(self._state.table),
            "packed_inodes": self._state.table.packed,
            "evicted_inodes": self.evictor.evicted,
            "open_files": len(self._files.handles),
            "open_directories": len(self._directories.handles),
            "refusals": self.watch.refusals if self.watch is not None else 0,
            "dirty_files": len(dirty),
            "dirty_bytes": sum(inode.attributes.size for inode in dirty),
            "owed_uploads": self._saver.owed,
            "uploads": self._saver.uploads,
            "failed_uploads": self._saver.failures,
            **self._folder_mover.status(),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "operations": self.meter.summary(),
            **(self._uploading.uploader.status() if self._uploading is not None else {}),
        }

    # Names and attributes.

    def _counted(self, inode: Inode) -> FileAttributes:
        inode.lookups += 1
        return self._entries.view(inode)

    @request
    async def lookup(self, parent: int, name: bytes, caller: Caller) -> FileAttributes:
        """The file at a name; :class:`NoEntry` says for how long there is none."""
        directory = self._state.directory(parent)
        self._state.access.signer(caller)  # EACCES for who is denied altogether
        state = self._state
        habits, began = state.habits, state.now()
        expected = habits.expects(caller.pid)
        content = habits.expects_open(caller.pid) and state.access.reads_as_daemon(caller)
        try:
            inode = await self._resolver.child(
                *(directory, name),
                new=expected,
                content=content,
                scanning=habits.scans(caller.pid, parent),
            )
        except NoEntry:
            habits.missed(caller.pid, parent, name)
            raise
        if not inode.is_directory:
            asked = inode.entry.fetched_at >= began
            habits.found(caller.pid, inode.number, asked=asked)
        return self._counted(inode)

    def forget(self, inode: int, count: int) -> None:
        """The kernel drops ``count`` lookups of an inode."""
        self._state.table.forget(inode, count)

    @request
    async def getattr(self, inode: int, caller: Caller) -> FileAttributes:
        """stat(2)."""
        found = self._state.table.get(inode)
        await self._resolver.refresh(found)
        return self._entries.view(found)

    @transfer
    async def setattr(
        self, inode: int, changes: AttributeChanges, handle: int | None, caller: Caller
    ) -> FileAttributes:
        """chmod(2), chown(2), truncate(2), utimensat(2); ``handle`` where it came through one."""
        found = self._state.table.get(inode)
        open_handle = self._files.handles.get(handle) if handle is not None else None
        await self._changes.setattr(found, changes, open_handle, caller)
        return self._entries.view(found)

    @request
    async def access(self, inode: int, mask: int, caller: Caller) -> bool:
        """access(2): whether the mode grants ``mask``."""
        found = self._state.table.get(inode)
        await self._resolver.refresh(found)
        if mask & os.W_OK and self.config.read_only:
            return False
        return not self.config.posix_decides or allows(found.attributes, caller, mask)

    @request
    async def readlink(self, inode: int, caller: Caller) -> bytes:
        """readlink(2)."""
        return await read_target(self._state, self._resolver, self._state.table.get(inode), caller)

    @request
    async def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller
    ) -> FileAttributes:
        """mknod(2)."""
        directory = self._state.directory(parent)
        return self._counted(await self._creator.mknod(directory, name, mode, rdev, caller))

    @request
    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> FileAttributes:
        """mkdir(2)."""
        directory = self._state.directory(parent)
        return self._counted(await self._creator.mkdir(directory, name, mode, caller))

    @request
    async def symlink(
        self, parent: int, name: bytes, target: bytes, caller: Caller
    ) -> FileAttributes:
        """symlink(2)."""
        directory = self._state.directory(parent)
        return self._counted(await self._creator.symlink(directory, name, target, caller))

    @transfer
    async def unlink(self, parent: int, name: bytes, caller: Caller) -> None:
        """unlink(2)."""
        await self._remover.unlink(self._state.directory(parent), name, caller)

    @request
    async def rmdir(self, parent: int, name: bytes, caller: Caller) -> None:
        """rmdir(2)."""
        await self._remover.rmdir(self._state.directory(parent), name, caller)

    @transfer
    async def rename(
        self,
        old_parent: int,
        old_name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        """rename(2), renameat2(2)."""
        source, target = self._state.directory(old_parent), self._state.directory(new_parent)
        await self._renamer.rename(source, old_name, target, new_name, flags, caller)

    def statfs(self) -> Space:
        """statfs(2)."""
        return Space()

    # Files.

    @transfer
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[FileAttributes, Opened]:
        """open(2) with O_CREAT."""
        directory = self._state.directory(parent)
        inode, opened = await self._creator.create(directory, name, mode, flags, caller)
        return self._counted(inode), opened

    @transfer
    async def open(self, inode: int, flags: int, caller: Caller) -> Opened:
        """open(2)."""
        return await self._files.open(self._state.table.get(inode), flags, caller)

    @request
    async def read(self, handle: int, offset: int, length: int) -> bytes | bytearray | memoryview:
        """pread(2)."""
        data = await self._files.read(self._files.handles.get(handle), offset, length)
        self.bytes_read += len(data)
        return data

    @transfer
    async def write(self, handle: int, offset: int, data: bytes) -> int:
        """pwrite(2); waits while the file is being uploaded."""
        written = await self._files.write(self._files.handles.get(handle), offset, data)
        self.bytes_written += written
        return written

    @transfer
    async def flush(self, handle: int) -> None:
        """close(2) of a descriptor: uploads what was written; its errors are the upload's."""
        await self._files.flush(self._files.handles.get(handle))

    @transfer
    async def fsync(self, handle: int, data_only: bool) -> None:
        """fsync(2)."""
        await self._files.fsync(self._files.handles.get(handle))

    @transfer
    async def release(self, handle: int) -> None:
        """The last descriptor of a handle is closed."""
        await self._files.release(self._files.handles.get(handle))

    # Directories.

    @request
    async def opendir(self, inode: int, caller: Caller) -> int:
        """opendir(3): a directory handle."""
        self._state.habits.lists(caller.pid, inode)
        return await self._directories.opendir(self._state.directory(inode), caller)

    @request
    async def readdir(self, handle: int, offset: int, emit: Emit) -> None:
        """readdir(3) from an offset on (0: the start); ``emit(name, attributes, next offset)``
        says whether it took the entry."""
        await self._directories.readdir(self._directories.handles.get(handle), offset, emit)

    async def releasedir(self, handle: int) -> None:
        """closedir(3)."""
        await self._directories.releasedir(handle)

    # Extended attributes.

    @request
    async def getxattr(self, inode: int, name: bytes, caller: Caller) -> bytes:
        """getxattr(2)."""
        return await self._changes.getxattr(self._state.table.get(inode), name, caller)

    @request
    async def listxattr(self, inode: int, caller: Caller) -> list[bytes]:
        """listxattr(2)."""
        return await self._changes.listxattr(self._state.table.get(inode), caller)

    @request
    async def setxattr(self, inode: int, name: bytes, value: bytes, caller: Caller) -> None:
        """setxattr(2)."""
        await self._changes.setxattr(self._state.table.get(inode), name, value, caller)

    @request
    async def removexattr(self, inode: int, name: bytes, caller: Caller) -> None:
        """removexattr(2)."""
        await self._changes.setxattr(self._state.table.get(inode), name, None, caller)
