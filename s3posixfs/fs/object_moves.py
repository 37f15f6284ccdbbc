"""Moving an object from key to key, in the caller's name.

Where the store has RenameObject it is used, and the owner stays. Else the object is copied as its
owner and the old key deleted as the caller, who is asked for the rights that RenameObject would
have needed.
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
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import ObjectHeads, absent
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.rewriting import carried
from s3posixfs.fs.signers import Signer
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Move:
    """One key's way: from where to where, in the caller's name."""

    bucket: str
    key: str
    new_bucket: str
    new_key: str

    def back(self) -> Move:
        """The way back."""
        return Move(self.new_bucket, self.new_key, self.bucket, self.key)


class ObjectMover:
    """Moves and copies one object."""

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
                await waiting()
                with trio.move_on_after(state.config.request_deadline, shield=True):
                    await self._undo_copy(move)
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
            if absent(error):
                return
            raise
        raise refusal(EEXIST)

    async def _copied(
        self,
        move: Move,
        attributes: Attributes,
        found: ObjectStat,
        writer: str | None,
        headed: ObjectStat | None = None,
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
            headed = headed or await self._head(move)
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

    async def copy(self, move: Move, found: ObjectStat, signer: Signer) -> None:
        """Copy an object of a listing to another key, where ``signer`` may read it and write
        there. PreconditionFailed or NoSuchKey where it changed since."""
        await self._may_copy(move, signer)
        await self.copy_as_owner(move, found)

    async def copy_as_owner(self, move: Move, found: ObjectStat) -> None:
        """The same without asking what anybody may."""
        attributes, found, headed = await self._described(move, found)
        await self._copied(move, attributes, found, None, headed)

    async def _head(self, move: Move) -> ObjectStat:
        """What is at the old key, but for its owner."""
        store = self._state.daemon_store
        return await self._heads.as_daemon_or_owner(store, move.bucket, move.key)

    async def _described(
        self, move: Move, found: ObjectStat
    ) -> tuple[Attributes, ObjectStat, ObjectStat | None]:
        """Whose a listed object is and what it is, the object with what its metadata says, and
        its HEAD where that had to be asked for. PreconditionFailed where it is another by now."""
        state = self._state
        metadata = state.known.complete(move.bucket, found).metadata
        headed: ObjectStat | None = None
        if metadata is None:
            # Without its metadata the object cannot be described anew, only copied as it is.
            headed = await self._head(move)
            if headed.etag != found.etag:
                raise S3Error("PreconditionFailed", "the object was replaced", status=412)
            metadata = headed.metadata
            found = replace(found, metadata=metadata)
        if found.key.endswith("/"):
            return state.rules.directory(found, metadata, seen_ns=0), found, headed
        return state.rules.file(found, metadata), found, headed

    async def _undo_copy(self, move: Move) -> None:
        """Remove the copy if the original is still there; else it is the only one."""
        store = self._state.daemon_store
        try:
            try:
                await store.head(move.bucket, move.key)
            except S3Error as error:
                if error.errno != EACCES:  # which it would not say of what is not there
                    raise
            await store.delete(move.new_bucket, move.new_key)
        except S3Error as error:
            if not absent(error):
                logger.warning("%s/%s is left over", move.new_bucket, move.new_key)
