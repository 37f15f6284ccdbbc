"""A file that several processes append to and that is set aside when it has grown: NAME.1, NAME.2…

Other programs may move or remove it at any time as well (logrotate with ``create`` or without):
each write looks whether the name still leads to the open file. ``copytruncate`` works too, as
every write goes to the end of what there is.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Rotation:
    """``size`` in bytes after which a file is set aside, 0 for never; ``keep`` older ones stay."""

    size: int = 100 * 1024 * 1024
    keep: int = 10


class RotatingFile:
    """Appends to ``path`` (mode 0600); its methods block and raise ``OSError``.

    What is written by one call stays together, whatever other processes write, as long as the
    disk has room.
    """

    def __init__(self, path: Path, rotation: Rotation) -> None:
        self._path = path
        self._rotation = rotation
        self._lock = path.with_name(f"{path.name}.lock")
        self._descriptor = -1
        self._torn = False

    def open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        self.close()
        self._descriptor = descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, lines: bytes) -> None:
        """Append whole lines. What was left of a write that failed midway ends with a line."""
        if not self._is_current():
            self.open()
        if self._torn:
            os.write(self._descriptor, b"\n")
            self._torn = False
        view = memoryview(lines)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError:
                self._torn = len(view) < len(lines)
                raise
        if self._is_full():
            self._set_aside()

    def _is_current(self) -> bool:
        if self._descriptor < 0:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _is_full(self) -> bool:
        size = self._rotation.size
        return size > 0 and os.fstat(self._descriptor).st_size >= size

    def _set_aside(self) -> None:
        """Give the file and the older ones their next numbers; one process at a time does.

        Another that is about to write meanwhile writes to the end of NAME.1, which it has open:
        no line is lost.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self._lock, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._is_current():
                return
            for number in range(self._rotation.keep, 0, -1):
                older = self._path if number == 1 else self._numbered(number - 1)
                with suppress(FileNotFoundError):
                    older.rename(self._numbered(number))
            self.open()
        finally:
            os.close(lock)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
