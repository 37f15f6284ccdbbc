"""Open files: reading, writing, truncating, flushing."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EINVAL, EISDIR, ELOOP, ESTALE

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.data.reader import ObjectReader
from s3posixfs.data.staged_file import StagedFile
from s3posixfs.data.version import ObjectVersion
from s3posixfs.fs.attributes import Entry, Opened
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.handles import FileHandle, Handles, OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import absent
from s3posixfs.fs.permissions import after_write, refusal
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.saving import Saver
from s3posixfs.fs.signers import Signer
from s3posixfs.waiting.deadlines import waiting

ATTEMPTS = 4  # of a read whose object is replaced or renamed under it

Data = bytes | bytearray | memoryview


class Files:
    """File handles and what they share per inode."""

    def __init__(self, state: MountState, resolver: Resolver, saver: Saver) -> None:
        self._state = state
        self._resolver = resolver
        self._saver = saver
        self.handles: Handles[FileHandle] = Handles()

    # Opening.

    async def open(self, inode: Inode, flags: int, caller: Caller) -> Opened:
        """Open what is there: asks S3 for the newest version, in the caller's name when it is
        to be read. EACCES where mode or S3 refuses; ESTALE where the name holds another file."""
        state = self._state
        if inode.is_directory:
            raise refusal(EISDIR)
        if stat.S_ISLNK(inode.attributes.mode):
            raise refusal(ELOOP)
        handle = self._new_handle(inode, flags, caller)
        changes = handle.writable or bool(flags & os.O_TRUNC)
        if changes:
            state.writable()
        if not inode.detached:
            bucket, key = state.table.key(inode)
            if inode.is_local:
                if handle.readable:
                    await self._require_read_of_local(inode, handle.signer)
            else:
                listing = inode.parent.listing if inode.parent is not None else None
                if handle.readable and listing is not None:
                    listing.scan.read_at = state.now()
                lacks = self._lacks_content(inode)
                asked = state.habits.opens(caller.pid, inode.number)
                if not asked or lacks or not state.access.reads_as_daemon(caller):
                    store = None
                    if handle.readable:
                        store = state.access.reading(handle.signer).store
                    await self._resolver.fetch(inode, store, content=lacks)
            wanted = os.R_OK * handle.readable | os.W_OK * changes
            state.require(inode, caller, wanted)
            if changes:
                await state.access.require_write(handle.signer, bucket, key)
        elif inode.open_file is None:
            raise refusal(ESTALE)
        if inode.open_file is None:
            # Who removes or moves the name sees only what is open when that begins.
            await self._resolver.settled(inode)
            if inode.detached and inode.open_file is None:
                raise refusal(ESTALE)
        opened = self._register(handle)
        if flags & os.O_TRUNC:
            try:
                await self._truncate(handle.open_file, 0, handle.signer, caller, handle)
                if not handle.writable:  # its flush would not upload
                    await self._saver.save(handle.open_file)
            except BaseException:
                await waiting()
                with trio.CancelScope(shield=True):
                    await self.release(handle)
                raise
        return opened

    async def _require_read_of_local(self, inode: Inode, signer: Signer) -> None:
        """EACCES where S3 does not let the identity read what this mount has not stored yet. S3
        answers for a key once it is there, so another's new file goes there first."""
        access, open_file = self._state.access, inode.open_file
        if not access.needs_read_proof(signer):
            return
        if open_file is not None and open_file.fresh:
            if open_file.writer is not None and open_file.writer.name == signer.name:
                return
            await self._saver.store(open_file)
        bucket, key = self._state.table.key(inode)
        await access.require_read(signer, bucket, key)

    def _lacks_content(self, inode: Inode) -> bool:
        """Whether a file that is small enough to come with its attributes is nowhere here."""
        version = self._version(inode)
        if version is None or inode.kept_etag == version.etag:
            return False
        return self._state.lacks_content(version)

    def _new_handle(self, inode: Inode, flags: int, caller: Caller) -> FileHandle:
        signer = self._state.access.signer(caller)
        return FileHandle(self.handles.next_number(), OpenFile(inode), flags, caller, signer)

    def _register(self, handle: FileHandle) -> Opened:
        inode = handle.open_file.inode
        if inode.open_file is None:
            self._state.table.open(inode, handle.open_file)
        else:
            handle.open_file = inode.open_file
        handle.open_file.handles.add(handle)
        self.handles.add(handle)
        found = inode.entry.stat
        etag = found.etag if found is not None else ""
        keep = inode.kept_etag is not None and inode.kept_etag == etag
        inode.kept_etag = etag
        return Opened(handle.number, keep, outdated=inode.told != inode.shown)

    def open_new(
        self,
        inode: Inode,
        flags: int,
        caller: Caller,
        *,
        fresh: bool,
        writer: Signer | None = None,
    ) -> Opened:
        """Open a file that was made in this step. ``fresh`` says that S3 has not got it yet,
        ``writer`` who signs its upload in place of the caller."""
        handle = self._new_handle(inode, flags, caller)
        opened = self._register(handle)
        open_file = handle.open_file
        open_file.writer = writer or handle.signer
        open_file.assigned = writer is not None
        if fresh:
            open_file.fresh = True
            open_file.staged = self._state.staging.create(None)
        return opened

    # Reading.

    async def read(self, handle: FileHandle, offset: int, length: int) -> Data:
        """Bytes at ``offset``, fewer only at the end. ESTALE where another host replaced the
        object after this handle had read from it."""
        if not handle.readable:
            raise refusal(EBADF)
        open_file = handle.open_file
        for attempt in range(ATTEMPTS):
            staged = self._staged(open_file)
            if staged is not None:
                try:
                    return await staged.read(offset, length)
                except trio.ClosedResourceError:
                    continue
                except S3Error as error:
                    if open_file.staged is not staged:
                        continue
                    raise self._replaced(error) from error
            reader = await self._reader(handle)
            if reader is None:
                return b""
            try:
                data = await reader.read(offset, length)
            except trio.ClosedResourceError:
                continue
            except S3Error as error:
                if attempt + 1 == ATTEMPTS:
                    raise self._replaced(error) from error
                await self._look_again(handle, reader, error)
                continue
            handle.delivered = True
            return data
        raise refusal(ESTALE)

    @staticmethod
    def _replaced(error: S3Error) -> Exception:
        gone = error.code == "PreconditionFailed" or absent(error)
        return refusal(ESTALE) if gone else error

    async def _look_again(self, handle: FileHandle, reader: ObjectReader, error: S3Error) -> None:
        """After a read found its version gone: return where another try makes sense."""
        open_file = handle.open_file
        inode = open_file.inode
        if error.code != "PreconditionFailed" and not absent(error):
            raise error
        await self._resolver.settled(inode)
        if handle.reader is not reader or self._staged(open_file) is not None:
            return
        if inode.detached:
            raise refusal(ESTALE)
        if self._version(inode) != reader.version:
            return  # this mount's own upload or rename
        await self._resolver.fetch(inode, self._state.access.reading(handle.signer).store)
        if handle.delivered or self._version(inode) == reader.version:
            raise refusal(ESTALE)

    def _version(self, inode: Inode) -> ObjectVersion | None:
        found = inode.entry.stat
        if found is None or not found.etag:
            return None
        bucket, key = self._state.table.key(inode)
        return ObjectVersion(bucket, key, found.etag, found.size)

    def _staged(self, open_file: OpenFile) -> StagedFile | None:
        """The staged content, unless it is only an older copy of what S3 has by now."""
        staged = open_file.staged
        if staged is None or staged.dirty or open_file.inode.detached:
            return staged
        return staged if staged.version == self._version(open_file.inode) else None

    async def _reader(self, handle: FileHandle) -> ObjectReader | None:
        inode = handle.open_file.inode
        if inode.detached:
            if handle.reader is None:
                raise refusal(ESTALE)
            return handle.reader
        version = self._version(inode)
        if version is None or version.size == 0:
            return None
        former = handle.reader
        if former is not None:
            if former.version == version:
                return former
            handle.delivered = False
        store = self._state.access.reading(handle.signer).store
        reader = handle.reader = self._state.readers.open(store, version)
        if former is not None:
            await former.aclose()
        return reader

    # Writing.

    async def write(self, handle: FileHandle, offset: int, data: bytes) -> int:
        """Write into staged content; with O_APPEND at its end. ENOSPC when the disk is full."""
        if not handle.writable:
            raise refusal(EBADF)
        open_file = handle.open_file
        async with open_file.lock:
            await self._resolver.settled(open_file.inode)
            self._require_ours(open_file)
            staged = await self._stage(open_file, handle.signer, handle)
            failure = await staged.refused_early()
            if failure is not None:
                open_file.failure, open_file.torn = failure, True
                raise failure
            at = staged.size if self._appends(handle, staged, offset) else offset
            try:
                written = await staged.write(at, data)
            except OSError:
                open_file.torn = True
                raise
            told = open_file.inode.told
            if told is not None:
                open_file.inode.told = told.resized(max(told.size, offset + written))
            self._content_changed(open_file, staged, handle.signer, handle.caller)
            if staged.wants_stream:
                await self._saver.stream(open_file)
        return written

    @staticmethod
    def _appends(handle: FileHandle, staged: StagedFile, offset: int) -> bool:
        """Whether bytes belong at the end, wherever the kernel takes that to be. Pages of shared
        memory come through an O_APPEND handle as well, but from before the end that it knows."""
        if not handle.flags & os.O_APPEND:
            return False
        if not handle.readable:
            return True  # and can't be mapped
        told = handle.open_file.inode.told
        return offset >= (staged.size if told is None else told.size)

    async def truncate(
        self, inode: Inode, size: int, handle: FileHandle | None, caller: Caller
    ) -> None:
        """Make the file ``size`` bytes long. Through a handle it is uploaded with the rest at
        flush, else before this returns."""
        if size < 0 or not stat.S_ISREG(inode.attributes.mode):
            raise refusal(EINVAL)
        state = self._state
        state.writable()
        if handle is not None:
            if not handle.writable:
                raise refusal(EINVAL)
            await self._truncate(handle.open_file, size, handle.signer, caller, handle)
            return
        opened = await self.open(inode, os.O_WRONLY, caller)
        temporary = self.handles.get(opened.handle)
        try:
            await self._truncate(temporary.open_file, size, temporary.signer, caller, temporary)
            await self._saver.save(temporary.open_file)
        finally:
            await waiting()
            with trio.CancelScope(shield=True):
                await self.release(temporary)

    async def _truncate(
        self, open_file: OpenFile, size: int, signer: Signer, caller: Caller, handle: FileHandle
    ) -> None:
        async with open_file.lock:
            await self._resolver.settled(open_file.inode)
            self._require_ours(open_file)
            staged = await self._stage(open_file, signer, handle, empty=size == 0)
            before = staged.size
            await staged.truncate(size)
            open_file.torn = open_file.torn and size > 0
            self._content_changed(open_file, staged, signer, caller)
            if before == size and not open_file.content_unsaved:
                open_file.changed = True  # only the times moved

    @staticmethod
    def _require_ours(open_file: OpenFile) -> None:
        """ESTALE where another host removed or replaced the file: what is written to it now
        would never be stored."""
        inode = open_file.inode
        if inode.detached and not inode.removed:
            raise refusal(ESTALE)

    async def _stage(
        self, open_file: OpenFile, signer: Signer, handle: FileHandle, *, empty: bool = False
    ) -> StagedFile:
        """The staged content, made where there is none; for who holds the file's lock."""
        state, inode = self._state, open_file.inode
        staged = self._staged(open_file)
        if staged is not None:
            return staged
        await open_file.drop_content()  # an older copy
        version = self._version(inode) if not inode.detached else None
        if empty or version is None or version.size == 0:
            open_file.staged = state.staging.create(None)
        else:
            # A handle that may not read still needs the bytes round those it writes.
            owner = state.access.owner(inode.entry)
            reads = state.access.reading(signer) if handle.readable else owner
            open_file.base = state.readers.open(reads.store, version)
            open_file.staged = state.staging.create(open_file.base)
        return open_file.staged

    def _content_changed(
        self, open_file: OpenFile, staged: StagedFile, signer: Signer, caller: Caller
    ) -> None:
        inode = open_file.inode
        now = self._state.now_ns()
        attributes = inode.attributes
        changed = attributes.written(after_write(attributes, caller), staged.size, now)
        entry = inode.entry
        inode.entry = Entry(changed, entry.stat, entry.fetched_at, entry.exact, entry.writer)
        inode.note_change()
        if not open_file.assigned:
            open_file.writer = signer

    async def attributes_staged(self, open_file: OpenFile) -> None:
        """Attributes were changed that go with the next upload; what is only in the journal any
        more, with no close to come, has them there at once. For who holds the file's lock."""
        if open_file.pending is not None:
            await self._saver.commit_locked(open_file)

    # Closing.

    async def flush(self, handle: FileHandle) -> None:
        """close(2) of one descriptor: what was written is in S3 when this returns."""
        if handle.writable:
            await self._saver.save(handle.open_file)
        else:
            await trio.lowlevel.checkpoint()

    async def fsync(self, handle: FileHandle) -> None:
        """What anybody wrote into the file is in S3 when this returns."""
        await self._saver.save(handle.open_file)

    async def release(self, handle: FileHandle) -> None:
        """The last descriptor of the handle is gone."""
        self.handles.remove(handle.number)
        open_file = handle.open_file
        open_file.handles.discard(handle)
        reader, handle.reader = handle.reader, None
        if reader is not None:
            await reader.aclose()
        if open_file.handles:
            return
        if open_file.unsaved and not open_file.inode.detached:
            await self._saver.abandon(open_file)
        else:
            await self._saver.finish(open_file)

    async def close_all(self) -> None:
        """Let go of everything that is open, uploaded or not."""
        for inode in self._state.table.opened:
            open_file = inode.open_file
            self._state.table.close(inode)
            if open_file is not None:
                for handle in tuple(open_file.handles):
                    self.handles.remove(handle.number)
                    if handle.reader is not None:
                        await handle.reader.aclose()
                await open_file.drop_content()
