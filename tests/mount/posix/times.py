"""utimensat(2), and the times that other calls move."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    TICK,
    UTIME_NOW,
    UTIME_OMIT,
    People,
    attempt,
    opened,
    put,
    utimensat,
    written,
)


def times_of_files(d: Path, who: People) -> list[Any]:
    file = Path(who.owner.does(lambda: str(put(d / "file"))))
    seen: list[Any] = []

    def watch(action: Any) -> None:
        before = file.lstat()
        time.sleep(TICK)
        outcome = action()
        after = file.lstat()
        seen.append(
            (
                outcome,
                after.st_mtime_ns > before.st_mtime_ns,
                after.st_ctime_ns > before.st_ctime_ns,
            )
        )

    watch(lambda: utimensat(file, (1, 2), (3, 4)))
    seen.append((file.stat().st_atime_ns, file.stat().st_mtime_ns))
    watch(lambda: utimensat(file, (5, 6), (0, UTIME_OMIT)))
    seen.append((file.stat().st_atime_ns, file.stat().st_mtime_ns))
    watch(lambda: utimensat(file, (0, UTIME_OMIT), (7, 8)))
    seen.append((file.stat().st_atime_ns, file.stat().st_mtime_ns))
    watch(lambda: utimensat(file, (0, UTIME_OMIT), (0, UTIME_OMIT)))
    watch(lambda: utimensat(file, (0, UTIME_NOW), (0, UTIME_OMIT)))
    seen.append(file.stat().st_mtime_ns)
    watch(lambda: utimensat(file, (0, UTIME_OMIT), (0, UTIME_NOW)))
    watch(lambda: utimensat(file, (-5, 0), (-7, 500)))
    seen.append((file.stat().st_atime_ns, file.stat().st_mtime_ns))
    watch(lambda: utimensat(file, (4_000_000_000, 1), (4_100_000_000, 2)))
    seen.append((file.stat().st_atime_ns, file.stat().st_mtime_ns))
    watch(lambda: written(file, b"w", os.O_WRONLY))
    watch(lambda: [attempt(os.rename, file, d / "x"), attempt(os.rename, d / "x", file)])
    watch(lambda: attempt(os.chmod, file, 0o666))
    watch(lambda: written(file, b"", os.O_WRONLY | os.O_TRUNC))
    who_other = who.other
    seen.append(who_other.does(lambda: utimensat(file, (1, 1), (1, 1))))
    seen.append(who_other.does(lambda: utimensat(file, (0, UTIME_NOW), (0, UTIME_NOW))))
    seen.append(who_other.does(lambda: utimensat(file, (0, UTIME_OMIT), (0, UTIME_NOW))))
    seen.append(who_other.does(lambda: attempt(os.utime, file)))
    file.chmod(0o644)
    seen.append(who_other.does(lambda: utimensat(file, (0, UTIME_NOW), (0, UTIME_NOW))))
    seen.append(who_other.does(lambda: utimensat(file, (1, 1), (1, 1))))
    seen.append(who_other.does(lambda: utimensat(file, (0, UTIME_OMIT), (0, UTIME_OMIT))))
    seen.append(utimensat(d / "missing", (1, 1), (1, 1)))
    seen.append(utimensat(file, (0, 1_000_000_000), (0, 0)))
    seen.append(who.owner.does(lambda: utimensat(file, (9, 9), (9, 9))))
    (d / "link").symlink_to("file")
    os.utime(d / "link", ns=(11, 12), follow_symlinks=False)
    seen.append(((d / "link").lstat().st_mtime_ns, file.stat().st_mtime_ns))
    os.utime(d, ns=(13, 14))
    seen.append((d.stat().st_atime_ns, d.stat().st_mtime_ns))
    return seen


def times_of_folders(d: Path, who: People) -> list[Any]:
    """Making, removing and renaming a name moves mtime and ctime of its folder, and no more."""
    (d / "a").mkdir()
    (d / "b").mkdir()
    put(d / "a" / "kept")
    seen: list[Any] = []

    def watch(label: str, action: Any) -> None:
        before = [(d / n).stat() for n in ("a", "b", ".")]
        time.sleep(TICK)
        outcome = action()
        after = [(d / n).stat() for n in ("a", "b", ".")]
        moved = [
            (y.st_mtime_ns > x.st_mtime_ns, y.st_ctime_ns > x.st_ctime_ns)
            for x, y in zip(before, after, strict=True)
        ]
        seen.append((label, outcome, moved))

    a, b = d / "a", d / "b"
    watch("create", lambda: written(a / "file"))
    watch("write", lambda: written(a / "file", b"more", os.O_WRONLY))
    watch("excl", lambda: written(a / "excl", b"", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    watch("excl again", lambda: opened(a / "excl", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    watch("chmod", lambda: attempt(os.chmod, a / "file", 0o600))
    watch("mkdir", lambda: attempt(os.mkdir, a / "sub"))
    watch("mkdir again", lambda: attempt(os.mkdir, a / "sub"))
    watch("deeper", lambda: written(a / "sub" / "deep"))
    watch("symlink", lambda: attempt(os.symlink, "x", a / "link"))
    watch("mkfifo", lambda: attempt(os.mkfifo, a / "fifo"))
    watch("rename", lambda: attempt(os.rename, a / "file", a / "renamed"))
    watch("rename away", lambda: attempt(os.rename, a / "renamed", b / "file"))
    watch("rename over", lambda: attempt(os.rename, a / "excl", b / "file"))
    watch("rename missing", lambda: attempt(os.rename, a / "missing", b / "file"))
    watch("unlink", lambda: attempt(os.unlink, b / "file"))
    watch("unlink missing", lambda: attempt(os.unlink, b / "file"))
    watch("rmdir full", lambda: attempt(os.rmdir, a / "sub"))
    watch("unlink deeper", lambda: attempt(os.unlink, a / "sub" / "deep"))
    watch("rename folder", lambda: attempt(os.rename, a / "sub", b / "sub"))
    watch("rmdir", lambda: attempt(os.rmdir, b / "sub"))
    watch("listing", lambda: sorted(os.listdir(a)))
    watch("chmod folder", lambda: attempt(os.chmod, a, 0o700))
    os.utime(a, ns=(1, 2))
    seen.append(a.stat().st_mtime_ns)
    time.sleep(0.3)
    seen.append(a.stat().st_mtime_ns)
    put(a / "later")
    stamp = a.stat().st_mtime_ns
    time.sleep(0.3)
    seen.append(a.stat().st_mtime_ns == stamp)
    seen.append(stamp > 2)
    return seen
