"""What is measured of a mount: each a preparation that is not timed and a work that is."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

MB = 1_000_000
MIB = 1024 * 1024
SMALL = 4096


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each job does; small work ends after ``seconds`` at the latest, and the store gets
    ``rest`` seconds to come to rest before a job."""

    large: int
    listed: int
    small: int
    tree: int
    seconds: float
    rest: float


FULL = Sizes(large=512 * MIB, listed=3000, small=800, tree=6400, seconds=6.0, rest=20.0)
QUICK = Sizes(large=128 * MIB, listed=1000, small=200, tree=640, seconds=1.5, rest=10.0)
TINY = Sizes(large=8 * MIB, listed=20, small=16, tree=64, seconds=0.5, rest=0.0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job works. ``own`` is a folder of this client and round, in ``top``; the plain client
    has put what ``given`` holds: ``large``, ``random-N`` and the folders ``listed`` and ``small``.
    """

    top: Path
    own: Path
    given: Path
    sizes: Sizes


Work = Callable[[Place], float]


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached: ``least`` units a second, a part of the ``limit`` that the same run
    shows, times the ``best`` other's."""

    least: float = 0.0
    limit: float = 0.0
    best: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """``work`` returns how many units it did; ``limit`` names the reference that bounds it, "local"
    for the local filesystem or a work of the plain client. ``stores`` says that it is to be in S3
    at the end, so that only those are compared who say so. ``rgw`` and ``embedded`` are targets.
    With ``by_itself`` the work returns what it measured a second.
    """

    name: str
    title: str
    unit: str
    work: Work
    before: Callable[[Place], None] | None = None
    cold: bool = False
    limit: str = ""
    stores: bool = False
    by_itself: bool = False
    rgw: Target = field(default_factory=Target)
    embedded: Target = field(default_factory=Target)


def bounded(place: Place, threads: int, count: int, work: Callable[[int], object]) -> float:
    """Call ``work`` with numbers from 0 until ``count`` or the time is reached; how many were."""
    numbers = iter(range(count))
    lock = threading.Lock()
    end = time.perf_counter() + place.sizes.seconds
    done = [0] * threads
    trouble: list[BaseException] = []

    def serve(thread: int) -> None:
        try:
            while time.perf_counter() < end:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                work(number)
                done[thread] += 1
        except BaseException as error:
            trouble.append(error)

    workers = [threading.Thread(target=serve, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if trouble:
        raise trouble[0]
    return sum(done)


def read_whole(path: Path) -> float:
    """Megabytes read, in pieces of 1 MiB."""
    total = 0
    descriptor = os.open(path, os.O_RDONLY)
    buffer = bytearray(MIB)
    try:
        while count := os.readv(descriptor, [buffer]):
            total += count
    finally:
        os.close(descriptor)
    return total / MB


def _read_large(place: Place) -> float:
    return read_whole(place.given / "large")


def _warm(place: Place) -> None:
    read_whole(place.given / "large")


def write_whole(path: Path, size: int) -> float:
    """Megabytes written, in pieces of 1 MiB, and synced."""
    block = os.urandom(MIB)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for _ in range(size // MIB):
            os.write(descriptor, block)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size / MB


def _write_large(place: Place) -> float:
    return write_whole(place.own / "written", place.sizes.large)


def _list_long(place: Place) -> float:
    listed = place.given / "listed"
    done = subprocess.run(["ls", "-l", listed], check=True, capture_output=True)
    shown = done.stdout.count(b"\n") - 1
    if shown != place.sizes.listed:
        raise RuntimeError(f"ls -l shows {shown} of {place.sizes.listed} files")
    return shown


def _read_small(place: Place) -> float:
    folder = place.given / "small"

    def read(number: int) -> None:
        with open(folder / f"{number:05}", "rb", buffering=0) as file:
            if len(file.read(SMALL + 1)) != SMALL:
                raise RuntimeError("a small file is not whole")

    return bounded(place, 8, place.sizes.small, read)


def _create(threads: int) -> Work:
    def work(place: Place) -> float:
        folder = place.own / f"created-{threads}"
        body = os.urandom(SMALL)
        return bounded(
            place, threads, place.sizes.small * 4, lambda n: write_file(folder / f"{n:05}", body)
        )

    return work


def _make_folder_of_created(threads: int) -> Callable[[Place], None]:
    return lambda place: make_folder(place.own / f"created-{threads}")


def make_folder(path: Path) -> None:
    """A folder with a file in it: an empty one rclone forgets."""
    path.mkdir()
    (path / "keep").write_bytes(b"x")


def write_file(path: Path, body: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, body)
    finally:
        os.close(descriptor)


def _read_random(threads: int) -> Work:
    def work(place: Place) -> float:
        blocks = place.sizes.large // SMALL
        order = random.Random(threads)
        offsets = [order.randrange(blocks) * SMALL for _ in range(200_000)]
        descriptor = os.open(place.given / f"random-{threads}", os.O_RDONLY)

        def read(number: int) -> None:
            if len(os.pread(descriptor, SMALL, offsets[number])) != SMALL:
                raise RuntimeError("a short read")

        try:
            return bounded(place, threads, len(offsets), read)
        finally:
            os.close(descriptor)

    return work


def _prepare_small(kind: str) -> Callable[[Place], None]:
    def before(place: Place) -> None:
        folder = place.own / kind
        make_folder(folder)
        body = os.urandom(SMALL)
        with_room = Place(place.top, place.own, place.given, replace(place.sizes, seconds=60.0))
        bounded(
            with_room, 8, place.sizes.small // 2, lambda n: write_file(folder / f"{n:05}", body)
        )

    return before


def _rename(place: Place) -> float:
    folder = place.own / "rename"
    return bounded(
        place,
        1,
        place.sizes.small // 2,
        lambda n: os.rename(folder / f"{n:05}", folder / f"new-{n:05}"),
    )


def _append(place: Place) -> float:
    folder = place.own / "append"
    line = b"x" * 99 + b"\n"

    def append(number: int) -> None:
        descriptor = os.open(folder / f"{number:05}", os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line)
        os.close(descriptor)

    return bounded(place, 1, place.sizes.small // 2, append)


def _unlink(place: Place) -> float:
    folder = place.own / "unlink"
    return bounded(place, 8, place.sizes.small // 2, lambda n: os.unlink(folder / f"{n:05}"))


def _edit(place: Place) -> float:
    body = os.urandom(SMALL)
    blocks = place.sizes.large // SMALL
    order = random.Random(7)
    descriptor = os.open(place.own / "written", os.O_RDWR)

    def edit(number: int) -> None:
        os.pwrite(descriptor, body, order.randrange(blocks) * SMALL)
        os.fsync(descriptor)

    try:
        return bounded(place, 1, 1000, edit)
    finally:
        os.close(descriptor)


def _first_byte(place: Place) -> float:
    descriptor = os.open(place.given / "first", os.O_RDONLY)
    try:
        if len(os.read(descriptor, 1)) != 1:
            raise RuntimeError("no byte")
    finally:
        os.close(descriptor)
    return 1


def _stat(place: Place) -> float:
    paths = [place.given / "listed" / f"{number:05}" for number in range(place.sizes.listed)]
    for path in paths:
        os.stat(path)
    return bounded(place, 1, 1_000_000, lambda n: os.stat(paths[n % len(paths)]))


JOBS = (
    Job(
        *("read", "read a large file, cold", "MB/s", _read_large),
        cold=True,
        limit="get_large",
        rgw=Target(limit=0.85, best=1.3),
        embedded=Target(best=1.3),
    ),
    Job(
        *("reread", "read it again", "MB/s", _read_large, _warm),
        limit="local",
        rgw=Target(limit=0.9),
        embedded=Target(limit=0.9),
    ),
    Job(
        *("write", "write a large file, fsync", "MB/s", _write_large),
        stores=True,
        limit="put_large",
        rgw=Target(limit=0.9),
        embedded=Target(best=1.0),
    ),
    Job(
        *("edit", "edit 4 KiB in it, fsync", "edits/s", _edit),
        stores=True,
        rgw=Target(least=3),
        embedded=Target(least=9),
    ),
    Job(
        *("first", "first byte of a large file, cold", "files/s", _first_byte),
        cold=True,
        limit="get_small_1",
    ),
    Job(
        *("list", "ls -l, cold", "entries/s", _list_long),
        cold=True,
        limit="list",
        rgw=Target(least=20_000),
        embedded=Target(least=40_000),
    ),
    # Everybody's names are too old by then, and the kernel has forgotten them.
    Job(*("relist", "ls -l again, 2 s later", "entries/s", _list_long), cold=True),
    Job(*("stat", "stat again", "calls/s", _stat), limit="local"),
    Job(
        *("small", "read 4 KiB files, 8 threads, cold", "files/s", _read_small),
        cold=True,
        limit="get_small_8",
        rgw=Target(least=1000),
        embedded=Target(least=3000),
    ),
    Job(
        *("create", "create 4 KiB files", "files/s", _create(1), _make_folder_of_created(1)),
        stores=True,
        limit="put_small_1",
        rgw=Target(least=120),
        embedded=Target(least=360),
    ),
    Job(
        *("create8", "the same, 8 threads", "files/s", _create(8), _make_folder_of_created(8)),
        stores=True,
        limit="put_small_8",
        rgw=Target(least=350),
        embedded=Target(least=1050),
    ),
    Job(
        *("random", "random 4 KiB reads, cold", "reads/s", _read_random(1)),
        cold=True,
        limit="get_range_1",
        rgw=Target(least=450),
        embedded=Target(least=1350),
    ),
    Job(
        *("random8", "the same, 8 threads, cold", "reads/s", _read_random(8)),
        cold=True,
        limit="get_range_8",
        rgw=Target(least=1100),
        embedded=Target(least=3300),
    ),
    Job(
        *("rename", "rename a file", "files/s", _rename, _prepare_small("rename")),
        stores=True,
        rgw=Target(least=120),
        embedded=Target(least=360),
    ),
    Job(
        *("append", "append 100 B to a small file", "files/s", _append, _prepare_small("append")),
        stores=True,
        rgw=Target(least=120),
        embedded=Target(least=360),
    ),
    Job(
        *("unlink", "unlink, 8 threads", "files/s", _unlink, _prepare_small("unlink")),
        stores=True,
        limit="delete_8",
        rgw=Target(least=400),
        embedded=Target(least=1200),
    ),
)
# With ``writeback=on`` these are to be reached on both stores; the local disk bounds them.
WRITEBACK_TARGETS = {"create": Target(least=1500), "create8": Target(least=4000)}
