"""Small files with ``writeback=on``, beside a filesystem of pyfuse3's that answers at once.

    .venv/bin/python -m benchmarks.small_files [--files 4000]

Needs root and /dev/fuse. Files of 4 KiB are made (O_EXCL), written and closed by one process and
by eight; how many a second, and the daemon's CPU time for each. What is queued goes to the store
before the next row.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyfuse3
import trio

from benchmarks.mount.clients import WRITEBACK, is_mounted, mounted
from benchmarks.mount.sites import embedded
from benchmarks.stores import cpu_seconds

SIZE = 4096  # bytes
PROCESSES = (1, 8, 1, 8)
SETTLING_SECONDS = 2.0  # in which none was uploaded any more
IDLE_SHARE = 0.05


class AtOnce(pyfuse3.Operations):
    """What answers at once and keeps nothing: folders by their numbers, all else are files."""

    folders: frozenset[int] = frozenset({int(pyfuse3.ROOT_INODE)})
    ttl = 1  # seconds that attributes hold

    def attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        """Those of any inode."""
        entry = pyfuse3.EntryAttributes()
        is_folder = inode in self.folders
        entry.st_mode = stat.S_IFDIR | 0o777 if is_folder else stat.S_IFREG | 0o666
        entry.st_ino = inode
        entry.st_nlink = 1
        entry.entry_timeout = entry.attr_timeout = self.ttl
        return entry

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self.attributes(inode)

    async def flush(self, fh: int) -> None:
        return

    async def release(self, fh: int) -> None:
        return

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        return


class Nothing(AtOnce):
    """Takes every file and keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self._last = int(pyfuse3.ROOT_INODE)

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise pyfuse3.FUSEError(errno.ENOENT)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        self._last += 1
        return pyfuse3.FileInfo(fh=self._last), self.attributes(self._last)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        raise pyfuse3.FUSEError(errno.ENODATA)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return len(buf)


def serve_nothing(mountpoint: str, operations: type[pyfuse3.Operations]) -> None:
    """Mount the operations until they are unmounted."""
    pyfuse3.init(operations(), mountpoint, {"fsname=nothing", "default_permissions"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


@contextmanager
def nothing(top: Path, operations: type[pyfuse3.Operations] = Nothing) -> Iterator[int]:
    """A mount of :class:`Nothing`, or of others; its daemon's pid."""
    top.mkdir()
    daemon = multiprocessing.get_context("spawn").Process(
        target=serve_nothing, args=(str(top), operations)
    )
    daemon.start()
    try:
        while not is_mounted(top):
            if not daemon.is_alive():
                raise RuntimeError("the filesystem that does nothing does not mount")
            time.sleep(0.02)
        yield int(daemon.pid or 0)
    finally:
        if is_mounted(top):
            subprocess.run(["umount", str(top)], check=False, timeout=60)
        daemon.join(30)


def make(folder: Path, prefix: str, count: int) -> None:
    """One process's files."""
    content = os.urandom(SIZE)
    for number in range(count):
        fd = os.open(folder / f"{prefix}-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)


def row(name: str, folder: Path, pid: int, files: int, processes: int, turn: int) -> None:
    """Make the files and print what it took."""
    workers = [
        multiprocessing.Process(target=make, args=(folder, f"{turn}-{one}", files // processes))
        for one in range(processes)
    ]
    cpu, began = cpu_seconds(pid), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took, used = time.perf_counter() - began, cpu_seconds(pid) - cpu
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("not all files could be made")
    rate, each = files / took, used / files * 1000
    print(f"| {name} | {processes} | {rate:,.0f} | {each:.2f} |", flush=True)


def rest(pid: int) -> None:
    """Wait until the daemon has nothing to do."""
    while True:
        before = cpu_seconds(pid)
        time.sleep(SETTLING_SECONDS)
        if cpu_seconds(pid) - before < IDLE_SHARE * SETTLING_SECONDS:
            return


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.small_files")
    parser.add_argument("--files", type=int, default=4000, help="in each row (4000)")
    files = parser.parse_args(arguments).files
    print("| | processes | files/s | CPU ms a file |\n|---|---:|---:|---:|")
    with (
        tempfile.TemporaryDirectory(prefix="s3posixfs-bench-") as name,
        embedded(Path(name)) as site,
        mounted(WRITEBACK, site, Path(name)) as mount,
    ):
        for turn, processes in enumerate(PROCESSES):
            folder = mount.top / f"small-{turn}"
            folder.mkdir()
            row("writeback=on", folder, mount.pid, files, processes, turn)
            rest(mount.pid)
    with tempfile.TemporaryDirectory() as name, nothing(Path(name) / "mnt") as pid:
        for turn, processes in enumerate(PROCESSES):
            row("nothing", Path(name) / "mnt", pid, files, processes, turn)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
