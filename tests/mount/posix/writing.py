"""truncate(2), holes, fallocate(2), mmap(2) and locks."""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    TICK,
    People,
    attempt,
    fallocate,
    put,
)


def truncate_calls(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"0123456789")
    (d / "sub").mkdir()
    os.mkfifo(d / "fifo")
    (d / "link").symlink_to("file")
    seen = [
        attempt(os.truncate, file, 4),
        file.read_bytes(),
        attempt(os.truncate, d / "link", 6),
        file.read_bytes(),
        attempt(os.truncate, d / "sub", 0),
        attempt(os.truncate, d / "missing", 0),
        attempt(os.truncate, d / "fifo", 0),
        attempt(os.truncate, file, -1),
        attempt(os.truncate, file / "x", 0),
        who.other.does(lambda: attempt(os.truncate, file, 0)),
        file.stat().st_size,
    ]
    file.chmod(0o666)
    seen.append(who.other.does(lambda: attempt(os.truncate, file, 2)))
    seen.append(file.read_bytes())
    before = file.stat()
    time.sleep(TICK)
    os.truncate(file, 2)
    after = file.stat()
    seen.append((after.st_mtime_ns > before.st_mtime_ns, after.st_ctime_ns > before.st_ctime_ns))
    return seen


def holes(d: Path, who: People) -> list[Any]:
    file = d / "file"
    with file.open("wb") as stream:
        stream.seek(100_000)
        stream.write(b"end")
        stream.truncate(200_000)
        stream.seek(300_000)
        stream.write(b"z")
    content = file.read_bytes()
    with file.open("rb") as stream:
        ends = [os.lseek(stream.fileno(), 0, os.SEEK_END)]
        ends.append(attempt(os.lseek, stream.fileno(), 300_001, os.SEEK_DATA))
        ends.append(os.lseek(stream.fileno(), 300_000, os.SEEK_HOLE))
    return [len(content), content.count(0), content[100_000:100_003], content[-1:], ends]


def fallocate_calls(d: Path, who: People) -> list[Any]:
    descriptor = os.open(d / "file", os.O_CREAT | os.O_RDWR, 0o644)
    os.write(descriptor, b"x" * 5000)
    seen = [
        fallocate(descriptor, 0, 0, 10_000) in ("ok", "ENOTSUP"),
        attempt(os.posix_fallocate, descriptor, 0, 20_000),
        os.fstat(descriptor).st_size,
        attempt(os.posix_fallocate, descriptor, 0, 0),
        attempt(os.posix_fallocate, descriptor, -1, 10),
        os.pread(descriptor, 3, 4998),
    ]
    os.close(descriptor)
    return [*seen, (d / "file").stat().st_size]


def mmap_shared(d: Path, who: People) -> list[Any]:
    file = put(d / "file", bytes(10_000))
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
        view[5000:5004] = b"mmap"
        view.flush()
        seen: list[Any] = [os.pread(stream.fileno(), 4, 5000)]
        os.pwrite(stream.fileno(), b"file", 100)
        seen.append(view[100:104])
        view[9000:9003] = b"end"
    seen.append(file.read_bytes()[5000:5004] + file.read_bytes()[9000:9003])
    with file.open("rb") as held, mmap.mmap(held.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        view[0:4] = b"priv"
        seen.append(file.read_bytes()[0:4])
    return seen


def locks(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    with file.open("r+b") as first, file.open("r+b") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        seen = [attempt(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)]
        fcntl.flock(first, fcntl.LOCK_UN)
        seen.append(attempt(fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB))
        fcntl.lockf(first, fcntl.LOCK_EX, 10, 0)

        def in_child() -> list[Any]:
            with file.open("r+b") as third:
                return [
                    attempt(fcntl.lockf, third, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5),
                    attempt(fcntl.lockf, third, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 10),
                ]

        file.chmod(0o666)
        seen += who.other.does(in_child)
    return seen
