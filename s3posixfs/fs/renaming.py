"""rename(2) of files and folders.

Rights, locks and what this mount knows of the names; ``object_moves`` and ``folder_moves`` change
the keys in S3.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from errno import EEXIST, EINVAL, EISDIR, ENOTDIR, EXDEV

from s3posixfs.core.types import ObjectStat
from s3posixfs.data.rename_notes import RenameNote
from s3posixfs.fs.attributes import Entry, NoEntry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.folder_moves import FolderMover
from s3posixfs.fs.folders import Folders
from s3posixfs.fs.handles import OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import new_segment
from s3posixfs.fs.object_moves import Move, ObjectMover
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.removing import Remover
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.saving import Saver
from s3posixfs.fs.signers import Signer

RENAME_NOREPLACE = 1


@dataclass(frozen=True, slots=True)
class Renaming:
    """One rename(2): what moves, what it replaces, where to, and who signs."""

    source: Inode
    target: Inode | None
    new_parent: Inode
    new_name: bytes
    signer: Signer
    no_replace: bool


class Renamer:
    """Renames names and everything below them."""

    def __init__(
        self,
        state: MountState,
        resolver: Resolver,
        folders: Folders,
        remover: Remover,
        saver: Saver,
        mover: ObjectMover,
        folder_mover: FolderMover,
    ) -> None:
        self._state = state
        self._resolver = resolver
        self._folders = folders
        self._remover = remover
        self._saver = saver
        self._mover = mover
        self._folder_mover = folder_mover
        folder_mover.holding = self._holding

    async def rename(
        self,
        old_parent: Inode,
        old_name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        """rename(2). RENAME_NOREPLACE is honoured; RENAME_EXCHANGE, which no object store can do
        in one step, is EINVAL. A bucket cannot be renamed: EXDEV."""
        state = self._state
        if flags & ~RENAME_NOREPLACE:
            raise refusal(EINVAL)
        state.writable()
        if state.table.is_buckets_folder(old_parent) or state.table.is_buckets_folder(new_parent):
            raise refusal(EXDEV)
        async with self._folders.changing(old_parent, new_parent):
            source = await self._resolver.child(old_parent, old_name, whole=True)
            target = await self._resolver.existing(new_parent, new_name, caller.pid, "rename")
            if target is source:
                return
            self._check_kinds(source, target, new_parent, flags)
            await self._check_rights(old_parent, source, new_parent, target, caller)
            signer = state.access.signer(caller)
            no_replace = bool(flags & RENAME_NOREPLACE)
            renaming = Renaming(source, target, new_parent, new_name, signer, no_replace)
            async with AsyncExitStack() as stack:
                if source.is_directory:
                    await stack.enter_async_context(state.gate.moving(source))
                await stack.enter_async_context(state.gate.working_in(old_parent, new_parent))
                _, prefix = state.table.place(new_parent)
                new_segment(new_name, prefix, directory=source.is_directory)
                if source.is_directory:
                    await self._folder(renaming)
                else:
                    await self._file(renaming)
                await self._folders.keep(old_parent)

    @staticmethod
    def _check_kinds(source: Inode, target: Inode | None, new_parent: Inode, flags: int) -> None:
        if source in new_parent.ancestry():
            raise refusal(EINVAL)
        if target is None:
            return
        if flags & RENAME_NOREPLACE:
            raise refusal(EEXIST)
        if target.is_directory and not source.is_directory:
            raise refusal(EISDIR)
        if source.is_directory and not target.is_directory:
            raise refusal(ENOTDIR)

    async def _check_rights(
        self,
        old_parent: Inode,
        source: Inode,
        new_parent: Inode,
        target: Inode | None,
        caller: Caller,
    ) -> None:
        await self._remover.may_remove(old_parent, source, caller)
        if target is not None:
            await self._remover.may_remove(new_parent, target, caller)
        else:
            await self._resolver.refresh(new_parent)
            self._state.require(new_parent, caller, os.W_OK | os.X_OK)
        if source.is_directory and new_parent is not old_parent:
            self._state.require(source, caller, os.W_OK)  # its `..` changes

    # Files.

    async def _file(self, renaming: Renaming) -> None:
        state, source, target = self._state, renaming.source, renaming.target
        both = (source,) if target is None else (source, target)
        async with AsyncExitStack() as stack:
            if await self._renamed_unstored(renaming, both, stack):
                return
            # No other task ran since the last look, which found nothing more to wait for.
            for inode in both:
                stack.enter_context(inode.own_change())
            replaced = target.open_file if target is not None else None
            bucket, key = state.table.key(source)
            new_bucket, prefix = state.table.place(renaming.new_parent)
            written = await self._mover.move(
                Move(bucket, key, new_bucket, prefix + renaming.new_name.decode()),
                source.entry,
                source.entry.stat or ObjectStat(key, 0, "", 0.0),
                renaming.signer,
                no_replace=renaming.no_replace,
                replaces=target is not None,
            )
            self._moved(renaming, written)
        if replaced is not None:
            await self._saver.finish(replaced)

    async def _renamed_unstored(
        self, renaming: Renaming, both: tuple[Inode, ...], stack: AsyncExitStack
    ) -> bool:
        """Hold what is open of both names and store what S3 has not got; whether that came to
        nothing, as the journal has the new name now."""
        source = renaming.source
        held: set[OpenFile] = set()

        async def ready(open_file: OpenFile) -> None:
            if open_file.inode is source:
                await self._saver.commit_locked(open_file)
            elif open_file.handles:
                await self._saver.preserve(open_file)

        while await _hold_opened(both, held, stack, ready):
            if await self._renamed_here(renaming):
                for open_file in held - {source.open_file}:
                    await self._saver.finish(open_file)
                return True
            for open_file in held:
                if open_file.pending is not None:
                    await self._saver.save_locked(open_file)
            await self._state.settle_journal()
        return False

    async def _renamed_here(self, renaming: Renaming) -> bool:
        """Give a file that S3 has never got another name in the journal, where it is there."""
        source, target = renaming.source, renaming.target
        opened, writeback = source.open_file, self._saver.writeback
        former = target.open_file if target is not None else None
        if writeback is None or opened is None or opened.pending is None:
            return False
        async with writeback.holding(opened, former):
            pending = opened.pending
            if pending is None or pending.attempted or not opened.fresh:
                return False
            bucket, prefix = self._state.table.place(renaming.new_parent)
            key = prefix + renaming.new_name.decode()
            await self._state.access.require_write(renaming.signer, bucket, key)
            replaced = former.pending if former is not None else None
            found = target.entry.stat if target is not None else None
            base = (found.etag or None) if found is not None else None
            await writeback.retarget(pending, bucket, key, base, replaced)
            entry = source.entry
            if entry.stat is not None:
                entry = replace(entry, stat=replace(entry.stat, key=key, etag=base or ""))
            opened.fresh = pending.state.base is None and not pending.attempted
            self._moved(renaming, entry)
            return True

    def _moved(self, renaming: Renaming, entry: Entry) -> None:
        """Every table says so in this one step."""
        state, source, target = self._state, renaming.source, renaming.target
        old_parent, new_parent = source.parent, renaming.new_parent
        self._folders.names_changed(new_parent)
        if old_parent is not None:
            self._folders.names_changed(old_parent)
            if old_parent.listing is not None:
                old_parent.listing.remove(source.name)
        if source.is_directory:
            if old_parent is not None:
                old_parent.count_folders(-1)
            new_parent.count_folders(1 if target is None else 0)
        if target is not None:
            target.removed = True
            target.renamed_ns = state.now_ns()  # a link fewer
            state.table.detach(target)
        source.renamed_ns = state.now_ns()
        state.table.move(source, new_parent, renaming.new_name)
        former = source.entry.stat
        if source.kept_etag is not None and former is not None and entry.stat is not None:
            source.kept_etag = entry.stat.etag if source.kept_etag == former.etag else None
        source.entry = entry
        if new_parent.listing is not None:
            row = None if stat.S_ISDIR(entry.attributes.mode) else entry.stat
            new_parent.listing.put(renaming.new_name, row, state.now())
        if entry.stat is not None and entry.stat.etag and not source.is_local:
            bucket, _ = state.table.place(new_parent)
            state.known.remember(bucket, entry.stat)

    # Folders.

    async def _folder(self, renaming: Renaming) -> None:
        state, source, target = self._state, renaming.source, renaming.target
        if target is not None:
            await self._folders.times.settle(target)
            await self._remover.require_empty(target)
        async with AsyncExitStack() as stack:
            held: set[OpenFile] = set()
            save = self._saver.save_locked
            # Also of what was stored below just now and is closed: a crash must not bring it back
            # at its old name. Where nothing of the kind is noted nothing is waited for.
            await state.settle_journal()
            while await _hold_opened(state.table.below(source), held, stack, save):
                await state.settle_journal()
            # No other task ran since the last look, which found nothing more to wait for.
            stack.enter_context(source.own_change())
            bucket, prefix = state.table.place(source)
            new_bucket, parent_prefix = state.table.place(renaming.new_parent)
            new_prefix = f"{parent_prefix}{renaming.new_name.decode()}/"
            await self._folder_mover.move(bucket, prefix, new_bucket, new_prefix, renaming.signer)
            entry = source.entry
            if entry.stat is not None:
                entry = replace(entry, stat=replace(entry.stat, key=new_prefix))
            if target is not None and (entry.stat is None and target.entry.stat is not None):
                entry = target.entry  # the marker that was there stays the folder's
            self._moved(renaming, entry)
            for inode in state.table.below(source):
                inode.note_change()
                state.listings.drop(inode)
                inode.entry = replace(inode.entry, fetched_at=float("-inf"))

    # What an earlier mount left.

    @asynccontextmanager
    async def _holding(self, note: RenameNote) -> AsyncIterator[None]:
        """A time in which this mount stores nothing below either name of a folder that is being
        renamed, as in a rename that it does itself; what was written is stored before. S3Error."""
        state, save = self._state, self._saver.save_locked
        places = ((note.bucket, note.prefix), (note.new_bucket, note.new_prefix))
        folders = [await self._nearest(*place) for place in places]
        async with state.gate.moving(*folders), AsyncExitStack() as stack:
            held: set[OpenFile] = set()
            await state.settle_journal()
            while await _hold_opened(self._below(folders), held, stack, save):
                await state.settle_journal()
            try:
                yield
            finally:
                for inode in self._below(folders):
                    inode.note_change()
                    state.listings.drop(inode)
                    if not inode.is_local:
                        inode.entry = replace(inode.entry, fetched_at=float("-inf"))

    def _below(self, folders: Iterable[Inode]) -> list[Inode]:
        return [inode for folder in set(folders) for inode in self._state.table.below(folder)]

    async def _nearest(self, bucket: str, prefix: str) -> Inode:
        """The folder of these keys or, where there is none, the one that it would be made in."""
        folder, names = self._state.table.nearest(bucket, prefix)
        for name in names:
            try:
                found = await self._resolver.child(folder, name)
            except NoEntry:
                break
            if not found.is_directory:
                break
            folder = found
        return folder


async def _hold_opened(
    inodes: Iterable[Inode],
    held: set[OpenFile],
    stack: AsyncExitStack,
    ready: Callable[[OpenFile], Awaitable[None]],
) -> bool:
    """Lock what is open of these and not held yet, in the order in which locks are taken, and make
    each ``ready``. Whether there was any: meanwhile more may have been opened. Where there was
    none, no other task has run."""
    found = [inode.open_file for inode in inodes if inode.open_file is not None]
    late = sorted((one for one in found if one not in held), key=_number)
    for open_file in late:
        await stack.enter_async_context(open_file.lock)
        held.add(open_file)
        await ready(open_file)
    return bool(late)


def _number(open_file: OpenFile) -> int:
    return open_file.inode.number
