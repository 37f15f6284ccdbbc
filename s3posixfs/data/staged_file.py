"""Staged files: content that differs, or may come to differ, from the object in S3.

A staged file is three layers: local bytes (``LocalContent.held``), below them the base object
up to ``_base_end``, below that zeros up to ``size``. Truncating lowers ``_base_end`` for good.
``_dirty`` are the local ranges that the base does not have; local bytes that are not dirty were
fetched, or went up with an earlier upload, and are kept so that the next upload need not fetch.

Locks and atomic regions (all state is changed on the trio thread only):

* ``_gate`` (a fair trio.Lock) is held by ``write`` and ``truncate`` while they change the
  content, by ``upload`` all through, and by ``aclose``. So content does not change under an
  upload, and a writer waits for it. Nothing else is awaited with a lock that ``_gate``'s holder
  could want; base reads take none.
* ``read`` takes no lock. Each byte it returns is one that the file had at some moment of the
  call. ``_layout`` counts what would break that (truncate, a change of base): a read whose
  layout changed under it is done again.
* In ``write`` the local bytes, ``_dirty``, ``size`` and ``generation`` change in one atomic
  region after the last await; in ``truncate`` before the first; in ``upload`` "not dirty" and
  the new base are set in one atomic region after S3's answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body, ObjectStore
from s3posixfs.core.types import MAX_OBJECT_BYTES, MIB, PutResult
from s3posixfs.data.content import LocalContent
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.ranges import RangeSet
from s3posixfs.data.reader import ObjectReader, Readers
from s3posixfs.data.shared_file import Extent, SharedFile
from s3posixfs.data.streaming import Stream
from s3posixfs.data.upload import finish, upload
from s3posixfs.data.upload_notes import UploadNotes
from s3posixfs.data.upload_target import Target
from s3posixfs.data.version import ObjectVersion
from s3posixfs.waiting.deadlines import waiting
from s3posixfs.waiting.quick_lock import QuickLock

_REPLACED = frozenset({"NoSuchKey", "PreconditionFailed"})
_LOST = frozenset({"NoSuchUpload", "InvalidPart"})  # what was sent early: by a lifecycle rule, say
KEPT_BYTES = 128 * 1024  # files up to it stay in the block cache after their upload
STREAMS = 3  # that are begun for one version of a file, where they keep coming to nothing
FETCH_BYTES = 4 * MIB  # how much of the base is brought to disk at a time


@dataclass(frozen=True, slots=True)
class Sealed:
    """Content that stays as it is: small in memory, else in a file that is held for who has
    this. ``size`` is in bytes, ``generation`` the staged file's."""

    content: bytes | SharedFile
    size: int
    generation: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upload made. ``as_asked`` says whether what goes with the object (metadata, type,
    headers) is what was asked for; where parts were sent early it is what was said then, in
    ``target``."""

    etag: str
    last_modified: float
    target: Target
    as_asked: bool


class StagedFile:
    """One file's content, read and written in place and put into S3 as a whole."""

    def __init__(
        self,
        local: LocalContent,
        base: ObjectReader | None,
        *,
        readers: Readers,
        clock: Clock,
        settings: UploadSettings,
        notes: UploadNotes,
        turns: trio.CapacityLimiter,
    ) -> None:
        self._notes = notes
        self._turns = turns  # of parts that are sent early
        self._stream: Stream | None = None
        self._streams_left = STREAMS
        self._local = local
        self._base = base
        self._base_is_own = False
        self._base_end = base.version.size if base is not None else 0
        self._readers = readers
        self._clock = clock
        self._settings = settings
        self._size = self._base_end
        self._dirty = RangeSet()
        self._generation = 0
        self._in_s3: int | None = 0 if base is not None else None
        self._layout = 0
        self._gate = QuickLock()
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    @property
    def dirty(self) -> bool:
        """Whether S3 lacks something of this file. A file without a base is dirty from the start.

        It stays so until an upload has succeeded.
        """
        return self._in_s3 != self._generation

    @property
    def generation(self) -> int:
        """Grows with every change of the content."""
        return self._generation

    @property
    def base(self) -> ObjectReader | None:
        """The object version below the local bytes: the last upload's, or the one given."""
        return self._base

    @property
    def version(self) -> ObjectVersion | None:
        """The version of :attr:`base`."""
        return self._base.version if self._base is not None else None

    async def read(self, offset: int, length: int) -> bytes | bytearray | memoryview:
        """``length`` bytes at ``offset``; fewer only at the end of the file.

        OSError of the local disk; S3Error of the base (``PreconditionFailed`` when it was
        replaced in S3 by something else than this file's own upload).
        """
        while True:
            self._check_open()
            layout = self._layout
            end = min(offset + length, self._size)
            if end <= offset:
                return b""
            try:
                data = await self._read_layers(offset, end)
            except (S3Error, trio.ClosedResourceError) as error:
                replaced = isinstance(error, S3Error) and error.code in _REPLACED
                if replaced and self._gate.locked():  # perhaps by this file's own upload
                    async with self._gate:
                        pass
                if self._layout == layout:
                    raise
            else:
                if self._layout == layout:
                    return data

    async def _read_layers(self, offset: int, end: int) -> bytes | bytearray | memoryview:
        held = self._local.held.within(offset, end)
        if held == [(offset, end)]:
            return await self._local.read(offset, end - offset)
        base, base_end = self._base, self._base_end
        if not held and base is not None and end <= base_end:
            return await base.read(offset, end - offset)
        missing = self._local.held.gaps(offset, min(end, base_end)) if offset < base_end else []
        buffer = bytearray(end - offset)
        for start, stop in held:
            piece = await self._local.read(start, stop - start)
            buffer[start - offset : stop - offset] = piece
        for start, stop in missing:
            if base is not None:
                buffer[start - offset : stop - offset] = await base.read(start, stop - start)
        return buffer

    async def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Write ``data`` at ``offset``; how much was written.

        That is less than all only where the local disk became full on the way; OSError
        (ENOSPC) where nothing could be written, EFBIG over S3's 5 TiB. ``bytes`` are kept
        without a copy. Waits while the file is being uploaded. Cancelled, nothing was written.
        """
        if offset + len(data) > MAX_OBJECT_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if not data:
            return 0
        await self._enter()
        try:
            if self._local.sealed:
                await self._local.unseal(self._size)
            kept = data if isinstance(data, bytes) else bytes(data)
            try:
                written = await self._local.write(offset, kept)
            finally:
                if self._stream is not None:
                    self._stream.changed(offset, offset + len(kept))
            self._dirty.add(offset, offset + written)
            self._size = max(self._size, offset + written)
            self._generation += 1
            await self._send_early()
            return written
        finally:
            self._gate.release()

    async def truncate(self, size: int) -> None:
        """Make the file ``size`` bytes long; what is new reads as zeros.

        Waits while the file is being uploaded. Cancelled after that, it has taken effect.
        """
        if size > MAX_OBJECT_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        await self._enter()
        try:
            if size == self._size:
                return
            if self._local.sealed:
                await self._local.unseal(min(size, self._size))
            shrinks = size < self._size
            self._size = size
            self._generation += 1
            if shrinks:
                self._base_end = min(self._base_end, size)
                self._dirty.cut(size)
                self._layout += 1
                await self._local.cut(size)
                if self._stream is not None and size < self._stream.end:
                    await self._give_up()
        finally:
            self._gate.release()

    # Sending early.

    def _unchanged_start(self) -> int:
        """How many bytes at the start of the file are the base's."""
        first = next(iter(self._dirty), None)
        return min(self._base_end, first[0]) if first is not None else self._base_end

    @property
    def wants_stream(self) -> bool:
        """Whether so much was written in sequence that it is time to begin an upload."""
        if self._stream is not None or not self._streams_left or self._closed:
            return False
        start = self._unchanged_start()
        enough = self._settings.early_parts * self._settings.part_size
        return self._dirty.end_of(start) - start >= enough and not self._local.sealed

    async def stream(self, store: ObjectStore, target: Target, nursery: trio.Nursery) -> None:
        """Begin to send what is written, from tasks of ``nursery``: where it turns out that
        :meth:`upload` goes elsewhere, for nothing. Raises nothing of the store's."""
        await self._enter()
        try:
            if not self.wants_stream:
                return
            self._streams_left -= 1
            self._stream = Stream(
                store,
                target,
                self._settings,
                self._notes,
                base=self._base,
                unchanged=self._unchanged_start(),
                body=self._local.body,
                turns=self._turns,
            )
            nursery.start_soon(self._stream.run)
            await self._send_early()
        finally:
            self._gate.release()

    async def _send_early(self) -> None:
        """Send the parts that are full; for who holds the gate."""
        stream = self._stream
        if stream is None or not stream.sends:
            return
        written = self._dirty.end_of(stream.end)
        if written < stream.wants:
            return
        with contextlib.suppress(OSError):  # the next write or the upload will say so
            await self._local.flush()
            stream.extend(written)

    async def refused_early(self) -> S3Error | None:
        """Why the store refused what was sent early, once: then nothing more is, and the upload
        begins anew."""
        failure = self._stream.failure if self._stream is not None else None
        if failure is not None:
            await self._enter()
            try:
                self.without_stream()
                await self._give_up()
            finally:
                self._gate.release()
        return failure

    @property
    def early_target(self) -> Target | None:
        """What an upload that has begun early goes to."""
        return self._stream.target if self._stream is not None else None

    def without_stream(self) -> None:
        """Nothing is sent early until the next upload is done."""
        self._streams_left = 0

    async def stop_stream(self) -> None:
        """Abort what was begun early: the file loses its name."""
        if self._stream is not None:
            await self._enter()
            try:
                await self._give_up()
            finally:
                self._gate.release()

    async def _give_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.give_up()

    async def _settled_stream(self, target: Target) -> Stream | None:
        """The stream, if the upload can go on with it; else it is over."""
        stream = self._stream
        if stream is None:
            return None
        if stream.target.is_place_of(target) and self._size > self._settings.put_limit:
            await stream.settle()
            if not stream.over and stream.failure is None and stream.sent():
                self._stream = None
                return stream
        await self._give_up()
        return None

    async def upload(
        self,
        store: ObjectStore,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
        identity: str = "",
    ) -> Stored:
        """Put the whole content into S3 in one step, dirty or not, acting as ``store`` does.

        Then the file is not dirty and its base is the new version. On S3Error
        (``PreconditionFailed``: a condition failed, or the base was replaced), OSError of the
        local disk, or cancellation, the file is dirty and intact, the previous object is still
        there, and a multipart upload was aborted. Cancelled in a single PUT, the object may
        have been replaced, as ``ObjectStore.put`` says.
        """
        target = Target(
            bucket, key, metadata, content_type, headers, if_match, if_none_match, identity
        )
        await self._enter()
        try:
            await self._local.settle(self._size)
            result, stated = await self._put(store, target)
            self._streams_left = STREAMS
            old, old_is_own = self._base, self._base_is_own
            version = ObjectVersion(bucket, key, result.etag, self._size)
            if result.etag and self._size <= KEPT_BYTES:
                kept = self._local.body(0, self._size)
                if isinstance(kept, bytes):  # what is written is often read or added to soon
                    self._readers.keep(version, 0, kept)
            self._base = self._readers.open(store, version)
            self._base_is_own = True
            self._base_end = self._size
            self._dirty.clear()
            self._in_s3 = self._generation
            self._layout += 1
            if old is not None and old_is_own:
                await old.aclose()
        finally:
            self._gate.release()
        modified = result.last_modified or self._clock.time()
        return Stored(result.etag, modified, stated, stated.describes(target))

    async def _put(self, store: ObjectStore, target: Target) -> tuple[PutResult, Target]:
        """The new object, and the target that says what goes with it."""
        stream = await self._settled_stream(target)
        if stream is not None:
            try:
                result = await finish(stream, self, target, self._settings, self._notes)
            except S3Error as error:
                if error.code not in _LOST:
                    raise
            else:
                return result, stream.target
        return await upload(self, store, target, self._settings, self._notes), target

    @property
    def missing(self) -> int:
        """Bytes that are only in the base."""
        end = min(self._size, self._base_end)
        return sum(stop - start for start, stop in self._local.held.gaps(0, end))

    async def seal(self) -> Sealed:
        """Bring the whole content here, as it is now, and make it one that stays so: what is
        written later does not change what was sealed. OSError of the local disk, S3Error of the
        base; then nothing is sealed."""
        await self._enter()
        try:
            await self.prepare(0, self._size)
            content = await self._local.seal(self._size)
            return Sealed(content, self._size, self._generation)
        finally:
            self._gate.release()

    def keep_in(self, extent: Extent, generation: int) -> bool:
        """The content that was sealed is in the journal. Returns whether it is still this
        file's, which then holds the extent."""
        if self._closed or self._generation != generation or self._gate.locked():
            return False
        self._local.keep_in(extent)
        return True

    def restore(self, content: SharedFile | Extent | None, size: int) -> None:
        """Begin as what an earlier run sealed, which S3 has not got. Held for this file."""
        if isinstance(content, SharedFile):
            self._local.adopt(content, size)
        elif content is not None:
            self._local.keep_in(content)
        self._size = size
        self._dirty.add(0, size)

    async def stored(self, store: ObjectStore, version: ObjectVersion, generation: int) -> None:
        """S3 has what was sealed at ``generation``, as ``version``; ``store`` can read it."""
        if self._closed or self._generation != generation:
            return
        old, old_is_own = self._base, self._base_is_own
        self._base = self._readers.open(store, version)
        self._base_is_own = True
        self._base_end = self._size
        self._dirty.clear()
        self._in_s3 = generation
        if old is not None and old_is_own:
            await old.aclose()
        if version.etag and 0 < version.size <= KEPT_BYTES:
            with contextlib.suppress(OSError):
                kept = bytes(await self._local.read(0, version.size))
                if self._generation == generation and not self._closed:
                    self._readers.keep(version, 0, kept)

    async def rebase(self, store: ObjectStore, own: ObjectVersion | None) -> None:
        """The base was replaced in S3: by ``own``, an earlier upload of this file of which only
        the answer was lost, or by something else, where all of the file must be here."""
        await self._enter()
        try:
            old, old_is_own = self._base, self._base_is_own
            self._base_is_own = own is not None
            if own is not None:
                self._base = self._readers.open(store, own)
                self._base_end = min(self._base_end, own.size)
            else:
                self._base, self._base_end = None, 0
                self._dirty.add(0, self._size)
            self._layout += 1
            if old is not None and old_is_own:
                await old.aclose()
        finally:
            self._gate.release()

    def unchanged(self) -> list[tuple[int, int]]:
        """The ranges that are as in the base, in order."""
        return self._dirty.gaps(0, self._base_end)

    async def prepare(self, start: int, end: int) -> None:
        """Bring what only the base has of ``[start, end)`` here; for uploads, under the gate."""
        base = self._base
        if base is None:
            return
        for gap_start, gap_end in self._local.held.gaps(start, min(end, self._base_end)):
            for offset in range(gap_start, gap_end, FETCH_BYTES):
                data = await base.read(offset, min(FETCH_BYTES, gap_end - offset))
                await self._local.fill(offset, data)

    def body(self, offset: int, length: int) -> Body:
        """A prepared range as a request body; for uploads, under the gate."""
        return self._local.body(offset, length)

    async def aclose(self) -> None:
        """Drop the staged data, uploaded or not; waits for an upload that is under way."""
        try:
            self._gate.acquire_nowait()
        except trio.WouldBlock:
            await waiting()
            with trio.CancelScope(shield=True):
                await self._gate.acquire()
        # From here on what waits is shielded by itself.
        try:
            if self._closed:
                return
            self._closed = True
            await self._give_up()
            await self._local.close()
            if self._base is not None and self._base_is_own:
                await self._base.aclose()
        finally:
            self._gate.release()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the staged file is closed")

    async def _enter(self) -> None:
        """Take the gate of a file that is not closed."""
        await self._gate.acquire()
        if self._closed:
            self._gate.release()
            self._check_open()
