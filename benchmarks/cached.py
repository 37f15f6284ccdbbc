"""What the mount answers from its memory, beside a filesystem of pyfuse3's that answers at once.

    .venv/bin/python -m benchmarks.cached [--rounds 5] [--files 800]

Needs root and /dev/fuse. Both have the same files, in one folder of less than a page, and the
kernel is made to forget names, attributes and pages before each row, so every call comes to the
daemon; no request goes to the store (``open`` makes one, so that is no row). Calls a second and
the daemon's CPU time for each, medians of the rounds, in which both take turns.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyfuse3

from benchmarks.mount.clients import Client, mounted, ours_for_all
from benchmarks.mount.measuring import drop_caches
from benchmarks.mount.sites import Site, embedded
from benchmarks.small_files import AtOnce, nothing
from benchmarks.stores import cpu_seconds

SIZE = 4096  # bytes of a small file, and of a read of the large one
LARGE = 32 * 1024 * 1024  # bytes
LARGE_NAME = b"large"
SETTLING_SECONDS = 12.0  # after which what was written is asked for no more
TTL = 600  # seconds that both say attributes hold
FOLDER_INODE, FIRST_INODE = 2, 4
LARGE_INODE = 3


class Held(AtOnce):
    """One folder with the files, all of the same content."""

    folders = frozenset({int(pyfuse3.ROOT_INODE), FOLDER_INODE})
    ttl = TTL

    def __init__(self) -> None:
        super().__init__()
        self._content = bytes(SIZE)

    def attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = super().attributes(inode)
        entry.st_size = LARGE if inode == LARGE_INODE else SIZE
        return entry

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if parent_inode == pyfuse3.ROOT_INODE:
            return self.attributes(FOLDER_INODE)
        if name == LARGE_NAME:
            return self.attributes(LARGE_INODE)
        if not name.isdigit():
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self.attributes(FIRST_INODE + int(name))

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return self._content if size == SIZE else bytes(size)


def _stat(folder: Path, files: int) -> int:
    for number in range(files):
        os.stat(folder / f"{number:05}")
    return files


def _read_within(folder: Path, files: int) -> int:
    order = random.Random(1).sample(range(LARGE // SIZE), files)
    descriptor = os.open(folder / LARGE_NAME.decode(), os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for number in order:
            if len(os.pread(descriptor, SIZE, number * SIZE)) != SIZE:
                raise RuntimeError("the large file is not whole")
    finally:
        os.close(descriptor)
    return files


ROWS: tuple[tuple[str, Callable[[Path, int], int]], ...] = (
    ("stat", _stat),
    ("read 4 KiB of an open file", _read_within),
)


@contextmanager
def _ours(folder: Path, files: int) -> Iterator[tuple[Path, int]]:
    def command(site: Site, mountpoint: Path, cache: Path) -> list[str]:
        words = ours_for_all(site, mountpoint, cache)
        return [*words[:-1], f"{words[-1]},metadata_ttl={TTL},access=posix"]

    with (
        embedded(folder) as site,
        mounted(Client("s3posixfs", sys.executable, command), site, folder) as mount,
    ):
        top = mount.top / "files"
        top.mkdir()
        for number in range(files):
            (top / f"{number:05}").write_bytes(bytes(SIZE))
        (top / LARGE_NAME.decode()).write_bytes(bytes(LARGE))
        os.listdir(top)
        yield top, mount.pid


def _measure(
    work: Callable[[Path, int], int], top: Path, pid: int, files: int
) -> tuple[float, float]:
    """Calls a second, and CPU milliseconds of the daemon for each."""
    drop_caches()
    top.stat()
    cpu, began = cpu_seconds(pid), time.perf_counter()
    count = work(top, files)
    seconds = time.perf_counter() - began
    return count / seconds, (cpu_seconds(pid) - cpu) / count * 1000


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.cached")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=800)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="s3posixfs-bench-") as name,
        _ours(Path(name), options.files) as ours,
        nothing(Path(name) / "held", Held) as pid,
    ):
        both = (ours, (Path(name) / "held" / "files", pid))
        time.sleep(SETTLING_SECONDS)
        print("| | s3posixfs/s | at once/s | ratio | CPU ms | at once |")
        print("|---|---:|---:|---:|---:|---:|")
        for title, work in ROWS:
            for top, served_by in 3 * both:
                _measure(work, top, served_by, options.files)  # all is in both's memory then
            found: tuple[list[tuple[float, float]], ...] = ([], [])
            for number in range(options.rounds):
                for side in (0, 1) if number % 2 else (1, 0):
                    found[side].append(_measure(work, *both[side], options.files))
            (rate, cpu), (other, other_cpu) = (
                tuple(statistics.median(values) for values in zip(*samples, strict=True))
                for samples in found
            )
            print(
                f"| {title} | {rate:,.0f} | {other:,.0f} | {rate / other:.2f} "
                f"| {cpu:.3f} | {other_cpu:.3f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
