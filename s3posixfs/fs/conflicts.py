"""What happens to an object that others changed while this host held newer data for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EACCES
from typing import Protocol

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES, ObjectStat
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import MAX_NAME_BYTES
from s3posixfs.fs.object_heads import ObjectHeads, absent
from s3posixfs.fs.rewriting import carried
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)


CONFLICT = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


class ConflictError(Exception):
    """The object was changed by others, and the mount was told to leave such alone, or has not
    got the bytes that it would take to put ours in its place."""


class Claim(Protocol):
    """An upload that is to replace the object with the ETag ``base``; ``None``: there must be
    none. ``mark`` tells this version from others in S3, by the ``ctime`` of its metadata and its
    size in bytes; ``lineage`` are versions of the same file that may be there already."""

    @property
    def bucket(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def base(self) -> str | None: ...

    @property
    def mark(self) -> tuple[str, int]: ...

    @property
    def lineage(self) -> tuple[tuple[str, int], ...]: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands at a name after a condition failed.

    ``etag``: which object ours may replace now; ``None``: there is none. ``landed``: it is this
    very version already. ``own``: it is an earlier version of the same file.
    """

    etag: str | None
    landed: ObjectStat | None = None
    own: ObjectStat | None = None


def mark_of(metadata: Mapping[str, str] | None, size: int) -> tuple[str, int]:
    """What tells a version of a file from others in S3."""
    return (metadata or {}).get("ctime", ""), size


class Conflicts:
    """What is done where S3 has another object than the one that is to be replaced."""

    def __init__(self, state: MountState, entries: Entries, heads: ObjectHeads) -> None:
        self._state = state
        self._entries = entries
        self._heads = heads

    async def standing(self, claim: Claim, signer: Signer, *, whole: bool = True) -> Standing:
        """After a condition failed: what ours may replace now. ``whole`` says that all of ours is
        here. ConflictError where ours must not, or cannot, be stored."""
        theirs = await self._found(claim, signer)
        if theirs is not None:
            mark = mark_of(theirs.metadata, theirs.size)
            if mark[0] and mark == claim.mark:
                return Standing(theirs.etag, landed=theirs)
            if mark[0] and mark in claim.lineage:
                return Standing(theirs.etag, own=theirs)
        if not whole:
            raise ConflictError(
                f"{claim.bucket}/{claim.key} was changed by others while a part of it was changed "
                "here: what this change was made to is gone, and theirs stays"
            )
        if theirs is None:
            if claim.base is not None:
                self._decide(claim, "was removed")
            return Standing(None)
        self._decide(claim, "was changed")
        if self._state.config.conflict == "keep-both":
            await self._keep(claim, theirs)
        return Standing(theirs.etag)

    async def holds(self, claim: Claim, base: str | None) -> bool:
        """Whether the mount's identity finds the object that is to be replaced: for who may write
        it and not ask for it."""
        try:
            found = await self._state.daemon_store.head(claim.bucket, claim.key)
        except S3Error as error:
            if error.errno == EACCES:
                return False
            if absent(error):
                return base is None
            raise
        return found.etag == base

    def _decide(self, claim: Claim, what: str) -> None:
        chosen = self._state.config.conflict
        if chosen == "fail":
            raise ConflictError(
                f"{claim.bucket}/{claim.key} {what} by others while it was changed here; "
                "conflict=fail leaves both as they are"
            )
        logger.warning(
            "%s/%s %s by others while it was changed here (conflict=%s)",
            *(claim.bucket, claim.key, what, chosen),
        )

    async def _found(self, claim: Claim, signer: Signer) -> ObjectStat | None:
        """The object that is there, asked for by whoever may."""
        for store in (signer.store, self._state.daemon_store):
            try:
                return await store.head(claim.bucket, claim.key)
            except S3Error as error:
                if absent(error):
                    return None
                if error.status != 403 or store is self._state.daemon_store:
                    raise
        return None

    async def _keep(self, claim: Claim, theirs: ObjectStat) -> None:
        """Copy the others' object beside, as whose it is, or by the daemon with what is proven of
        its owner."""
        state = self._state
        found = await self._heads.head(state.daemon_store, claim.bucket, claim.key, None)
        entry = self._entries.of_file(claim.bucket, found)
        signer = state.access.owner(entry)
        settled = state.rules.settle(entry.attributes, signer)
        beside = beside_key(claim.key, theirs)
        await signer.store.copy(
            claim.bucket,
            claim.key,
            claim.bucket,
            beside,
            metadata=encode(settled, found.metadata or {}),
            content_type=found.content_type,
            headers=carried(found),
            source_if_match=theirs.etag,
        )
        logger.warning("the others' %s/%s is kept as %s", claim.bucket, claim.key, beside)


def beside_key(key: str, theirs: ObjectStat) -> str:
    """Where another's version of an object goes: the same name for the same version."""
    when = datetime.fromtimestamp(theirs.last_modified, UTC).strftime("%Y%m%dT%H%M%SZ")
    suffix = f".conflict-{when}-{theirs.etag[:8]}"
    folder, slash, name = key.rpartition("/")
    room = min(MAX_NAME_BYTES, MAX_KEY_BYTES - len(f"{folder}{slash}".encode())) - len(suffix)
    short = name.encode()[: max(room, 0)].decode(errors="ignore")
    return f"{folder}{slash}{short}{suffix}"
