"""What a directory holds, in S3's order, remembered while the directory does not change."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass

from s3posixfs.store.backend.names import MARK, parse_escaped, segment_of
from s3posixfs.store.backend.tree import DIRECTORY_FLAGS, open_directory

# The kernel stamps a directory with the time of its clock's last tick: a change within a tick
# of the last one may not show in mtime. A snapshot is kept only when the directory had been at
# rest for longer than any tick when it was read.
_REST_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The names in a directory as parts of keys, sorted as S3 sorts keys.

    A directory's name ends in a slash: so sorted, all that lies in it sorts where it stands.
    """

    names: list[bytes]


@dataclass(frozen=True, slots=True)
class _Stamp:
    """The state of a directory below the one that is listed; ``names`` leads to it."""

    names: tuple[bytes, ...]
    inode: int
    mtime_ns: int


class SnapshotCache:
    """Snapshots by directory, the least used dropped; safe for threads.

    ``max_names`` bounds what is kept, in names (each takes about 100 bytes).
    """

    __slots__ = ("_count", "_kept", "_lock", "_max_names")

    def __init__(self, max_names: int = 500_000) -> None:
        self._max_names = max_names
        self._count = 0
        self._kept: OrderedDict[tuple[int, int], tuple[Snapshot, list[_Stamp]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, fd: int) -> Snapshot:
        """The names in an open directory now."""
        stat = os.fstat(fd)
        identity = (stat.st_dev, stat.st_ino)
        with self._lock:
            kept = self._kept.get(identity)
            if kept is not None:
                self._kept.move_to_end(identity)
        if kept is not None and _unchanged(fd, kept[1]):
            return kept[0]
        started = time.time_ns()
        stamps: list[_Stamp] = []
        found: list[bytes] = []
        _scan(fd, (), b"", found, stamps)
        found.sort()
        snapshot = Snapshot(_distinct(found))
        at_rest = all(stamp.mtime_ns + _REST_NS < started for stamp in stamps)
        self._keep(identity, snapshot, stamps if at_rest else None)
        return snapshot

    def _keep(
        self, identity: tuple[int, int], snapshot: Snapshot, stamps: list[_Stamp] | None
    ) -> None:
        with self._lock:
            old = self._kept.pop(identity, None)
            if old is not None:
                self._count -= len(old[0].names) + 1
            if stamps is None or len(snapshot.names) >= self._max_names:
                return
            self._kept[identity] = (snapshot, stamps)
            self._count += len(snapshot.names) + 1
            while self._count > self._max_names:
                _, (dropped, _) = self._kept.popitem(last=False)
                self._count -= len(dropped.names) + 1


def _unchanged(fd: int, stamps: list[_Stamp]) -> bool:
    for stamp in stamps:
        if stamp.names:
            try:
                inner = open_directory(fd, stamp.names)
            except OSError:
                return False
            try:
                stat = os.fstat(inner)
            finally:
                os.close(inner)
        else:
            stat = os.fstat(fd)
        if stat.st_ino != stamp.inode or stat.st_mtime_ns != stamp.mtime_ns:
            return False
    return True


def _scan(
    fd: int,
    chain: tuple[bytes, ...],
    text: bytes,
    found: list[bytes],
    stamps: list[_Stamp],
) -> None:
    """Collect the names in a directory; ``chain`` and ``text`` are of the long name so far."""
    stat = os.fstat(fd)
    stamps.append(_Stamp(chain, stat.st_ino, stat.st_mtime_ns))
    longer: list[bytes] = []
    mark = os.fsdecode(MARK)
    with os.scandir(fd) as entries:
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if not is_directory and not entry.is_file(follow_symlinks=False):
                continue  # a symlink, fifo, socket or device is no object
            if not entry.name.startswith(mark):
                if not chain:
                    try:
                        name = entry.name.encode()
                    except UnicodeEncodeError:
                        continue  # not UTF-8: no key can name it
                    found.append(name + b"/" if is_directory else name)
                continue
            name = os.fsencode(entry.name)
            escaped = parse_escaped(name)
            if escaped.is_long:
                if is_directory:
                    longer.append(name)
                continue
            segment = segment_of(
                (*chain, name), text + escaped.text, escaped.kind, directory=is_directory
            )
            if segment is not None:
                found.append(segment + b"/" if is_directory else segment)
    for name in longer:
        with suppress(FileNotFoundError):
            inner = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
            try:
                _scan(inner, (*chain, name), text + parse_escaped(name).text, found, stamps)
            finally:
                os.close(inner)


def _distinct(names: list[bytes]) -> list[bytes]:
    """Drop repetitions from a sorted list: an object found both plain and beside."""
    if len(set(names)) == len(names):
        return names
    return list(dict.fromkeys(names))
