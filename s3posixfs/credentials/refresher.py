"""Temporary credentials kept alive ahead of their end, by one background task an identity."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import CredentialsError, CredentialsProvider, margin_of

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
# Below this life a store is asked too often to be kind.
SHORT_LIFE_SECONDS = 1800.0
# A monotonic timer stands still while a machine sleeps: look at the wall clock this often.
LOOK_SECONDS = 30.0


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

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: Credentials | None = None
        self.error: CredentialsError | None = None


class Refresher:
    """A provider over ``source`` that renews at 50 to 70 % of the credentials' life.

    The background task lives in ``nursery``, as does each fetch: a caller who is cancelled
    leaves the fetch to the others who wait for it. A failed refresh keeps credentials that are
    still valid and is tried again every 10 s (sooner for short lives).
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
        self._current: Credentials | None = None
        self._fetched_at = 0.0
        self._flight: _Flight | None = None
        self._running = False
        self._refreshes = 0
        self._last_error: str | None = None

    @property
    def status(self) -> RefreshStatus:
        """Expiry, last failure and number of refreshes (the first fetch is not one)."""
        expires_at = self._current.expires_at if self._current else None
        return RefreshStatus(expires_at, self._last_error, max(0, self._refreshes - 1))

    async def start(self) -> None:
        """Fetch the first credentials now. Raises CredentialsError."""
        await self.get()

    async def get(self) -> Credentials:
        """The present credentials; waits only when they are at or near their end."""
        current = self._current
        if current is not None and self._usable(current):
            return current
        try:
            return await self._renewed()
        except CredentialsError:
            # Near their end but still good: better than an error.
            current = self._current
            if current is not None and self._valid(current):
                return current
            raise

    async def refresh(self, rejected: Credentials) -> Credentials:
        """Newer credentials than ``rejected``; the same again right after they were fetched."""
        current = self._current
        if current is not None and current is not rejected and self._valid(current):
            return current
        if current is rejected and self._clock.time() - self._fetched_at < self._quiet():
            return current  # as new as can be: the refusal has another cause
        return await self._renewed()

    # when

    def _life(self) -> float:
        current = self._current
        if current is None or current.expires_at is None:
            return float("inf")
        return max(current.expires_at - self._fetched_at, 0.0)

    def _usable(self, credentials: Credentials) -> bool:
        expires_at = credentials.expires_at
        return expires_at is None or self._clock.time() < expires_at - margin_of(self._life())

    def _valid(self, credentials: Credentials) -> bool:
        return credentials.expires_at is None or self._clock.time() < credentials.expires_at

    def _pause(self) -> float:
        """Seconds between attempts after a failure."""
        return min(RETRY_SECONDS, max(0.05, self._life() * 0.05))

    def _quiet(self) -> float:
        """Seconds in which credentials are not fetched again because a store refused them."""
        return min(5.0, self._life() * 0.05)

    # fetching

    async def _renewed(self) -> Credentials:
        flight = self._flight
        if flight is None:
            flight = self._flight = _Flight()
            self._nursery.start_soon(self._fly, flight)
        await flight.done.wait()
        if flight.result is not None:
            return flight.result
        raise flight.error or CredentialsError(self._name, "the daemon is stopping")

    async def _fly(self, flight: _Flight) -> None:
        try:
            old = self._current
            if old is None:
                fetched = await self._source.get()
            else:
                fetched = await self._source.refresh(old)
            flight.result = fetched
            self._accept(fetched)
        except CredentialsError as error:
            flight.error = error
            self._complain(error)
        except Exception as error:
            # One identity's trouble must not end the daemon that all share.
            logger.exception("fetching credentials of %s failed", self._name)
            flight.error = CredentialsError(self._name, type(error).__name__)
            self._complain(flight.error)
        finally:
            self._flight = None
            flight.done.set()

    def _accept(self, fetched: Credentials) -> None:
        now = self._clock.time()
        if self._last_error is not None:
            logger.info("credentials of %s are refreshed again", self._name)
        self._last_error = None
        if fetched is not self._current:
            self._refreshes += 1
            self._current = fetched
            self._fetched_at = now
        if fetched.expires_at is None or self._running:
            return
        if self._life() < SHORT_LIFE_SECONDS:
            logger.warning(
                "credentials of %s live only %.0f s; 3,600 s or more spare the store",
                self._name,
                self._life(),
            )
        self._running = True
        self._nursery.start_soon(self._keep)

    def _complain(self, error: CredentialsError) -> None:
        if self._last_error is None:
            logger.warning("credentials of %s were not refreshed: %s", self._name, error.cause)
        self._last_error = error.cause

    async def _keep(self) -> None:
        """Renew before the end, for as long as the credentials have one."""
        try:
            while self._current is not None and self._current.expires_at is not None:
                share = 0.5 + 0.2 * self._random()
                await self._sleep_until(self._fetched_at + self._life() * share)
                before = self._current
                while self._current is before:
                    try:
                        await self._renewed()
                    except CredentialsError:
                        await trio.sleep(self._pause())
                    else:
                        if self._current is before:
                            # The source gave the same pair (it cannot renew yet).
                            await trio.sleep(self._pause())
        finally:
            self._running = False

    async def _sleep_until(self, moment: float) -> None:
        watched = self._current
        while self._current is watched:
            left = moment - self._clock.time()
            if left <= 0:
                return
            await trio.sleep(min(left, LOOK_SECONDS))
