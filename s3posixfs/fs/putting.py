"""One file's content into S3: as whom, what goes with it, and never over another's work unseen.

The object that is to be replaced is the one that the mount knew when the file was opened or last
stored. Where the store has another by then, what is done is :mod:`s3posixfs.fs.conflicts`' to say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from errno import EACCES, ESTALE

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.data.journal_records import LINEAGE
from s3posixfs.data.staged_file import StagedFile, Stored
from s3posixfs.data.streaming import refused
from s3posixfs.data.upload_notes import UploadNote
from s3posixfs.data.upload_target import Target, try_abort
from s3posixfs.data.version import ObjectVersion
from s3posixfs.fs.attributes import Attributes
from s3posixfs.fs.conflicts import CONFLICT, ConflictError, Conflicts, mark_of
from s3posixfs.fs.handles import OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import absent
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.rewriting import Rewriter, copy_onto_itself
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)

ATTEMPTS = 5  # at an object that others keep changing
ABORT_AGAIN, ABORT_LONGEST = 2.0, 300.0  # seconds until an upload is tried to be aborted again


@dataclass(frozen=True, slots=True)
class _Claim:
    """An upload, as :class:`s3posixfs.fs.conflicts.Claim` describes one."""

    bucket: str
    key: str
    base: str | None
    mark: tuple[str, int]
    lineage: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be stored, and by whom."""

    signer: Signer
    target: Target
    wanted: Attributes
    settled: Attributes


