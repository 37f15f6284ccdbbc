"""Many names in order, in little memory: packed in runs that are taken apart when looked at."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import groupby

_RUN = 512  # names in a run when it is made; at most twice as many later
_BETWEEN = b"\xff"  # no byte of UTF-8


class SortedNames:
    """UTF-8 names in byte order, each once; never changes, so threads may share it.

    A name takes its own bytes and one more.
    """

    __slots__ = ("_firsts", "_runs", "size")

    def __init__(self, firsts: list[bytes], runs: list[bytes]) -> None:
        """See :meth:`of`."""
        self._firsts = firsts
        self._runs = runs
        self.size = sum(map(len, runs))

    @classmethod
    def of(cls, names: Sequence[bytes]) -> SortedNames:
        """Names that are in order already; ``size`` is then about their bytes."""
        parts = [names[start : start + _RUN] for start in range(0, len(names), _RUN)]
        return cls([part[0] for part in parts], [_BETWEEN.join(part) for part in parts])

    def __contains__(self, name: bytes) -> bool:
        number = bisect_right(self._firsts, name) - 1
        return number >= 0 and name in self._runs[number].split(_BETWEEN)

    def changed(self, added: Iterable[bytes], removed: Iterable[bytes]) -> SortedNames:
        """Names with these in addition and without those; the two have no name in common."""
        if not self._runs:
            return SortedNames.of(sorted(set(added)))
        firsts, runs = self._firsts, self._runs
        there = dict.fromkeys(added, True) | dict.fromkeys(removed, False)

        def run_of(name: bytes) -> int:
            return max(bisect_right(firsts, name) - 1, 0)

        new_firsts, new_runs = list(firsts), list(runs)
        # From the last run on, so that the numbers of those before it stay.
        for number, names in groupby(sorted(there, reverse=True), run_of):
            kept = set(runs[number].split(_BETWEEN))
            for name in names:
                if there[name]:
                    kept.add(name)
                else:
                    kept.discard(name)
            ordered = sorted(kept)
            step = _RUN if len(ordered) > 2 * _RUN else 2 * _RUN
            parts = [ordered[start : start + step] for start in range(0, len(ordered), step)]
            new_firsts[number : number + 1] = [part[0] for part in parts]
            new_runs[number : number + 1] = [_BETWEEN.join(part) for part in parts]
        return SortedNames(new_firsts, new_runs)

    def run(self, number: int) -> list[bytes]:
        """The names of a run; none past the last."""
        return self._runs[number].split(_BETWEEN) if number < len(self._runs) else []

    def run_at(self, name: bytes) -> int:
        """The number of the run where a name is or would be."""
        return max(bisect_right(self._firsts, name) - 1, 0)


class Cursor:
    """A place between names, which only moves forward."""

    __slots__ = ("_at", "_names", "_number", "_run")

    def __init__(self, names: SortedNames) -> None:
        self._names = names
        self._number = 0
        self._run = names.run(0)
        self._at = 0

    @property
    def begins_empty(self) -> bool:
        """Whether the first of all names is the empty one."""
        return self._names.run(0)[:1] == [b""] if self._number else self._run[:1] == [b""]

    def next(self) -> bytes | None:
        """The name here, which is then passed; None at the end."""
        if self._at >= len(self._run):
            self._number += 1
            self._run = self._names.run(self._number)
            self._at = 0
            if not self._run:
                return None
        name = self._run[self._at]
        self._at += 1
        return name

    def seek(self, name: bytes) -> bytes:
        """Move on to the first name that is not less, never back; the name before that, or b""."""
        number = self._names.run_at(name)
        run = self._run if number == self._number else self._names.run(number)
        at = bisect_left(run, name)
        if (number, at) > (self._number, self._at):
            self._number, self._run, self._at = number, run, at
        return run[at - 1] if at else b""
