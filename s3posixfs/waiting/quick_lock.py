"""A lock that costs nothing while nobody else wants it."""

from __future__ import annotations

from types import TracebackType

import trio


class QuickLock:
    """A fair lock as trio's, without its checkpoint where the lock is free.

    A checkpoint is a turn of the loop, with a system call. Operations take several such locks, and
    each has other checkpoints: it waits for the kernel, for the disk or for S3. Nor does it keep
    book of which task holds it, which takes trio longer than most of what is done meanwhile.
    """

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held = False
        self._waiting: trio.lowlevel.ParkingLot | None = None

    async def acquire(self) -> None:
        """Take the lock, waiting for it. Cancelled, it is not taken."""
        if not self._held:
            self._held = True
            return
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        # Who lets go of it leaves it held, for the one who is woken.
        await self._waiting.park()

    def acquire_nowait(self) -> None:
        """Take the lock; trio.WouldBlock where it is held."""
        if self._held:
            raise trio.WouldBlock
        self._held = True

    def release(self) -> None:
        """Give the lock to who waited longest. RuntimeError where nobody holds it."""
        if not self._held:
            raise RuntimeError("the lock is not held")
        if self._waiting:
            self._waiting.unpark()
        else:
            self._held = False

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._held

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
