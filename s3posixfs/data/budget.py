"""Bytes of memory or disk that may be in use at once, counted rather than hoped for.

Locking: both classes are used from the trio thread only. Their methods that are not ``async``
are atomic regions (they never yield); ``MemoryBudget.acquire`` yields only while it waits.
"""

from __future__ import annotations

import errno
import os
from collections import deque

import trio


class MemoryBudget:
    """A number of bytes that tasks take and give back; waiters are served first come first served.

    A request larger than the whole budget is granted when nothing else is held, so that it
    waits rather than deadlocks.
    """

    __slots__ = ("_limit", "_used", "_waiting")

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise ValueError("a budget cannot be negative")
        self._limit = limit_bytes
        self._used = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @property
    def limit(self) -> int:
        """Bytes that may be held in all."""
        return self._limit

    @property
    def used(self) -> int:
        """Bytes held now."""
        return self._used

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit

    def try_acquire(self, size: int) -> bool:
        """Take ``size`` bytes if they are free and nobody waits for some; never waits."""
        if self._waiting or not self._fits(size):
            return False
        self._used += size
        return True

    async def acquire(self, size: int) -> None:
        """Take ``size`` bytes, waiting for them. Cancelled, it holds nothing.

        No checkpoint where the bytes are free at once.
        """
        if self.try_acquire(size):
            return
        granted = trio.Event()
        entry = (size, granted)
        self._waiting.append(entry)
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():  # granted and cancelled in the same step
                self._used -= size
            else:
                self._waiting.remove(entry)
            self._grant()
            raise

    def release(self, size: int) -> None:
        """Give ``size`` bytes back and wake whoever fits now."""
        self._used -= size
        if self._used < 0:
            raise RuntimeError("more bytes given back than taken")
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, granted = self._waiting.popleft()
            self._used += size
            granted.set()


class DiskBudget:
    """Bytes of local disk for staged data; ``None`` leaves the limit to the disk itself."""

    __slots__ = ("_limit", "_used")

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit = limit_bytes
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes held now."""
        return self._used

    def take(self, size: int) -> None:
        """Take ``size`` bytes; OSError(ENOSPC) where they are over the limit."""
        if self._limit is not None and self._used + size > self._limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._used += size

    def give(self, size: int) -> None:
        """Give ``size`` bytes back."""
        self._used -= size
        if self._used < 0:
            raise RuntimeError("more bytes given back than taken")
