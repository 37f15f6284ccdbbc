"""The names in directories, remembered: while a directory rests, and brought up to date while not.

A directory that is at rest is not read again until its mtime moves. A large one that changes
between the pages of a listing would be read whole for each of them, which for all pages grows
with the square of its names. Such a one is watched, and only what changed is looked at.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from s3posixfs.store.backend.naming import Stamp, changed_names, is_unchanged, read_names
from s3posixfs.store.backend.sorted_names import SortedNames
from s3posixfs.store.backend.watching import DirectoryWatch

# The kernel stamps a directory with the time of its clock's last tick: a change within a tick
# of the last one may not show in mtime. Names are kept only when the directory had been at
# rest for longer than any tick when it was read.
_REST_NS = 100_000_000
_LARGE = 16 * 1024  # bytes of names; fewer are read again as fast as they are looked up
_MOST_WATCHED = 16
_MOST_RESTLESS = 256
_OVERHEAD = 500  # bytes of what is remembered, besides the names

Identity = tuple[int, int]


@dataclass(slots=True)
class _Watched:
    """A watched directory; ``names`` are None until they were read. Its lock guards them."""

    watch: int
    names: SortedNames | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class SnapshotCache:
    """The names in directories, those used least forgotten first; safe for threads.

    ``max_bytes`` bounds what is kept of directories at rest, and again of watched ones; the one
    used last is kept whatever its size.
    """

    __slots__ = ("_bytes", "_kept", "_lock", "_max_bytes", "_restless", "_watch", "_watched")

    def __init__(self, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Identity, tuple[SortedNames, list[Stamp]]] = OrderedDict()
        # Large directories that changed lately; False: of a kind that can't be watched.
        self._restless: OrderedDict[Identity, bool] = OrderedDict()
        self._watched: OrderedDict[Identity, _Watched] = OrderedDict()
        self._watch = DirectoryWatch()
        self._lock = threading.Lock()

    def get(self, fd: int) -> SortedNames:
        """The names in an open directory now."""
        stat = os.fstat(fd)
        identity = (stat.st_dev, stat.st_ino)
        with self._lock:
            kept = self._kept.get(identity)
            if kept is not None:
                self._kept.move_to_end(identity)
        if kept is not None and is_unchanged(fd, kept[1]):
            return kept[0]
        watched = self._watched_at(fd, identity)
        if watched is not None:
            names = self._follow(fd, identity, watched)
            if names is not None:
                return names
        started = time.time_ns()
        names, stamps = read_names(fd)
        at_rest = all(stamp.mtime_ns + _REST_NS < started for stamp in stamps)
        with self._lock:
            self._keep(identity, names, stamps if at_rest else None)
            if names.size >= _LARGE and (kept is not None or not at_rest):
                self._restless.setdefault(identity, len(stamps) == 1)
                while len(self._restless) > _MOST_RESTLESS:
                    self._restless.popitem(last=False)
        return names

    def close(self) -> None:
        """End all watches."""
        self._watch.close()

    def _watched_at(self, fd: int, identity: Identity) -> _Watched | None:
        """The directory as a watched one, if it is or should be."""
        with self._lock:
            watched = self._watched.get(identity)
            if watched is None and self._restless.get(identity, False):
                watch = self._watch.add(fd)
                if watch is None:
                    self._restless[identity] = False
                    return None
                self._forget(identity)
                watched = self._watched[identity] = _Watched(watch)
            if watched is not None:
                self._watched.move_to_end(identity)
            return watched

    def _follow(self, fd: int, identity: Identity, watched: _Watched) -> SortedNames | None:
        """The names in a watched directory; None where watching is not, or no longer, enough."""
        with watched.lock:
            # Asked before the names are read: what changes meanwhile is looked at next time.
            changes = self._watch.changes(watched.watch)
            fit = True
            if changes is None:
                watched.names = None
            elif watched.names is None:
                watched.names, stamps = read_names(fd)
                fit = len(stamps) == 1
            elif changes:
                watched.names = changed_names(fd, watched.names, changes)
                fit = watched.names is not None
            names = watched.names
        with self._lock:
            if names is None or not fit:
                if self._watched.get(identity) is watched:
                    del self._watched[identity]
                    self._watch.remove(watched.watch)
                if not fit:
                    self._restless[identity] = False
                return None
            self._bound_watched()
        return names

    def _bound_watched(self) -> None:
        total = sum(_size(watched.names) for watched in self._watched.values())
        while len(self._watched) > 1 and (
            total > self._max_bytes or len(self._watched) > _MOST_WATCHED
        ):
            _, dropped = self._watched.popitem(last=False)
            self._watch.remove(dropped.watch)
            total -= _size(dropped.names)

    def _keep(self, identity: Identity, names: SortedNames, stamps: list[Stamp] | None) -> None:
        self._forget(identity)
        if stamps is None:
            return
        self._kept[identity] = (names, stamps)
        self._bytes += _size(names)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, identity: Identity) -> None:
        dropped = self._kept.pop(identity, None)
        if dropped is not None:
            self._bytes -= _size(dropped[0])


def _size(names: SortedNames | None) -> int:
    return _OVERHEAD + (0 if names is None else names.size)
