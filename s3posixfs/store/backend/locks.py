"""Locks on keys that hold between threads and between processes.

A key's lock is flock(2) on one of a fixed number of files, found by the key's hash. Every
acquisition opens the file anew, because flock binds to the open file: two threads that shared
one would not exclude each other. Whoever needs several keys names them at once; the files are
locked in order of their names, so that no two holders wait for each other. While a key's lock is
held, no other lock is taken; a bucket's and an upload's may be held when a key's is taken.
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
        """Hold the locks of keys of a bucket."""
        name = bucket.encode() + b"/"
        with self._hold({f"{zlib.crc32(name + key) % LOCK_FILES:03d}" for key in keys}):
            yield

    @contextmanager
    def hold_all(self) -> Iterator[None]:
        """Hold the locks of all keys there are, of all buckets: for what is over in a moment."""
        with self._hold({f"{number:03d}" for number in range(LOCK_FILES)}):
            yield

    @contextmanager
    def hold_bucket(self, bucket: str) -> Iterator[None]:
        """Hold the lock of a bucket: of its being there and its documents, not of its keys."""
        with self._hold({f"bucket-{zlib.crc32(bucket.encode()) % LOCK_FILES:03d}"}):
            yield

    @contextmanager
    def _hold(self, names: set[str]) -> Iterator[None]:
        held: list[int] = []
        try:
            for name in sorted(names):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                held.append(os.open(name, flags, 0o600, dir_fd=self._directory))
                fcntl.flock(held[-1], fcntl.LOCK_EX)
            yield
        finally:
            for fd in reversed(held):
                os.close(fd)
