"""Records of files that were read lately, for as long as the files have not changed."""

from __future__ import annotations

import os
import time

from s3posixfs.store.backend.records import ObjectRecord

# The kernel stamps changes with the time of its clock's last tick, so two changes within a tick
# have one stamp. A record is kept only when the file had been at rest for longer than that.
_REST_NS = 100_000_000


class RecentRecords:
    """Records by inode, good while the inode's ctime stays; safe for threads.

    Any change of bytes, owner, mode or xattrs moves ctime, and no program can set it. Not for
    facts kept in sidecars named after inodes. Keeps at most ``2 * generation`` records (about 2 KB
    each, with what listings show of them): when one generation is full the one before is dropped.
    """

    __slots__ = ("_generation", "_old", "_young")

    def __init__(self, generation: int = 16_384) -> None:
        self._generation = generation
        self._young: dict[tuple[int, int], tuple[int, ObjectRecord]] = {}
        self._old: dict[tuple[int, int], tuple[int, ObjectRecord]] = {}

    def get(self, stat: os.stat_result, key: str) -> ObjectRecord | None:
        """The record of a file in this state, if it was of this key."""
        inode = (stat.st_dev, stat.st_ino)
        kept = self._young.get(inode) or self._old.get(inode)
        if kept is None or kept[0] != stat.st_ctime_ns or kept[1].key != key:
            return None
        return kept[1]

    def keep(self, stat: os.stat_result, record: ObjectRecord) -> None:
        """Keep a record that was read just now of a file in this state, if it is at rest."""
        if stat.st_ctime_ns + _REST_NS > time.time_ns():
            return
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[stat.st_dev, stat.st_ino] = (stat.st_ctime_ns, record)
