"""An operation has its deadline once it waits, and costs none before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from s3posixfs.metrics.loop_watch import stacks
from s3posixfs.waiting import deadlines
from s3posixfs.waiting.deadlines import waiting, within
from s3posixfs.waiting.quick_lock import QuickLock


async def sleep(seconds: float) -> str:
    await trio.lowlevel.checkpoint()
    await trio.sleep(seconds)
    return "slept"


async def scoped(seconds: float) -> str:
    await waiting()
    with trio.CancelScope(shield=False):
        await trio.sleep(seconds)
    return "slept"


async def in_a_nursery(seconds: float) -> str:
    await waiting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, seconds)
    return "slept"


async def nested(seconds: float) -> str:
    return await within(100, scoped(seconds))


async def nested_after_an_end(seconds: float) -> str:
    async def at_once() -> None:
        return None

    await within(100, at_once())
    return await scoped(seconds)


@pytest.mark.parametrize("operation", [sleep, scoped, in_a_nursery, nested, nested_after_an_end])
async def test_what_waits_too_long_is_ended(
    operation: Callable[[float], Awaitable[str]], autojump_clock: trio.testing.MockClock
) -> None:
    before = deadlines.unbounded
    assert await within(5, operation(4)) == "slept"  # type: ignore[arg-type]
    with pytest.raises(trio.TooSlowError):
        await within(5, operation(6))  # type: ignore[arg-type]
    assert deadlines.unbounded == before
    with trio.move_on_after(1) as scope:
        await within(5, operation(2))  # type: ignore[arg-type]
    assert scope.cancelled_caught, "cancellation from outside ends it as well"


async def test_what_does_not_wait_makes_no_turn_of_the_loop() -> None:
    async def at_once() -> int:
        await waiting()
        return 7

    turns = 0

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal turns
            turns += 1

    async def at_once_without_a_word() -> int:
        return 7

    count = Count()
    trio.lowlevel.add_instrument(count)
    assert await within(5, at_once_without_a_word()) == 7
    assert await within(5, at_once()) == 7
    trio.lowlevel.remove_instrument(count)
    assert turns == 0


async def test_errors_pass_before_and_after_it_waits() -> None:
    async def fails(after: float) -> None:
        if after:
            await trio.lowlevel.checkpoint()
            await trio.sleep(after)
        raise OSError(5, "failed")

    for after in (0.0, 0.001):
        with pytest.raises(OSError, match="failed"):
            await within(5, fails(after))


@pytest.mark.unannounced_scope
async def test_a_scope_that_nobody_told_of_is_counted_and_does_no_harm(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def silent() -> str:
        with trio.CancelScope():
            await trio.sleep(10)
        return "slept"

    before = deadlines.unbounded
    assert await within(5, silent()) == "slept"
    assert deadlines.unbounded == before + 1
    assert "no deadline" in caplog.text


async def test_the_stacks_go_on_below_a_deadline() -> None:
    async def innermost() -> None:
        await trio.Event().wait()

    async def operation() -> None:
        await within(5, innermost())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(operation)
        await trio.testing.wait_all_tasks_blocked()
        text = "\n".join(stacks(trio.lowlevel.current_root_task()))
        nursery.cancel_scope.cancel()
    assert "innermost" in text


async def test_a_quick_lock_is_fair_and_survives_cancellation() -> None:
    lock, order = QuickLock(), list[int]()

    async def take(number: int) -> None:
        async with lock:
            order.append(number)
            await trio.lowlevel.checkpoint()

    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    async with trio.open_nursery() as nursery, lock:
        with pytest.raises(trio.WouldBlock):
            lock.acquire_nowait()
        for number in range(4):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await take(99)
    assert order == [0, 1, 2, 3]
    assert not lock.locked()
