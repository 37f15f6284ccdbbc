"""Counters of what was done, how it ended and how long it took: some hundred nanoseconds a note.

They lie in an array of numbers, so that processes which share its memory are added up by whoever
is asked, and so that what a process has counted outlives it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import perf_counter
from typing import TypeAlias

# Upper bounds in seconds; what takes longer is in one more bucket.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
OTHER = "other"
_BUCKETS = len(BOUNDS) + 1

_Cells: TypeAlias = "list[float] | memoryview[float]"


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one kind of thing took. ``counts`` are those at or below each of ``BOUNDS``, and in
    the end all; ``seconds`` is their sum."""

    counts: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        """How many there were."""
        return self.counts[-1]

    def quantile(self, share: float) -> float | None:
        """The bound below which ``share`` of them ended; None where that is above all bounds, or
        where there were none."""
        if not self.count:
            return None
        wanted = share * self.count
        pairs = zip(BOUNDS, self.counts, strict=False)
        return next((bound for bound, count in pairs if count >= wanted), None)


class Meter:
    """Counts by name and result, and times by name. Names and results are fixed; what is in
    neither is counted as ``other``.

    ``noted_at`` is when this one counted last. ``memory`` is for :meth:`cells` numbers (format
    ``d``), or for as many of each process that shares it; this one counts in the part ``number``.
    """

    __slots__ = ("_all", "_cells", "_counts", "_names", "_results", "_size", "_times", "noted_at")

    def __init__(
        self,
        names: Sequence[str],
        results: Sequence[str],
        memory: memoryview[float] | None = None,
        number: int = 0,
    ) -> None:
        self.noted_at = float("-inf")  # by time.perf_counter()
        self._names = tuple(dict.fromkeys((*names, OTHER)))
        self._results = tuple(dict.fromkeys((*results, OTHER)))
        self._size = size = self.cells(names, results)
        # A list is twice as fast as memory that is shared.
        self._all: _Cells = memory if memory is not None else [0.0] * size
        self._cells: _Cells = (
            memory[number * size : (number + 1) * size] if memory is not None else self._all
        )
        width = len(self._results)
        self._counts = {
            (name, result): row * width + column
            for row, name in enumerate(self._names)
            for column, result in enumerate(self._results)
        }
        first = len(self._counts)
        self._times = {name: first + row * (_BUCKETS + 1) for row, name in enumerate(self._names)}

    @staticmethod
    def cells(names: Sequence[str], results: Sequence[str]) -> int:
        """How many numbers one process needs."""
        rows = len({*names, OTHER})
        return rows * (len({*results, OTHER}) + _BUCKETS + 1)

    def note(self, name: str, result: str, seconds: float) -> None:
        """One more, of which ``seconds`` went by."""
        cells, counts = self._cells, self._counts
        index = counts.get((name, result))
        if index is None:
            index = self._unknown(name, result)
            name = name if name in self._times else OTHER
        cells[index] += 1.0
        first = self._times[name]
        cells[first + bisect_left(BOUNDS, seconds)] += 1.0
        cells[first + _BUCKETS] += seconds
        self.noted_at = perf_counter()

    def _unknown(self, name: str, result: str) -> int:
        known_name = name if name in self._times else OTHER
        known_result = result if result in self._results else OTHER
        return self._counts[known_name, known_result]

    def _sum(self, index: int) -> float:
        return float(sum(self._all[index :: self._size]))

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Name, result and number of all that happened, of all processes."""
        for (name, result), index in self._counts.items():
            if number := self._sum(index):
                yield name, result, int(number)

    def latencies(self) -> Iterator[tuple[str, Latency]]:
        """How long each name took that happened, in all processes."""
        for name, first in self._times.items():
            plain = [int(self._sum(first + step)) for step in range(_BUCKETS)]
            if any(plain):
                yield name, Latency(tuple(accumulate(plain)), self._sum(first + _BUCKETS))

    def summary(self) -> dict[str, dict[str, object]]:
        """For people: of each name the results, and below what time (ms) half and 99 % ended."""
        found: dict[str, dict[str, object]] = {}
        results: dict[str, dict[str, int]] = {}
        for name, result, number in self.counts():
            results.setdefault(name, {})[result] = number
        for name, latency in self.latencies():
            found[name] = {
                "count": latency.count,
                "results": results.get(name, {}),
                "mean_ms": round(latency.seconds / latency.count * 1000, 3),
                "p50_ms": _milliseconds(latency.quantile(0.5)),
                "p99_ms": _milliseconds(latency.quantile(0.99)),
            }
        return found


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class Numbers:
    """Numbers with fixed names, each with its value of this process and the sum of all."""

    __slots__ = ("_all", "_cells", "_index", "_size")

    def __init__(
        self, names: Sequence[str], memory: memoryview[float] | None = None, number: int = 0
    ) -> None:
        self._size = size = len(names)
        self._all: _Cells = memory if memory is not None else [0.0] * size
        self._cells: _Cells = (
            memory[number * size : (number + 1) * size] if memory is not None else self._all
        )
        self._index = {name: index for index, name in enumerate(names)}

    def add(self, name: str, value: float) -> None:
        """More of it (or less, of what goes up and down)."""
        self._cells[self._index[name]] += value

    def set(self, name: str, value: float) -> None:
        """What it is in this process."""
        self._cells[self._index[name]] = value

    def total(self, name: str) -> float:
        """What it is in all processes together."""
        return sum(self.each(name))

    def each(self, name: str) -> list[float]:
        """What it is in each process."""
        return list(self._all[self._index[name] :: self._size])
