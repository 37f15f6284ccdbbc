"""What modes of files and folders let whom do."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    People,
    User,
    attempt,
    opened,
    put,
    written,
)


def open_permissions(d: Path, who: People) -> list[Any]:
    seen: list[Any] = []
    for mode in (0o000, 0o100, 0o200, 0o400, 0o444, 0o222, 0o666, 0o060, 0o006, 0o040, 0o004):
        file = d / f"{mode:o}"
        who.owner.does(partial(written, file))
        file.chmod(mode)
        for user in (who.owner, who.other, User(who.other.uid, who.owner.gid)):
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                seen.append((oct(mode), user.does(partial(opened, file, flags))))
    member = User(who.other.uid, who.other.gid, (who.owner.gid,))
    seen.append(member.does(lambda: opened(d / "60", os.O_RDWR)))
    seen.append(member.does(lambda: opened(d / "6", os.O_RDWR)))
    return seen


def folder_permissions(d: Path, who: People) -> list[Any]:
    seen: list[Any] = []
    (d / "sub").mkdir()
    os.chown(d / "sub", who.owner.uid, who.owner.gid)
    who.owner.does(lambda: str(put(d / "sub" / "file")))
    for mode in (0o777, 0o755, 0o733, 0o711, 0o744, 0o700, 0o722, 0o770):
        (d / "sub").chmod(mode)

        def tries(mode: int = mode) -> list[Any]:
            sub = d / "sub"
            return [
                attempt(os.listdir, sub),
                attempt(lambda: os.stat(sub / "file").st_size),
                opened(sub / "file", os.O_RDONLY),
                opened(sub / "missing", os.O_RDONLY),
                opened(sub / f"new{mode:o}", os.O_CREAT | os.O_WRONLY),
                attempt(os.mkdir, sub / f"dir{mode:o}"),
                attempt(os.symlink, "x", sub / f"link{mode:o}"),
                attempt(os.mkfifo, sub / f"fifo{mode:o}"),
                attempt(os.rename, sub / "file", sub / "moved"),
                attempt(os.rename, sub / "moved", sub / "file"),
                attempt(os.rmdir, sub / f"dir{mode:o}"),
                attempt(os.unlink, sub / f"new{mode:o}"),
                attempt(os.unlink, sub / f"link{mode:o}"),
                attempt(os.unlink, sub / f"fifo{mode:o}"),
            ]

        seen += [(oct(mode), tries_of) for tries_of in who.other.does(tries)]
    return seen
