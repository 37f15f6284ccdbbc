"""Credentials that outlive their expiry: on simulated time, and once on the real clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
import trio
import trio.testing

from s3posixfs.core.clock import OffsetClock, SystemClock
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import CredentialsError
from s3posixfs.credentials.refresher import Refresher


class TrioClock:
    """Wall and monotonic clock that follow trio's, which a test can let jump."""

    def time(self) -> float:
        return 1_800_000_000.0 + trio.current_time()

    def monotonic(self) -> float:
        return trio.current_time()


class Source:
    """Gives numbered pairs that live ``life`` seconds; fails when told to."""

    def __init__(self, time_of: Callable[[], float], life: float | None) -> None:
        self.time_of = time_of
        self.life = life
        self.failure: str | None = None
        self.delay = 0.0
        self.calls: list[float] = []

    async def get(self) -> Credentials:
        self.calls.append(self.time_of())
        await trio.sleep(self.delay)
        if self.failure is not None:
            raise CredentialsError("alice", self.failure)
        expires = None if self.life is None else self.time_of() + self.life
        return Credentials(f"ASIA{len(self.calls)}", "secret", "token", expires)

    async def refresh(self, rejected: Credentials) -> Credentials:
        return await self.get()


def refresher_of(source: Source, nursery: trio.Nursery, draw: float = 0.5) -> Refresher:
    return Refresher(source, nursery=nursery, clock=TrioClock(), random=lambda: draw, name="alice")


@pytest.mark.parametrize(("draw", "share"), [(0.0, 0.5), (0.5, 0.6), (1.0, 0.7)])
async def test_renews_within_50_to_70_percent_of_life(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, draw: float, share: float
) -> None:
    source = Source(TrioClock().time, 3600)
    refresher = refresher_of(source, nursery, draw)
    await refresher.start()
    await trio.sleep(5 * 3600)
    gaps = [b - a for a, b in zip(source.calls, source.calls[1:], strict=False)]
    assert gaps
    assert all(gap == pytest.approx(3600 * share, abs=1) for gap in gaps)
    assert refresher.status.refreshes == len(gaps)
    nursery.cancel_scope.cancel()


async def test_a_thousand_callers_make_one_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    source.delay = 1.0
    refresher = refresher_of(source, nursery)
    got: list[Credentials] = []

    async def ask() -> None:
        got.append(await refresher.get())

    async with trio.open_nursery() as inner:
        for _ in range(1000):
            inner.start_soon(ask)
    assert len(source.calls) == 1
    assert all(pair is got[0] for pair in got)
    nursery.cancel_scope.cancel()


async def test_failure_reaches_all_who_wait_and_costs_one_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    source.delay, source.failure = 1.0, "the STS endpoint is down"
    refresher = refresher_of(source, nursery)
    failures = []

    async def ask() -> None:
        try:
            await refresher.get()
        except CredentialsError as error:
            failures.append(error)

    async with trio.open_nursery() as inner:
        for _ in range(20):
            inner.start_soon(ask)
    assert len(failures) == 20
    assert len(source.calls) == 1
    assert "alice" in str(failures[0])