class Putter:
    """Uploads staged files, whole or, while they are written, part by part."""

    def __init__(
        self,
        state: MountState,
        rewriter: Rewriter,
        conflicts: Conflicts,
        nursery: trio.Nursery,
    ) -> None:
        self._state = state
        self._rewriter = rewriter
        self._conflicts = conflicts
        self._nursery = nursery

    async def former(self, inode: Inode, bucket: str, key: str) -> ObjectStat | None:
        """What is in S3 now, as far as it lives on in what replaces it."""
        former = inode.entry.stat
        if former is None or not former.etag:
            return former
        if former.metadata is not None and former.headers is not None:
            return former
        try:
            headed = await self._rewriter.head(inode, bucket, key)
        except S3Error as error:
            if absent(error):
                return former
            raise
        metadata = former.metadata if former.metadata is not None else headed.metadata
        return replace(
            former,
            metadata=metadata,
            content_type=headed.content_type,
            headers=headed.headers,
        )

    async def _plan(self, open_file: OpenFile, staged: StagedFile) -> _Plan:
        state, inode = self._state, open_file.inode
        bucket, key = state.table.key(inode)
        signer = open_file.writer or state.signers.daemon()
        former = await self.former(inode, bucket, key)
        kept: Mapping[str, str] = (former.metadata if former else None) or {}
        wanted = inode.attributes.resized(staged.size)
        settled = state.rules.settle(wanted, signer)
        base = (former.etag or None) if former is not None else None
        target = Target(
            bucket,
            key,
            encode(settled, kept),
            former.content_type if former else None,
            (former.headers if former else None) or {},
            base,
            base is None,
            signer.name,
        )
        return _Plan(signer, target, wanted, settled)

    async def stream(self, open_file: OpenFile) -> None:
        """Begin to upload a file that is being written, where there is enough of it; for who
        holds its lock. What cannot be asked of S3 now is left to the upload."""
        staged = open_file.staged
        if staged is None or open_file.inode.detached or not staged.wants_stream:
            return
        try:
            plan = await self._plan(open_file, staged)
        except S3Error:
            staged.without_stream()
            return
        await staged.stream(plan.signer.store, plan.target, self._nursery)

    async def abort_left(self) -> None:
        """Abort uploads that nobody goes on with: of an earlier run that died, and those that could
        not be aborted when they failed. For as long as the mount."""
        notes, wait = self._state.staging.notes, ABORT_AGAIN
        while True:
            for path, note in tuple(notes.left.items()):
                if await self._abort(note):
                    await notes.remove(path)
            wait = min(2 * wait, ABORT_LONGEST) if notes.left else ABORT_AGAIN
            await trio.sleep(wait)

    async def _abort(self, note: UploadNote) -> bool:
        """Whether the upload is gone: as who began it or, if that is refused by now, the mount."""
        signers = self._state.signers
        signer = signers.for_name(note.identity) or signers.daemon()
        error = await try_abort(signer.store, note.bucket, note.key, note.upload_id)
        if error is not None and error.errno == EACCES and signer is not signers.daemon():
            store = signers.daemon().store
            error = await try_abort(store, note.bucket, note.key, note.upload_id)
        if error is not None:
            logger.debug("an upload of %s/%s stays: %s", note.bucket, note.key, error)
        return error is None

    async def put(self, open_file: OpenFile) -> None:
        """Store the content with the attributes; for who holds the file's lock. ESTALE where the
        object was changed by others and ours must not, or cannot, take its place."""
        state, inode = self._state, open_file.inode
        await state.settle_journal()
        staged = open_file.staged
        if staged is None:
            staged = open_file.staged = state.staging.create(None)
        plan = await self._plan(open_file, staged)
        keeper = self._rewriter.keeper(open_file, plan.wanted, plan.settled, plan.signer)
        try:
            stored = await self._store(open_file, staged, plan)
        except ConflictError as error:
            logger.warning("%s", error)
            raise refusal(ESTALE) from error
        base, open_file.base = open_file.base, None
        if base is not None:
            await base.aclose()
        open_file.attempts = ()
        written = _stat(stored, staged.size)
        settled, signer = plan.settled, plan.signer
        # Content is signed for by who wrote it; whose the file is does not change by that.
        back = None
        if keeper is not None:
            bucket = plan.target.bucket
            back = await self._rewriter.give_back(bucket, written, plan.wanted, keeper)
        if back is not None:
            settled, written, signer = back
        elif not stored.as_asked:
            written = await self._restate(open_file, staged, plan, written)
        self._rewriter.record(inode, settled, written, signer)

    async def _store(self, open_file: OpenFile, staged: StagedFile, plan: _Plan) -> Stored:
        """Upload, as long as the object is the one that is to be replaced; else see what has
        become of it. ConflictError."""
        target, signer = plan.target, plan.signer
        claim = _claim(open_file, staged, target)
        guarded = self._state.config.conflict != "last-writer"
        base, conditional = claim.base, guarded
        for _ in range(ATTEMPTS):
            try:
                return await staged.upload(
                    signer.store,
                    target.bucket,
                    target.key,
                    metadata=target.metadata,
                    content_type=target.content_type,
                    headers=target.headers,
                    if_match=base if conditional else None,
                    if_none_match=conditional and base is None,
                    identity=signer.name,
                )
            except S3Error as error:
                gone = base is not None and absent(error)
                if conditional and error.errno == EACCES:
                    # Perhaps only the question what is there: then the mount's identity asks it.
                    if not await self._conflicts.holds(claim, base):
                        raise
                    conditional = False
                    continue
                if error.code not in CONFLICT and not gone:
                    raise
            standing = await self._conflicts.standing(claim, signer, whole=not staged.missing)
            if standing.landed is not None:
                return await _landed(staged, signer, target, standing.landed)
            own = standing.own
            await staged.rebase(signer.store, _version(target, own) if own is not None else None)
            base = standing.etag
        raise ConflictError(f"{target.bucket}/{target.key} is changed by others all the time")

    async def _restate(
        self, open_file: OpenFile, staged: StagedFile, plan: _Plan, written: ObjectStat
    ) -> ObjectStat:
        """What goes with the object was said when its upload began, and has changed since: the
        times at least. A copy onto itself puts it right. Where the identity may not do that, all
        is sent once more, as it is now."""
        target, store = plan.target, plan.signer.store
        try:
            told = replace(written, content_type=target.content_type)
            result = await copy_onto_itself(store, target.bucket, target.key, told, target.metadata)
            etag = result.etag or (await store.head(target.bucket, target.key)).etag
        except S3Error as error:
            if error.code in CONFLICT or absent(error):
                return written  # others have replaced it since
            if not refused(error):
                open_file.fresh, open_file.changed = False, True  # its attributes are owed
                self._rewriter.record(open_file.inode, plan.settled, written, plan.signer)
                raise
            stored = await staged.upload(
                *(store, target.bucket, target.key),
                metadata=target.metadata,
                content_type=target.content_type,
                headers=target.headers,
                if_match=written.etag,
                identity=plan.signer.name,
            )
            return _stat(stored, staged.size)
        stat = replace(written, etag=etag, metadata=target.metadata)
        if result.last_modified:
            stat = replace(stat, last_modified=result.last_modified)
        await staged.stored(store, _version(target, stat), staged.generation)
        return stat


def _claim(open_file: OpenFile, staged: StagedFile, target: Target) -> _Claim:
    """The upload that is about to begin. It is remembered, as its answer may be lost."""
    tries = [mark_of(target.metadata, staged.size)]
    early = staged.early_target
    if early is not None:
        tries.append(mark_of(early.metadata, staged.size))
    lineage = (*open_file.attempts, *(mark for mark in tries[1:] if mark != tries[0]))
    open_file.attempts = (*open_file.attempts, *tries)[-LINEAGE:]
    base = None if target.if_none_match else target.if_match
    return _Claim(target.bucket, target.key, base, tries[0], lineage)


async def _landed(staged: StagedFile, signer: Signer, target: Target, found: ObjectStat) -> Stored:
    """An earlier try of this very version had taken effect."""
    await staged.stored(signer.store, _version(target, found), staged.generation)
    return Stored(found.etag, found.last_modified, target, as_asked=True)


def _version(target: Target, found: ObjectStat) -> ObjectVersion:
    return ObjectVersion(target.bucket, target.key, found.etag, found.size)


def _stat(stored: Stored, size: int) -> ObjectStat:
    target = stored.target
    return ObjectStat(
        key=target.key,
        size=size,
        etag=stored.etag,
        last_modified=stored.last_modified,
        metadata=target.metadata,
        content_type=target.content_type,
        headers=target.headers,
    )
