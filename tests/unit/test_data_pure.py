"""The decisions of the data path: ranges, parts, read-ahead, budgets, the block cache."""

from __future__ import annotations

import errno
import itertools

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from s3posixfs.core.types import MAX_OBJECT_BYTES, MAX_PART_BYTES, MAX_PARTS, MIB, MIN_PART_BYTES
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import DiskBudget, MemoryBudget
from s3posixfs.data.parts import UploadSettings, early_length, plan_parts
from s3posixfs.data.ranges import RangeSet
from s3posixfs.data.readahead import ReadAhead, ReadSettings
from s3posixfs.data.version import ObjectVersion

SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60))


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "cut"]), SPAN)), SPAN)
def test_range_set_is_a_set_of_bytes(
    steps: list[tuple[str, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    ranges, model = RangeSet(), set[int]()
    for step, (start, end) in steps:
        if step == "add":
            ranges.add(start, end)
            model |= set(range(start, end))
        elif step == "remove":
            ranges.remove(start, end)
            model -= set(range(start, end))
        else:
            ranges.cut(start)
            model -= set(range(start, 60))
        assert {byte for span in ranges for byte in range(*span)} == model
    spans = list(ranges)
    assert all(start < end for start, end in spans)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(spans))
    wanted = set(range(*asked))
    assert {b for span in ranges.within(*asked) for b in range(*span)} == wanted & model
    assert {b for span in ranges.gaps(*asked) for b in range(*span)} == wanted - model
    assert ranges.covers(*asked) == (wanted <= model)
    assert ranges.amount(*asked) == len(wanted & model)
    assert ranges.total == len(model)


SMALL = UploadSettings(put_limit=8, part_size=8, copy_size=20, min_part=5, max_parts=12)


def check_plan(size: int, unchanged: list[tuple[int, int]], settings: UploadSettings) -> None:
    parts = plan_parts(size, unchanged, settings)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert len(parts) <= settings.max_parts
    offset = 0
    for part in parts:
        assert part.offset == offset
        assert part.length >= settings.min_part or part is parts[-1]
        assert part.length > 0
        offset += part.length
        if part.copied:
            assert any(s <= part.offset and offset <= e for s, e in unchanged)
    assert offset == size


@given(st.integers(1, 200), st.lists(st.integers(0, 200), max_size=12))
def test_parts_cover_the_file_within_the_rules(size: int, cuts: list[int]) -> None:
    edges = sorted({min(cut, size) for cut in cuts})
    unchanged = list(zip(edges[::2], edges[1::2], strict=False))
    check_plan(size, unchanged, SMALL)


def test_a_changed_byte_costs_one_small_part() -> None:
    size, settings = 1024 * MIB, UploadSettings()
    parts = plan_parts(size, [(0, 500 * MIB), (500 * MIB + 1, size)], settings)
    uploaded = [part.length for part in parts if not part.copied]
    assert uploaded == [MIN_PART_BYTES]
    assert len(parts) <= 6


@pytest.mark.parametrize("changed", [True, False])
def test_the_largest_object_fits(changed: bool) -> None:
    unchanged = [] if changed else [(0, MAX_OBJECT_BYTES)]
    parts = plan_parts(MAX_OBJECT_BYTES, unchanged, UploadSettings())
    assert len(parts) <= MAX_PARTS
    assert max(part.length for part in parts) <= MAX_PART_BYTES


@pytest.mark.parametrize("part_size", [MIN_PART_BYTES, 16 * MIB, 1024 * MIB, MAX_PART_BYTES])
def test_a_file_that_grows_while_it_is_sent_may_come_to_five_tib(part_size: int) -> None:
    """Nobody knows its size when the first part goes, and 10,000 of those would be too little."""
    settings = UploadSettings(part_size=part_size)
    sent = used = 0
    while used < settings.max_parts * 9 // 10 and sent < MAX_OBJECT_BYTES:
        length = early_length(used + 1, settings)
        assert part_size <= length <= MAX_PART_BYTES
        assert used > 900 or length == part_size  # up to what is common they are as asked for
        sent, used = sent + length, used + 1
    if sent < MAX_OBJECT_BYTES:
        parts = plan_parts(MAX_OBJECT_BYTES, [], settings, sent=sent, used=used)
        assert parts[-1].number <= MAX_PARTS
        assert max(part.length for part in parts) <= MAX_PART_BYTES
        assert parts[-1].offset + parts[-1].length == MAX_OBJECT_BYTES


def test_many_scattered_changes_of_a_huge_object_stay_within_ten_thousand_parts() -> None:
    size, step = 1024 * 1024 * MIB, 30 * MIB
    unchanged = [(start + 4096, min(start + step, size)) for start in range(0, size, step)]
    check_plan(size, unchanged, UploadSettings())


def test_read_ahead_follows_a_run_and_forgets_it_on_a_seek() -> None:
    ahead = ReadAhead(1024 * MIB, ReadSettings())
    fetched: list[tuple[int, int]] = []

    def drain(allowance: int = 64 * MIB) -> None:
        while (wanted := ahead.next_range(allowance)) is not None:
            fetched.append(wanted)
            ahead.requested(wanted[1])

    for index in range(32):
        ahead.observe(index * MIB, (index + 1) * MIB)
        drain()
        assert fetched[-1][1] <= (index + 1) * MIB + min(64 * MIB, 4 * (index + 1) * MIB)
    assert fetched[-1][1] >= 32 * MIB + 56 * MIB
    assert all(a[1] == b[0] for a, b in itertools.pairwise(fetched))
    assert fetched[-1][1] - fetched[-1][0] == 8 * MIB
    ahead.observe(500 * MIB, 500 * MIB + 4096)
    assert not ahead.sequential
    assert ahead.next_range(64 * MIB) is None
    assert ahead.demanded(500 * MIB, 500 * MIB + 4096, 64 * MIB) == (
        500 * MIB,
        500 * MIB + 128 * 1024,
    )


def test_the_first_byte_of_a_large_object_fetches_little() -> None:
    ahead = ReadAhead(1024 * MIB, ReadSettings())
    ahead.observe(0, 16 * 1024)  # what the kernel asks for on account of one byte
    assert ahead.demanded(0, 16 * 1024, 64 * MIB) == (0, 128 * 1024)
    ahead.requested(128 * 1024)
    assert ahead.next_range(64 * MIB) is None


def test_reads_out_of_order_are_still_one_run() -> None:
    ahead = ReadAhead(1024 * MIB, ReadSettings())
    for index in (0, 2, 1, 3, 5, 4, 7, 6):
        ahead.observe(index * MIB, (index + 1) * MIB)
        assert ahead.sequential


def test_a_small_share_keeps_the_window_small() -> None:
    ahead = ReadAhead(1024 * MIB, ReadSettings())
    for index in range(40):
        ahead.observe(index * MIB, (index + 1) * MIB)
        while (wanted := ahead.next_range(4 * MIB)) is not None:
            assert wanted[1] <= (index + 5) * MIB
            ahead.requested(wanted[1])


@given(st.integers(1, 3 * MIB), st.data())
def test_what_is_demanded_covers_the_read(size: int, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(offset + 1, size))
    ahead = ReadAhead(size, ReadSettings(first_range=64 * 1024, tolerance=1000))
    ahead.observe(offset, end)
    start, stop = ahead.demanded(offset, end, MIB)
    assert 0 <= start <= offset < end <= stop <= size


async def test_memory_budget_serves_in_order_and_survives_cancellation() -> None:
    budget, order = MemoryBudget(10), list[str]()

    async def take(name: str, size: int, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await budget.acquire(size)
        order.append(name)

    assert budget.try_acquire(8)
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def cancelled(task_status: trio.TaskStatus[None]) -> None:
            with first:
                await take("cancelled", 9, task_status)

        await nursery.start(cancelled)
        await nursery.start(take, "large", 7)
        await nursery.start(take, "small", 4)
        await trio.testing.wait_all_tasks_blocked()
        assert not budget.try_acquire(1)  # nobody passes those who wait
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        budget.release(8)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["large"]
        budget.release(7)
    assert order == ["large", "small"]
    assert budget.used == 4


async def test_memory_budget_takes_a_request_larger_than_itself_alone() -> None:
    budget = MemoryBudget(10)
    await budget.acquire(50)
    assert not budget.try_acquire(1)
    budget.release(50)
    assert budget.used == 0


def test_disk_budget_says_enospc() -> None:
    budget = DiskBudget(10)
    budget.take(10)
    with pytest.raises(OSError, match="No space left") as caught:
        budget.take(1)
    assert caught.value.errno == errno.ENOSPC
    budget.give(4)
    budget.take(4)
    DiskBudget(None).take(1 << 60)


VERSION = ObjectVersion("b", "k", "e", 1000)
BLOCKS = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), max_size=40)


@given(BLOCKS, st.integers(1, 120), st.sets(st.integers(0, 99), max_size=5))
def test_block_cache_gives_what_was_put_in_and_keeps_its_bound(
    blocks: list[tuple[int, int]], limit: int, asked: set[int]
) -> None:
    content = bytes(range(200))
    cache = BlockCache(limit)
    for start, length in blocks:
        cache.insert(VERSION, start, memoryview(content)[start : start + length])
        assert cache.used <= limit
        for offset in asked:
            found = cache.find(VERSION, offset)
            if found is not None:
                assert found.start <= offset < found.end
                assert bytes(found.data) == content[found.start : found.end]
                assert cache.covered_until(VERSION, offset) >= found.end
            else:
                assert cache.covered_until(VERSION, offset) == offset
                assert cache.held_before(VERSION, offset) <= offset
            following = cache.next_start(VERSION, offset)
            assert following is None or following >= offset
    cache.forget(VERSION)
    assert cache.used == 0


def test_block_cache_drops_what_a_stream_has_passed_first() -> None:
    cache = BlockCache(30)
    for start in (0, 10, 20):
        cache.insert(VERSION, start, memoryview(bytes(10)))
    passed = cache.find(VERSION, 20)
    assert passed is not None
    cache.consumed(passed)
    cache.reserve(10)
    assert cache.find(VERSION, 20) is None
    assert cache.find(VERSION, 0) is not None
    assert cache.used + cache.reserved <= 30
    cache.unreserve(10)
    assert cache.reserved == 0
