"""Time, passed in so that tests can move it."""

from __future__ import annotations

import logging
import time
from typing import Protocol

logger = logging.getLogger(__name__)

# A difference below this is not worth a line in the log (seconds).
_NOTED_SECONDS = 60.0


class Clock(Protocol):
    """What the program needs to know of time."""

    def time(self) -> float:
        """Seconds since the epoch (wall clock); the one that credentials expire by."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; the one that cache lifetimes use."""
        ...


class SystemClock:
    """The host's clocks."""

    __slots__ = ()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class StoreClock:
    """A store's clock as far as it is known: the host's, and what the store's answers add to it.

    Signatures are dated by it and credentials expire by it, for all who use the same store: one
    refusal of a skewed clock is enough for all of them.
    """

    __slots__ = ("_host", "offset")

    def __init__(self, host: Clock) -> None:
        self._host = host
        self.offset = 0.0

    def time(self) -> float:
        return self._host.time() + self.offset

    def monotonic(self) -> float:
        return self._host.monotonic()

    def learn(self, date: float) -> None:
        """The store says that it is ``date`` (seconds since the epoch) now."""
        before, self.offset = self.offset, date - self._host.time()
        if abs(self.offset - before) < _NOTED_SECONDS:
            return
        if abs(self.offset) < _NOTED_SECONDS:
            logger.info("the clock of this host agrees with the store's again")
            return
        logger.warning(
            "the clock of this host differs from the store's by %.0f s; going by the store's",
            self.offset,
        )


class OffsetClock:
    """The host's clocks, moved by a number of seconds that can be changed: for tests."""

    __slots__ = ("offset",)

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def time(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic() + self.offset
