"""Ranges that are on their way from S3, so that nobody fetches them a second time.

Locking: used from the trio thread only; every method is an atomic region (none yields).
"""

from __future__ import annotations

import trio

from s3posixfs.data.block_cache import Block
from s3posixfs.data.version import ObjectVersion


class Fetch:
    """One range being fetched: once ``done``, either ``block`` or ``error`` is set.

    Neither is set where the fetch was cancelled. ``owner`` is the reader that started it;
    ``ahead`` says that nobody had asked for the range yet.
    """

    __slots__ = ("ahead", "block", "done", "end", "error", "owner", "scope", "start")

    def __init__(self, owner: object, start: int, end: int, *, ahead: bool) -> None:
        self.owner = owner
        self.ahead = ahead
        self.start = start
        self.end = end
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self.block: Block | None = None
        self.error: Exception | None = None


class Fetches:
    """What is under way, by object version; the few ranges of one version never overlap."""

    __slots__ = ("_by_version",)

    def __init__(self) -> None:
        self._by_version: dict[ObjectVersion, list[Fetch]] = {}

    def add(self, version: ObjectVersion, fetch: Fetch) -> None:
        """Register a fetch of a range that no other holds."""
        self._by_version.setdefault(version, []).append(fetch)

    def remove(self, version: ObjectVersion, fetch: Fetch) -> None:
        """Strike a fetch that has ended."""
        under_way = self._by_version[version]
        under_way.remove(fetch)
        if not under_way:
            del self._by_version[version]

    def find(self, version: ObjectVersion, offset: int) -> Fetch | None:
        """The fetch that will bring ``offset``."""
        for fetch in self._by_version.get(version, ()):
            if fetch.start <= offset < fetch.end:
                return fetch
        return None

    def next_start(self, version: ObjectVersion, offset: int) -> int | None:
        """Where the first fetch at or after ``offset`` begins."""
        starts = [f.start for f in self._by_version.get(version, ()) if f.start >= offset]
        return min(starts, default=None)

    def end_before(self, version: ObjectVersion, offset: int) -> int:
        """Where the last fetch that lies wholly before ``offset`` ends; 0 where none does."""
        ends = [f.end for f in self._by_version.get(version, ()) if f.end <= offset]
        return max(ends, default=0)
