"""One process or several that share the listening sockets, and the parent that watches them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import trio

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError
from s3posixfs.store import server
from s3posixfs.store.server import ServerConfig
from s3posixfs.store.state import State

log = logging.getLogger(__name__)

# A worker that ends by itself is started again, but not in a loop.
_LEAST_LIFE_SECONDS = 5.0


def run(config: ServerConfig, workers: int, ready: Callable[[str], None]) -> int:
    """Serve until told to end; the exit status. ``ready`` gets the URL once all accept.

    Raises OperatorError where the server can't start.
    """
    server.tls_context(config)
    server.least_session_seconds()
    server.prepare_root(config.root, config.state)
    listeners = server.open_listeners(config)
    url = server.base_url(config, listeners)
    if workers == 1:
        _serve(config, listeners, lambda: ready(url))
        return 0
    # Made before the workers are, so that none has to wait for another to make it.
    State.open(config.state, create=True).close()
    return _Supervisor(config, listeners, workers).run(lambda: ready(url))


def _serve(config: ServerConfig, listeners: list[socket.socket], ready: Callable[[], None]) -> None:
    async def main() -> None:
        await server.serve(config, listeners, clock=SystemClock(), ready=ready)

    try:
        trio.run(main)
    finally:
        for listener in listeners:
            listener.close()


class _Supervisor:
    """Forks the workers, hands SIGTERM on, and starts a worker that crashed again."""

    def __init__(self, config: ServerConfig, listeners: list[socket.socket], workers: int) -> None:
        self._config = config
        self._listeners = listeners
        self._workers = workers
        self._children: dict[int, float] = {}
        self._ending = False
        self._failed = 0
        # Only this process holds the end for writing: the workers' reading ends with its life.
        self._lifeline, self._held = os.pipe()

    def run(self, ready: Callable[[], None]) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
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
        pid = os.fork()
        if pid:
            self._children[pid] = time.monotonic()
            if self._ending:
                self._end_all()
            return
        status = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._held)
            threading.Thread(target=_end_with, args=(self._lifeline,), daemon=True).start()

            def ready() -> None:
                if ready_pipe is not None:
                    os.write(ready_pipe, b"1")
                    os.close(ready_pipe)

            _serve(self._config, self._listeners, ready)
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

    def _end_all(self) -> None:
        self._ending = True
        for pid in self._children:
            os.kill(pid, signal.SIGTERM)

    def _watch(self) -> None:
        while self._children:
            pid, raw = os.waitpid(-1, 0)
            started = self._children.pop(pid, 0.0)
            status = os.waitstatus_to_exitcode(raw)
            if self._ending:
                continue
            log.error("worker %d ended with status %d", pid, status)
            if time.monotonic() - started < _LEAST_LIFE_SECONDS:
                self._failed = 1
                self._end_all()
            else:
                self._fork(None)


def _end_with(lifeline: int) -> None:
    """Wait until the parent is gone, however it went, and end this worker in order.

    Workers that outlive it would keep the port, so that no new store could start.
    """
    os.read(lifeline, 1)
    log.error("the process that started this worker is gone: ending")
    os.kill(os.getpid(), signal.SIGTERM)
