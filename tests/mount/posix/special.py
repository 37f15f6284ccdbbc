"""mknod(2), mkfifo(3)."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    People,
    attempt,
    mode_of,
    opened,
)


def special_files(d: Path, who: People) -> list[Any]:
    seen = [
        attempt(os.mkfifo, d / "fifo", 0o640),
        mode_of(d / "fifo"),
        attempt(os.mkfifo, d / "fifo"),
        attempt(os.mknod, d / "char", 0o600 | stat.S_IFCHR, os.makedev(1, 3)),
        (mode_of(d / "char"), (d / "char").stat().st_rdev),
        attempt(os.mknod, d / "block", 0o600 | stat.S_IFBLK, os.makedev(7, 300)),
        (mode_of(d / "block"), (d / "block").stat().st_rdev),
        attempt(os.mknod, d / "sock", 0o600 | stat.S_IFSOCK),
        mode_of(d / "sock"),
        who.owner.does(lambda: attempt(os.mknod, d / "no", 0o600 | stat.S_IFCHR, 259)),
        who.owner.does(lambda: attempt(os.mkfifo, d / "own")),
        opened(d / "sock", os.O_RDONLY),
        opened(d / "fifo", os.O_WRONLY | os.O_NONBLOCK),
        attempt(os.mknod, d / "dir", 0o600 | stat.S_IFDIR),
        attempt(os.rename, d / "fifo", d / "fifo2"),
        mode_of(d / "fifo2"),
        attempt(os.chmod, d / "fifo2", 0o604),
        mode_of(d / "fifo2"),
    ]
    reader = os.open(d / "fifo2", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(d / "fifo2", os.O_WRONLY)
    os.write(writer, b"through")
    seen.append(os.read(reader, 10))
    os.close(reader)
    os.close(writer)
    time.sleep(0.3)
    seen += [mode_of(d / n) for n in ("fifo2", "char", "block", "sock", "own")]
    return [*seen, *(attempt(os.unlink, d / n) for n in ("fifo2", "char", "block", "sock"))]