async def test_cancelled_caller_leaves_the_fetch_to_the_others(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    source.delay = 2.0
    refresher = refresher_of(source, nursery)
    got: list[Credentials] = []

    async def impatient() -> None:
        with trio.move_on_after(1):
            await refresher.get()

    async def patient() -> None:
        got.append(await refresher.get())

    async with trio.open_nursery() as inner:
        inner.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        inner.start_soon(patient)
    assert len(got) == len(source.calls) == 1
    nursery.cancel_scope.cancel()


async def test_failed_refresh_keeps_what_is_valid_and_retries_every_ten_seconds(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source(TrioClock().time, 3600)
    refresher = refresher_of(source, nursery)
    await refresher.start()
    first = await refresher.get()
    source.failure = "AccessDenied: not now"
    await trio.sleep(0.6 * 3600 + 101)
    # Every 10 s and up to a fifth more, so that those who failed at once do not stay together.
    assert len(source.calls) == 1 + 10
    assert await refresher.get() is first
    assert refresher.status.last_error == "AccessDenied: not now"
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1, "one line a failure that lasts, not one a retry"
    source.failure = None
    await trio.sleep(11)
    assert await refresher.get() is not first
    recovered = refresher.status
    assert recovered.last_error is None
    nursery.cancel_scope.cancel()


async def test_valid_pair_serves_until_its_very_end_when_no_other_comes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    refresher = refresher_of(source, nursery)
    first = await refresher.get()
    source.failure = "down"
    await trio.sleep(3590)
    assert await refresher.get() is first
    await trio.sleep(11)
    calls = len(source.calls)
    for _ in range(1000):
        with pytest.raises(CredentialsError, match="down"):
            await refresher.get()
    assert len(source.calls) <= calls + 1, "each request of a program asked the source"
    source.failure = None
    await trio.sleep(1.1)
    assert await refresher.get() is not first
    nursery.cancel_scope.cancel()


async def test_wall_clock_counts_when_the_machine_has_slept(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clock = OffsetClock()
    source = Source(clock.time, 3600)
    refresher = Refresher(source, nursery=nursery, clock=clock, random=lambda: 0.5)
    first = await refresher.get()
    clock.offset += 3600 - 61
    assert await refresher.get() is first
    clock.offset += 2
    assert await refresher.get() is not first
    nursery.cancel_scope.cancel()


async def test_background_task_sees_a_jump_of_the_wall_clock_within_half_a_minute(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clock = OffsetClock()
    source = Source(clock.time, 3600)
    refresher = Refresher(source, nursery=nursery, clock=clock, random=lambda: 0.5)
    await refresher.get()
    clock.offset += 3000
    await trio.sleep(31)
    assert len(source.calls) == 2
    nursery.cancel_scope.cancel()


async def test_rejected_pair_is_replaced_but_not_over_and_over(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    refresher = refresher_of(source, nursery)
    first = await refresher.get()
    assert await refresher.refresh(first) is first, "just fetched: the refusal has another cause"
    await trio.sleep(6)
    second = await refresher.refresh(first)
    assert second is not first
    assert await refresher.refresh(first) is second, "someone else has refreshed already"
    assert len(source.calls) == 2
    nursery.cancel_scope.cancel()


async def test_pair_without_expiry_starts_no_task(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, None)
    refresher = refresher_of(source, nursery)
    await refresher.start()
    await trio.sleep(80_000)
    assert len(source.calls) == 1
    assert refresher.status.expires_at is None
    assert not nursery.child_tasks


async def test_unforeseen_error_does_not_end_the_daemon(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    class Odd(Source):
        async def get(self) -> Credentials:
            raise ValueError("secret detail")

    refresher = refresher_of(Odd(TrioClock().time, 3600), nursery)
    with pytest.raises(CredentialsError) as caught:
        await refresher.get()
    assert "secret detail" not in str(caught.value)
    assert not nursery.cancel_scope.cancel_called


async def test_what_has_just_come_is_used_though_ended_by_this_clock(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The host's clock may be ahead: the store's answer to a request is what tells."""
    source = Source(TrioClock().time, -1800)
    refresher = refresher_of(source, nursery)
    first = await refresher.get()
    assert await refresher.get() is first
    assert "has expired, by this host's clock" in str(refresher.status.last_error)
    assert len(caplog.records) == 1
    source.life = 3600
    await trio.sleep(23)
    second = await refresher.get()
    assert second is not first
    assert refresher.status.last_error is None
    assert len(source.calls) <= 4
    nursery.cancel_scope.cancel()


async def test_what_ended_while_the_process_slept_is_not_handed_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    class Slept(Source):
        """Its second answer is older than it lasts before somebody reads it."""

        async def get(self) -> Credentials:
            pair = await super().get()
            if len(self.calls) == 2:
                await trio.sleep(6)
            return pair

    source = Slept(TrioClock().time, 3)
    refresher = refresher_of(source, nursery)
    first = await refresher.get()
    await trio.sleep(1)
    newer = await refresher.refresh(first)
    assert newer.expires_at is not None
    assert newer.expires_at > TrioClock().time()
    assert await refresher.get() is newer
    nursery.cancel_scope.cancel()


async def test_wall_clock_set_back_does_not_put_off_the_renewal(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    class SetBack(TrioClock):
        offset = 0.0

        def time(self) -> float:
            return super().time() + self.offset

    clock = SetBack()
    source = Source(clock.time, 3600)
    refresher = Refresher(source, nursery=nursery, clock=clock, random=lambda: 0.5, name="alice")
    first = await refresher.get()
    clock.offset = -86_400.0
    await trio.sleep(0.6 * 3600 + 1)
    second = await refresher.get()
    assert second is not first
    assert await refresher.refresh(second) is second
    await trio.sleep(6)
    assert await refresher.refresh(second) is not second, "a day of quiet"
    nursery.cancel_scope.cancel()


async def test_source_that_hangs_does_not_stall_who_holds_a_valid_pair(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    refresher = refresher_of(source, nursery)
    first = await refresher.get()
    source.delay = 100_000.0
    await trio.sleep(3550)
    for _ in range(100):
        began = trio.current_time()
        assert await refresher.get() is first
        assert trio.current_time() == began, "a request waited"
    assert len(source.calls) == 2
    nursery.cancel_scope.cancel()


async def test_retries_become_rare_when_nothing_valid_is_left_and_nobody_asks(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    refresher = refresher_of(source, nursery)
    await refresher.start()
    source.failure = "down"
    await trio.sleep(3600)
    calls = len(source.calls)
    await trio.sleep(3600)
    assert 8 <= len(source.calls) - calls <= 16
    nursery.cancel_scope.cancel()


async def test_retired_is_renewed_only_for_who_still_asks(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    source = Source(TrioClock().time, 3600)
    refresher = refresher_of(source, nursery)
    first = await refresher.get()
    refresher.retire()
    await trio.sleep(36_000)
    assert len(source.calls) == 1
    assert not nursery.child_tasks
    assert await refresher.get() is not first
    await trio.sleep(36_000)
    assert len(source.calls) == 2


async def test_two_second_credentials_on_the_real_clock(nursery: trio.Nursery) -> None:
    source = Source(time.time, 2.0)
    source.delay = 0.05
    refresher = Refresher(source, nursery=nursery, clock=SystemClock(), random=lambda: 0.5)
    end = time.time() + 5
    waited = 0
    while time.time() < end:
        refreshes = refresher.status.refreshes
        pair = await refresher.get()
        waited += refresher.status.refreshes > refreshes
        assert pair.expires_at is not None
        assert pair.expires_at > time.time() + 0.1, "a pair at its end was handed out"
        await trio.sleep(0.01)
    assert 3 <= refresher.status.refreshes <= 6
    # The first caller waits for the first pair; one more may meet a refresh at its end by chance.
    assert waited <= 2, "callers waited for refreshes"
    nursery.cancel_scope.cancel()
