"""Readers: exact bytes under concurrency, single flight, bounded memory, replaced objects."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.readahead import ReadSettings
from s3posixfs.data.reader import ObjectReader, Readers
from s3posixfs.data.version import ObjectVersion
from tests.faulty_store import FaultyStore
from tests.memory_store import MemoryStore

KIB = 1024
SETTINGS = ReadSettings(
    random_range=4 * KIB,
    first_range=16 * KIB,
    largest_range=64 * KIB,
    window=256 * KIB,
    tolerance=64 * KIB,
)
SIZE = 1024 * KIB + 77
DATA = random.Random(1).randbytes(SIZE)


class Bench:
    """A store with one object, and readers of it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.memory_store = MemoryStore("bucket")
        self.store = FaultyStore(self.memory_store)
        stat = self.memory_store.put_now("bucket", "key", DATA)
        self.version = ObjectVersion("bucket", "key", stat.etag, SIZE)
        self.nursery = nursery
        self.readers = self.sized(512 * KIB, 256 * KIB)

    def sized(self, cache: int, budget: int) -> Readers:
        return Readers(
            cache=BlockCache(cache),
            budget=MemoryBudget(budget),
            nursery=self.nursery,
            settings=SETTINGS,
        )

    def open(self) -> ObjectReader:
        return self.readers.open(self.store, self.version)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        made = Bench(nursery)
        yield made
        made.store.clear()
        await trio.testing.wait_all_tasks_blocked()
        assert made.readers.budget.used == 0
        assert made.readers.cache.reserved == 0
        nursery.cancel_scope.cancel()


async def test_sequential_read_fetches_each_byte_once(bench: Bench) -> None:
    reader = bench.open()
    position = 0
    while piece := await reader.read(position, 16 * KIB):
        assert piece == DATA[position : position + 16 * KIB]
        position += len(piece)
        await trio.testing.wait_all_tasks_blocked()
        cache = bench.readers.cache
        assert cache.used + cache.reserved <= cache.memory_limit
    assert position == SIZE
    assert bench.memory_store.state.bytes_read == SIZE
    assert bench.store.calls["get"] < 30
    assert bench.store.most_running["get"] >= 4
    await reader.aclose()
    assert bench.readers.cache.streams == 0


async def test_reads_within_a_block_are_slices_of_it(bench: Bench) -> None:
    reader = bench.open()
    first = await reader.read(0, 16 * KIB)
    again = await reader.read(4 * KIB, 4 * KIB)
    assert isinstance(first, memoryview)
    assert isinstance(again, memoryview)
    assert again.obj is first.obj


async def test_small_random_reads_fetch_little(bench: Bench) -> None:
    reader = bench.open()
    for offset in (900 * KIB, 100 * KIB, 500 * KIB):
        assert await reader.read(offset, 100) == DATA[offset : offset + 100]
    await trio.testing.wait_all_tasks_blocked()
    assert bench.memory_store.state.bytes_read == 3 * 4 * KIB


async def test_a_run_does_not_fetch_what_random_reads_brought(bench: Bench) -> None:
    bench.readers = bench.sized(4 * SIZE, 256 * KIB)
    reader = bench.open()
    for offset in range(72 * KIB, SIZE, 72 * KIB):
        await bench.open().read(offset, 10)
    for offset in range(0, SIZE, 16 * KIB):
        assert await reader.read(offset, 16 * KIB) == DATA[offset : offset + 16 * KIB]
    await trio.testing.wait_all_tasks_blocked()
    assert bench.memory_store.state.bytes_read == SIZE


async def test_reads_at_and_past_the_end(bench: Bench) -> None:
    reader = bench.open()
    assert await reader.read(SIZE - 5, 100) == DATA[-5:]
    assert await reader.read(SIZE, 100) == b""
    assert await reader.read(SIZE + 9, 1) == b""
    assert await reader.read(0, 0) == b""


@pytest.mark.parametrize("seed", range(8))
async def test_concurrent_reads_in_any_order_from_several_readers(bench: Bench, seed: int) -> None:
    bench.readers = bench.sized(150 * KIB, 90 * KIB)
    rng = random.Random(seed)
    bench.store.delay("get", 0.001)
    readers = [bench.open() for _ in range(3)]

    async def read_some(reader: ObjectReader) -> None:
        if rng.random() < 0.5:  # a run whose requests arrive shuffled
            start = rng.randrange(SIZE)
            offsets = [start + index * 8 * KIB for index in range(12)]
            rng.shuffle(offsets)
        else:
            offsets = [rng.randrange(SIZE) for _ in range(12)]
        for offset in offsets:
            length = rng.randrange(1, 40 * KIB)
            assert await reader.read(offset, length) == DATA[offset : offset + length]

    async with trio.open_nursery() as nursery:
        for reader in readers:
            for _ in range(4):
                nursery.start_soon(read_some, reader)
    for reader in readers:
        await reader.aclose()
    assert bench.readers.cache.used <= 150 * KIB


async def test_a_block_is_fetched_once_for_all_who_wait(bench: Bench) -> None:
    held = bench.store.hold("get")
    readers = [bench.open() for _ in range(5)]
    async with trio.open_nursery() as nursery:

        async def check(reader: ObjectReader) -> None:
            assert await reader.read(500 * KIB, 1000) == DATA[500 * KIB : 500 * KIB + 1000]

        for reader in readers:
            nursery.start_soon(check, reader)
        await trio.testing.wait_all_tasks_blocked()
        held.set()
    assert bench.store.calls["get"] == 1


