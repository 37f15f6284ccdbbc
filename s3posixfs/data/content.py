"""The bytes of one staged file that are kept on this host: in memory while few, else on disk.

Small files are one ``bytearray``. Larger ones are a sparse file; writes to it are gathered in
memory (the caller's ``bytes`` objects, not copied) and go to disk several MiB at a time with
one ``pwritev`` in a thread.

Invariant: a byte of the disk file that is not in ``held`` is zero, or belongs to a range that
the base object still provides. So an upload can read the file where nothing was ever written.

Sealed content is what the journal has a record of: it does not change any more. What is written
next goes to a copy of it, which :meth:`LocalContent.unseal` makes.

Concurrency. All state is changed on the trio thread. ``write``, ``fill``, ``cut``, ``flush`` and
``settle`` are called by one task at a time (the staged file's gate), except that an upload,
which holds the gate, may run several ``fill`` of disjoint ranges at once. ``read`` may run at
any time beside them: it takes a snapshot of the gathered writes before it looks at the disk and
lays them over what it found, so it sees each byte as it was at some moment of the call. Threads
touch nothing but the descriptor and immutable buffers; ``close`` waits for them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from s3posixfs.core.objectstore import Body, FileRange
from s3posixfs.data.budget import DiskBudget, MemoryBudget
from s3posixfs.data.ranges import RangeSet
from s3posixfs.data.shared_file import Extent, SharedFile
from s3posixfs.waiting.deadlines import waiting

Chunk = tuple[int, bytes | memoryview]  # offset in the file, bytes
IOV_MAX = 1024
CHUNK_COST = 512  # bytes a gathered write counts beside its data, so that tiny ones stay few

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def write_at(fd: int, offset: int, data: bytes | memoryview) -> int:
    """Write ``data`` at ``offset``: how much was written when the disk refused the rest.

    OSError where it refused all. Blocking.
    """
    view = memoryview(data)
    written = 0
    while written < len(view):
        try:
            written += os.pwrite(fd, view[written:], offset + written)
        except OSError:
            if not written:
                raise
            break
    return written


def write_chunks(fd: int, cut_to: int | None, chunks: Sequence[Chunk]) -> None:
    """Cut the file, then write the chunks in order; neighbours go in one call. Blocking."""
    if cut_to is not None and os.fstat(fd).st_size > cut_to:
        os.ftruncate(fd, cut_to)
    index = 0
    while index < len(chunks):
        offset, data = chunks[index]
        end = offset + len(data)
        vector = [data]
        index += 1
        while index < len(chunks) and chunks[index][0] == end and len(vector) < IOV_MAX:
            vector.append(chunks[index][1])
            end += len(chunks[index][1])
            index += 1
        if os.pwritev(fd, vector, offset) < end - offset:  # a short write: find out why
            for data in vector:
                if write_at(fd, offset, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                offset += len(data)


class LocalContent:
    """What is local of one file. ``held`` says which ranges; everything else reads as zeros."""

    def __init__(
        self,
        new_path: Callable[[], Path],
        *,
        memory: MemoryBudget,
        disk: DiskBudget,
        threads: trio.CapacityLimiter,
        memory_file: int,
        batch: int,
    ) -> None:
        """``new_path``: where a file goes once it has more than ``memory_file`` bytes.

        ``batch``: how many bytes of writes are gathered at most.
        """
        self.held = RangeSet()
        self._new_path = new_path
        self._memory_budget = memory
        self._disk_budget = disk
        self._threads = threads
        self._memory_file = memory_file
        self._batch = batch
        self._memory: bytearray | None = bytearray()
        self._file: SharedFile | None = None
        self._start = 0  # where in the file the content begins
        self._sealed = False
        self._unsure: OSError | None = None  # of a sync: what the disk has since is not known
        self._former: list[SharedFile] = []  # that threads may still read
        self._on_disk = 0  # bytes of the disk budget held
        self._gathered: list[Chunk] = []
        self._gathered_bytes = 0
        self._cut_to: int | None = None  # the disk file has bytes from here on that must go
        self._nowait = hasattr(os, "RWF_NOWAIT")
        self._users = 0
        self._idle: trio.Event | None = None

    @property
    def sealed(self) -> bool:
        """Whether this content may not be changed."""
        return self._sealed

    @property
    def _fd(self) -> int:
        return self._file.fd if self._file is not None else -1

    async def seal(self, size: int) -> bytes | SharedFile:
        """Make the content, of ``size`` bytes, one that stays as it is: the bytes, for who will
        keep them (then :meth:`keep_in`), or the file that has them, durable and held for the
        caller. OSError of the disk; then it is not sealed, and never is before it was emptied: what
        a failed fsync(2) left out, another one would not tell."""
        if self._unsure is not None:
            raise OSError(self._unsure.errno, self._unsure.strerror)
        await self.settle(size)
        if self._memory is not None:
            return bytes(self._memory)
        file = self._file
        if file is None:
            raise trio.ClosedResourceError("the content is closed")
        try:
            await self._in_thread(os.fsync, file.fd)
        except OSError as error:
            self._unsure = error
            raise
        self._sealed = True
        return file.hold()

    def keep_in(self, extent: Extent) -> None:
        """The bytes that were sealed are there now: they need no memory. Held for this."""
        if self._memory is not None:
            self._memory_budget.release(len(self._memory))
            self._memory = None
        former, self._file, self._start = self._file, extent.file, extent.offset
        if former is not None:
            self._former.append(former)
        self._sealed = True
        self.held.clear()
        self.held.add(0, extent.length)

    def adopt(self, file: SharedFile, size: int) -> None:
        """Begin as the file of staged data that an earlier run sealed. Held for this."""
        self._take_disk(size)
        self.keep_in(Extent(file, 0, size))

    async def unseal(self, keep: int) -> None:
        """Go on with a copy of the first ``keep`` bytes, which may be changed. OSError of the
        disk; then it stays sealed."""
        file, start = self._file, self._start
        if not self._sealed or file is None:
            self._sealed = False
            return
        held = self.held.within(0, keep)
        length = held[-1][1] if held else 0
        taken = sum(end - begin for begin, end in held)
        if length <= self._memory_file and self._memory_budget.try_acquire(length):
            buffer = bytearray(length)
            try:
                await self._in_thread(_read_at, file.fd, start, memoryview(buffer))
            except BaseException:
                self._memory_budget.release(length)
                raise
            self._give_disk(self._on_disk)
            self._memory, self._file, self._start = buffer, None, 0
        else:
            self._take_disk(taken)
            try:
                copy = await self._in_thread(_copy, self._new_path(), file.fd, start, held)
            except BaseException:
                self._give_disk(taken)
                raise
            self._give_disk(self._on_disk - taken)
            self._file, self._start = copy, 0
        self._former.append(file)
        self.held.cut(keep)
        self._sealed = False
        if not self._users:
            former, self._former = self._former, []
            for one in former:
                await one.release()

    async def write(self, offset: int, data: bytes) -> int:
        """Keep ``data``; how much was kept, which is less only where the disk became full.

        OSError (ENOSPC) where nothing of it could be kept. Cancelled, nothing was kept.
        """
        end = offset + len(data)
        if self._write_memory(offset, data):
            return len(data)
        if self._memory is not None:
            await self._spill()
        taken = len(data) - self.held.amount(offset, end)
        self._take_disk(taken)
        try:
            cost = len(data) + CHUNK_COST
            if len(data) < self._batch and self._memory_budget.try_acquire(cost):
                try:
                    if self._gathered_bytes + cost > self._batch:
                        await self.flush()
                except BaseException:
                    self._memory_budget.release(cost)
                    raise
                self._gathered.append((offset, data))
                self._gathered_bytes += cost
                written = len(data)
            else:
                await self.flush()
                written = await self._in_thread(write_at, self._fd, offset, data)
        except BaseException:
            self._give_disk(taken)
            raise
        if written < len(data):
            self._give_disk(len(data) - written - self.held.amount(offset + written, end))
        self.held.add(offset, offset + written)
        return written

    def _write_memory(self, offset: int, data: bytes | memoryview) -> bool:
        end = offset + len(data)
        if self._memory is None or end > self._memory_file or not self._grow(end):
            return False
        self._memory[offset:end] = data
        self.held.add(offset, end)
        return True

    def _grow(self, size: int) -> bool:
        """Lengthen the memory to ``size`` bytes, if the budget has them."""
        memory = self._memory
        if memory is None:
            return False
        grow = size - len(memory)
        if grow > 0:
            if not self._memory_budget.try_acquire(grow):
                return False
            memory.extend(bytes(grow))
        return True

    async def fill(self, offset: int, data: bytes | memoryview) -> None:
        """Keep bytes of the base object, which change nothing; OSError where there is no room."""
        if self._write_memory(offset, data):
            return
        if self._memory is not None:
            await self._spill()
        end = offset + len(data)
        taken = len(data) - self.held.amount(offset, end)
        self._take_disk(taken)
        try:
            if await self._in_thread(write_at, self._fd, offset, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            self._give_disk(taken)
            raise
        self.held.add(offset, end)

    async def cut(self, size: int) -> None:
        """Drop everything from ``size`` on. The change is made before the first yield.

        The disk file follows; where it fails to, the next flush cuts it before it writes.
        """
        if self._memory is not None:
            if size < len(self._memory):
                self._memory_budget.release(len(self._memory) - size)
                del self._memory[size:]
            self.held.cut(size)
            return
        if not size:
            self._unsure = None
        before = self.held.total
        self.held.cut(size)
        self._give_disk(before - self.held.total)
        kept: list[Chunk] = []
        for offset, data in self._gathered:
            if offset + len(data) <= size:
                kept.append((offset, data))
            elif offset < size:
                kept.append((offset, data[: size - offset]))
        self._gathered = kept
        kept_bytes = sum(len(data) + CHUNK_COST for _, data in kept)
        self._memory_budget.release(self._gathered_bytes - kept_bytes)
        self._gathered_bytes = kept_bytes
        self._cut_to = size if self._cut_to is None else min(self._cut_to, size)
        with contextlib.suppress(OSError):
            await self._in_thread(write_chunks, self._fd, self._cut_to, ())
            self._cut_to = None

    async def flush(self) -> None:
        """Bring the gathered writes to disk. OSError leaves them gathered, to be tried again."""
        if self._memory is not None or not (self._gathered or self._cut_to is not None):
            return
        await self._in_thread(write_chunks, self._fd, self._cut_to, tuple(self._gathered))
        self._cut_to = None
        self._gathered = []
        self._memory_budget.release(self._gathered_bytes)
        self._gathered_bytes = 0

    async def settle(self, size: int) -> None:
        """Make all of ``[0, size)`` readable by :meth:`body`. OSError as :meth:`flush`."""
        if self._memory is not None and not (size <= self._memory_file and self._grow(size)):
            await self._spill()
        if self._memory is None:
            await self.flush()
            if not self._sealed:
                await self._in_thread(os.ftruncate, self._fd, size)

    def body(self, offset: int, length: int) -> Body:
        """``length`` bytes at ``offset`` as a request body, after :meth:`settle`."""
        if self._memory is not None:
            return bytes(memoryview(self._memory)[offset : offset + length])
        return FileRange(self._fd, self._start + offset, length)

    async def read(self, offset: int, length: int) -> bytes | bytearray:
        """``length`` bytes at ``offset``, all of which are held."""
        if self._memory is not None:
            return self._memory[offset : offset + length]
        end = offset + length
        over = [
            (start, data)
            for start, data in self._gathered
            if start < end and start + len(data) > offset
        ]
        if len(over) == 1 and over[0][0] <= offset and end <= over[0][0] + len(over[0][1]):
            start, data = over[0]
            return bytes(data[offset - start : end - start])
        buffer = bytearray(length)
        await self._read_disk(buffer, self._start + offset)
        for start, data in over:
            first, last = max(start, offset), min(start + len(data), end)
            buffer[first - offset : last - offset] = memoryview(data)[first - start : last - start]
        return buffer

    async def _read_disk(self, buffer: bytearray, offset: int) -> None:
        done = 0
        if self._nowait:
            # What is in the page cache comes at once, without a thread.
            try:
                done = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
                if not done:
                    return  # past the end of the disk file: only gathered writes are there
            except BlockingIOError:
                done = 0
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._nowait = False
        if done < len(buffer):
            rest = memoryview(buffer)[done:]
            await self._in_thread(_read_at, self._fd, offset + done, rest)
            rest.release()

    async def _spill(self) -> None:
        """Move from memory to a file. OSError leaves everything in memory. Called under the gate.

        Readers go on with the memory until the file is complete.
        """
        memory = self._memory
        if memory is None:
            return
        total = self.held.total
        self._take_disk(total)
        view = memoryview(memory)
        chunks = [(start, view[start:end]) for start, end in self.held]
        try:
            self._file = await self._in_thread(_create, self._new_path(), chunks)
        except BaseException:
            self._give_disk(total)
            raise
        finally:
            for _, chunk in chunks:
                chunk.release()
            view.release()
        self._memory = None
        self._memory_budget.release(len(memory))

    def _take_disk(self, size: int) -> None:
        self._disk_budget.take(size)
        self._on_disk += size

    def _give_disk(self, size: int) -> None:
        self._disk_budget.give(size)
        self._on_disk -= size

    async def _in_thread(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a blocking call in a thread; once begun it is waited for, cancelled or not."""
        self._users += 1
        try:
            return await trio.to_thread.run_sync(function, *arguments, limiter=self._threads)
        finally:
            self._users -= 1
            if not self._users and self._idle is not None:
                self._idle.set()

    async def close(self) -> None:
        """Drop everything, once no thread uses it."""
        if self._users:
            self._idle = trio.Event()
            await waiting()
            with trio.CancelScope(shield=True):
                await self._idle.wait()
        file, self._file = self._file, None
        former, self._former = self._former, []
        if self._memory is not None:
            self._memory_budget.release(len(self._memory))
        self._memory = bytearray()
        self._memory_budget.release(self._gathered_bytes)
        self._gathered, self._gathered_bytes = [], 0
        self._give_disk(self._on_disk)
        self.held.clear()
        for one in (*former, *((file,) if file is not None else ())):
            await one.release()


def _read_at(fd: int, offset: int, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if not count:
            break  # past the end of the disk file: zeros, or gathered writes go over it
        done += count


def _new_file(path: Path) -> SharedFile:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return SharedFile(os.open(path, flags, 0o600), path, temporary=True)


def _create(path: Path, chunks: Sequence[Chunk]) -> SharedFile:
    file = _new_file(path)
    try:
        write_chunks(file.fd, None, chunks)
    except BaseException:
        _drop(file)
        raise
    return file


def _copy(path: Path, source: int, start: int, ranges: Sequence[tuple[int, int]]) -> SharedFile:
    """A file with these ranges of the source, which begin at ``start`` there."""
    file = _new_file(path)
    try:
        for begin, end in ranges:
            while begin < end:
                count = os.copy_file_range(source, file.fd, end - begin, start + begin, begin)
                if not count:
                    break  # a hole at the end
                begin += count
    except BaseException:
        _drop(file)
        raise
    return file


def _drop(file: SharedFile) -> None:
    file.let_go()
    file.path.unlink(missing_ok=True)
