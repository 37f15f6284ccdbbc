"""setxattr(2) and its relatives."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    TICK,
    People,
    attempt,
    put,
)


def xattr_calls(d: Path, who: People) -> list[Any]:
    file = Path(who.owner.does(lambda: str(put(d / "file"))))
    (d / "sub").mkdir()
    os.mkfifo(d / "fifo")
    (d / "link").symlink_to("file")
    seen: list[Any] = [
        attempt(os.getxattr, file, "user.a"),
        attempt(os.setxattr, file, "user.a", b"one"),
        attempt(os.getxattr, file, "user.a"),
        attempt(os.setxattr, file, "user.a", b"two", os.XATTR_CREATE),
        attempt(os.setxattr, file, "user.b", b"two", os.XATTR_REPLACE),
        attempt(os.setxattr, file, "user.a", b"\x00\xff binary", os.XATTR_REPLACE),
        attempt(os.setxattr, file, "user.c", b"", os.XATTR_CREATE),
        attempt(os.getxattr, file, "user.a"),
        attempt(os.getxattr, file, "user.c"),
        sorted(os.listxattr(file)),
        attempt(os.removexattr, file, "user.c"),
        attempt(os.removexattr, file, "user.c"),
        sorted(os.listxattr(file)),
        who.other.does(lambda: attempt(os.setxattr, file, "user.d", b"x")),
        who.other.does(lambda: attempt(os.removexattr, file, "user.a")),
        who.other.does(lambda: attempt(os.getxattr, file, "user.a")),
        attempt(os.setxattr, file, "user.", b"x"),
        attempt(os.setxattr, file, "noprefix", b"x"),
        attempt(os.setxattr, file, "user." + "n" * 251, b"x") in ("ENOSPC", "ERANGE", "ok"),
        attempt(os.setxattr, file, "user." + "n" * 252, b"x"),
        attempt(os.setxattr, file, "user.big", bytes(70_000)),
        attempt(os.setxattr, file, "user.large", bytes(5000)) in ("ENOSPC", "ok"),
        attempt(os.setxattr, d / "sub", "user.dir", b"folder"),
        attempt(os.getxattr, d / "sub", "user.dir"),
        attempt(os.setxattr, d / "fifo", "user.x", b"x"),
        attempt(os.setxattr, d / "link", "user.x", b"x", follow_symlinks=False),
        attempt(os.getxattr, d / "link", "user.x", follow_symlinks=False),
        attempt(os.setxattr, d / "missing", "user.x", b"x"),
    ]
    before = file.stat()
    time.sleep(TICK)
    os.setxattr(file, "user.time", b"x")
    after = file.stat()
    seen.append((after.st_ctime_ns > before.st_ctime_ns, after.st_mtime_ns == before.st_mtime_ns))
    file.write_bytes(b"rewritten")
    seen.append(attempt(os.getxattr, file, "user.a"))
    os.rename(file, d / "renamed")
    seen.append(attempt(os.getxattr, d / "renamed", "user.a"))
    (d / "renamed").chmod(0o000)
    seen.append(who.owner.does(lambda: attempt(os.getxattr, d / "renamed", "user.a")))
    return seen