async def test_one_identitys_refusal_is_not_anothers(bench: Bench) -> None:
    mallory = FaultyStore(bench.memory_store)
    mallory.fail("get", S3Error("AccessDenied", status=403), times=9)
    held = mallory.hold("get")
    refused = bench.readers.open(mallory, bench.version)
    allowed = bench.open()
    async with trio.open_nursery() as nursery:

        async def expect_refusal() -> None:
            with pytest.raises(S3Error) as caught:
                await refused.read(300 * KIB, 10)
            assert caught.value.code == "AccessDenied"

        async def expect_data() -> None:
            assert await allowed.read(300 * KIB, 10) == DATA[300 * KIB :][:10]

        nursery.start_soon(expect_refusal)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(expect_data)
        await trio.testing.wait_all_tasks_blocked()
        held.set()


async def test_a_replaced_object_is_refused_not_mixed(bench: Bench) -> None:
    reader = bench.open()
    assert await reader.read(0, 16 * KIB) == DATA[: 16 * KIB]
    await trio.testing.wait_all_tasks_blocked()
    bench.memory_store.put_now("bucket", "key", bytes(SIZE))
    with pytest.raises(S3Error) as caught:
        await reader.read(900 * KIB, 10)
    assert caught.value.code == "PreconditionFailed"
    assert await reader.read(0, 16 * KIB) == DATA[: 16 * KIB]  # what was read is still that version


async def test_an_error_is_not_remembered(bench: Bench) -> None:
    reader = bench.open()
    bench.store.fail("get", S3Error("SlowDown", status=503))
    with pytest.raises(S3Error, match="SlowDown"):
        await reader.read(700 * KIB, 10)
    assert await reader.read(700 * KIB, 10) == DATA[700 * KIB :][:10]


async def test_a_failed_read_ahead_harms_nobody(bench: Bench) -> None:
    """A read that waits for what is being fetched ahead does not inherit its failure."""
    begin, ahead = FaultyStore(bench.memory_store), FaultyStore(bench.memory_store)
    held = ahead.hold("get")
    ahead.fail("get", S3Error("SlowDown", status=503), times=99)

    failing = True

    class Split(MemoryStore):
        async def get(
            self,
            bucket: str,
            key: str,
            *,
            offset: int = 0,
            length: int | None = None,
            if_match: str | None = None,
        ) -> tuple[ObjectStat, memoryview]:
            store = ahead if offset and failing else begin
            return await store.get(bucket, key, offset=offset, length=length, if_match=if_match)

    reader = bench.readers.open(Split(state=bench.memory_store.state), bench.version)
    assert await reader.read(0, 16 * KIB) == DATA[: 16 * KIB]
    await trio.testing.wait_all_tasks_blocked()
    assert ahead.running["get"] > 0
    async with trio.open_nursery() as nursery:

        async def run_goes_on() -> None:
            assert await reader.read(16 * KIB, 16 * KIB) == DATA[16 * KIB : 32 * KIB]

        nursery.start_soon(run_goes_on)
        await trio.testing.wait_all_tasks_blocked()
        assert begin.calls["get"] == 1
        failing = False
        held.set()
    for offset in range(32 * KIB, 256 * KIB, 16 * KIB):
        assert await reader.read(offset, 16 * KIB) == DATA[offset : offset + 16 * KIB]


async def test_a_short_answer_is_an_error(bench: Bench) -> None:
    wrong = ObjectVersion("bucket", "key", bench.version.etag, SIZE + 10)
    reader = bench.readers.open(bench.store, wrong)
    with pytest.raises(S3Error, match="InvalidResponse"):
        await reader.read(SIZE, 10)


async def test_a_cancelled_read_leaves_the_fetch_for_the_next(bench: Bench) -> None:
    held = bench.store.hold("get")
    reader = bench.open()
    with trio.move_on_after(0.01):
        await reader.read(600 * KIB, 10)
    held.set()
    assert await reader.read(600 * KIB, 10) == DATA[600 * KIB :][:10]
    assert bench.store.calls["get"] == 1


async def test_closing_stops_what_is_under_way_and_others_go_on(bench: Bench) -> None:
    held = bench.store.hold("get")
    closing, staying = bench.open(), bench.open()
    async with trio.open_nursery() as nursery:

        async def stopped() -> None:
            with pytest.raises(S3Error, match="stopped"):
                await closing.read(400 * KIB, 10)

        async def served() -> None:
            assert await staying.read(400 * KIB, 10) == DATA[400 * KIB :][:10]

        nursery.start_soon(stopped)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(served)
        await trio.testing.wait_all_tasks_blocked()
        await closing.aclose()
        held.set()
    with pytest.raises(trio.ClosedResourceError):
        await closing.read(0, 1)


async def test_a_closed_nursery_is_an_error_not_a_hang() -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        reader = bench.open()
    with trio.fail_after(1), pytest.raises(S3Error, match="ConnectionError"):
        await reader.read(0, 10)
    assert bench.readers.budget.used == 0
    assert bench.readers.cache.reserved == 0


async def test_a_tiny_budget_is_slow_but_right(bench: Bench) -> None:
    bench.readers = bench.sized(8 * KIB, 1)
    reader = bench.open()
    for offset in range(0, 128 * KIB, 32 * KIB):
        assert await reader.read(offset, 32 * KIB) == DATA[offset : offset + 32 * KIB]
