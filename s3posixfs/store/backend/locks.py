"""Locks on keys that hold between threads and between processes.

A key's lock is flock(2) on one of a fixed number of files, found by the key's hash. Every
acquisition opens the file anew, because flock binds to the open file: two threads that shared
one would not exclude each other. Whoever needs several keys names them at once; the files are
locked in order of their numbers, so that no two holders wait for each other. No lock is taken
while another is held by any other way.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

LOCK_FILES = 256


class KeyLocks:
    """The lock files in an open directory."""

    __slots__ = ("_directory",)

    def __init__(self, directory: int) -> None:
        self._directory = directory

    @contextmanager
    def hold(self, bucket: str, *keys: bytes) -> Iterator[None]:
        """Hold the locks of keys of a bucket; with no keys, the lock of the bucket itself."""
        name = bucket.encode()
        numbers = {zlib.crc32(name + b"/" + key) % LOCK_FILES for key in keys or (b"",)}
        held: list[int] = []
        try:
            for number in sorted(numbers):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                held.append(os.open(f"{number:03d}", flags, 0o600, dir_fd=self._directory))
                fcntl.flock(held[-1], fcntl.LOCK_EX)
            yield
        finally:
            for fd in reversed(held):
                os.close(fd)
