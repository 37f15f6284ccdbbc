"""Reading one version of an object through the shared block cache, ahead of the program.

Concurrency. Everything here runs on the trio thread; a region without ``await`` is atomic.

* ``ObjectReader.read`` does not yield when a cached block holds the whole range: it returns a
  slice of the block.
* A range that is missing is fetched by a task in the nursery that was given, not by the task
  that reads: cancelling the read does not lose the fetch, and others can wait for it. The
  check that nothing holds or fetches an offset, and the registration of the fetch, are one
  atomic region (``_fetch_for``), so each byte of a version is fetched once at a time, by
  whichever reader came first.
* A fetch's error belongs to the reader that started it because a program asked for the range.
  Another reader that was waiting for it (it may act as another identity), or a read that was
  waiting for what was fetched ahead, fetches for itself.
* A fetch holds its bytes of the budget and a reservation in the cache until its answer is in
  the cache; it waits for nothing else meanwhile, so budgets cannot deadlock. Reading ahead
  never waits for the budget: it is left out.
"""

from __future__ import annotations

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.data.block_cache import Block, BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.disk_cache import DiskCache
from s3posixfs.data.fetches import Fetch, Fetches
from s3posixfs.data.readahead import ReadAhead, ReadSettings
from s3posixfs.data.version import ObjectVersion
from s3posixfs.waiting.deadlines import waiting


