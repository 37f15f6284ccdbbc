"""Blocks of object versions that stay on the local disk, for the next mount as well.

What is fetched to be read is written behind the reader's back, and dropped where the disk does not
follow. The version that was of use longest ago goes first. Nothing here is ever an error for who
reads: what cannot be had is fetched.

Locking: used from the trio thread; threads touch the files (:mod:`s3posixfs.data.cache_file`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import string
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import trio

from s3posixfs.core.types import MIB
from s3posixfs.data import cache_file
from s3posixfs.data.cache_file import DIGEST_BYTES, BrokenFile
from s3posixfs.data.version import ObjectVersion

logger = logging.getLogger(__name__)

_THREADS = 4
# What waits to be written at most: beyond that the disk is slower than the store.
_WAITING_BYTES = 32 * MIB
# Left to others on that disk, such as what waits for its upload.
FREE_BYTES = 1024 * MIB
_PAUSE_SECONDS = 60.0
_HEX = frozenset(string.hexdigits.lower())


class DiskCache:
    """At most ``limit`` bytes of blocks below ``folder``, which belongs to this mount alone.

    ``origin`` is the endpoint: the same names of another store are other objects.
    """

    def __init__(self, folder: Path, limit: int, origin: str, nursery: trio.Nursery) -> None:
        """Take over what an earlier mount left. Blocks; OSError where the folder cannot be used."""
        self._folder = folder
        self._limit = limit
        self._origin = origin
        self._nursery = nursery
        self._threads = trio.CapacityLimiter(_THREADS)
        self._used: OrderedDict[bytes, int] = OrderedDict()  # by digest, bytes of the disk
        self._touched: set[bytes] = set()
        self._waiting = 0
        self._paused_until = float("-inf")
        self.used = 0
        self.hits = self.misses = self.dropped = 0
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        for digest, size in _found(folder):
            self._used[digest] = size
            self.used += size
        for path in self._excess():
            path.unlink(missing_ok=True)

    @property
    def limit(self) -> int:
        """Bytes of the disk that it may take."""
        return self._limit

    async def read(self, version: ObjectVersion, start: int, size: int) -> memoryview | None:
        """``size`` bytes at ``start``, or ``None`` where they have to be fetched."""
        digest = self._digest(version)
        if digest not in self._used:
            self.misses += 1
            return None
        self._used.move_to_end(digest)
        path = cache_file.path_of(self._folder, digest)
        first = digest not in self._touched

        def look() -> memoryview | None:
            found = cache_file.read(path, version.size, start, start + size)
            if found is not None and first:
                cache_file.used(path)
            return found

        found: memoryview | None = None
        try:
            found = await trio.to_thread.run_sync(look, limiter=self._threads)
        except (BrokenFile, OSError) as error:
            logger.warning("what was kept of an object is not used: %s", error)
            await self._remove(digest)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
            self._touched.add(digest)
        return found

    def keep(self, version: ObjectVersion, start: int, data: memoryview) -> None:
        """Write bytes that were fetched, which do not change, some time soon; or never."""
        late = self._waiting + len(data) > _WAITING_BYTES
        if not version.etag or late or trio.current_time() < self._paused_until:
            self.dropped += 1
            return
        self._waiting += len(data)
        try:
            self._nursery.start_soon(self._write, version, start, data)
        except RuntimeError:  # the nursery is closed: the daemon is going down
            self._waiting -= len(data)

    async def _write(self, version: ObjectVersion, start: int, data: memoryview) -> None:
        digest = self._digest(version)
        path = cache_file.path_of(self._folder, digest)

        def write() -> int:
            free = os.statvfs(self._folder)
            if free.f_bavail * free.f_frsize < FREE_BYTES + len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return cache_file.write(path, version.size, start, data)

        try:
            taken = await trio.to_thread.run_sync(write, limiter=self._threads)
        except OSError as error:
            self._paused_until = trio.current_time() + _PAUSE_SECONDS
            logger.warning(
                "%s keeps nothing new for %.0f s: %s", self._folder, _PAUSE_SECONDS, error.strerror
            )
            await self._remove(digest)
            return
        finally:
            self._waiting -= len(data)
        if taken:
            before = self._used.pop(digest, 0)
            # Threads end in any order, and a file only grows: an earlier figure may come last.
            self._used[digest] = max(before, taken)
            self.used += self._used[digest] - before
            self._touched.add(digest)
            await self._unlink(list(self._excess()))

    def _excess(self) -> Iterator[Path]:
        """What has to go, of which nothing is known from now on."""
        while self.used > self._limit and self._used:
            digest, size = self._used.popitem(last=False)
            self.used -= size
            self._touched.discard(digest)
            yield cache_file.path_of(self._folder, digest)

    async def _remove(self, digest: bytes) -> None:
        self.used -= self._used.pop(digest, 0)
        await self._unlink([cache_file.path_of(self._folder, digest)])

    async def _unlink(self, paths: list[Path]) -> None:
        def unlink() -> None:
            for path in paths:
                with contextlib.suppress(OSError):
                    path.unlink()

        if paths:
            await trio.to_thread.run_sync(unlink, limiter=self._threads)

    def _digest(self, version: ObjectVersion) -> bytes:
        parts = (self._origin, version.bucket, version.key, version.etag, str(version.size))
        text = "\0".join(parts).encode(errors="surrogateescape")
        return blake2b(text, digest_size=DIGEST_BYTES).digest()


def clear(folder: Path) -> None:
    """Remove what an earlier mount kept, where none is to be kept now. Blocks."""
    shutil.rmtree(folder, ignore_errors=True)


def _found(folder: Path) -> list[tuple[bytes, int]]:
    """Digests and sizes on disk, what was of use longest ago first; other things are removed."""
    found: list[tuple[int, bytes, int]] = []
    for path in folder.iterdir():
        if len(path.name) != 2 or not _HEX.issuperset(path.name) or not path.is_dir():
            _discard(path)
            continue
        for file in path.iterdir():
            name = path.name + file.name
            stat = file.lstat()
            if len(name) != 2 * DIGEST_BYTES or not _HEX.issuperset(name) or not file.is_file():
                _discard(file)
                continue
            found.append((stat.st_mtime_ns, bytes.fromhex(name), stat.st_blocks * 512))
    found.sort()
    return [(digest, size) for _, digest, size in found]


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
