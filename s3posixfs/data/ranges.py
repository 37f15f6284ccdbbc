"""A set of byte ranges: which bytes of a file are local, which were changed. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Disjoint half-open ranges ``[start, end)``, kept sorted; ranges that touch are one."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def total(self) -> int:
        """Bytes in all ranges."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Put ``[start, end)`` in."""
        if start >= end:
            return
        starts, ends = self._starts, self._ends
        if ends and starts[-1] <= start <= ends[-1]:  # a sequential writer
            ends[-1] = max(ends[-1], end)
            return
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first < last:
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out."""
        if start >= end:
            return
        starts, ends = self._starts, self._ends
        first = bisect_right(ends, start)
        last = bisect_left(starts, end)
        if first >= last:
            return
        kept_starts: list[int] = []
        kept_ends: list[int] = []
        if starts[first] < start:
            kept_starts.append(starts[first])
            kept_ends.append(start)
        if ends[last - 1] > end:
            kept_starts.append(end)
            kept_ends.append(ends[last - 1])
        starts[first:last] = kept_starts
        ends[first:last] = kept_ends

    def cut(self, size: int) -> None:
        """Take out everything from ``size`` on."""
        if self._ends and self._ends[-1] > size:
            self.remove(size, self._ends[-1])

    def clear(self) -> None:
        """Take everything out."""
        self._starts.clear()
        self._ends.clear()

    def covers(self, start: int, end: int) -> bool:
        """Whether all of ``[start, end)`` is in."""
        if start >= end:
            return True
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and end <= self._ends[index]

    def end_of(self, position: int) -> int:
        """How far what is in goes on from ``position``; ``position`` where it is not in."""
        index = bisect_right(self._starts, position) - 1
        return max(position, self._ends[index]) if index >= 0 else position

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of ``[start, end)`` that are in, in order."""
        found: list[tuple[int, int]] = []
        if start >= end:
            return found
        for index in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[index] >= end:
                break
            found.append((max(start, self._starts[index]), min(end, self._ends[index])))
        return found

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of ``[start, end)`` that are not in, in order."""
        found: list[tuple[int, int]] = []
        for held_start, held_end in self.within(start, end):
            if start < held_start:
                found.append((start, held_start))
            start = held_end
        if start < end:
            found.append((start, end))
        return found

    def amount(self, start: int, end: int) -> int:
        """How many bytes of ``[start, end)`` are in."""
        return sum(held_end - held_start for held_start, held_end in self.within(start, end))
