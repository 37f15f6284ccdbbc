"""Threads for what blocks: few at a time, more only where they are stuck in the disk.

A request of a few kilobytes costs less than handing it to a thread by :func:`trio.to_thread`, and
threads that all have something to do mostly wait for Python's lock: sixteen of them served fewer
such requests than two, for more CPU. So a pool has few threads, and gets more while none of them
finishes anything.

They share one processor with the event loop, too: of threads of which only one can run at a time
nothing is gained by a second, and passing the lock between processors doubled what a request
cost (GET of 1 KiB: 1,650 a second, and 3,080 on one processor). What works outside that lock, on
bodies of some size, runs on all of them.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar, TypeVarTuple

import outcome
import trio

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

# Nothing was finished for so many seconds: those at work wait for the disk.
_STUCK_SECONDS = 0.005

_Job = tuple[trio.lowlevel.Task, Callable[[], object]]


class Threads:
    """A pool of at least ``least`` and at most ``most`` threads; for one trio loop.

    :meth:`watch` has to run beside; :meth:`close` ends the threads.
    """

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._count = 0
        self._unfinished = 0
        self._finished = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[trio.lowlevel.Task, outcome.Outcome[object]]] = deque()
        self._waking = False
        self._crowded = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Run a blocking function in a thread; what it returns or raises.

        Cancellation before it starts is honoured; after that the function is waited for.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        result: Result
        self._submit((trio.lowlevel.current_task(), lambda: function(*arguments)))
        result = await trio.lowlevel.wait_task_rescheduled(_wait_for_it)
        return result

    async def watch(self) -> None:
        """Add threads while those there are stuck; runs until cancelled."""
        while True:
            await self._crowded.wait()
            finished = self._finished
            await trio.sleep(_STUCK_SECONDS)
            if self._unfinished <= self._count:
                self._crowded = trio.Event()
            elif finished == self._finished and self._count < self._most:
                self._start()

    def close(self) -> None:
        """End the threads when they have done what they were given."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _submit(self, job: _Job) -> None:
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
        if self._unfinished >= self._count:
            if self._count < self._least:
                self._start()
            else:
                self._crowded.set()
        self._unfinished += 1
        self._jobs.put(job)

    def _start(self) -> None:
        """One more thread; RuntimeError where not even one can be had."""
        thread = threading.Thread(target=self._work, name="s3posixfs store", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the host's limit: with those there it goes on, only slower
            if not self._count:
                raise
            return
        self._count += 1

    def _work(self) -> None:
        token = self._token
        assert token is not None  # noqa: S101  set before the first thread is started
        while (job := self._jobs.get()) is not None:
            task, call = job
            self._done.append((task, outcome.capture(call)))
            del job, task, call  # what a job holds is not kept until the next one comes
            if not self._waking:
                # One wake-up for all that is finished until the loop has come to it.
                self._waking = True
                try:
                    token.run_sync_soon(self._deliver)
                except trio.RunFinishedError:
                    return

    def _deliver(self) -> None:
        self._waking = False
        while self._done:
            task, result = self._done.popleft()
            self._unfinished -= 1
            self._finished += 1
            trio.lowlevel.reschedule(task, result)
        while self._count > self._least and self._unfinished < self._least:
            self._count -= 1
            self._jobs.put(None)


class Bulk:
    """Threads for bodies of some size, at most ``most`` at once, on any of ``processors``."""

    def __init__(self, most: int, processors: Collection[int] = ()) -> None:
        self._limiter = trio.CapacityLimiter(most)
        self._processors = processors

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Run a blocking function in a thread; cancellation waits for it."""
        return await trio.to_thread.run_sync(
            self._anywhere, lambda: function(*arguments), limiter=self._limiter
        )

    def _anywhere(self, call: Callable[[], Result]) -> Result:
        # A new thread begins where the one that made it has to stay.
        _stay_on(self._processors)
        return call()


def share_a_processor(number: int, processes: int = 1) -> Collection[int]:
    """Keep this thread, and those it makes, on one of the processors it may use; which those are.

    ``number`` is that of this process among ``processes`` that do so: each takes the next one.
    Where there are no more processors than processes nothing is done: then clients need some of
    each, and the kernel knows better (two on two: 4,300 GETs a second, and 3,250 bound).
    """
    allowed = sorted(os.sched_getaffinity(0))
    if processes < len(allowed):
        _stay_on(allowed[number : number + 1])
    return allowed


def _stay_on(processors: Collection[int]) -> None:
    if processors:
        with suppress(OSError):  # a processor that was taken away: then anywhere
            os.sched_setaffinity(0, processors)


def _wait_for_it(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
