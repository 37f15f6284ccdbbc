"""What S3 is owed, on disk: records that are durable before a program is told so.

Layout, in the cache directory::

    journal/N.log    segments (``journal_records`` describes them), oldest first
    journal/origin   the endpoint that all of it is owed to

Durability. :meth:`Journal.append` returns once its record is on disk. One task writes: what
came while it wrote goes together, with one fdatasync for all (group commit). A segment is
allocated whole before it is used, and its last part is kept for records without content, so
that a full disk refuses new data but lets files be removed and uploads be noted.

What is little is written by the kernel beside the loop (:mod:`s3posixfs.data.direct_writer`), in
whole blocks: the first one has the end of what was written before once more. A thread does the
rest: long records, new segments, staged data, and all of it where the kernel or the filesystem
cannot do that.

Recovery. Records are read in order up to the first that is not whole and valid; what is behind
it was never acknowledged, is cut off (made zeros) and said in the log. Where whole segments are
behind it (damage, not a crash) they are set aside as ``N.damaged``. The last segment is gone on
with where it has room, so that a full disk does not keep its own journal from being emptied.

Space. A segment goes when no state or content that counts is in it and all before it are gone:
in this order, so that the record of an entry's end outlives those of its life.

Locking: methods are called on the trio thread; only the writing task, or its thread, touches the
current segment's file.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVarTuple

import trio

from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import MIB
from s3posixfs.data.direct_writer import BLOCK, DirectWriter
from s3posixfs.data.journal_records import (
    SEGMENT_HEADER,
    Blob,
    PendingState,
    Record,
    decode_header,
    decode_record,
    encode_record,
)
from s3posixfs.data.journal_segment import Segment, make_segment, open_direct, write_all
from s3posixfs.data.shared_file import Extent, SharedFile
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 8 * MIB
NOTE_SECONDS = 0.1  # after which what was noted is written, where nothing takes it along before
RESERVE_BYTES = 256 * 1024  # of each segment, for records without content
DIRECT_BYTES = 256 * 1024  # that are written at a time without a thread

Bytes = bytes | bytearray | memoryview
Ts = TypeVarTuple("Ts")

_NOT_SO = frozenset({errno.EINVAL, errno.EOPNOTSUPP})  # the filesystem wants it another way


@dataclass(slots=True, eq=False)
class _Request:
    states: tuple[PendingState, ...]
    gone: tuple[int, ...]
    content: Bytes | None
    note: bool = False
    file: SharedFile | None = None  # to be let go of when the record is durable
    segment: int = 0
    waiter: trio.lowlevel.Task | None = None
    error: BaseException | None = None


class Journal:
    """The journal of one cache directory, which the caller has locked.

    ``entries`` is what is owed: the latest state of each entry, changed as records become
    durable.
    """

    def __init__(
        self,
        folder: Path,
        *,
        origin: str,
        segment_bytes: int = SEGMENT_BYTES,
        direct: bool = True,
    ) -> None:
        """Open or begin the journal; blocking. ``direct``: whether the kernel may write without a
        thread, where it can. OperatorError where what it holds is owed to another endpoint than
        ``origin``, or the disk refuses."""
        self.entries: dict[int, PendingState] = {}
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments: dict[int, Segment] = {}
        self._where: dict[int, int] = {}  # entry: the segment of its latest state
        self._sequence = 0
        self._last_entry = 0
        self._requests: list[_Request] = []
        self._wake = trio.Event()
        self._direct: DirectWriter | None = None
        self._noted = self._synced = 0  # notes that were asked for, and that are on disk
        self._closed = False
        self._torn = 0  # bytes behind the end that a failed write may have left there
        self._refused = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the last failure
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._read_all()
            self._check_origin(origin)
            last = self._segments.get(max(self._segments, default=0))
            if last and last.end and last.size - last.end >= RESERVE_BYTES // 2:
                self._current = last
                last.direct = open_direct(last.file.path)
            else:
                self._start_segment()
            self._directory = os.open(folder.parent / "staged", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise OperatorError(
                f"the journal in {folder} cannot be used ({error.strerror}): "
                "give a cache_dir with free space that this user can write to"
            ) from error
        if direct:
            with suppress(OSError):
                self._direct = DirectWriter(DIRECT_BYTES)
        self._tidy()

    # Reading what an earlier run left.

    @staticmethod
    def numbers(folder: Path) -> list[int]:
        """The segments in the folder, oldest first."""
        names = (path.stem for path in folder.glob("*.log"))
        return sorted(int(name) for name in names if name.isdigit())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016d}.log"

    def _read_all(self) -> None:
        expected: int | None = None
        numbers = self.numbers(self._folder)
        for position, number in enumerate(numbers):
            path = self._path(number)
            data = path.read_bytes()
            end, expected = self._read_segment(memoryview(data), number, expected)
            file = SharedFile(os.open(path, os.O_RDWR | os.O_CLOEXEC), path, temporary=False)
            tail = data[end - end % BLOCK : end]
            self._segments[number] = Segment(number, file, len(data), end, tail=tail)
            rest = data[end:]
            if not rest.strip(b"\0"):
                continue
            logger.warning(
                "the journal %s was cut at byte %d: the %d bytes behind it are no whole record",
                *(path, end, len(rest.rstrip(b"\0"))),
            )
            write_all(file.fd, end, bytes(len(rest.rstrip(b"\0"))))
            os.fsync(file.fd)
            self._set_aside(numbers[position + 1 :])
            break
        for entry, state in list(self.entries.items()):
            if isinstance(state.data, Blob) and state.data.segment not in self._segments:
                # Segments go when nothing in them is owed any more: only the note of it is lost.
                del self.entries[entry], self._where[entry]
            else:
                self._count(self._where[entry], state, 1)

    def _read_segment(
        self, data: memoryview, number: int, expected: int | None
    ) -> tuple[int, int | None]:
        """Take in the records of a segment: where they end, and the next sequence number."""
        if decode_header(data) != number:
            return 0, expected
        offset = SEGMENT_HEADER.size
        while (found := decode_record(data, number, offset, expected)) is not None:
            record, offset = found
            expected = record.sequence + 1
            self._sequence = record.sequence
            self._take_in(record, number)
        return offset, expected

    def _take_in(self, record: Record, segment: int) -> None:
        for state in record.states:
            self.entries[state.entry] = state
            self._where[state.entry] = segment
            self._last_entry = max(self._last_entry, state.entry)
        for entry in record.gone:
            self.entries.pop(entry, None)
            self._where.pop(entry, None)
            self._last_entry = max(self._last_entry, entry)

    def _set_aside(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            path = self._path(number)
            path.rename(path.with_suffix(".damaged"))
            logger.error("the journal's %s comes after damage and was set aside", path)

    def _check_origin(self, origin: str) -> None:
        path = self._folder / "origin"
        with suppress(FileNotFoundError):
            former = path.read_text()
            if self.entries and former != origin:
                raise OperatorError(
                    f"{len(self.entries)} files in {self._folder.parent} are still to be stored "
                    f"at {former}: mount that with this cache_dir, or give another cache_dir"
                )
        temporary = path.with_suffix(".new")
        with temporary.open("w") as file:
            file.write(origin)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)

    # Segments.

    def _start_segment(self, least: int = 0) -> None:
        """Make the next segment the current one, with room for ``least`` bytes of records;
        blocking. OSError leaves things as they are."""
        size = max(self._segment_bytes, SEGMENT_HEADER.size + least + RESERVE_BYTES)
        number = max(self._segments, default=0) + 1
        made = make_segment(self._path(number), number, size)
        for segment in self._segments.values():
            segment.let_go_direct()
        self._current = made
        # Not changed in place: this runs beside the trio thread.
        self._segments = {**self._segments, number: self._current}

    def _count(self, segment: int, state: PendingState, change: int) -> None:
        for number in {segment, state.data.segment if isinstance(state.data, Blob) else segment}:
            if number in self._segments:
                self._segments[number].needed += change

    def _tidy(self) -> None:
        """Remove the segments at the beginning that nothing needs."""
        for number in sorted(self._segments):
            segment = self._segments[number]
            if segment.needed or segment is self._current:
                return
            del self._segments[number]
            segment.let_go_direct()
            segment.file.path.unlink(missing_ok=True)
            segment.file.let_go()

    def oldest(self) -> tuple[PendingState, ...]:
        """What keeps the oldest segment, where less than a quarter of all segments counts; to be
        appended again, so that it can go."""
        if len(self._segments) < 4:
            return ()
        owed = sum(_weight(state) for state in self.entries.values())
        if owed * 4 > len(self._segments) * self._segment_bytes:
            return ()
        oldest = min(self._segments)
        return tuple(
            state
            for entry, state in self.entries.items()
            if self._where[entry] == oldest
            or (isinstance(state.data, Blob) and state.data.segment == oldest)
        )

    # Using it.

    @property
    def bytes_on_disk(self) -> int:
        """What the segments take."""
        return sum(segment.size for segment in self._segments.values())

    def next_entry(self) -> int:
        """A number no entry ever had."""
        self._last_entry += 1
        return self._last_entry

    def extent(self, blob: Blob) -> Extent:
        """Where content in the journal is; held for the caller."""
        return Extent(self._segments[blob.segment].file.hold(), blob.offset, blob.length)

    async def append(
        self,
        states: Iterable[PendingState] = (),
        *,
        gone: Iterable[int] = (),
        content: Bytes | None = None,
    ) -> tuple[PendingState, ...]:
        """Make a record durable, in one step; the states as they are in the journal now.

        ``content`` is the first state's, ``None`` where that is elsewhere already. Records of
        one entry are appended one after the other. OSError: nothing of it counts. Not ended by
        cancellation once begun: whether it counts would not be known.
        """
        request = _Request(tuple(states), tuple(gone), content)
        await waiting()
        self._ask(request)
        if request.error is None:
            request.waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_not_cancelled)
        if request.error is not None:
            raise request.error
        return request.states

    def note_gone(self, entry: int, content: SharedFile | None = None) -> None:
        """An entry is owed no more: to be on disk soon, and before :meth:`settle` returns.

        A crash before that brings the entry back: whoever then uploads it has to see that S3
        has it, and needs its ``content``, which is let go of after that.
        """
        self._noted += 1
        self._drop(entry)
        self._ask(_Request((), (entry,), None, note=True, file=content))

    async def settle(self) -> None:
        """Wait until everything that was noted is durable. OSError where it cannot be."""
        wanted = self._noted
        if self._synced >= wanted:
            return
        await self.append()
        if self._synced < wanted:
            raise _again(self._refused)

    def _ask(self, request: _Request) -> None:
        if self._closed:
            request.error = OSError(errno.EIO, os.strerror(errno.EIO))
            return
        if not (request.note and self._requests):
            self._wake.set()
        self._requests.append(request)

    async def run(self) -> None:
        """Write what is asked for; for as long as the mount. Cancelled, it writes what it has."""
        try:
            while True:
                await self._wake.wait()
                if all(request.note for request in self._requests):
                    self._wake = trio.Event()
                    with trio.move_on_after(NOTE_SECONDS):
                        await self._wake.wait()
                await self._write_waiting()
        finally:
            with trio.CancelScope(shield=True):
                await self._write_waiting()
            self._closed = True

    async def _write_waiting(self) -> None:
        self._wake = trio.Event()
        batch, self._requests = self._requests, []
        if not batch:
            return
        noted = self._noted
        if not await self._write_here(batch):
            await self._in_thread(self._write, batch)
        failed = [request for request in batch if request.note and request.error is not None]
        for request in failed:  # they go with what is written next
            request.error = None
        self._requests[:0] = failed
        if not failed:
            self._synced = noted
        for request in batch:
            if request.error is None and not request.note:
                self._account(request)
            if request.waiter is not None:
                trio.lowlevel.reschedule(request.waiter)
        self._tidy()
        for request in batch:
            if request.file is not None and request not in failed:
                await request.file.release()

    def _account(self, request: _Request) -> None:
        for state in request.states:
            self._drop(state.entry)
            self.entries[state.entry] = state
            self._where[state.entry] = request.segment
            self._count(request.segment, state, 1)
        for entry in request.gone:
            self._drop(entry)

    def _drop(self, entry: int) -> None:
        former = self.entries.pop(entry, None)
        if former is not None:
            self._count(self._where.pop(entry), former, -1)

    @staticmethod
    async def _in_thread(work: Callable[[*Ts], None], *arguments: *Ts) -> None:
        with trio.CancelScope(shield=True):  # a thread that writes is waited for
            await trio.to_thread.run_sync(work, *arguments)

    async def _write_here(self, batch: list[_Request]) -> bool:
        """Write the batch without a thread, all of it or nothing; errors go to its requests. False
        where that is not for here, and nothing was done."""
        direct, current = self._direct, self._current
        group = [request for request in batch if request.states or request.gone]
        if direct is None or current.direct < 0 or self._torn:
            return False
        if sum(len(request.content or b"") for request in group) > DIRECT_BYTES // 2:
            return False
        pieces: list[Bytes] = []
        found: list[tuple[PendingState, ...]] = []
        size = 0
        for request in group:
            if any(isinstance(state.data, str) for state in request.states):
                return False
            encoded, states = self._encode(request, size, self._sequence + len(found) + 1)
            size += sum(map(len, encoded))
            if not self._fits(request, size):
                return False
            pieces += encoded
            found.append(states)
        if not group:
            return True
        data = b"".join(pieces)
        if not direct.begin(current.direct, current.end - len(current.tail), current.tail + data):
            current.let_go_direct()
            return False
        try:
            self._torn = size
            await direct.end()
        except OSError as error:
            if error.errno in _NOT_SO:
                current.let_go_direct()
                return False  # whoever writes instead mends what there may be of it
            self._refuse(group, error)
            await self._in_thread(self._try_to_mend)
            return True
        for request, states in zip(group, found, strict=True):
            request.states, request.segment = states, current.number
        self._written(group, data)
        return True

    # In the writing thread.

    def _write(self, batch: list[_Request]) -> None:
        group: list[_Request] = []
        pieces: list[Bytes] = []
        size = 0
        for request in batch:
            if not (request.states or request.gone):
                continue
            sequence = self._sequence + len(group) + 1
            wanted = len(request.content or b"")
            try:
                self._mend()
                encoded, states = self._encode(request, size, sequence)
                length = sum(map(len, encoded))
                if not self._fits(request, size + length):
                    self._flush(group, pieces)
                    group, pieces, size = [], [], 0
                    self._mend()
                    encoded, states = self._in_new_segment(request, length + wanted)
                    length = sum(map(len, encoded))
            except OSError as error:
                request.error = self._refused = error
                continue
            request.states, request.segment = states, self._current.number
            group.append(request)
            pieces += encoded
            size += length
        self._flush(group, pieces)

    def _encode(
        self, request: _Request, offset: int, sequence: int
    ) -> tuple[list[Bytes], tuple[PendingState, ...]]:
        current = self._current
        place = current.end + offset
        return encode_record(
            current.number, place, sequence, request.states, request.gone, request.content
        )

    def _fits(self, request: _Request, size: int) -> bool:
        kept = RESERVE_BYTES if request.content is not None else 0
        return self._current.end + size <= self._current.size - kept

    def _in_new_segment(
        self, request: _Request, length: int
    ) -> tuple[list[Bytes], tuple[PendingState, ...]]:
        """OSError where the disk has no room for another segment."""
        # The numbers in a description may take more bytes in another place: a little more room.
        self._start_segment(length + 1024)
        return self._encode(request, 0, self._sequence + 1)

    def _flush(self, group: list[_Request], pieces: list[Bytes]) -> None:
        """Bring the group to disk, all of it or nothing; errors go to its requests."""
        if not group:
            return
        current = self._current
        data = b"".join(pieces)
        try:
            if any(isinstance(state.data, str) for one in group for state in one.states):
                os.fsync(self._directory)  # the names of new files of staged data
            self._torn = len(data)
            write_all(current.file.fd, current.end, data)
            os.fdatasync(current.file.fd)
        except OSError as error:
            self._refuse(group, error)
            self._try_to_mend()
            return
        self._written(group, data)

    def _written(self, group: list[_Request], data: bytes) -> None:
        self._torn = 0
        self._current.grow(data)
        self._sequence += len(group)

    def _refuse(self, group: list[_Request], error: OSError) -> None:
        logger.error("the journal cannot be written to: %s", error.strerror)
        self._refused = error
        for request in group:
            request.error = _again(error)

    def _try_to_mend(self) -> None:
        with suppress(OSError):  # it is tried again before anything else is written
            self._mend()

    def _mend(self) -> None:
        """After a write that failed: make sure that nothing of it is ever read. OSError where that
        fails; before that, nothing else is written, in this segment or another.

        What a failed fdatasync left on disk is not known, and another one would not tell
        (fsync(2)). But it tells of what was written since: zeros in the place of all of it.
        """
        if not self._torn:
            return
        write_all(self._current.file.fd, self._current.end, bytes(self._torn))
        os.fdatasync(self._current.file.fd)
        self._torn = 0

    def close(self) -> None:
        """Close the files; blocking. Where nothing is owed, nothing of the journal stays."""
        self._closed = True
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close()
        os.close(self._directory)
        for segment in self._segments.values():
            segment.let_go_direct()
            if not self.entries and not self._torn:
                segment.file.path.unlink(missing_ok=True)
            segment.file.let_go()
        self._segments = {}


def _not_cancelled(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _again(error: OSError) -> OSError:
    """The same failure, for another who asked."""
    return OSError(error.errno, error.strerror)


def _weight(state: PendingState) -> int:
    return (state.data.length if isinstance(state.data, Blob) else 0) + 1024
