"""Temporary credentials kept alive ahead of their end, by one background task an identity."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.lifetime import Held
from s3posixfs.credentials.provider import CredentialsError, CredentialsProvider

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
# When nothing valid is left, only who asks needs an answer: the background asks ever less.
LONGEST_RETRY_SECONDS = 300.0
# All timers stand still while a machine sleeps: look at the clocks this often.
LOOK_SECONDS = 30.0
# How long who asks waits for newer credentials while the old ones are still good.
PATIENCE_SECONDS = 2.0
# A failure answers all who ask within this time, or within as long as it took to come: a busy
# program does not ask STS at the rate of its own requests, nor does it always wait.
REST_SECONDS = 1.0
# No answer takes so long without a pause of this process or machine.
SLEPT_SECONDS = 1.0
# Credentials this new are not replaced because a store refused them.
QUIET_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RefreshStatus:
    """For people: when the credentials end, why the last refresh failed, how many succeeded.

    ``expires_at`` is seconds since the epoch, None where they do not expire.
    """

    expires_at: float | None
    last_error: str | None
    refreshes: int


class _Flight:
    """A fetch under way, shared by all who wait for it."""

    __slots__ = ("began", "done", "error", "result")

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.done = trio.Event()
        self.result: Credentials | None = None
        self.error: CredentialsError | None = None


class Refresher:
    """A provider over ``source`` that renews at 50 to 70 % of the credentials' life.

    The background task lives in ``nursery``, as does each fetch: a caller who is cancelled
    leaves the fetch to the others who wait for it. A failed refresh keeps credentials that are
    still valid and is tried again every 10 to 12 s (sooner for short lives), and ever less often
    once nothing valid is left.
    """

    def __init__(
        self,
        source: CredentialsProvider,
        *,
        nursery: trio.Nursery,
        clock: Clock,
        random: Callable[[], float],
        name: str = "",
    ) -> None:
        self._source = source
        self._nursery = nursery
        self._clock = clock
        self._random = random
        self._name = name
        self._held: Held | None = None
        self._asked_at = float("-inf")  # monotonic, of the last answer of the source
        self._failed_at = float("-inf")
        self._failed_in = 0.0  # seconds that the failure took to come
        self._failure: CredentialsError | None = None
        self._flight: _Flight | None = None
        self._keeping: trio.CancelScope | None = None
        self._retired = False
        self._fetches = 0
        self._last_error: str | None = None

    @property
    def status(self) -> RefreshStatus:
        """Expiry, last failure and number of refreshes (the first fetch is not one)."""
        expires_at = self._held.credentials.expires_at if self._held else None
        return RefreshStatus(expires_at, self._last_error, max(0, self._fetches - 1))

    async def start(self) -> None:
        """Fetch the first credentials now. Raises CredentialsError."""
        await self.get()

    def retire(self) -> None:
        """Renew no more ahead of time: only who still has a file open asks from now on."""
        self._retired = True
        if self._keeping is not None:
            self._keeping.cancel()

    async def renew(self) -> None:
        """Ask the source now, whatever the credentials' age; those that are good stay meanwhile.

        Nothing is asked for that nobody has wanted yet. A failure is in ``status``.
        """
        if self._held is not None:
            await self._launched().done.wait()

    async def get(self) -> Credentials:
        """The present credentials; waits only when they are at or near their end.

        While they are good it waits for no more than 2 s, and not at all where renewing them
        has just failed.
        """
        held = self._held
        if held is not None and (held.usable or self._is_doubtful(held)):
            return held.credentials
        if held is None or not held.valid:
            return await self._renewed()
        if not self._resting():
            flight = self._launched()
            with trio.move_on_at(flight.began + PATIENCE_SECONDS):
                await flight.done.wait()
        current = self._held
        return current.credentials if current is not None else held.credentials

    async def refresh(self, rejected: Credentials) -> Credentials:
        """Newer credentials than ``rejected``; the same again right after they were fetched."""
        held = self._held
        if held is not None and held.credentials is not rejected and held.valid:
            return held.credentials
        quiet = min(QUIET_SECONDS, 0.05 * max(self._life(), 0.0))
        if held is not None and self._clock.monotonic() - self._asked_at < quiet:
            return held.credentials  # as new as can be: the refusal has another cause
        return await self._renewed()

    # when

    def _life(self) -> float:
        return self._held.life if self._held is not None else float("inf")

    def _is_doubtful(self, held: Held) -> bool:
        """Whether they had ended when they came, by a clock that the store may set right yet."""
        return held.life <= 0 and self._clock.monotonic() - self._asked_at < RETRY_SECONDS

    def _resting(self) -> bool:
        rest = max(self._failed_in, min(REST_SECONDS, 0.05 * max(self._life(), 0.0)))
        return self._failure is not None and self._clock.monotonic() - self._failed_at < rest

    # fetching

    async def _renewed(self) -> Credentials:
        if self._failure is not None and self._resting():
            raise CredentialsError(self._failure.identity, self._failure.cause)
        flight = self._launched()
        await flight.done.wait()
        if flight.result is not None:
            return flight.result
        raise flight.error or CredentialsError(self._name, "the daemon is stopping")

    def _launched(self) -> _Flight:
        flight = self._flight
        if flight is None:
            flight = self._flight = _Flight()
            self._nursery.start_soon(self._fly, flight)
        return flight

    async def _fly(self, flight: _Flight) -> None:
        held = self._held
        began = self._clock.time()
        try:
            if held is None:
                fetched = await self._source.get()
            else:
                fetched = await self._source.refresh(held.credentials)
            if self._ended_under_way(fetched, began):
                fetched = await self._source.refresh(fetched)
            self._accept(fetched)
            flight.result = fetched
        except CredentialsError as error:
            flight.error = error
            self._fail(error, flight)
        except Exception as error:
            # One identity's trouble must not end the daemon that all share.
            logger.exception("fetching credentials of %s failed", self._name)
            flight.error = CredentialsError(self._name, type(error).__name__)
            self._fail(flight.error, flight)
        finally:
            self._flight = None
            flight.done.set()

    def _ended_under_way(self, fetched: Credentials, began: float) -> bool:
        """Whether they were good when they were given, to a process or machine that then slept."""
        now, expires_at = self._clock.time(), fetched.expires_at
        return expires_at is not None and expires_at <= now and now - began > SLEPT_SECONDS

    def _accept(self, fetched: Credentials) -> None:
        self._asked_at = self._clock.monotonic()
        self._failure = None
        if self._held is None or fetched is not self._held.credentials:
            self._fetches += 1
            self._held = Held.now(fetched, self._clock)
        if not self._held.valid:
            self._complain("what was given has expired, by this host's clock")
        elif self._last_error is not None:
            logger.info("credentials of %s are refreshed again", self._name)
            self._last_error = None
        if fetched.expires_at is not None and self._keeping is None and not self._retired:
            self._keeping = trio.CancelScope()
            self._nursery.start_soon(self._keep, self._keeping)

    def _fail(self, error: CredentialsError, flight: _Flight) -> None:
        self._failure = error
        self._failed_in = trio.current_time() - flight.began
        self._failed_at = self._clock.monotonic()
        self._complain(error.cause)

    def _complain(self, cause: str) -> None:
        # One line a cause, not one a try.
        if self._last_error != cause:
            logger.warning("credentials of %s were not refreshed: %s", self._name, cause)
        self._last_error = cause

    # ahead of time

    async def _keep(self, scope: trio.CancelScope) -> None:
        """Renew before the end, for as long as the credentials have one."""
        try:
            with scope:
                while (held := self._held) is not None and held.credentials.expires_at is not None:
                    share = 0.5 + 0.2 * self._random()
                    await self._wait_for(
                        held, held.life * share if held.life > 0 else RETRY_SECONDS
                    )
                    await self._replace(held)
        finally:
            self._keeping = None

    async def _wait_for(self, held: Held, age: float) -> None:
        # By clocks that jump: no event tells of that.
        while self._held is held and (left := age - held.age) > 0:  # noqa: ASYNC110
            await trio.sleep(min(left, LOOK_SECONDS))

    async def _replace(self, held: Held) -> None:
        """Ask until others have come; the source may give the same pair before it renews."""
        pause = max(0.05, min(RETRY_SECONDS, 0.05 * held.life)) if held.life > 0 else RETRY_SECONDS
        longest = min(LONGEST_RETRY_SECONDS, 30 * pause)
        while self._held is held:
            flight = self._launched()
            await flight.done.wait()
            if self._held is not held:
                return
            if not held.valid:
                pause = min(2 * pause, longest)
            await trio.sleep(pause * (1.0 + 0.2 * self._random()))
