"""Which threads make, or read, one file after the other, as cp and tar do. No I/O.

The kernel looks a name up before it makes it, and does not say why. A thread whose last lookups
each found nothing and were followed by making just that name will do so again: for it a listing
that is still fresh answers, and whether another host was faster shows when the name is put, under
the condition that it is not there. Everybody else's lookup asks S3.

In the same way, who opened each file that its lookups found will open the next one: for it the
lookup of a small file brings the content along, and the ``open`` that is the second step of the
same call does not ask again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from s3posixfs.core.clock import Clock

STREAK = 4  # files made, or names given by rename, in a row
OPENED = 2  # files opened in a row, where one is fetched in vain at worst
STREAK_SECONDS = 2.0  # from one to the next: each may wait for a distant store, and for others
ONE_STEP = 0.01  # seconds between lookup and create in one call; the kernel takes far less
SCAN_SECONDS = 1.0  # from one lookup to the next of who goes through a folder
OPEN_STEP = 0.002  # and between lookup and open, where what others did meanwhile would be missed
THREADS = 1024

Name = tuple[int, bytes]  # a folder's inode number and a name in it
How = Literal["create", "rename", "other"]


class _Thread:
    __slots__ = (
        *("asked", "looked", "looked_at", "opened", "listed", "listed_at"),
        *("made", "made_at", "missed", "missed_at", "renamed"),
    )

    def __init__(self) -> None:
        self.missed: Name | None = None
        self.missed_at = self.made_at = float("-inf")
        self.made = self.renamed = 0
        self.looked: int | None = None
        self.looked_at = float("-inf")
        self.asked = False
        self.opened = 0
        self.listed: int | None = None
        self.listed_at = float("-inf")


class Habits:
    """Threads by the ID that comes with their requests; one of another PID namespace has none,
    and none of this."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads: OrderedDict[int, _Thread] = OrderedDict()

    def missed(self, thread: int, folder: int, name: bytes) -> None:
        """A lookup found nothing."""
        known = self._thread(thread)
        if known is None:
            return
        if known.missed is not None and known.missed != (folder, name):
            known.made = known.renamed = 0  # it only wanted to know
        known.missed, known.missed_at = (folder, name), self._clock.monotonic()

    def _thread(self, thread: int) -> _Thread | None:
        if thread <= 0:
            return None
        known = self._threads.get(thread)
        if known is None:
            known = self._threads[thread] = _Thread()
            if len(self._threads) > THREADS:
                self._threads.popitem(last=False)
        else:
            self._threads.move_to_end(thread)
        return known

    def found(self, thread: int, inode: int, *, asked: bool) -> None:
        """A lookup found a file, for which it ``asked`` S3. Who makes new ones does not look for
        those, but who renames."""
        known = self._thread(thread)
        if known is None:
            return
        known.missed, known.made = None, 0
        if known.looked is not None and known.looked != inode:
            known.opened = 0
        known.looked, known.looked_at, known.asked = inode, self._clock.monotonic(), asked

    def lists(self, thread: int, folder: int) -> None:
        """The thread opens a folder to list it."""
        known = self._thread(thread)
        if known is not None:
            known.listed, known.listed_at = folder, self._clock.monotonic()

    def scans(self, thread: int, folder: int) -> bool:
        """The thread looks a name of the folder up; whether it has done so all the time since it
        opened the folder, as ``ls -l`` does."""
        known = self._threads.get(thread)
        if known is None or known.listed != folder:
            return False
        now = self._clock.monotonic()
        if now - known.listed_at >= SCAN_SECONDS:
            known.listed = None
            return False
        known.listed_at = now
        return True

    def opens(self, thread: int, inode: int) -> bool:
        """The thread opens a file; whether its own lookup asked S3 for it a moment ago."""
        known = self._threads.get(thread)
        if known is None or known.looked != inode:
            return False
        known.opened += 1
        known.looked = None
        return known.asked and self._clock.monotonic() - known.looked_at < OPEN_STEP

    def expects_open(self, thread: int) -> bool:
        """Whether the next file that the thread finds is one that it will open."""
        known = self._threads.get(thread)
        return known is not None and known.looked is None and known.opened >= OPENED

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
