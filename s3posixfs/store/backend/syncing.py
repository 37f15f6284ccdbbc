"""One fsync for many changes in a directory."""

from __future__ import annotations

import os
import threading

_MOST_OPEN = 64


class _Turn:
    """One fsync, and those who wait for it."""

    __slots__ = ("error", "over")

    def __init__(self) -> None:
        self.over = threading.Event()
        self.error: OSError | None = None


class SharedSync:
    """Takes the place of os.fsync for directories: threads that come while one runs share the next.

    Whoever calls it has made its change before, so an fsync that begins later covers it.
    """

    __slots__ = ("_lock", "_next", "_running")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[int, int], _Turn] = {}
        self._next: dict[tuple[int, int], _Turn] = {}

    def __call__(self, fd: int) -> None:
        """Make an open directory's entries durable; the OSError of the fsync is everybody's."""
        stat = os.fstat(fd)
        identity = (stat.st_dev, stat.st_ino)
        with self._lock:
            turn = self._next.get(identity)
            leads = turn is None
            if turn is None:
                turn = self._next[identity] = _Turn()
            before = self._running.get(identity)
        if leads:
            if before is not None:
                before.over.wait()
            self._run(fd, identity, turn)
        else:
            turn.over.wait()
        if turn.error is not None:
            raise OSError(turn.error.errno, turn.error.strerror)

    def _run(self, fd: int, identity: tuple[int, int], turn: _Turn) -> None:
        with self._lock:
            del self._next[identity]  # from here on it is too late to share this one
            self._running[identity] = turn
        try:
            os.fsync(fd)
        except OSError as error:
            turn.error = error
        finally:
            with self._lock:
                del self._running[identity]
            turn.over.set()


class DeferredSync:
    """Takes the place of os.fsync for directories: :meth:`flush` syncs each once."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], int] = {}

    def __call__(self, fd: int) -> None:
        """Note an open directory; the descriptor may be closed afterwards."""
        stat = os.fstat(fd)
        identity = (stat.st_dev, stat.st_ino)
        if identity not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self.flush()
            self._open[identity] = os.dup(fd)

    def flush(self) -> None:
        """Make everything noted durable; OSError of the first that could not be."""
        try:
            for fd in self._open.values():
                os.fsync(fd)
        finally:
            for fd in self._open.values():
                os.close(fd)
            self._open.clear()
