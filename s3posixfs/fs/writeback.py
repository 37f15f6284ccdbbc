"""Write-back: what a program closed is in the journal when it is told so, and in S3 later.

A file goes through the journal as a whole: its record needs nothing from S3. What is only in S3
of a file that was changed in part is fetched first, up to ``FETCHED`` bytes; of more, the file is
stored at once (the store copies what stayed).

One name has one entry, in its latest state. So the order of operations on a name is that of its
states, and names do not depend on each other: folders are made in S3 before anything is made in
them, and a folder is removed or renamed when nothing below it waits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from errno import ENOSPC

import trio

from s3posixfs.core.types import MAX_USER_METADATA_BYTES, MIB, ObjectStat, PutResult
from s3posixfs.data.journal import Journal
from s3posixfs.data.journal_records import Blob, PendingState
from s3posixfs.data.shared_file import Extent, SharedFile
from s3posixfs.data.staging import StagedFile
from s3posixfs.data.version import ObjectVersion
from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.handles import OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import encode, size_of
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.pending import ENTRY_COST, Pending, Room
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.rewriting import Rewriter
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)

FETCHED = 16 * MIB

Schedule = Callable[[Pending], None]


class Writeback:
    """The entries of the journal and the open files they are of."""

    def __init__(self, state: MountState, journal: Journal, rewriter: Rewriter) -> None:
        self._state = state
        self._rewriter = rewriter
        self.journal = journal
        self.pending: dict[int, Pending] = {}
        self.room = Room(state.config.writeback_limit)
        self.schedule: Schedule = lambda pending: None  # the uploader's

    # Taking files in.

    async def commit(self, open_file: OpenFile, former: ObjectStat | None) -> bool:
        """Make the file durable on this host and owed to S3; for who holds its lock.

        ``former`` is what is known of the object it replaces. Returns whether it went this way:
        what needs too much from S3 does not, and what has no content of its own. OSError
        (ENOSPC) of the cache directory, S3Error of what has to be fetched.
        """
        pending = open_file.pending
        staged = open_file.staged
        if staged is None and open_file.fresh:
            staged = open_file.staged = self._state.staging.create(None)
        if staged is None or staged.missing > FETCHED or not open_file.content_unsaved:
            return False
        if pending is not None and staged.generation == pending.generation:
            await self._commit_attributes(pending, open_file, former)
            return True
        cost = staged.size + ENTRY_COST
        await self.room.take(cost)
        try:
            sealed = await staged.seal()
        except BaseException:
            self.room.give(cost)
            raise
        try:
            content, data = sealed.content, None
            if isinstance(content, SharedFile):
                data, content = content.path.name, b""
            described = self._describe(open_file, former, "put", sealed.size, data)
            if pending is None:
                pending = Pending(described, None)
            async with pending.lock:
                if not pending.alive:  # it reached S3 in this moment
                    stat = open_file.inode.entry.stat
                    if former is not None and stat is not None:
                        former = replace(former, etag=stat.etag)
                    described = self._describe(open_file, former, "put", sealed.size, data)
                    pending = Pending(described, None)
                states = await self.journal.append([described], content=content or None)
                replaced = self._accept(pending, open_file, states[0], sealed.generation)
                if isinstance(sealed.content, SharedFile):
                    pending.content = Extent(sealed.content, 0, sealed.size)
        except BaseException:
            self.room.give(cost)
            if isinstance(sealed.content, SharedFile):
                await sealed.content.release()
            raise
        if pending.content is not None and isinstance(states[0].data, Blob):
            extent = pending.content
            if staged.keep_in(extent, sealed.generation):
                extent.file.hold()
        if replaced is not None:
            await replaced.file.release()
        return True

    def _accept(
        self, pending: Pending, open_file: OpenFile, state: PendingState, generation: int
    ) -> Extent | None:
        """The state is durable: in this step it is the file's. The content that it replaces."""
        replaced, cost = pending.content, pending.cost
        if pending.state.entry in self.pending:
            self.room.give(cost)
            pending.version += 1
        pending.state = state
        pending.content = self.journal.extent(state.data) if isinstance(state.data, Blob) else None
        pending.generation = generation
        pending.open_file = open_file
        self.pending[state.entry] = pending
        open_file.pending = pending
        open_file.changed = False
        self.schedule(pending)
        return replaced

    async def take_back(self, open_file: OpenFile) -> bool:
        """Make the file what the journal has of it again, without what was written since and could
        not be kept; for who holds its lock. Whether the journal has any of it."""
        pending, inode = open_file.pending, open_file.inode
        if pending is None:
            return False
        async with pending.lock:
            if open_file.pending is not pending:  # it reached S3 in this moment
                return False
            content = pending.content
            if content is not None:
                content.file.hold()
            staged = self._state.staging.restore(pending.state, content)
            former, open_file.staged = open_file.staged, staged
            base, open_file.base = open_file.base, None
            pending.generation = staged.generation
            open_file.changed = open_file.torn = False
            open_file.failure = None
            inode.entry = self._entry(pending.state)
            inode.kept_etag = None  # the kernel's pages are of what is dropped
            inode.note_change()
        for one in (former, base):
            if one is not None:
                await one.aclose()
        return True

    async def _commit_attributes(
        self, pending: Pending, open_file: OpenFile, former: ObjectStat | None
    ) -> None:
        async with pending.lock:
            if not pending.alive:
                return  # it reached S3 in this moment: the caller looks again
            known = pending.state
            state = self._describe(open_file, former, "attributes", known.size, known.data)
            states = await self.journal.append([state])
            pending.state = states[0]
            pending.version += 1
            open_file.changed = False
            self.schedule(pending)

    def _describe(
        self,
        open_file: OpenFile,
        former: ObjectStat | None,
        operation: str,
        size: int,
        data: Blob | str | None,
    ) -> PendingState:
        """The file as it is now. ENOSPC over S3's 2 KB of metadata."""
        state, inode, pending = self._state, open_file.inode, open_file.pending
        signer = open_file.writer
        if signer is None and pending is None:
            signer = state.signers.daemon()
        attributes = inode.attributes
        if attributes.size != size:
            attributes = replace(attributes, size=size)
        wanted = settled = attributes
        keeper = None
        if signer is not None:
            settled = attributes = state.rules.settle(wanted, signer)
            keeper = self._rewriter.keeper(open_file, wanted, settled, signer)
        if keeper is not None:
            attributes = state.rules.settle(wanted, keeper)
        if attributes != inode.attributes:
            inode.entry = replace(inode.entry, attributes=attributes)
        metadata = encode(settled, (former.metadata if former else None) or {})
        if size_of(metadata) > MAX_USER_METADATA_BYTES:
            raise refusal(ENOSPC)
        bucket, key = state.table.key(inode)
        known = pending.state if pending is not None else None
        base = former.etag or None if former is not None else None
        return PendingState(
            entry=known.entry if known else self.journal.next_entry(),
            operation=operation,
            bucket=bucket,
            key=key,
            identity=signer.name if signer is not None else known.identity if known else "",
            posix=_posix(attributes),
            metadata=metadata,
            content_type=former.content_type if former else None,
            headers=(former.headers if former else None) or {},
            base=known.base if known else base,
            lineage=known.descended() if known else (),
            data=data,
            since=known.since if known else state.clock.time(),
            keeper=_keeper(keeper, signer, known),
        )

    # What happens to names.

    @asynccontextmanager
    async def holding(self, *open_files: OpenFile | None) -> AsyncIterator[None]:
        """Keep the uploader from these files; it is waited for where it is at them."""
        found = [one.pending for one in open_files if one is not None and one.pending is not None]
        async with AsyncExitStack() as stack:
            for pending in sorted(found, key=lambda one: one.state.entry):
                await stack.enter_async_context(pending.uploading)
            yield

    async def cancel(self, pending: Pending) -> None:
        """The file was removed: nothing is owed any more, durably. For who holds ``uploading``."""
        async with pending.lock:
            if pending.alive:
                await self.journal.append(gone=[pending.state.entry])
                await self._end(pending)

    async def retarget(
        self, pending: Pending, bucket: str, key: str, base: str | None, replaced: Pending | None
    ) -> None:
        """The file, which S3 has never got, has another name, where it replaces another one's
        entry in the same step. For who holds ``uploading`` of both."""
        lineage: tuple[tuple[str, int], ...] = ()
        if replaced is not None:
            base, lineage = replaced.state.base, replaced.state.descended()
        async with pending.lock:
            state = replace(
                pending.state,
                operation="rename",
                bucket=bucket,
                key=key,
                base=base,
                lineage=lineage,
            )
            gone = [replaced.state.entry] if replaced is not None else []
            states = await self.journal.append([state], gone=gone)
            pending.state = states[0]
            pending.version += 1
            pending.attempted = replaced is not None and replaced.attempted
            if replaced is not None:
                await self._end(replaced)
            self.schedule(pending)

    async def _end(self, pending: Pending) -> None:
        if not pending.alive:
            return
        pending.alive = False
        self.pending.pop(pending.state.entry, None)
        self.room.give(pending.cost)
        open_file, pending.open_file = pending.open_file, None
        if open_file is not None and open_file.pending is pending:
            open_file.pending = None
        content, pending.content = pending.content, None
        pending.end_attempt()
        if content is not None:
            await content.file.release()

    # What the uploader reports.

    async def stored(
        self, pending: Pending, state: PendingState, version: int, put: PutResult, signer: Signer
    ) -> OpenFile | None:
        """S3 has the content of the entry in this state: make the object whose it is to be, and
        note that. The file, where nothing newer is owed of it. S3Error where the store cannot be
        reached; the next attempt finds the content there and goes on.
        """
        written = ObjectStat(
            state.key,
            state.size,
            put.etag,
            put.last_modified or self._state.clock.time(),
            metadata=state.metadata,
            content_type=state.content_type,
            headers=state.headers,
        )
        if state.keeper:
            signers = self._state.signers
            owner = signers.for_name(state.keeper) or signers.daemon()
            wanted = Attributes(*state.posix)
            back = await self._rewriter.give_back(state.bucket, written, wanted, owner, again=True)
            if back is not None:
                _, written, signer = back
        async with pending.lock:
            open_file = pending.open_file
            if pending.version != version:
                newer = replace(
                    pending.state, operation="again", base=written.etag, lineage=state.descended()
                )
                states = await self.journal.append([newer])
                pending.state = states[0]
                self._publish(open_file, written, signer, newer=True)
                return None
            content, pending.content = pending.content, None
            self.journal.note_gone(state.entry, content.file if content is not None else None)
            changed = open_file is not None and open_file.uncommitted
            self._publish(open_file, written, signer, newer=changed)
            await self._end(pending)
        if open_file is not None and open_file.staged is not None:
            object_version = ObjectVersion(state.bucket, state.key, written.etag, state.size)
            await open_file.staged.stored(signer.store, object_version, pending.generation)
        return open_file

    def _publish(
        self, open_file: OpenFile | None, written: ObjectStat, signer: Signer, *, newer: bool
    ) -> None:
        """Everything here knows that this mount has just written the object."""
        if open_file is None:
            return
        open_file.fresh = False
        inode = open_file.inode
        if inode.detached:
            return
        former = inode.entry.stat
        attributes = inode.attributes
        if not newer:  # it is the writer's where S3 did not let it be given back
            attributes = self._state.rules.settle(attributes, signer)
        self._rewriter.record(inode, attributes, written, signer)
        if newer and former is not None:  # extended attributes that are still to be stored
            inode.entry = replace(inode.entry, stat=replace(written, metadata=former.metadata))

    async def compact(self) -> None:
        """Write again what keeps the oldest part of the journal, so that it can go."""
        for state in self.journal.oldest():
            pending = self.pending.get(state.entry)
            if pending is None:
                continue
            async with pending.lock:
                if not pending.alive or pending.state is not state:
                    continue
                content = await self._copied(state, pending.content)
                states = await self.journal.append([state], content=content)
                pending.state = states[0]
                if isinstance(states[0].data, Blob) and pending.content is not None:
                    old, pending.content = pending.content, self.journal.extent(states[0].data)
                    self._move_content(pending)
                    await old.file.release()

    @staticmethod
    async def _copied(state: PendingState, content: Extent | None) -> bytes | None:
        if content is None or not isinstance(state.data, Blob):
            return None
        fd, length, offset = content.file.fd, content.length, content.offset
        return await trio.to_thread.run_sync(os.pread, fd, length, offset)

    def _move_content(self, pending: Pending) -> None:
        open_file, extent = pending.open_file, pending.content
        if open_file is None or open_file.staged is None or extent is None:
            return
        if open_file.staged.keep_in(extent, pending.generation):
            extent.file.hold()

    async def close(self) -> None:
        """Let go of all content; the journal keeps what is in it."""
        for pending in self.pending.values():
            content, pending.content = pending.content, None
            if content is not None:
                content.file.temporary = False
                await content.file.release()

    # What an earlier run left.

    def restore(self) -> None:
        """Take over the entries of the journal and show their files. Blocking, a little each."""
        for state in list(self.journal.entries.values()):
            try:
                content = self._state.staging.content_of(state)
            except OSError as error:
                logger.error(
                    "%s/%s cannot be stored: its staged data %s is gone (%s)",
                    *(state.bucket, state.key, state.data, error.strerror),
                )
                continue
            extent = Extent(content, 0, state.size) if isinstance(content, SharedFile) else content
            pending = Pending(state, extent)
            pending.attempted = True
            self.pending[state.entry] = pending
            self.room.take_anyway(pending.cost)
            self._show(pending, content)
            self.schedule(pending)
        if self.pending:
            logger.info("%d files are still to be stored", len(self.pending))

    def _show(self, pending: Pending, content: SharedFile | Extent | None) -> None:
        """Put the file where it belongs in this mount, if it belongs there at all."""
        state, owed = self._state, pending.state
        place = _segments(state.config.bucket, state.config.prefix, owed.bucket, owed.key)
        if place is None:
            return
        folder = state.table.root
        for name in place[:-1]:
            known = folder.children.get(name)
            if known is None or not known.is_directory:
                unseen = replace(state.unmarked_directory(), exact=False, fetched_at=float("-inf"))
                known = state.table.attach(folder, name, unseen)
            folder = known
        inode = state.table.attach(folder, place[-1], self._entry(owed))
        if content is not None:
            (content.file if isinstance(content, Extent) else content).hold()
        self._opened(inode, pending, state.staging.restore(owed, content))

    def _entry(self, owed: PendingState) -> Entry:
        found = ObjectStat(
            owed.key,
            owed.size,
            owed.base or "",
            owed.since,
            metadata=owed.metadata,
            content_type=owed.content_type,
            headers=owed.headers,
        )
        attributes = Attributes(*owed.posix)
        return Entry(attributes, found, self._state.now(), exact=True, writer=owed.owner)

    def _opened(self, inode: Inode, pending: Pending, staged: StagedFile) -> None:
        open_file = OpenFile(inode)
        open_file.staged = staged
        open_file.fresh = pending.state.base is None
        open_file.writer = self._state.signers.for_name(pending.state.identity)
        open_file.pending = pending
        pending.generation = staged.generation
        pending.open_file = open_file
        self._state.table.open(inode, open_file)


def _keeper(keeper: Signer | None, signer: Signer | None, known: PendingState | None) -> str:
    """The name of whose the object is to be, where that is not who signs it."""
    if keeper is not None:
        return keeper.name
    return known.keeper if signer is None and known is not None else ""


def _posix(attributes: Attributes) -> tuple[int, ...]:
    return (
        attributes.mode,
        attributes.uid,
        attributes.gid,
        attributes.size,
        attributes.mtime_ns,
        attributes.atime_ns,
        attributes.ctime_ns,
    )


def _segments(mounted: str | None, prefix: str, bucket: str, key: str) -> tuple[bytes, ...] | None:
    """The names from the root of the mount to a key; ``None`` where it is not below it."""
    if mounted not in (None, bucket) or not key.startswith(prefix):
        return None
    names = tuple(name.encode() for name in key[len(prefix) :].split("/"))
    return (bucket.encode(), *names) if mounted is None else names
