"""Watches the event loop: what keeps it longer than it may is counted and named.

While one task runs, all others wait: those of other users, too. A thread asks the loop for a sign
of life twenty times a second and looks what runs where none comes in time. So a stall above 50 ms
is always seen, a shorter one as often as it is in the way of one request in a row of them; and
what the loop does all day costs nothing more. (To time each step of each task cost 4 % of an
operation that asks the store nothing.) A loop that has nothing to do is asked once a second, as
each question wakes two threads: a quarter of the processor in an emulated machine.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType, SimpleNamespace, TracebackType
from typing import Any, Self

import trio

from s3posixfs.waiting.deadlines import waited_for

logger = logging.getLogger(__name__)

STALL_SECONDS = 0.005
_INTERVAL_SECONDS = 0.05
# A loop that used less than this share of its time, beside answering, is asked half as often.
_IDLE_INTERVAL_SECONDS = 1.0
_IDLE_SHARE = 0.01
# Stalls that are remembered, and the least seconds between two warnings about them.
_REMEMBERED = 10
_QUIET_SECONDS = 10.0
# From here on a stall is worth a warning; before, a line of debug.
_WORTH_A_WARNING = 0.1
# How trio itself waits says nothing of what is waited for.
_INSIDE = "trio/_core/"
_IDLE = "nothing: the loop had work and no processor"


@dataclass(frozen=True, slots=True)
class Stall:
    """A time for which the loop did not answer, and what ran 5 ms after that was asked."""

    at: float  # seconds since the epoch
    seconds: float
    what: str


class LoopWatch:
    """A context manager round what a trio loop does; enter it on that loop.

    ``noted`` is told the seconds of each stall, in the thread that watches.
    """

    def __init__(self, noted: Callable[[float], None] | None = None) -> None:
        self._noted = noted
        self.count = 0
        self.seconds = 0.0
        self.longest = 0.0
        self.recent: deque[Stall] = deque(maxlen=_REMEMBERED)
        self._said = float("-inf")
        self._answered = threading.Event()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        token, thread = trio.lowlevel.current_trio_token(), threading.get_ident()
        clock = time.pthread_getcpuclockid(thread)
        threading.Thread(
            target=self._watch, args=(token, thread, clock), name="loop watch", daemon=True
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()

    def _watch(self, token: trio.lowlevel.TrioToken, thread: int, clock: int) -> None:
        interval = _INTERVAL_SECONDS
        answered = _used(clock)
        while not self._ended.wait(interval):
            began = time.perf_counter()
            used = _used(clock) - answered
            idle = used < _IDLE_SHARE * interval
            interval = min(2 * interval, _IDLE_INTERVAL_SECONDS) if idle else _INTERVAL_SECONDS
            self._answered.clear()
            try:
                token.run_sync_soon(self._answered.set)
            except trio.RunFinishedError:
                return
            if self._answered.wait(STALL_SECONDS):
                answered = _used(clock)
                continue
            what = running(sys._current_frames().get(thread))
            while not self._answered.wait(0.1):
                if self._ended.is_set():
                    return
            interval = _INTERVAL_SECONDS
            answered = _used(clock)
            self._stalled(what, time.perf_counter() - began)

    def _stalled(self, what: str, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        self.recent.append(Stall(time.time(), seconds, what))
        if self._noted is not None:
            self._noted(seconds)
        now = time.monotonic()
        if seconds < _WORTH_A_WARNING or now - self._said < _QUIET_SECONDS:
            logger.debug("the event loop stood still for %.0f ms: %s", seconds * 1000, what)
            return
        self._said = now
        logger.warning("the event loop stood still for %.0f ms: %s", seconds * 1000, what)

    def status(self) -> dict[str, object]:
        """For people and programs: JSON values only."""
        return {
            "longer_than_ms": STALL_SECONDS * 1000,
            "count": self.count,
            "seconds": round(self.seconds, 3),
            "longest_ms": round(self.longest * 1000, 1),
            "recent": [
                {"at": round(one.at, 3), "ms": round(one.seconds * 1000, 1), "what": one.what}
                for one in self.recent
            ],
        }


def _used(clock: int) -> float:
    """Seconds of processor that the loop's thread has used; 0 when it has ended."""
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def running(frame: FrameType | None) -> str:
    """The functions of ours that a thread is in, and what they have called; names, no values."""
    found: list[str] = []
    innermost = frame
    while frame is not None and len(found) < 3:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("s3posixfs."):
            place = f"{module.removeprefix('s3posixfs.')}.{frame.f_code.co_name}:{frame.f_lineno}"
            found.append(place)
        frame = frame.f_back
    if innermost is None:
        return _IDLE
    module = str(innermost.f_globals.get("__name__", ""))
    if not module.startswith("s3posixfs."):
        if module.startswith("trio._core."):
            return _IDLE
        found.insert(0, f"{module}.{innermost.f_code.co_name}:{innermost.f_lineno}")
    return " > ".join(reversed(found))


def stacks(root: trio.lowlevel.Task | None) -> Iterator[str]:
    """Lines that say where each task of the loop waits: names and places, never a value."""
    if root is None:
        return
    waiting = [(root, 0)]
    while waiting:
        task, depth = waiting.pop()
        yield f"{'  ' * depth}task {task.name}"
        for frame, line in _frames(task):
            path = frame.f_code.co_filename.rpartition("site-packages/")[2]
            if not path.startswith(_INSIDE):
                yield f"{'  ' * depth}  {path}:{line} {frame.f_code.co_name}"
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        children.sort(key=lambda child: child.name, reverse=True)
        waiting.extend((child, depth + 1) for child in children)


def _frames(task: trio.lowlevel.Task) -> Iterator[tuple[FrameType, int]]:
    walked: Any = task
    while walked is not None:
        frame = None
        for frame, line in trio.lowlevel.Task.iter_await_frames(walked):
            yield frame, line
        # Coroutines do not tell of an operation that is run under a deadline.
        operation = waited_for(frame) if frame is not None else None
        walked = SimpleNamespace(coro=operation) if operation is not None else None
