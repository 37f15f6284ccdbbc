"""rename(2) of files and folders.

Where the store has RenameObject it is used, in the caller's name, and the owner stays. Else the
object is copied as its owner and the old key deleted as the caller, who is asked for the rights
that RenameObject would have needed. A folder is renamed key by key: the copies are all made
before anything is deleted, and what was done is undone where a step fails.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from errno import EACCES, EEXIST, EINVAL, EISDIR, ENOTDIR, EXDEV

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.concurrently import for_each
from s3posixfs.fs.handles import OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import new_segment
from s3posixfs.fs.namespace import Namespace
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.rewriting import carried
from s3posixfs.fs.saving import Saver
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)

RENAME_NOREPLACE = 1
DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Move:
    """One key's way: from where to where, in the caller's name."""

    bucket: str
    key: str
    new_bucket: str
    new_key: str


class Renamer:
    """Renames names and everything below them."""

    def __init__(
        self, state: MountState, resolver: Resolver, namespace: Namespace, saver: Saver
    ) -> None:
        self._state = state
        self._resolver = resolver
        self._namespace = namespace
        self._saver = saver

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
        async with self._namespace.changing(old_parent, new_parent):
            source = await self._resolver.child(old_parent, old_name, whole=True)
            target = await self._resolver.existing(new_parent, new_name)
            if target is source:
                return
            self._check_kinds(source, target, new_parent, flags)
            await self._check_rights(old_parent, source, new_parent, target, caller)
            signer = state.access.signer(caller)
            async with AsyncExitStack() as stack:
                if source.is_directory:
                    await stack.enter_async_context(state.gate.moving(source))
                await stack.enter_async_context(state.gate.working_in(old_parent, new_parent))
                _, prefix = state.table.place(new_parent)
                new_segment(new_name, prefix, directory=source.is_directory)
                if source.is_directory:
                    await self._folder(source, target, new_parent, new_name, signer)
                else:
                    await self._file(source, target, new_parent, new_name, signer, flags)
                await self._namespace.keep_folder(old_parent)

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
        await self._namespace.may_remove(old_parent, source, caller)
        if target is not None:
            await self._namespace.may_remove(new_parent, target, caller)
        else:
            await self._resolver.refresh(new_parent)
            self._state.require(new_parent, caller, os.W_OK | os.X_OK)
        if source.is_directory and new_parent is not old_parent:
            self._state.require(source, caller, os.W_OK)  # its `..` changes

    # Files.

    async def _file(
        self,
        source: Inode,
        target: Inode | None,
        new_parent: Inode,
        new_name: bytes,
        signer: Signer,
        flags: int,
    ) -> None:
        both = (source,) if target is None else (source, target)
        async with AsyncExitStack() as stack:
            held: set[OpenFile] = set()
            while late := _opened(both, held):
                for open_file in late:
                    await stack.enter_async_context(open_file.lock)
                    held.add(open_file)
                    if open_file.inode is source:
                        await self._saver.commit_locked(open_file)
                    elif open_file.handles:
                        await self._saver.preserve(open_file)
                if await self._renamed_here(source, target, new_parent, new_name, signer):
                    for open_file in held - {source.open_file}:
                        await self._saver.finish(open_file)
                    return
                for open_file in held:
                    if open_file.pending is not None:
                        await self._saver.save_locked(open_file)
                await self._state.settle_journal()
            # Nothing is awaited from the last look to here.
            for inode in both:
                stack.enter_context(inode.own_change())
            replaced = target.open_file if target is not None else None
            bucket, key = self._state.table.key(source)
            new_bucket, prefix = self._state.table.place(new_parent)
            move = Move(bucket, key, new_bucket, prefix + new_name.decode())
            found = source.entry.stat or ObjectStat(key, 0, "", 0.0)
            no_replace = bool(flags & RENAME_NOREPLACE)
            written = await self._one(move, source, found, target, signer, no_replace=no_replace)
            self._moved(source, target, new_parent, new_name, written)
        if replaced is not None:
            await self._saver.finish(replaced)

    async def _renamed_here(
        self,
        source: Inode,
        target: Inode | None,
        new_parent: Inode,
        new_name: bytes,
        signer: Signer,
    ) -> bool:
        """Give a file that S3 has never got another name in the journal, where it is there."""
        opened, writeback = source.open_file, self._saver.writeback
        former = target.open_file if target is not None else None
        if writeback is None or opened is None or opened.pending is None:
            return False
        async with writeback.holding(opened, former):
            pending = opened.pending
            if pending is None or pending.attempted or not opened.fresh:
                return False
            bucket, prefix = self._state.table.place(new_parent)
            key = prefix + new_name.decode()
            await self._state.access.require_write(signer, bucket, key)
            replaced = former.pending if former is not None else None
            found = target.entry.stat if target is not None else None
            base = (found.etag or None) if found is not None else None
            await writeback.retarget(pending, bucket, key, base, replaced)
            entry = source.entry
            if entry.stat is not None:
                entry = replace(entry, stat=replace(entry.stat, key=key, etag=base or ""))
            opened.fresh = pending.state.base is None and not pending.attempted
            self._moved(source, target, new_parent, new_name, entry)
            return True

    async def _one(
        self,
        move: Move,
        source: Inode,
        found: ObjectStat,
        target: Inode | None,
        signer: Signer,
        *,
        no_replace: bool,
    ) -> Entry:
        """Move one object; how it looks then."""
        state = self._state
        entry = source.entry
        if signer.store.capabilities.rename_object and move.bucket == move.new_bucket:
            await signer.store.rename(move.bucket, move.key, move.new_key, no_replace=no_replace)
            moved = replace(found, key=move.new_key)
            return replace(entry, stat=moved, fetched_at=state.now())
        await self._may_copy(move, signer)
        if no_replace:
            await self._require_absent(move)
        entry = await self._copied(move, entry.attributes, found, entry.writer)
        try:
            await signer.store.delete(move.bucket, move.key)
        except BaseException:
            if target is None:  # else the copy is all there is at that name
                with trio.move_on_after(state.config.request_deadline, shield=True):
                    await self._undo_copies([move])
            raise
        return entry

    async def _may_copy(self, move: Move, signer: Signer) -> None:
        """What RenameObject would ask of the caller, before anything changes; the right to
        delete shows itself at the end."""
        await self._state.access.require_read(signer, move.bucket, move.key)
        await self._state.access.require_write(signer, move.new_bucket, move.new_key)

    async def _require_absent(self, move: Move) -> None:
        try:
            await self._state.daemon_store.head(move.new_bucket, move.new_key)
        except S3Error as error:
            if error.status == 404 or error.code == "NoSuchKey":
                return
            raise
        raise refusal(EEXIST)

    async def _copied(
        self, move: Move, attributes: Attributes, found: ObjectStat, writer: str | None
    ) -> Entry:
        """Copy an object as the identity it belongs to, so that it stays theirs; where there are
        no credentials for that, as the daemon with the owner in metadata."""
        state = self._state
        signer = state.access.owner(Entry(attributes, found, 0.0, exact=True, writer=writer))
        settled = state.rules.settle(attributes, signer)
        metadata: Mapping[str, str] | None = None
        content_type: str | None = None
        headers: Mapping[str, str] | None = None
        if settled != attributes or not self._stays(found, signer):
            headed = await self._resolver.head(state.daemon_store, move.bucket, move.key, None)
            metadata = encode(settled, headed.metadata or {})
            content_type = headed.content_type
            headers = carried(headed)
        result = await signer.store.copy(
            move.bucket,
            move.key,
            move.new_bucket,
            move.new_key,
            metadata=metadata,
            content_type=content_type,
            headers=headers,
            source_if_match=found.etag or None,
        )
        moved = replace(
            found,
            key=move.new_key,
            etag=result.etag or found.etag,
            last_modified=result.last_modified,
            metadata=metadata if metadata is not None else found.metadata,
            owner=found.owner if metadata is None else None,
        )
        exact = moved.metadata is not None and bool(result.etag)
        return Entry(settled, moved, state.now(), exact=exact, writer=signer.name)

    def _stays(self, found: ObjectStat, signer: Signer) -> bool:
        """Whether a copy by the signer has the same S3 owner, so that its metadata may go along
        as it is."""
        if found.owner is None or self._state.config.sign_as == "daemon":
            return False
        own = self._state.signers.for_owner(found.owner.id)
        return own is not None and own.name == signer.name

    def _moved(
        self,
        source: Inode,
        target: Inode | None,
        new_parent: Inode,
        new_name: bytes,
        entry: Entry,
    ) -> None:
        """Every table says so in this one step."""
        state = self._state
        old_parent = source.parent
        self._namespace.names_changed(new_parent)
        if old_parent is not None:
            self._namespace.names_changed(old_parent)
            if old_parent.listing is not None:
                old_parent.listing.remove(source.name)
        if target is not None:
            target.removed = True
            state.table.detach(target)
        source.renamed_ns = state.now_ns()
        state.table.move(source, new_parent, new_name)
        former = source.entry.stat
        if source.kept_etag is not None and former is not None and entry.stat is not None:
            source.kept_etag = entry.stat.etag if source.kept_etag == former.etag else None
        source.entry = entry
        if new_parent.listing is not None:
            row = None if stat.S_ISDIR(entry.attributes.mode) else entry.stat
            new_parent.listing.put(new_name, row, state.now())
        if entry.stat is not None and entry.stat.etag and not source.is_local:
            bucket, _ = state.table.place(new_parent)
            state.known.remember(bucket, entry.stat)

    # Folders.

    async def _folder(
        self,
        source: Inode,
        target: Inode | None,
        new_parent: Inode,
        new_name: bytes,
        signer: Signer,
    ) -> None:
        state = self._state
        if target is not None:
            await self._namespace.require_empty(target)
        async with AsyncExitStack() as stack:
            held: set[OpenFile] = set()
            while late := _opened(state.table.below(source), held):
                for open_file in late:
                    await stack.enter_async_context(open_file.lock)
                    held.add(open_file)
                    await self._saver.save_locked(open_file)
                await state.settle_journal()
            # Nothing is awaited from the last look to here.
            stack.enter_context(source.own_change())
            bucket, prefix = state.table.place(source)
            new_bucket, parent_prefix = state.table.place(new_parent)
            new_prefix = f"{parent_prefix}{new_name.decode()}/"
            found = await self._keys(bucket, prefix)
            moves = [
                (Move(bucket, s.key, new_bucket, new_prefix + s.key[len(prefix) :]), s)
                for s in found
            ]
            if signer.store.capabilities.rename_object and bucket == new_bucket:
                await self._rename_all(moves, signer)
            else:
                await self._copy_all(moves, signer)
            entry = source.entry
            if entry.stat is not None:
                entry = replace(entry, stat=replace(entry.stat, key=new_prefix))
            if target is not None and (entry.stat is None and target.entry.stat is not None):
                entry = target.entry  # the marker that was there stays the folder's
            self._moved(source, target, new_parent, new_name, entry)
            for inode in state.table.below(source):
                inode.serial += 1
                state.listings.drop(inode)
                inode.entry = replace(inode.entry, fetched_at=float("-inf"))

    async def _keys(self, bucket: str, prefix: str) -> list[ObjectStat]:
        found: list[ObjectStat] = []
        token: str | None = None
        while True:
            page = await self._state.daemon_store.list_objects(bucket, prefix=prefix, token=token)
            found.extend(page.objects)
            token = page.next_token
            if token is None:
                return found

    async def _rename_all(self, moves: list[tuple[Move, ObjectStat]], signer: Signer) -> None:
        done: list[Move] = []

        async def one(item: tuple[Move, ObjectStat]) -> None:
            move, _ = item
            await signer.store.rename(move.bucket, move.key, move.new_key)
            done.append(move)

        async def back(move: Move) -> None:
            await self._state.daemon_store.rename(move.bucket, move.new_key, move.key)

        limit = self._state.config.parallel_requests
        try:
            await for_each(moves, one, limit=limit)
        except BaseException:
            with trio.move_on_after(self._state.config.request_deadline, shield=True):
                await for_each(done, back, limit=limit)
            raise

    async def _copy_all(self, moves: list[tuple[Move, ObjectStat]], signer: Signer) -> None:
        state = self._state
        done: list[Move] = []

        async def one(item: tuple[Move, ObjectStat]) -> None:
            move, found = item
            await self._may_copy(move, signer)
            metadata = state.known.complete(move.bucket, found).metadata
            attributes = state.rules.file(found, metadata)
            if found.key.endswith("/"):
                attributes = state.rules.directory(found, metadata, seen_ns=0)
            if metadata is None:
                # Without its metadata the object cannot be described anew, only copied as it is.
                headed = await self._resolver.head(state.daemon_store, move.bucket, move.key, None)
                found = replace(found, metadata=headed.metadata)
                attributes = (
                    state.rules.directory(found, found.metadata, seen_ns=0)
                    if found.key.endswith("/")
                    else state.rules.file(found, found.metadata)
                )
            await self._copied(move, attributes, found, None)
            done.append(move)

        limit = state.config.parallel_requests
        try:
            await for_each(moves, one, limit=limit)
            await self._delete_all([move for move, _ in moves], signer)
        except BaseException:
            with trio.move_on_after(state.config.request_deadline, shield=True):
                await self._undo_copies(done)
            raise

    async def _delete_all(self, moves: list[Move], signer: Signer) -> None:
        for start in range(0, len(moves), DELETED_AT_ONCE):
            batch = moves[start : start + DELETED_AT_ONCE]
            refused = await signer.store.delete_many(batch[0].bucket, [m.key for m in batch])
            for error in refused.values():
                raise error

    async def _undo_copies(self, done: list[Move]) -> None:
        """Remove the copies whose originals are still there; the others are the only ones."""

        async def undo(move: Move) -> None:
            store = self._state.daemon_store
            try:
                await store.head(move.bucket, move.key)
            except S3Error as error:
                if error.errno != EACCES:  # which it would not say of what is not there
                    raise
            await store.delete(move.new_bucket, move.new_key)

        for move in done:
            try:
                await undo(move)
            except S3Error as error:
                if error.status != 404:
                    logger.warning("%s/%s is left over", move.new_bucket, move.new_key)


def _opened(inodes: Iterable[Inode], held: set[OpenFile]) -> list[OpenFile]:
    """What is open of these and not held yet, in the order in which locks are taken."""
    found = [inode.open_file for inode in inodes if inode.open_file is not None]
    return sorted((one for one in found if one not in held), key=_number)


def _number(open_file: OpenFile) -> int:
    return open_file.inode.number
