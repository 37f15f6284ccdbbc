"""The uploader: brings into S3 what the journal holds, for as long as it takes.

Entries are independent of each other, so many go at once. One that fails is tried again after a
while, which grows; where the store cannot be reached at all, one entry after the other tries
whether it can. What an identity is refused waits for that identity and holds nobody up.

An object that is not the one this entry was to replace is another's work. It is never written
over unseen: see :mod:`s3posixfs.fs.conflicts`.
"""

from __future__ import annotations

import heapq
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body, FileRange
from s3posixfs.core.types import PutResult
from s3posixfs.data.journal_records import PendingState
from s3posixfs.data.shared_file import Extent
from s3posixfs.data.upload import upload
from s3posixfs.data.upload_target import Target
from s3posixfs.fs.conflicts import CONFLICT, ConflictError, Conflicts
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import absent
from s3posixfs.fs.pending import Pending
from s3posixfs.fs.saving import Saver
from s3posixfs.fs.signers import Signer
from s3posixfs.fs.writeback import Writeback

logger = logging.getLogger(__name__)

PARALLEL = 16
BUSY_SECONDS = 0.1  # for which programs count as at work after an operation of theirs
PATIENCE_SECONDS = 5.0  # for which what is due waits while programs are at work
POLITE_SECONDS = 0.01  # after that, between the beginnings of two uploads while they are
HASTY_SECONDS = 0.0025  # the same, where half of what may wait does
URGENT = float("-inf")  # due since then is what somebody waits for
SETTLING_SECONDS = 0.2  # what is renamed or removed soon after it was closed costs nothing
FIRST_WAIT, LONGEST_WAIT, LONGEST_REFUSAL = 1.0, 30.0, 300.0  # seconds
COMPACT_SECONDS = 5.0
ATTEMPTS = 5  # at an object that others keep changing


def begins_beside_work(now: float, due: float, last: float, *, half_full: bool) -> float:
    """From when the next upload, due since then, may begin while programs are at work and the
    last one began at ``last``. An upload costs this process more than most of what programs ask
    of it, so they come first: none begins until one is old, or half of what may wait does; then
    one after the other, some time apart. How many are under way is for the store's answers to say.
    """
    if due == URGENT:
        return now
    if half_full:
        return last + HASTY_SECONDS
    if now - due < PATIENCE_SECONDS:
        return min(now + BUSY_SECONDS, due + PATIENCE_SECONDS)
    return last + POLITE_SECONDS


class MissingIdentityError(Exception):
    """The mount has no credentials for who owes the upload."""


class _Content:
    """Sealed content as an upload's source."""

    base = None

    def __init__(self, extent: Extent | None) -> None:
        self._extent = extent
        self.size = extent.length if extent is not None else 0

    def unchanged(self) -> list[tuple[int, int]]:
        return []

    async def prepare(self, start: int, end: int) -> None:
        return

    def body(self, offset: int, length: int) -> Body:
        extent = self._extent
        if extent is None or not length:
            return b""
        return FileRange(extent.file.fd, extent.offset + offset, length)


