"""One fsync for many changes in a directory."""

from __future__ import annotations

import os

_MOST_OPEN = 64


class DeferredSync:
    """Takes the place of os.fsync for directories: :meth:`flush` syncs each once."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], int] = {}

    def __call__(self, fd: int) -> None:
        """Note an open directory; the descriptor may be closed afterwards."""
        stat = os.fstat(fd)
        if stat.st_nlink == 0:
            return
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
