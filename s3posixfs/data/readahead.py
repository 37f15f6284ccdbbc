"""What to fetch for a read and how far ahead of it: decisions only, no I/O.

The kernel sends the reads of one sequential program as several requests that arrive out of
order, and programs skip headers, so a read counts as part of the run when it begins within a
few MiB of where the run has got to. The first range of a run is small, since many look at the head
of a file only; the window is a multiple of what the run has read so far: whoever reads on gets it
all in a few steps, whoever stops has cost a bounded multiple of what they read.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3posixfs.core.types import MIB


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How objects are fetched; all sizes are bytes.

    ``random_range``: what a random read fetches at least, and the grid it is aligned to.
    ``first_range``, ``largest_range``: the smallest and the largest range of a sequential
    reader. ``window``: how far ahead of the program it fetches at most. ``growth``: the window
    as a multiple of what was read in the run. ``tolerance``: how far from the run's end a read
    may begin and still belong to it.
    """

    random_range: int = 128 * 1024
    first_range: int = 128 * 1024
    largest_range: int = 8 * MIB
    window: int = 64 * MIB
    growth: int = 4
    tolerance: int = 4 * MIB


class ReadAhead:
    """The run of sequential reads that one reader of one object is in, if any."""

    __slots__ = ("_requested", "_run_bytes", "_run_end", "_settings", "_size")

    def __init__(self, size: int, settings: ReadSettings) -> None:
        self._size = size
        self._settings = settings
        self._run_end = 0
        self._run_bytes = 0
        self._requested = 0

    @property
    def sequential(self) -> bool:
        """Whether the last read continued a run."""
        return self._run_bytes > 0

    @property
    def finished(self) -> bool:
        """Whether the run has got to the end of the object."""
        return self._run_end >= self._size

    def observe(self, offset: int, end: int) -> None:
        """Take note of a read of ``[offset, end)``."""
        gap = offset - self._run_end
        if -2 * self._settings.tolerance <= gap <= self._settings.tolerance:
            if end > self._run_end:
                self._run_bytes += end - max(offset, self._run_end)
                self._run_end = end
        else:
            self._run_bytes = 0
            self._run_end = end
            self._requested = 0

    def requested(self, end: int) -> None:
        """Take note that everything up to ``end`` has been asked for."""
        self._requested = max(self._requested, end)

    def _window(self, allowance: int) -> int:
        return min(self._settings.window, allowance, self._settings.growth * self._run_bytes)

    def _range_size(self, window: int) -> int:
        first = self._settings.first_range
        return max(first, min(self._settings.largest_range, window // 4 // first * first))

    def demanded(self, offset: int, end: int, allowance: int) -> tuple[int, int]:
        """The range to fetch for a read of ``[offset, end)`` that nothing holds yet."""
        if self._size <= self._settings.first_range:
            return 0, self._size
        if self.sequential:
            # On the grid too: the local disk keeps whole chunks of it.
            start = offset - offset % self._settings.first_range
            grid = self._range_size(self._window(allowance))
        else:
            grid = self._settings.random_range
            start = offset - offset % grid
        stop = min(-(-end // grid) * grid, max(end, start + self._settings.largest_range))
        return start, min(self._size, stop)

    def next_range(self, allowance: int) -> tuple[int, int] | None:
        """The next range to fetch ahead of the run, ``None`` where that is far enough.

        ``allowance`` bounds the window in bytes: the reader's share of the cache.
        """
        if not self._run_bytes:
            return None
        window = self._window(allowance)
        start = max(self._requested, self._run_end)
        if start >= self._size:
            return None
        grid = self._range_size(window)
        stop = min((start // grid + 1) * grid, self._size)
        if stop > self._run_end + window:
            return None
        return start, stop
