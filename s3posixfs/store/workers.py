"""One process or several that share the listening sockets, and the parent that watches them."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from types import FrameType

import trio

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError
from s3posixfs.metrics import scrape
from s3posixfs.store import server
from s3posixfs.store.metering import Metering, shared
from s3posixfs.store.server import ServerConfig
from s3posixfs.store.state import State

log = logging.getLogger(__name__)

# A worker that ends by itself is started again: at once after a life that was worth it, else after
# a while that doubles; where too many end early in too short a time, something is wrong for good.
_LEAST_LIFE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_EARLY_ENDS_PER_WORKER = 5
_EARLY_ENDS_SECONDS = 60.0
_ENDING = (signal.SIGTERM, signal.SIGINT)
# What each worker does for itself when its parent is told: see metrics.signals.
_FOR_WORKERS = (signal.SIGUSR1, signal.SIGUSR2)


def run(config: ServerConfig, workers: int, ready: Callable[[str], None]) -> int:
    """Serve until told to end; the exit status. ``ready`` gets the URL once all accept.

    Raises OperatorError where the server can't start.
    """
    server.tls_context(config)
    server.least_session_seconds()
    server.prepare_root(config.root, config.state)
    listeners = server.open_listeners(config)
    url = server.base_url(config, listeners)
    measuring = _Measuring(
        shared(workers), scrape.bind(config.metrics) if config.metrics is not None else None
    )
    try:
        if workers == 1:
            _serve(config, listeners, measuring, lambda: ready(url))
            return 0
        # Made before the workers are, so that none has to wait for another to make it.
        State.open(config.state, create=True).close()
        return _Supervisor(config, listeners, measuring, workers).run(lambda: ready(url))
    finally:
        if config.metrics is not None:
            scrape.release(config.metrics)


@dataclass(frozen=True, slots=True)
class _Measuring:
    """What the workers count in, and where they are asked for it."""

    memory: memoryview[float]
    listener: socket.socket | None


def _serve(
    config: ServerConfig,
    listeners: list[socket.socket],
    measuring: _Measuring,
    ready: Callable[[], None],
    number: int = 0,
    processes: int = 1,
) -> None:
    async def main() -> None:
        await server.serve(
            config,
            listeners,
            clock=SystemClock(),
            ready=ready,
            metering=Metering(measuring.memory, processes, number),
            metrics=measuring.listener,
            number=number,
            processes=processes,
        )

    try:
        trio.run(main)
    finally:
        for listener in listeners:
            listener.close()


class _Supervisor:
    """Forks the workers, hands SIGTERM on, and starts a worker that crashed again."""

    def __init__(
        self,
        config: ServerConfig,
        listeners: list[socket.socket],
        measuring: _Measuring,
        workers: int,
    ) -> None:
        self._config = config
        self._listeners = listeners
        self._measuring = measuring
        self._workers = workers
        self._children: dict[int, float] = {}
        self._numbers: dict[int, int] = {}  # of the children, from 0 on
        self._due: list[float] = []  # when workers are to be started again, by the monotonic clock
        self._early: deque[float] = deque()  # when workers ended soon after their start
        self._ending = False
        self._failed = 0
        # Only this process holds the end for writing: the workers' reading ends with its life.
        self._lifeline, self._held = os.pipe()
        # A signal ends select(): Python itself writes its number to this pipe.
        self._woken, self._waking = os.pipe()

    def run(self, ready: Callable[[], None]) -> int:
        for number in _ENDING:
            signal.signal(number, self._on_signal)
        for number in _FOR_WORKERS:
            signal.signal(number, self._hand_on)
        for end in (self._woken, self._waking):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        reading, writing = os.pipe()
        for _ in range(self._workers):
            self._fork(writing)
        os.close(writing)
        marks = b""
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while len(marks) < self._workers and (mark := pipe.read(self._workers)):
                marks += mark
        if len(marks) == self._workers:
            ready()
        else:
            self._end_all()
            self._failed = 1
        self._watch()
        return self._failed

    def _fork(self, ready_pipe: int | None) -> None:
        sys.stdout.flush()
        taken = set(self._numbers.values())
        number = next(number for number in count() if number not in taken)
        # A worker begins with the handlers of this process: what ends it waits until they are gone.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        pid = os.fork()
        if pid:
            self._children[pid] = time.monotonic()
            self._numbers[pid] = number
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if self._ending:
                self._end_all()
            return
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for one in (*_ENDING, signal.SIGCHLD):
                signal.signal(one, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for one in _FOR_WORKERS:
                signal.signal(one, signal.SIG_IGN)  # until the worker heeds it
            os.close(self._held)
            threading.Thread(target=_end_with, args=(self._lifeline,), daemon=True).start()

            def ready() -> None:
                if ready_pipe is not None:
                    os.write(ready_pipe, b"1")
                    os.close(ready_pipe)

            _serve(self._config, self._listeners, self._measuring, ready, number, self._workers)
            status = 0
        except OperatorError as error:
            sys.stderr.write(f"s3posixfs: {error}\n")
        except BaseException:
            log.exception("a worker ended on an error of the server")
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._end_all()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        for pid in list(self._children):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end_all(self) -> None:
        """Also run by a signal, so amid anything else: ``_watch`` drops what is due."""
        self._ending = True
        for pid in list(self._children):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _watch(self) -> None:
        while True:
            self._reap()
            if self._ending:
                self._due.clear()
            now = time.monotonic()
            due = [moment for moment in self._due if moment <= now]
            self._due = [moment for moment in self._due if moment > now]
            for _ in due:
                self._fork(None)
            if not self._children and not self._due:
                return
            pause = max(0.0, min(self._due) - time.monotonic()) if self._due else None
            if select.select([self._woken], [], [], pause)[0]:
                os.read(self._woken, 4096)

    def _reap(self) -> None:
        """Take leave of the workers that have ended, and plan who is to replace them."""
        while self._children:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            started = self._children.pop(pid, 0.0)
            self._numbers.pop(pid, None)
            if self._ending:
                continue
            status = os.waitstatus_to_exitcode(raw)
            now = time.monotonic()
            if now - started >= _LEAST_LIFE_SECONDS:
                log.error("worker %d ended with status %d: starting another", pid, status)
                self._due.append(now)
            else:
                self._ended_early(pid, status, now)

    def _ended_early(self, pid: int, status: int, now: float) -> None:
        while self._early and self._early[0] < now - _EARLY_ENDS_SECONDS:
            self._early.popleft()
        self._early.append(now)
        if len(self._early) > _EARLY_ENDS_PER_WORKER * self._workers:
            log.error(
                "worker %d ended with status %d, too many soon after their start: giving up",
                pid,
                status,
            )
            self._failed = 1
            self._end_all()
            return
        rounds = (len(self._early) - 1) // self._workers
        pause = min(_FIRST_PAUSE_SECONDS * 2**rounds, _LONGEST_PAUSE_SECONDS)
        log.error("worker %d ended with status %d: starting another in %.1f s", pid, status, pause)
        self._due.append(now + pause)


def _end_with(lifeline: int) -> None:
    """Wait until the parent is gone, however it went, and end this worker in order.

    Workers that outlive it would keep the port, so that no new store could start.
    """
    os.read(lifeline, 1)
    log.error("the process that started this worker is gone: ending")
    os.kill(os.getpid(), signal.SIGTERM)
