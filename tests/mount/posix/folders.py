"""mkdir(2), rmdir(2) and sticky folders."""

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


def mkdir_rmdir_calls(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    (d / "link").symlink_to("sub")
    seen = [
        attempt(os.mkdir, d / "sub"),
        attempt(os.mkdir, d / "sub"),
        attempt(os.mkdir, file),
        attempt(os.mkdir, d / "link"),
        attempt(os.mkdir, file / "x"),
        attempt(os.mkdir, d / "missing" / "x"),
        attempt(os.mkdir, d / ("n" * 256)),
        attempt(os.mkdir, str(d / "slash") + "/"),
        attempt(os.rmdir, file),
        attempt(os.rmdir, d / "missing"),
        attempt(os.rmdir, d / "link"),
        attempt(os.rmdir, str(d / "sub") + "/."),
        attempt(os.rmdir, str(d / "sub") + "/.."),
        written(d / "sub" / "x"),
        attempt(os.rmdir, d / "sub"),
        attempt(os.unlink, d / "sub"),
        attempt(os.unlink, d / "sub" / "x"),
        who.other.does(lambda: attempt(os.rmdir, d / "sub")),
        attempt(os.rmdir, d / "sub"),
        attempt(os.rmdir, d / "sub"),
        sorted(os.listdir(d)),
    ]
    (d / "gone").mkdir()
    holder = os.open(d / "gone", os.O_RDONLY)
    os.rmdir(d / "gone")
    seen += [
        attempt(lambda: os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=holder))),
        attempt(os.mkdir, "x", dir_fd=holder),
        attempt(os.listdir, holder),
        attempt(lambda: stat.S_ISDIR(os.fstat(holder).st_mode)),
    ]
    os.close(holder)
    return seen


def sticky_folder(d: Path, who: People) -> list[Any]:
    owner, other = who.owner, who.other
    (d / "tmp").mkdir()
    (d / "tmp").chmod(0o1777)
    tmp = d / "tmp"
    owner.does(lambda: str(put(tmp / "owners")))
    owner.does(lambda: os.mkdir(tmp / "owners-dir"))
    seen = other.does(
        lambda: [
            written(tmp / "others"),
            attempt(os.unlink, tmp / "owners"),
            attempt(os.rmdir, tmp / "owners-dir"),
            attempt(os.rename, tmp / "owners", tmp / "x"),
            attempt(os.rename, tmp / "others", tmp / "owners"),
            attempt(os.rename, tmp / "others", tmp / "mine"),
            attempt(os.unlink, tmp / "mine"),
            sorted(os.listdir(tmp)),
        ]
    )
    os.chown(tmp, owner.uid, owner.gid)
    other.does(lambda: str(put(tmp / "others2")))
    seen.append(owner.does(lambda: attempt(os.unlink, tmp / "others2")))
    seen.append(attempt(os.unlink, tmp / "owners"))
    return list(seen)
