"""Time, passed in so that tests can move it."""

from __future__ import annotations

import time
from typing import Protocol


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


class OffsetClock:
    """The host's clocks, moved by a number of seconds that can be changed: for tests."""

    __slots__ = ("offset",)

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def time(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic() + self.offset
