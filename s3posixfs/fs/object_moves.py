"""Moving objects from key to key, in the caller's name.

Where the store has RenameObject it is used, and the owner stays. Else the object is copied as its
owner and the old key deleted as the caller, who is asked for the rights that RenameObject would
have needed. Of many the copies are all made before anything is deleted, and what was done is
undone where a step fails.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from errno import EACCES, EEXIST

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.concurrently import for_each
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import ObjectHeads
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.rewriting import carried
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)

DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Move:
    """One key's way: from where to where, in the caller's name."""

    bucket: str
    key: str
    new_bucket: str
    new_key: str


class ObjectMover:
    """Moves one object, or all below a prefix."""

    def __init__(self, state: MountState, heads: ObjectHeads) -> None:
        self._state = state
        self._heads = heads

    async def move(
        self,
        move: Move,
        entry: Entry,
        found: ObjectStat,
        signer: Signer,
        *,
        no_replace: bool,
        replaces: bool,
    ) -> Entry:
        """Move one object, which has this entry; how it looks then. EEXIST where ``no_replace``
        and there is one at the new key; ``replaces`` says that one was seen there."""
        state = self._state
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
            if not replaces:  # else the copy is all there is at that name
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
            headed = await self._heads.head(state.daemon_store, move.bucket, move.key, None)
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

    async def move_all(
        self, bucket: str, prefix: str, new_bucket: str, new_prefix: str, signer: Signer
    ) -> None:
        """Move every key below a prefix, the marker of the folder too."""
        if signer.store.capabilities.rename_folder and bucket == new_bucket:
            await signer.store.rename_folder(bucket, prefix, new_prefix)
            return
        moves = [
            (Move(bucket, found.key, new_bucket, new_prefix + found.key[len(prefix) :]), found)
            for found in await self._keys(bucket, prefix)
        ]
        if signer.store.capabilities.rename_object and bucket == new_bucket:
            await self._rename_all(moves, signer)
        else:
            await self._copy_all(moves, signer)

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
            attributes, found = await self._described(move, found)
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

    async def _described(self, move: Move, found: ObjectStat) -> tuple[Attributes, ObjectStat]:
        """Whose an object is and what it is, and the object with what its metadata says."""
        state = self._state
        metadata = state.known.complete(move.bucket, found).metadata
        if metadata is None:
            # Without its metadata the object cannot be described anew, only copied as it is.
            headed = await self._heads.head(state.daemon_store, move.bucket, move.key, None)
            metadata = headed.metadata
            found = replace(found, metadata=metadata)
        if found.key.endswith("/"):
            return state.rules.directory(found, metadata, seen_ns=0), found
        return state.rules.file(found, metadata), found

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
