"""The store's threads: few, more where they are stuck, and gone again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from s3posixfs.store.threads import Bulk, Threads, share_a_processor


@contextmanager
def closing(threads: Threads) -> Iterator[Threads]:
    try:
        yield threads
    finally:
        threads.close()


def _alive() -> int:
    return sum(thread.name == "s3posixfs store" for thread in threading.enumerate())


async def _until_alive(count: int) -> None:
    while _alive() != count:  # noqa: ASYNC110  no event tells of a thread's end
        await trio.sleep(0.005)


async def test_answers_come_back_to_whom_they_belong() -> None:
    found: dict[int, int] = {}

    async def ask(number: int) -> None:
        found[number] = await threads.run(lambda value: value * value, number)

    with closing(Threads(2, 2)) as threads:
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(ask, number)
    assert found == {number: number * number for number in range(500)}


async def test_errors_are_the_callers() -> None:
    def refuse() -> None:
        raise ValueError("no")

    with closing(Threads(1, 1)) as threads:
        with pytest.raises(ValueError, match="no"):
            await threads.run(refuse)
        assert await threads.run(len, "still here") == 10


async def test_threads_that_are_stuck_get_company_and_lose_it_again() -> None:
    release = threading.Event()
    with closing(Threads(1, 3)) as threads, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(threads.watch)
            async with trio.open_nursery() as stuck:
                for _ in range(6):
                    stuck.start_soon(threads.run, release.wait, 20)
                await _until_alive(3)
                await trio.sleep(0.05)
                assert _alive() == 3, "never more than the most"
                release.set()
            await threads.run(len, "")
            await _until_alive(1)
            nursery.cancel_scope.cancel()
    with trio.fail_after(20):
        await _until_alive(0)


async def test_what_has_begun_is_waited_for() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(20)
        ended.set()

    with closing(Threads(1, 1)) as threads, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(threads.run, work)
            await trio.to_thread.run_sync(begun.wait, 20)
            nursery.cancel_scope.cancel()
            release.set()
        assert ended.is_set()


async def test_nothing_begins_for_who_was_cancelled() -> None:
    called = threading.Event()
    with closing(Threads(1, 1)) as threads:
        with trio.CancelScope() as scope:
            scope.cancel()
            await threads.run(called.set)
        await threads.run(len, "")
    assert not called.is_set()


async def test_a_host_that_grants_no_more_threads() -> None:
    """With those there it goes on; where there is none the request fails, and only that."""
    release = threading.Event()

    def wait() -> None:
        release.wait()

    with closing(Threads(2, 4)) as threads, trio.fail_after(20):
        usual = threading.stack_size(2**46)  # of so much none is granted
        try:
            with pytest.raises(RuntimeError):
                await threads.run(len, "nobody there")
            threading.stack_size(usual)
            assert await threads.run(len, "one") == 3
            threading.stack_size(2**46)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(threads.watch)
                async with trio.open_nursery() as waiting:
                    for _ in range(4):
                        waiting.start_soon(threads.run, wait)
                    await trio.sleep(0.05)
                    release.set()
                nursery.cancel_scope.cancel()
        finally:
            threading.stack_size(usual)
        assert await threads.run(len, "more") == 4


async def test_what_is_small_shares_a_processor_and_bodies_do_not() -> None:
    """In a thread of its own, as where a thread stays is for good."""
    before = os.sched_getaffinity(0)
    found: list[set[int]] = []

    async def look() -> None:
        allowed = share_a_processor(0)
        assert set(allowed) == before
        found.append(os.sched_getaffinity(0))
        with closing(Threads(1, 1)) as threads:
            found.append(await threads.run(os.sched_getaffinity, 0))
        found.append(await Bulk(1, allowed).run(os.sched_getaffinity, 0))

    await trio.to_thread.run_sync(trio.run, look)
    loop, small, bulk = found
    assert loop == small
    assert len(loop) == 1
    assert bulk == before
