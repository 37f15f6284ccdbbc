"""Getting what was written into S3, and keeping it until it is there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from errno import EAGAIN, EDQUOT, EIO, ENOSPC, ETIMEDOUT

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.data.staging import StagedFile
from s3posixfs.data.version import ObjectVersion
from s3posixfs.fs.boundary import as_oserror
from s3posixfs.fs.concurrently import for_each
from s3posixfs.fs.handles import OpenFile
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import absent
from s3posixfs.fs.pending import Pending
from s3posixfs.fs.putting import Putter
from s3posixfs.fs.rewriting import Rewriter
from s3posixfs.fs.signers import Signer
from s3posixfs.fs.writeback import Writeback

logger = logging.getLogger(__name__)

COPY_BYTES = 4 * 1024 * 1024
PASSING = frozenset({EAGAIN, EDQUOT, EIO, ENOSPC, ETIMEDOUT})  # trouble that another try may spare
RETRY_SECONDS = 5.0
UPLOADS_AT_END = 8


class Saver:
    """Uploads open files. A failed upload leaves the file dirty; the next flush, fsync, release
    or the retries after release try again."""

    def __init__(self, state: MountState, rewriter: Rewriter, putter: Putter) -> None:
        self._state = state
        self._putter = putter
        self._rewriter = rewriter
        self._owed: set[OpenFile] = set()  # files without handles whose upload failed
        self.writeback: Writeback | None = None
        self.upload_now: Callable[[Pending], Awaitable[None]] | None = None
        self.uploads = 0
        self.failures = 0

    @property
    def owed(self) -> int:
        """Closed files that are not in S3 yet."""
        return len(self._owed)

    async def save(self, open_file: OpenFile) -> None:
        """Bring content and attributes of the file into S3, or, with write-back, into the journal;
        returns at once where they are there.

        Waits for an upload that is under way and then for what changed since. Raises the
        upload's error, with everything kept. A file without a name is nobody's to upload.
        """
        inode = open_file.inode
        while open_file.uncommitted if self.writeback else open_file.unsaved:
            parent = inode.parent
            if parent is None:
                return
            async with self._state.gate.working_in(parent), open_file.lock:
                if inode.parent is parent:
                    await self.commit_locked(open_file)
                    return

    async def store(self, open_file: OpenFile) -> None:
        """Bring the file into S3 now, whatever the journal would do for it."""
        parent = open_file.inode.parent
        if parent is None:
            return
        async with self._state.gate.working_in(parent), open_file.lock:
            await self.save_locked(open_file)

    async def commit_locked(self, open_file: OpenFile) -> None:
        """``save`` for who holds the file's lock and its folder in place."""
        if self.writeback is None or not await self._commit(self.writeback, open_file):
            await self.save_locked(open_file)

    async def _commit(self, writeback: Writeback, open_file: OpenFile) -> bool:
        """Whether the journal has the file as it is now; else it has to go to S3 itself."""
        inode = open_file.inode
        try:
            while open_file.uncommitted and not inode.detached:
                former = await self._putter.former(inode, *self._state.table.key(inode))
                if not await writeback.commit(open_file, former):
                    return False
        except Exception as error:
            self.failures += 1
            open_file.failure = error
            raise
        open_file.failure, open_file.torn = None, False
        return True

    async def save_locked(self, open_file: OpenFile) -> None:
        """Bring the file into S3, for who holds its lock and its folder in place."""
        if self.writeback is not None and await self._commit(self.writeback, open_file):
            while open_file.pending is not None and self.upload_now is not None:
                await self.upload_now(open_file.pending)
        inode = open_file.inode
        if not open_file.unsaved or inode.detached:
            return
        try:
            if open_file.content_unsaved:
                with inode.own_change():
                    await self._putter.put(open_file)
                self.uploads += 1
            else:
                found = inode.entry.stat  # with extended attributes that were staged
                metadata = found.metadata if found is not None and inode.entry.exact else None
                assigned = self._assigned(open_file)
                await self._rewriter.rewrite(inode, inode.attributes, assigned, metadata)
        except Exception as error:
            self.failures += 1
            open_file.failure = error
            raise
        open_file.fresh = open_file.changed = False
        open_file.failure, open_file.torn = None, False

    def _assigned(self, open_file: OpenFile) -> Signer | None:
        return open_file.writer if open_file.assigned else None

    async def stream(self, open_file: OpenFile) -> None:
        """Send what is being written before it is closed, where there is enough of it. Not with
        write-back, which owes S3 whole files."""
        if self.writeback is None:
            await self._putter.stream(open_file)

    async def abort_left(self) -> None:
        """Abort uploads that nobody goes on with, now and later; for as long as the mount."""
        await self._putter.abort_left()

    def holding(self, *open_files: OpenFile | None) -> AbstractAsyncContextManager[None]:
        """Keep the uploader of the journal from these files, where there is one."""
        return self.writeback.holding(*open_files) if self.writeback else nullcontext()

    # Files that lose their name while they are open.

    async def preserve(self, open_file: OpenFile) -> None:
        """Bring all content here, so that open handles can be read after the object is gone.

        For who holds the file's lock.
        """
        state, inode = self._state, open_file.inode
        former, base = open_file.staged, open_file.base
        if former is not None:
            await former.stop_stream()
        if former is not None and former.version is None:
            return  # it never was in S3
        found = inode.entry.stat
        if former is None and found is not None:
            bucket, key = state.table.key(inode)
            version = ObjectVersion(bucket, key, found.etag, found.size)
            base = state.readers.open(state.access.owner(inode.entry).store, version)
        source = former if former is not None else base
        copy: StagedFile = state.staging.create(None)
        try:
            offset, size = 0, inode.attributes.size
            while source is not None and offset < size:
                piece = await source.read(offset, min(COPY_BYTES, size - offset))
                if not piece:
                    break
                await copy.write(offset, piece)
                offset += len(piece)
        except BaseException as error:
            await copy.aclose()
            if former is None and base is not None:
                await base.aclose()
            if isinstance(error, S3Error) and absent(error):
                return  # somebody else removed it already
            raise
        open_file.staged, open_file.base = copy, None
        if former is not None:
            await former.aclose()
        if base is not None:
            await base.aclose()

    # Files whose last handle is gone.

    async def abandon(self, open_file: OpenFile) -> None:
        """The last handle was released: upload what is left, or keep it for another try. Not of a
        file that a write is missing in, and that could not be stored when it was closed."""
        try:
            if open_file.torn and open_file.failure is not None:
                raise open_file.failure
            await self.save(open_file)
        except Exception as error:
            raised = as_oserror(error, "upload after close")
            if raised.errno in PASSING and not open_file.torn:
                logger.warning("%s is not in S3 yet; trying again", open_file.inode.path())
                self._owed.add(open_file)
            elif not await self._taken_back(open_file, raised):
                await self._discard(open_file, raised)
                return
        await self.finish(open_file)

    async def _taken_back(self, open_file: OpenFile, error: OSError) -> bool:
        """Whether the journal has an older state of the file, which is the file's again."""
        if self.writeback is None or not open_file.torn:
            return False
        async with open_file.lock:
            if open_file.handles or not await self.writeback.take_back(open_file):
                return False
        logger.error("%s is as before: %s", open_file.inode.path(), error.strerror)
        return True

    async def finish(self, open_file: OpenFile) -> None:
        """Let go of a file that nobody has open and that owes nothing."""
        inode = open_file.inode
        if open_file.handles or (open_file.unsaved and not inode.detached):
            return
        self._owed.discard(open_file)
        if inode.open_file is open_file:
            self._state.table.close(inode)
        await open_file.drop_content()
        self._state.table.tidy(inode)

    async def _discard(self, open_file: OpenFile, error: OSError) -> None:
        """S3 refuses the file for good, or it is not whole, and the program was told so."""
        inode = open_file.inode
        if open_file.handles:
            return  # opened again meanwhile: its flush will tell
        logger.error("%s was not stored: %s", inode.path(), error.strerror)
        self._owed.discard(open_file)
        fresh = open_file.fresh
        open_file.fresh = open_file.changed = False
        inode.open_file = None
        await open_file.drop_content()
        parent = inode.parent
        if parent is not None and parent.listing is not None:
            parent.listing = None
        if fresh:
            self._state.table.detach(inode)
        else:
            inode.entry = replace(inode.entry, fetched_at=float("-inf"))
            self._state.table.tidy(inode)

    async def keep_trying(self) -> None:
        """Upload what was left after a passing failure; runs for as long as the mount."""
        while True:
            await trio.sleep(RETRY_SECONDS)
            for open_file in tuple(self._owed):
                self._owed.discard(open_file)
                if not open_file.handles:
                    try:
                        await self.abandon(open_file)
                    except Exception:
                        logger.exception("%s could not be let go", open_file.inode.path())

    async def drain(self) -> tuple[str, ...]:
        """Upload everything dirty, eight files at a time; the paths that could not be."""
        left: list[str] = []

        async def upload(open_file: OpenFile) -> None:
            try:
                await self.save(open_file)
            except Exception as error:
                raised = as_oserror(error, "upload at the end")
                logger.error("%s was not stored: %s", open_file.inode.path(), raised.strerror)
                left.append(open_file.inode.path())

        waiting = [i.open_file for i in self._state.table if i.open_file and i.is_local]
        await for_each(waiting, upload, limit=UPLOADS_AT_END)
        return tuple(sorted(left))
