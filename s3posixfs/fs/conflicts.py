"""What happens to an object that others changed while this host held newer data for it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES, ObjectStat
from s3posixfs.data.journal_records import PendingState
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import MAX_NAME_BYTES
from s3posixfs.fs.object_heads import ObjectHeads, absent
from s3posixfs.fs.rewriting import carried
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)


class ConflictError(Exception):
    """The object was changed by others, and the mount was told to leave such alone."""


class Conflicts:
    """What is done where S3 has another object than the one that is to be replaced."""

    def __init__(self, state: MountState, entries: Entries, heads: ObjectHeads) -> None:
        self._state = state
        self._entries = entries
        self._heads = heads

    async def base(
        self, owed: PendingState, signer: Signer
    ) -> tuple[str | None, ObjectStat | None]:
        """After a condition failed: the ETag that ours may replace now (``None``: no object), and
        the object, where it is this very version already. ConflictError where ours must not."""
        theirs = await self._found(owed, signer)
        if theirs is None:
            if owed.base is not None:
                self._decide(owed, "was removed")
            return None, None
        mark = (theirs.metadata or {}).get("ctime", ""), theirs.size
        if mark[0] and mark == owed.mark:
            return theirs.etag, theirs
        if mark[0] and mark in owed.lineage:
            return theirs.etag, None
        self._decide(owed, "was changed")
        if self._state.config.conflict == "keep-both":
            await self._keep(owed, theirs)
        return theirs.etag, None

    def _decide(self, owed: PendingState, what: str) -> None:
        chosen = self._state.config.conflict
        if chosen == "fail":
            raise ConflictError(
                f"{owed.bucket}/{owed.key} {what} by others while it was changed here; "
                "conflict=fail leaves both as they are"
            )
        logger.warning(
            "%s/%s %s by others while it was changed here (conflict=%s)",
            *(owed.bucket, owed.key, what, chosen),
        )

    async def _found(self, owed: PendingState, signer: Signer) -> ObjectStat | None:
        """The object that is there, asked for by whoever may."""
        for store in (signer.store, self._state.daemon_store):
            try:
                return await store.head(owed.bucket, owed.key)
            except S3Error as error:
                if absent(error):
                    return None
                if error.status != 403 or store is self._state.daemon_store:
                    raise
        return None

    async def _keep(self, owed: PendingState, theirs: ObjectStat) -> None:
        """Copy the others' object beside, as whose it is, or by the daemon with what is proven of
        its owner."""
        state = self._state
        found = await self._heads.head(state.daemon_store, owed.bucket, owed.key, None)
        entry = self._entries.of_file(owed.bucket, found)
        signer = state.access.owner(entry)
        settled = state.rules.settle(entry.attributes, signer)
        beside = beside_key(owed.key, theirs)
        await signer.store.copy(
            owed.bucket,
            owed.key,
            owed.bucket,
            beside,
            metadata=encode(settled, found.metadata or {}),
            content_type=found.content_type,
            headers=carried(found),
            source_if_match=theirs.etag,
        )
        logger.warning("the others' %s/%s is kept as %s", owed.bucket, owed.key, beside)


def beside_key(key: str, theirs: ObjectStat) -> str:
    """Where another's version of an object goes: the same name for the same version."""
    when = datetime.fromtimestamp(theirs.last_modified, UTC).strftime("%Y%m%dT%H%M%SZ")
    suffix = f".conflict-{when}-{theirs.etag[:8]}"
    folder, slash, name = key.rpartition("/")
    room = min(MAX_NAME_BYTES, MAX_KEY_BYTES - len(f"{folder}{slash}".encode())) - len(suffix)
    short = name.encode()[: max(room, 0)].decode(errors="ignore")
    return f"{folder}{slash}{short}{suffix}"
