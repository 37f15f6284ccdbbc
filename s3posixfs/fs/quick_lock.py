"""A lock that costs nothing while nobody else wants it."""

from __future__ import annotations

from types import TracebackType

import trio


class QuickLock:
    """A fair lock as trio's, without its checkpoint where the lock is free.

    A checkpoint is a turn of the loop, with a system call. Operations take several such locks, and
    each has other checkpoints: it waits for the kernel, for the disk or for S3.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def acquire(self) -> None:
        """Take the lock, waiting for it. Cancelled, it is not taken."""
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    def acquire_nowait(self) -> None:
        """Take the lock; trio.WouldBlock where it is held."""
        self._lock.acquire_nowait()

    def release(self) -> None:
        """Give the lock to who waited longest."""
        self._lock.release()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
