"""Going through very many things without keeping the loop from its other tasks."""

from __future__ import annotations

import time

import trio

SLICE_SECONDS = 0.001
BETWEEN_LOOKS = 32  # things after which the clock is looked at


class Slices:
    """Slices of about a millisecond, the first of which begins now."""

    __slots__ = ("_began", "_count")

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._count = 0

    def over(self) -> bool:
        """One more thing is done; whether others are to have their turn first."""
        self._count += 1
        return not self._count % BETWEEN_LOOKS and time.perf_counter() - self._began > SLICE_SECONDS

    async def turn(self) -> None:
        """Let others have their turn; then the next slice begins."""
        await trio.lowlevel.checkpoint()
        self._began = time.perf_counter()