class Uploader:
    """Tries entries when they are due, ``PARALLEL`` at a time."""

    def __init__(
        self,
        state: MountState,
        writeback: Writeback,
        saver: Saver,
        conflicts: Conflicts,
        worked_at: Callable[[], float],
    ) -> None:
        """``worked_at``: when an operation of a program ended last, by ``time.perf_counter()``."""
        self._state = state
        self._worked_at = worked_at
        self._writeback = writeback
        self._saver = saver
        self._conflicts = conflicts
        self._due: list[tuple[float, int, Pending]] = []
        self._tickets = 0
        self._wake = trio.Event()
        self._sleeps_until = float("inf")
        self._running = 0
        self._began_at = float("-inf")  # the last attempt
        self._trouble = 0  # attempts in a row that did not reach the store
        self._paused_until = float("-inf")
        self._settings = state.staging.settings.upload
        self.uploads = 0
        self.failures = 0
        self.last_error = ""
        writeback.schedule = self.schedule

    # When.

    def schedule(self, pending: Pending) -> None:
        """The entry has a new state."""
        if not pending.failures:
            self._push(pending, trio.current_time() + SETTLING_SECONDS)

    def hurry(self, pending: Pending) -> None:
        """Somebody waits for the entry: try it now."""
        self._push(pending, URGENT)
        self._paused_until = float("-inf")

    def _push(self, pending: Pending, at: float) -> None:
        self._tickets += 1
        pending.ticket = self._tickets
        pending.next_at = at
        heapq.heappush(self._due, (at, self._tickets, pending))
        if at < self._sleeps_until:
            self._wake.set()

    def _begins_at(self, now: float, due: float) -> float:
        if self._running >= (1 if self._trouble else PARALLEL):
            return now + BUSY_SECONDS  # or as soon as one ends
        if time.perf_counter() - self._worked_at() >= BUSY_SECONDS:
            return now
        half_full = self._writeback.room.half_full
        return begins_beside_work(now, due, self._began_at, half_full=half_full)

    async def run(self) -> None:
        """Upload what is due; for as long as the mount."""
        async with trio.open_nursery() as nursery:
            await self._dispatch(nursery)

    async def _dispatch(self, nursery: trio.Nursery) -> None:
        while True:
            self._wake = trio.Event()
            now = trio.current_time()
            next_at = float("inf")
            while self._due:
                at, ticket, pending = self._due[0]
                if ticket != pending.ticket or not pending.alive:
                    heapq.heappop(self._due)
                    continue
                next_at = max(at, self._paused_until)
                if next_at > now:
                    break
                next_at = self._begins_at(now, at)
                if next_at > now:
                    break
                heapq.heappop(self._due)
                self._running += 1
                self._began_at = now
                nursery.start_soon(self._attempt, pending)
            self._sleeps_until = next_at
            with trio.move_on_at(next_at):
                await self._wake.wait()

    async def _attempt(self, pending: Pending) -> None:
        try:
            async with pending.uploading:
                if pending.alive:
                    await self._upload(pending)
        except Exception as error:
            self._failed(pending, error)
        finally:
            self._running -= 1
            self._wake.set()
            pending.end_attempt()

    def _failed(self, pending: Pending, error: Exception) -> None:
        self.failures += 1
        first = pending.error is None or str(pending.error) != str(error)
        pending.error = error
        pending.failures += 1
        self.last_error = f"{pending.path} as {pending.state.identity}: {error}"
        unreachable = isinstance(error, S3Error) and error.unreachable
        if not isinstance(error, S3Error | OSError | ConflictError | MissingIdentityError):
            logger.exception("storing %s failed", pending.path, exc_info=error)
        elif first and not (unreachable and self._trouble):
            logger.warning("not stored yet: %s", self.last_error)
        longest = LONGEST_WAIT if unreachable else LONGEST_REFUSAL
        wait = min(longest, FIRST_WAIT * 2 ** min(pending.failures - 1, 20))
        wait *= 0.5 + random.random() / 2  # noqa: S311 - spreads load, no secret
        now = trio.current_time()
        if unreachable:
            self._trouble += 1
            pause = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._trouble - 1, 20))
            self._paused_until = now + pause
            wait = 0.0  # the pause is for all
        else:
            self._trouble = 0
        if pending.alive:
            self._push(pending, now + wait)

    # What.

    async def _upload(self, pending: Pending) -> None:
        state, version, content = pending.state, pending.version, pending.content
        signer = self._state.signers.for_name(state.identity)
        if signer is None:
            raise MissingIdentityError(f"no credentials for the identity {state.identity}")
        pending.attempted = True
        if content is not None:
            content.file.hold()
        try:
            put = await self._put(state, signer, _Content(content))
        finally:
            if content is not None:
                await content.file.release()
        self.uploads += 1
        self._trouble = 0
        pending.failures, pending.error = 0, None
        open_file = await self._writeback.stored(pending, state, version, put, signer)
        if pending.alive:
            self._push(pending, trio.current_time())
        if open_file is not None:
            await self._saver.finish(open_file)

    async def _put(self, state: PendingState, signer: Signer, content: _Content) -> PutResult:
        base = state.base
        for _ in range(ATTEMPTS):
            target = Target(
                state.bucket,
                state.key,
                state.metadata,
                state.content_type,
                state.headers,
                base,
                base is None,
                state.identity,
            )
            try:
                notes = self._state.staging.notes
                return await upload(content, signer.store, target, self._settings, notes)
            except S3Error as error:
                gone = base is not None and absent(error)
                if error.code not in CONFLICT and not gone:
                    raise
            standing = await self._conflicts.standing(state, signer)
            landed = standing.landed
            if landed is not None:
                return PutResult(landed.etag, landed.last_modified)
            base = standing.etag
        raise ConflictError(f"{state.bucket}/{state.key} is changed by others all the time")

    # For people, and for who waits.

    async def upload_now(self, pending: Pending) -> None:
        """Wait until S3 has the entry. The error of an attempt that failed."""
        while pending.alive:
            tried = pending.tried
            self.hurry(pending)
            await tried.wait()
            if pending.alive and pending.error is not None:
                raise pending.error

    async def drain(self) -> tuple[str, ...]:
        """Try everything that is owed; the paths that could not be stored."""
        waiting = list(self._writeback.pending.values())
        failures = {id(pending): pending.failures for pending in waiting}
        for pending in waiting:
            self._push(pending, URGENT)
        self._paused_until, self._trouble = float("-inf"), 0
        left: list[str] = []
        for pending in waiting:
            while pending.alive:
                if pending.failures > failures[id(pending)] or self._trouble:
                    left.append(pending.path)
                    break
                with trio.move_on_after(1.0):
                    await pending.tried.wait()
        return tuple(sorted(left))

    def status(self) -> dict[str, Any]:
        """The queue, for the status command."""
        pending = list(self._writeback.pending.values())
        now = self._state.clock.time()
        refused: dict[str, int] = {}
        for one in pending:
            if one.error is not None:
                identity = one.state.identity
                refused[identity] = refused.get(identity, 0) + one.refused
        return {
            "queue_uploads": self.uploads,
            "queue_failures": self.failures,
            "queued_files": len(pending),
            "queued_bytes": sum(one.state.size for one in pending),
            "oldest_seconds": round(max((now - one.state.since for one in pending), default=0.0)),
            "failing_files": sum(one.error is not None for one in pending),
            "refused_by_identity": {name: count for name, count in refused.items() if count},
            "last_error": self.last_error if pending else "",
            "journal_bytes": self._writeback.journal.bytes_on_disk,
        }


class Uploading:
    """Journal and uploader at work, for as long as the mount."""

    def __init__(self, writeback: Writeback, uploader: Uploader) -> None:
        self.writeback = writeback
        self.uploader = uploader
        self._started = False
        self._uploads = trio.CancelScope()
        self._everything = trio.CancelScope()
        self._uploads_ended = trio.Event()
        self._ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until :meth:`stop`."""
        self._started = True
        with self._everything:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.writeback.journal.run)
                nursery.start_soon(self._upload)
                nursery.start_soon(self._compact)
                task_status.started()
        self._ended.set()

    async def _upload(self) -> None:
        with self._uploads:
            await self.uploader.run()
        self._uploads_ended.set()

    async def _compact(self) -> None:
        while True:
            await trio.sleep(COMPACT_SECONDS)
            try:
                await self.writeback.compact()
            except OSError as error:
                logger.warning("the journal cannot be made smaller: %s", error.strerror)

    async def stop(self) -> None:
        """End the uploads that are under way, and then the journal, with all of it on disk."""
        if not self._started or self._ended.is_set():
            return
        self._uploads.cancel()
        await self._uploads_ended.wait()
        self._everything.cancel()
        await self._ended.wait()
