"""What pyfuse3's workers wait with for the kernel's next request.

They take turns by a lock, and trio's lock makes a turn of the loop, with a system call, each time
it is taken. To wait for the kernel is another turn with two more, also where the next request is
there already, as it mostly is under load. Both are done here only where there is something to wait
for, which takes a third off the CPU time of a request that is answered from memory.

pyfuse3 reads its trio from a module variable so that another may take its place, as
``pyfuse3.asyncio`` does.
"""

from __future__ import annotations

import select
from typing import Any

import pyfuse3
import trio

from s3posixfs.fuse.negotiation import Negotiation
from s3posixfs.waiting.quick_lock import QuickLock

# Requests taken in a row before others get their turn: what waits for S3, timers.
IN_A_ROW = 8


class _LowLevel:
    """trio.lowlevel, but that it does not wait for what is there."""

    def __init__(self, negotiate: bool) -> None:
        self._negotiate = negotiate
        self._in_a_row = 0
        self._watched = -1
        self._poll = select.poll()
        self._negotiation: Negotiation | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, descriptor: int) -> None:
        """Return when the kernel has a request, or has closed the device.

        What was there when the loop looked may be gone, as the program was killed; and the read
        that follows would wait for another one, with the whole loop. So the look is repeated.
        """
        if descriptor != self._watched:
            self._watched, self._poll = descriptor, select.poll()
            self._poll.register(descriptor, select.POLLIN)
            if self._negotiate:
                self._negotiation = Negotiation(descriptor)
                self._negotiation.begin()
                return
        if self._negotiation is not None:
            negotiation, self._negotiation = self._negotiation, None
            negotiation.end()
        while self._in_a_row >= IN_A_ROW or not self._poll.poll(0):
            self._in_a_row = 0
            await trio.lowlevel.wait_readable(descriptor)
        self._in_a_row += 1


class _Trio:
    """trio, with what is above."""

    Lock = QuickLock

    def __init__(self, negotiate: bool) -> None:
        self.lowlevel = _LowLevel(negotiate)

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)


def wait_quickly(*, negotiate: bool) -> None:
    """To be called before ``pyfuse3.init``; ``negotiate`` what that leaves off, see
    :mod:`s3posixfs.fuse.negotiation`."""
    module: Any = pyfuse3
    module.trio = _Trio(negotiate)
