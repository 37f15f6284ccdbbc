"""chmod(2), set-id bits, umask(2) and what a setgid folder hands on."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    TICK,
    People,
    User,
    attempt,
    mode_of,
    owner_of,
    put,
    written,
)


def chmod_calls(d: Path, who: People) -> list[Any]:
    file = Path(who.owner.does(lambda: str(put(d / "file"))))
    (d / "link").symlink_to("file")
    seen = [
        who.owner.does(lambda: attempt(os.chmod, file, 0o640)),
        mode_of(file),
        who.other.does(lambda: attempt(os.chmod, file, 0o666)),
        mode_of(file),
        attempt(os.chmod, d / "link", 0o600),
        (mode_of(file), mode_of(d / "link")),
        attempt(os.chmod, d / "missing", 0o600),
        attempt(os.chmod, file / "x", 0o600),
        attempt(os.chmod, d / ("n" * 256), 0o600),
    ]
    for mode in (0o1777, 0o1755, 0o0755, 0o0000, 0o1000):
        seen.append((attempt(os.chmod, d, mode), mode_of(d)))
        seen.append((attempt(os.chmod, file, mode), mode_of(file)))
    before = file.stat()
    time.sleep(TICK)
    file.chmod(0o600)
    after = file.stat()
    seen.append((after.st_ctime_ns > before.st_ctime_ns, after.st_mtime_ns == before.st_mtime_ns))
    return seen


def set_id_bits(d: Path, who: People) -> list[Any]:
    file = Path(who.owner.does(lambda: str(put(d / "file"))))
    seen: list[Any] = []
    for mode in (0o4755, 0o2755, 0o6755, 0o2745):
        actions: list[Callable[[], Any]] = [
            lambda: who.owner.does(lambda: written(file, b"x", os.O_WRONLY)),
            lambda: who.owner.does(lambda: attempt(os.truncate, file, 1)),
            lambda: who.owner.does(lambda: attempt(os.chown, file, -1, who.owner.gid)),
            lambda: attempt(os.chown, file, who.owner.uid, who.owner.gid),
        ]
        for action in actions:
            seen.append(who.owner.does(partial(attempt, os.chmod, file, mode)))
            seen.append(mode_of(file))
            seen.append((action(), mode_of(file)))
    outsider = User(who.owner.uid, 4242)
    seen.append((outsider.does(lambda: attempt(os.chmod, file, 0o2755)), mode_of(file)))
    return seen


def umask_and_creation(d: Path, who: People) -> list[Any]:
    seen: list[Any] = []
    for mask in (0o000, 0o022, 0o077, 0o777, 0o027):

        def make(mask: int = mask) -> list[Any]:
            os.umask(mask)
            sub = d / f"{mask:o}"
            os.mkdir(sub, 0o777)
            sub.chmod(0o755)
            os.close(os.open(sub / "file", os.O_CREAT | os.O_WRONLY, 0o666))
            os.close(os.open(sub / "excl", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o777))
            os.mkfifo(sub / "fifo", 0o666)
            os.mkdir(sub / "dir", 0o777)
            os.symlink("x", sub / "link")
            os.mknod(sub / "node", 0o666 | stat.S_IFREG)
            names = ("file", "excl", "fifo", "dir", "link", "node")
            return [(n, mode_of(sub / n), owner_of(sub / n)) for n in names]

        seen += who.owner.does(make)
    seen.append(attempt(lambda: os.close(os.open(d / "ro", os.O_CREAT | os.O_WRONLY, 0o444))))
    descriptor = who.owner.does(
        lambda: written(d / "own-ro", b"data", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    )
    seen.append(descriptor)

    def write_to_read_only() -> Any:
        target = os.open(d / "none", os.O_CREAT | os.O_WRONLY, 0o000)
        os.write(target, b"written")
        os.close(target)
        return mode_of(d / "none"), os.stat(d / "none").st_size

    seen.append(who.owner.does(write_to_read_only))
    return seen


def setgid_folder(d: Path, who: People) -> list[Any]:
    group = who.other.gid
    (d / "team").mkdir()
    os.chown(d / "team", 0, group)
    (d / "team").chmod(0o2777)

    def make() -> list[Any]:
        team = d / "team"
        (team / "file").write_bytes(b"x")
        (team / "dir").mkdir()
        os.symlink("x", team / "link")
        return [(n, mode_of(team / n), owner_of(team / n)) for n in ("file", "dir", "link")]

    seen = [mode_of(d / "team"), *make()]
    member = User(who.other.uid, 4242, (group,))
    (d / "team2").mkdir()
    os.chown(d / "team2", 0, group)
    (d / "team2").chmod(0o2777)

    def make_more() -> list[Any]:
        team = d / "team2"
        (team / "file").write_bytes(b"x")
        (team / "dir").mkdir()
        (team / "dir" / "deep").mkdir()
        names = ("file", "dir", "dir/deep")
        return [(n, mode_of(team / n), owner_of(team / n)) for n in names]

    return [*seen, *member.does(make_more)]
