"""Parts of a file that go to S3 while a program still writes it.

A stream is the beginning of a multipart upload: the parts of ``[0, end)`` of the file, one behind
the other. A part is sent once it is full, in the background; what is written into it later makes
its copy in S3 outdated, and it is sent again, under the same number, when the file is uploaded.
All of the file stays on this host until then, so a stream can be given up at any moment, and
whatever it cannot do is left to the upload.

A failure that may pass leaves the part to the upload too. What the store refuses for good is kept
in ``failure`` for whom the file belongs to: there is no sense in going on writing.

Concurrency: all state is changed on the trio thread. ``run`` is one background task with its
workers. ``changed`` and ``extend`` are atomic regions; a part counts as sent only if it was not
changed between the begin of its request and its answer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import EDQUOT, ENOSPC
from pathlib import Path

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body, ObjectStore
from s3posixfs.core.types import PartResult
from s3posixfs.data.parts import Part, UploadSettings, early_length, early_parts
from s3posixfs.data.reader import ObjectReader
from s3posixfs.data.upload_notes import UploadNotes
from s3posixfs.data.upload_target import CANNOT_COPY, Target, abort
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

_OVER = frozenset({"NoSuchUpload", "NoSuchKey", "PreconditionFailed"})
_MAY_PASS = frozenset({408, 425, 429})


@dataclass(slots=True, eq=False)
class _Early:
    """A part, its result once it is sent, and whether its bytes changed after it was full."""

    part: Part
    result: PartResult | None = None
    changed: bool = False


def refused(error: S3Error) -> bool:
    """Whether another try of the same would end in the same."""
    if error.errno in (EDQUOT, ENOSPC):
        return True
    return 400 <= error.status < 500 and error.status not in _MAY_PASS


class Stream:
    """One multipart upload that has begun early."""

    def __init__(
        self,
        store: ObjectStore,
        target: Target,
        settings: UploadSettings,
        notes: UploadNotes | None,
        *,
        base: ObjectReader | None,
        unchanged: int,
        body: Callable[[int, int], Body],
        turns: trio.CapacityLimiter,
    ) -> None:
        """``unchanged``: how many bytes the file begins with that are the base's. ``body`` gives
        bytes of the file. ``turns`` bounds the parts that all streams send at once."""
        self.store = store
        self.target = target
        self.upload_id = ""
        self.note: Path | None = None
        self.failure: S3Error | None = None
        self.over = False  # it cannot be completed any more
        self.copied = False
        self._settings = settings
        self._notes = notes
        self._base = base
        self._body = body
        self._turns = turns
        self._parts: list[_Early] = []
        self._changes = 0
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._closing = False
        self._queue, self._waiting = trio.open_memory_channel[_Early](math.inf)
        for part in early_parts(unchanged, settings):
            self._add(part, now=part.copied)

    @property
    def end(self) -> int:
        """Bytes of the file that there are parts of."""
        return self._parts[-1].part.offset + self._parts[-1].part.length if self._parts else 0

    @property
    def used(self) -> int:
        """How many part numbers are taken."""
        return len(self._parts)

    @property
    def wants(self) -> int:
        """Up to where the file has to be written for the next part."""
        # Who writes a block and then goes back to its head is given the time to do so.
        length = early_length(self.used + 1, self._settings)
        return self.end + length + self._settings.part_size // 16

    @property
    def sends(self) -> bool:
        """Whether parts are still sent early: not where they are often written again, and some
        numbers are left for the end."""
        if self._closing or self.over or self.failure is not None:
            return False
        few_changes = self._changes <= 4 + self.used // 4
        return few_changes and self.used < self._settings.max_parts * 9 // 10

    def extend(self, written: int) -> None:
        """The file is there without a gap up to ``written``: send what is full."""
        while self.sends and written >= self.wants:
            number = self.used + 1
            self._add(Part(number, self.end, early_length(number, self._settings), copied=False))

    def _add(self, part: Part, *, now: bool = True) -> None:
        early = _Early(part)
        self._parts.append(early)
        if now:
            self._queue.send_nowait(early)

    def changed(self, start: int, end: int) -> None:
        """``[start, end)`` has been written to."""
        if start >= self.end:
            return
        for early in self._parts:
            part = early.part
            if part.offset < end and start < part.offset + part.length:
                self._changes += early.result is not None
                early.result = None
                early.changed = True
                early.part = replace(part, copied=False)

    def sent(self) -> list[PartResult]:
        """The parts that the store has as they are."""
        return [early.result for early in self._parts if early.result is not None]

    def missing(self) -> list[Part]:
        """The parts that it has not."""
        return [early.part for early in self._parts if early.result is None]

    # The background.

    async def run(self) -> None:
        """Begin the upload and send parts until :meth:`settle` or :meth:`give_up`."""
        try:
            with self._scope:
                if await self._begin():
                    async with trio.open_nursery() as nursery:
                        for _ in range(self._settings.parallel):
                            nursery.start_soon(self._work)
        finally:
            self._closing = True
            self._waiting.close()
            self._ended.set()

    async def _begin(self) -> bool:
        target = self.target
        try:
            # Shielded: an upload ID that nobody learned would stay in the store for ever.
            with trio.CancelScope(shield=True):
                self.upload_id = await self.store.create_multipart(
                    target.bucket,
                    target.key,
                    metadata=target.metadata,
                    content_type=target.content_type,
                    headers=target.headers,
                )
                if self._notes is not None:
                    self.note = await self._notes.add(
                        target.bucket, target.key, self.upload_id, target.identity
                    )
        except S3Error as error:
            self._failed(error)
            self.over = True
        return not self.over

    def _failed(self, error: S3Error) -> None:
        if error.code in _OVER:
            self.over = True
        elif refused(error):
            self.failure = error
        else:
            logger.info("%s/%s: a part waits: %s", self.target.bucket, self.target.key, error)

    async def _work(self) -> None:
        async for early in self._waiting:
            async with self._turns:
                if self._closing or self.over or self.failure is not None:
                    return
                if early.changed:
                    continue  # what was written may still be on its way to the disk
                try:
                    result = await self._send(early.part)
                except S3Error as error:
                    if not early.changed:
                        self._not_sent(early, error)
                    continue
            if not early.changed:
                early.result = result
                self.copied = self.copied or early.part.copied

    def _not_sent(self, early: _Early, error: S3Error) -> None:
        if early.part.copied and error.code in CANNOT_COPY:
            early.part = replace(early.part, copied=False)  # its bytes have to come here first
        else:
            self._failed(error)

    async def _send(self, part: Part) -> PartResult:
        target, base = self.target, self._base
        if not part.copied or base is None:
            return await self.store.upload_part(
                target.bucket,
                target.key,
                self.upload_id,
                part.number,
                self._body(part.offset, part.length),
            )
        return await self.store.copy_part(
            target.bucket,
            target.key,
            self.upload_id,
            part.number,
            source_bucket=base.version.bucket,
            source_key=base.version.key,
            offset=part.offset,
            length=part.length,
            source_if_match=base.version.etag,
        )

    async def settle(self) -> None:
        """Send no more; wait for what is on its way, whose answer tells whether it counts."""
        self._closing = True
        self._queue.close()
        await self._ended.wait()

    async def give_up(self) -> None:
        """Abort the upload. Shielded."""
        await waiting()
        with trio.CancelScope(shield=True):
            self._closing = self.over = True
            self._scope.cancel()
            self._queue.close()
            await self._ended.wait()
            if self.upload_id:
                await abort(self.store, self.target, self.upload_id, self._notes, self.note)