class ObjectReader:
    """Reads of one object version as one identity; close it with :meth:`aclose`."""

    def __init__(
        self,
        store: ObjectStore,
        version: ObjectVersion,
        *,
        cache: BlockCache,
        budget: MemoryBudget,
        nursery: trio.Nursery,
        settings: ReadSettings,
        fetches: Fetches | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        """``fetches`` lets readers share what is on its way; without it this one is alone.
        ``disk`` is asked before the store, and keeps what that gives."""
        self._store = store
        self._version = version
        self._cache = cache
        self._budget = budget
        self._nursery = nursery
        self._settings = settings
        self._fetches = fetches if fetches is not None else Fetches()
        self._disk = disk if version.etag else None
        self._ahead = ReadAhead(version.size, settings)
        self._own: set[Fetch] = set()
        self._closed = False
        self._streaming = False

    @property
    def store(self) -> ObjectStore:
        """The store, as the identity that reads."""
        return self._store

    @property
    def version(self) -> ObjectVersion:
        """What is being read."""
        return self._version

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """``length`` bytes at ``offset``; fewer only at the end of the object.

        The view is read-only in effect: it may be a slice of a shared block. Raises S3Error
        (``PreconditionFailed`` once the object was replaced; blocks that are in memory are
        still of this version and still served). Cancelled, it leaves the fetch under way.
        """
        if self._closed:
            raise trio.ClosedResourceError("the reader is closed")
        end = min(offset + length, self._version.size)
        if end <= offset:
            return b""
        self._ahead.observe(offset, end)
        block = self._cache.find(self._version, offset)
        if block is not None and end <= block.end:
            if end == block.end and self._ahead.sequential:
                self._cache.consumed(block)
            self._read_ahead()
            return block.data[offset - block.start : end - block.start]
        return await self._gather(offset, end)

    async def _gather(self, offset: int, end: int) -> bytes | memoryview:
        pieces: list[memoryview] = []
        while offset < end:
            block = self._cache.find(self._version, offset)
            if block is None:
                fetch = self._fetch_for(offset, end)
                self._read_ahead()
                block = await self._result(fetch)
                if block is None:
                    continue
            stop = min(end, block.end)
            pieces.append(block.data[offset - block.start : stop - block.start])
            if stop == block.end and self._ahead.sequential:
                self._cache.consumed(block)
            offset = stop
        self._read_ahead()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _result(self, fetch: Fetch) -> Block | None:
        """What a fetch brought; ``None`` where this read has to fetch for itself.

        That is where another reader's fetch brought nothing, or one that was only ahead.
        """
        await fetch.done.wait()
        if fetch.block is not None:
            return fetch.block
        if fetch.owner is not self:
            return None
        if fetch.error is not None:
            if fetch.ahead:
                return None
            raise fetch.error.with_traceback(None)
        raise S3Error("ConnectionError", "reading was stopped: the filesystem is shutting down")

    def _allowance(self) -> int:
        """This reader's share of the cache in bytes; half of it is left to what was read."""
        share = self._cache.memory_limit // 2 // max(1, self._cache.streams)
        return max(share, self._settings.first_range)

    def _fetch_for(self, offset: int, end: int) -> Fetch:
        """The fetch under way that will bring ``offset``, or a new one. Atomic."""
        found = self._fetches.find(self._version, offset)
        if found is not None:
            return found
        start, stop = self._ahead.demanded(offset, end, self._allowance())
        # Cut to the hole round the offset, so that nothing is fetched twice.
        if start < offset:
            start = max(
                start,
                self._cache.held_before(self._version, offset),
                self._fetches.end_before(self._version, offset),
            )
        stop = self._clipped(offset, stop)
        held = stop - start if self._budget.try_acquire(stop - start) else 0
        return self._start(start, stop, held=held, ahead=False)

    def _clipped(self, start: int, stop: int) -> int:
        for limit in (
            self._cache.next_start(self._version, start),
            self._fetches.next_start(self._version, start),
        ):
            if limit is not None:
                stop = min(stop, limit)
        return stop

    def _read_ahead(self) -> None:
        """Start what the window asks for and the budget has room for. Atomic."""
        if self._closed:
            return
        while (wanted := self._ahead.next_range(self._allowance())) is not None:
            start, stop = wanted
            held = self._cache.covered_until(self._version, start)
            under_way = self._fetches.find(self._version, held)
            if under_way is not None:
                held = under_way.end
            if held > start:
                self._ahead.requested(held)
                continue
            stop = self._clipped(start, stop)
            if not self._budget.try_acquire(stop - start):
                return
            self._set_streaming(True)
            self._start(start, stop, held=stop - start, ahead=True)
        if self._ahead.finished or not self._ahead.sequential:
            self._set_streaming(False)

    def _set_streaming(self, streaming: bool) -> None:
        if streaming != self._streaming:
            self._streaming = streaming
            if streaming:
                self._cache.stream_began()
            else:
                self._cache.stream_ended()

    def _start(self, start: int, stop: int, *, held: int, ahead: bool) -> Fetch:
        """Begin to fetch; ``held`` bytes of the budget, all or none, are already taken."""
        fetch = Fetch(self, start, stop, ahead=ahead)
        self._fetches.add(self._version, fetch)
        self._own.add(fetch)
        self._ahead.requested(stop)
        self._cache.reserve(stop - start)
        try:
            self._nursery.start_soon(self._run, fetch, held)
        except RuntimeError:  # the nursery is closed: the daemon is going down
            self._cache.unreserve(stop - start)
            if held:
                self._budget.release(held)
            self._ended(fetch)
        return fetch

    def _ended(self, fetch: Fetch) -> None:
        self._fetches.remove(self._version, fetch)
        self._own.discard(fetch)
        fetch.done.set()

    async def _run(self, fetch: Fetch, held: int) -> None:
        """Fetch one range into the cache; never raises but for cancellation by the nursery."""
        size = fetch.end - fetch.start
        with fetch.scope:
            try:
                if not held:
                    await self._budget.acquire(size)
                    held = size
                data = await self._get(fetch.start, size)
                fetch.block = Block(self._version, fetch.start, fetch.end, data)
            except Exception as error:
                fetch.error = error
            finally:
                self._cache.unreserve(size)
                if fetch.block is not None:
                    self._cache.insert(self._version, fetch.start, fetch.block.data)
                if held:
                    self._budget.release(held)
                self._ended(fetch)

    async def _get(self, offset: int, size: int) -> memoryview:
        version = self._version
        if self._disk is not None:
            kept = await self._disk.read(version, offset, size)
            if kept is not None:
                return kept
        stat, data = await self._store.get(
            version.bucket, version.key, offset=offset, length=size, if_match=version.etag
        )
        if stat.etag and stat.etag != version.etag:
            raise S3Error("PreconditionFailed", "the object was replaced", status=412)
        if len(data) != size:
            raise S3Error("InvalidResponse", f"asked for {size} bytes at {offset}, got {len(data)}")
        if self._disk is not None:
            self._disk.keep(version, offset, data)
        return data

    async def aclose(self) -> None:
        """Stop reading ahead and wait until nothing of it is under way."""
        self._closed = True
        self._set_streaming(False)
        under_way = list(self._own)
        for fetch in under_way:
            fetch.scope.cancel()
        if under_way:
            await waiting()
            with trio.CancelScope(shield=True):
                for fetch in under_way:
                    await fetch.done.wait()


class Readers:
    """Opens readers that share one cache, one budget, one nursery and what is on its way."""

    def __init__(
        self,
        *,
        cache: BlockCache,
        budget: MemoryBudget,
        nursery: trio.Nursery,
        settings: ReadSettings | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        self.cache = cache
        self.disk = disk
        self.budget = budget
        self._nursery = nursery
        self._settings = settings if settings is not None else ReadSettings()
        self._fetches = Fetches()

    def holds(self, version: ObjectVersion) -> bool:
        """Whether all of a version is in memory."""
        return self.cache.covered_until(version, 0) >= version.size

    def keep(self, version: ObjectVersion, start: int, data: bytes | memoryview) -> None:
        """Bytes of a version that came by another way than reading; they must not change."""
        self.cache.insert(version, start, memoryview(data))

    def open(self, store: ObjectStore, version: ObjectVersion) -> ObjectReader:
        """A reader of ``version`` that signs as ``store`` does; close it with ``aclose``."""
        return ObjectReader(
            store,
            version,
            cache=self.cache,
            budget=self.budget,
            nursery=self._nursery,
            settings=self._settings,
            fetches=self._fetches,
            disk=self.disk,
        )
