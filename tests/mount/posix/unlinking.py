"""unlink(2), of what is open too."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    People,
    attempt,
    put,
    written,
)


def unlink_calls(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"alive")
    descriptor = os.open(file, os.O_RDWR)
    os.unlink(file)
    seen = [
        os.fstat(descriptor).st_nlink,
        os.pread(descriptor, 10, 0),
        os.pwrite(descriptor, b"A", 0),
        os.pread(descriptor, 10, 0),
        attempt(os.fchmod, descriptor, 0o600),
        stat.filemode(os.fstat(descriptor).st_mode),
        attempt(os.ftruncate, descriptor, 2),
        os.fstat(descriptor).st_size,
        attempt(os.fsync, descriptor),
        attempt(os.utime, descriptor, ns=(5, 6)),
        os.fstat(descriptor).st_mtime_ns,
        attempt(os.unlink, file),
        written(file, b"another"),
        os.pread(descriptor, 10, 0),
        attempt(lambda: Path(f"/proc/self/fd/{descriptor}").read_bytes()),
        attempt(os.fchown, descriptor, 54321, 54321),
        os.fstat(descriptor).st_uid,
    ]
    os.close(descriptor)
    return [
        *seen,
        file.read_bytes(),
        attempt(os.unlink, d),
        attempt(os.unlink, file / "x"),
        attempt(os.unlink, d / ("n" * 256)),
        who.other.does(lambda: attempt(os.unlink, file)),
        sorted(os.listdir(d)),
    ]
