"""Which threads make one new file after the other, as cp and tar do. No I/O.

The kernel looks a name up before it makes it, and does not say why. A thread whose last lookups
each found nothing and were followed by making just that name will do so again: for it a listing
that is still fresh answers, and whether another host was faster shows when the name is put, under
the condition that it is not there. Everybody else's lookup asks S3.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from s3posixfs.core.clock import Clock

STREAK = 8  # files made, or names given by rename, in a row
STREAK_SECONDS = 0.25  # from one to the next
ONE_STEP = 0.05  # seconds between the two steps of one call; the kernel takes far less
THREADS = 1024

Name = tuple[int, bytes]  # a folder's inode number and a name in it
How = Literal["create", "rename", "other"]


class _Thread:
    __slots__ = ("made", "made_at", "missed", "missed_at", "renamed")

    def __init__(self) -> None:
        self.missed: Name | None = None
        self.missed_at = self.made_at = float("-inf")
        self.made = self.renamed = 0


class Makers:
    """Threads by the ID that comes with their requests; one of another PID namespace has none,
    and none of this."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads: OrderedDict[int, _Thread] = OrderedDict()

    def missed(self, thread: int, folder: int, name: bytes) -> None:
        """A lookup found nothing."""
        if thread <= 0:
            return
        known = self._threads.get(thread)
        if known is None:
            known = self._threads[thread] = _Thread()
            if len(self._threads) > THREADS:
                self._threads.popitem(last=False)
        else:
            self._threads.move_to_end(thread)
        if known.missed is not None and known.missed != (folder, name):
            known.made = known.renamed = 0  # it only wanted to know
        known.missed, known.missed_at = (folder, name), self._clock.monotonic()

    def found(self, thread: int) -> None:
        """A lookup found a file: who makes new ones does not look for those, but who renames."""
        known = self._threads.get(thread)
        if known is not None:
            known.missed, known.made = None, 0

    def makes(self, thread: int, folder: int, name: bytes, how: How) -> bool:
        """The thread makes a name; whether its own lookup, a moment ago, found nothing there.
        Folders and special files are made beside others, and neither begin nor end a streak."""
        known = self._threads.get(thread)
        if known is None:
            return False
        now = self._clock.monotonic()
        just_missed = known.missed == (folder, name) and now - known.missed_at < ONE_STEP
        if known.missed == (folder, name):
            if how == "create":
                known.made, known.renamed, known.made_at = known.made + 1, 0, now
            elif how == "rename":
                known.made, known.renamed, known.made_at = 0, known.renamed + 1, now
        known.missed = None
        return just_missed

    def expects(self, thread: int) -> bool:
        """Whether the next name that the thread looks up is one that it will make."""
        known = self._threads.get(thread)
        if known is None or max(known.made, known.renamed) < STREAK:
            return False
        return self._clock.monotonic() - known.made_at < STREAK_SECONDS
