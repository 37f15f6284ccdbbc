"""readdir(3), names of all kinds and inode numbers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    People,
    attempt,
    put,
    written,
)


def odd_names(d: Path, who: People) -> list[Any]:
    names = [
        b"-rf", b" ", b"a b", b"tab\there", b"new\nline", b"quote'\"", b"\\back", b"*?[", b"~",
        b"%2F", b"a+b", b"\x01", b"\x7f", "ümläut".encode(), "日本語".encode(), b".hidden", b"...",
        b"a.", b"&<>;", b"#", "e\u0301".encode(), "\u00e9".encode(),
        b"CON", b"a:b", b"\xef\xbf\xbd",
    ]  # fmt: skip
    base = os.fsencode(d)
    seen = [written(Path(os.fsdecode(base + b"/" + name)), name) for name in names]
    time.sleep(0.3)
    seen.append(sorted(os.listdir(base)) == sorted(names))
    for name in names:
        with open(base + b"/" + name, "rb") as stream:
            seen.append(stream.read() == name)
        seen.append(attempt(os.rename, base + b"/" + name, base + b"/r" + name))
        seen.append(attempt(os.unlink, base + b"/r" + name))
    for name in names:
        seen.append(attempt(os.mkdir, base + b"/" + name))
        seen.append(attempt(os.rmdir, base + b"/" + name))
    return [*seen, os.listdir(d)]


def reading_folders(d: Path, who: People) -> list[Any]:
    for number in range(300):
        (d / f"{number:03}").mkdir() if number % 50 == 0 else put(d / f"{number:03}", b"")
    first = sorted(os.listdir(d))
    with os.scandir(d) as entries:
        names = []
        for position, entry in enumerate(entries):
            names.append(entry.name)
            if position == 10:
                for number in range(100, 200):
                    path = d / f"{number:03}"
                    path.rmdir() if path.is_dir() else path.unlink()
                put(d / "new", b"")
    steady = {f"{number:03}" for number in (*range(100), *range(200, 300))}
    after = sorted(os.listdir(d))
    kinds = {e.name: (e.is_dir(follow_symlinks=False), e.inode()) for e in os.scandir(d)}
    return [
        len(first),
        steady <= set(names),
        len(names) == len(set(names)),
        len(after),
        all(kinds[n][0] == (int(n) % 50 == 0) for n in steady),
        all(kinds[n][1] == (d / n).lstat().st_ino for n in steady),
        sum(1 for n in after if n.startswith("1")),
    ]


def inodes(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    number = file.stat().st_ino
    file.write_bytes(b"changed")
    seen: list[Any] = [file.stat().st_ino == number]
    os.rename(file, d / "renamed")
    seen.append((d / "renamed").stat().st_ino == number)
    put(d / "second")
    seen.append((d / "second").stat().st_ino != number)
    time.sleep(0.4)
    seen.append((d / "renamed").stat().st_ino == number)
    with (d / "renamed").open("r+b") as held:
        os.unlink(d / "renamed")
        put(d / "renamed", b"other")
        seen.append((d / "renamed").stat().st_ino != os.fstat(held.fileno()).st_ino)
        time.sleep(0.4)
        seen.append(os.fstat(held.fileno()).st_ino == number)
    return seen
