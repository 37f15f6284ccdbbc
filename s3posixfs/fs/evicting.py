"""Keeps the number of names in memory below ``cached_entries``: the kernel is asked to forget files
that were used longest ago. What it still uses it keeps.

Never a folder, nor what is open. A file that something is mounted on is left alone, too: the kernel
takes away what is mounted on a name that it is told to forget. So it is asked for nothing where
the daemon cannot see what is mounted in other namespaces.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from errno import EACCES, EPERM

import trio

from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.packing import STAMPS, stamp_of
from s3posixfs.waiting.slices import Slices

logger = logging.getLogger(__name__)

TICK_SECONDS = 2.0
# So many names at once: what the kernel forgets comes back as one request to this mount's loop.
BATCH = 64
PAUSE_SECONDS = 0.005
LOOK_SECONDS = 1.0  # until it is looked again what is mounted
SLACK = 20_000

# Has the kernel forget names of folders, given by number; it may block, and runs in a thread.
Forget = Callable[[Sequence[tuple[int, bytes]]], None]


class Evictor:
    """Remembers files in the order in which they were packed, that is, not used any more.

    ``forget`` is set while there is a kernel to ask. A packed entry has the stamp of the round
    that it was packed in: with another one it was used since, and stands further behind as well.
    """

    def __init__(self, state: MountState) -> None:
        self._table = state.table
        self._limit = state.config.cached_entries
        self.forget: Forget | None = None
        self.stamp = 0
        self._rounds: deque[tuple[int, deque[Inode]]] = deque([(0, deque())])
        self._noted = 0
        self._doomed: list[Inode] = []  # asked for last
        self._asking = trio.Event()
        self._asking.set()
        self.evicted = 0

    def next_round(self) -> None:
        """What is packed from now on was used later than all before."""
        if self._rounds[-1][1]:
            self.stamp = (self.stamp + 1) % STAMPS
            self._rounds.append((self.stamp, deque()))

    def note(self, inode: Inode) -> None:
        """The file was packed in this round."""
        if self._limit and self.forget is not None:
            self._rounds[-1][1].append(inode)
            self._noted += 1

    async def run(self) -> None:
        """Look from time to time whether there are too many; runs until cancelled."""
        while True:
            await trio.sleep(TICK_SECONDS)
            try:
                self._settle()
                if self._limit and self.forget is not None:
                    await self.evict()
                    await self._clean()
            except Exception:  # without it there is more memory in use, no more
                logger.exception("names were not forgotten")

    async def evict(self) -> None:
        """Have the kernel forget files until there are no more names than there may be, or all
        that were packed before this round were tried."""
        mounted: frozenset[bytes] | None = None
        looked_at = float("-inf")
        while len(self._table) > self._limit and self.forget is not None:
            batch = self._oldest(min(BATCH, len(self._table) - self._limit))
            if not batch:
                return
            if time.monotonic() - looked_at > LOOK_SECONDS:
                looked_at = time.monotonic()
                mounted = await trio.to_thread.run_sync(mounted_names)
            if mounted is None:
                logger.info("cached_entries is not heeded: not all mounts of this host can be seen")
                self._limit = 0
                self._rounds = deque([(self.stamp, deque())])
                return
            # What must stay is asked for again only when it was used again.
            self._doomed = [one for one in batch if one.name not in mounted and self._may_go(one)]
            names = [(one.parent.number, one.name) for one in self._doomed if one.parent]
            self._asking = trio.Event()
            try:
                await trio.to_thread.run_sync(self.forget, names, abandon_on_cancel=True)
            finally:
                self._asking.set()
            await trio.sleep(PAUSE_SECONDS)  # in which what was forgotten is told to the mount
            self._settle()

    def _settle(self) -> None:
        waiting = [inode for inode in self._doomed if self._table.knows(inode)]
        self.evicted += len(self._doomed) - len(waiting)
        self._doomed = waiting

    async def stop(self) -> None:
        """Ask the kernel for nothing any more, and wait until what it was asked for is done."""
        self.forget = None
        await self._asking.wait()

    def _may_go(self, inode: Inode) -> bool:
        return inode.lookups > 0 and self._table.may_forget(inode)

    def _oldest(self, most: int) -> list[Inode]:
        """The files used longest ago that are still there and were not used since."""
        found: list[Inode] = []
        while len(found) < most:
            stamp, inodes = self._rounds[0]
            if stamp == self.stamp:
                break
            if not inodes:
                self._rounds.popleft()
                continue
            inode = inodes.popleft()
            self._noted -= 1
            if self._counts(inode, stamp):
                found.append(inode)
        return found

    def _counts(self, inode: Inode, stamp: int) -> bool:
        packed = inode.packed
        return packed is not None and stamp_of(packed) == stamp and self._table.knows(inode)

    async def _clean(self) -> None:
        """Let go of files that are not there any more or stand further behind, once they are many;
        in small steps."""
        if self._noted <= len(self._table) * 3 // 2 + SLACK:
            return
        slices = Slices()
        for stamp, inodes in tuple(self._rounds)[:-1]:
            for _ in range(len(inodes)):
                inode = inodes.popleft()
                if self._counts(inode, stamp):
                    inodes.append(inode)
                else:
                    self._noted -= 1
                if slices.over():
                    await slices.turn()
        last = self._rounds[-1]
        self._rounds = deque(one for one in self._rounds if one[1] or one is last)


def mounted_names(proc: str = "/proc") -> frozenset[bytes] | None:
    """The last names of all places of this host that something is mounted on, in any namespace
    that a process is in; ``None`` where that cannot be seen. Blocks."""
    names: set[bytes] = set()
    seen: set[str] = set()
    try:
        with open(f"{proc}/2/comm", "rb") as file:
            if file.read() != b"kthreadd\n":  # else this is a container's own list of processes
                return None
        for process in filter(str.isdigit, os.listdir(proc)):
            try:
                namespace = os.readlink(f"{proc}/{process}/ns/mnt")
                if namespace in seen:
                    continue
                with open(f"{proc}/{process}/mountinfo", "rb") as file:
                    lines = file.readlines()
            except OSError as error:
                # Init may be out of reach; kthreadd is in the same namespace.
                if error.errno in (EACCES, EPERM) and process != "1":
                    return None
                continue  # it has ended
            seen.add(namespace)
            for line in lines:
                place = line.split(b" ")[4].removesuffix(b"//deleted")
                names.add(_OCTAL.sub(_unescaped, place.rpartition(b"/")[2]))
    except OSError:
        return None
    return frozenset(names)


_OCTAL = re.compile(rb"\\([0-7]{3})")


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)])
