"""open(2): flags, truncating, appending, access modes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    People,
    attempt,
    opened,
    put,
    written,
)


def open_flags(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    (d / "sub").mkdir()
    (d / "link").symlink_to("file")
    (d / "dangling").symlink_to("nowhere")
    (d / "loop").symlink_to("loop")
    (d / "to-sub").symlink_to("sub")
    create, write = os.O_CREAT, os.O_WRONLY
    return [
        opened(file, os.O_RDONLY),
        opened(d / "missing", os.O_RDONLY),
        opened(file, create | os.O_EXCL | write),
        opened(d / "dangling", create | os.O_EXCL | write),
        opened(d / "link", create | os.O_EXCL | write),
        opened(d / "sub", create | os.O_EXCL | write),
        opened(d / "sub", write),
        opened(d / "sub", os.O_RDWR),
        opened(d / "sub", os.O_RDONLY),
        opened(d / "sub", create | os.O_RDONLY),
        opened(d / "sub", os.O_RDONLY | os.O_TRUNC),
        opened(file, os.O_DIRECTORY),
        opened(d / "to-sub", os.O_DIRECTORY),
        opened(d / "to-sub", os.O_DIRECTORY | os.O_NOFOLLOW),
        opened(d / "link", os.O_NOFOLLOW),
        opened(d / "link", os.O_NOFOLLOW | os.O_PATH),
        opened(d / "loop", os.O_RDONLY),
        opened(d / "dangling", os.O_RDONLY),
        opened(file / "below", os.O_RDONLY),
        opened(file / "below", create | write),
        opened(d / "missing" / "below", create | write),
        opened(d / ("n" * 255), create | write),
        opened(d / ("n" * 256), create | write),
        opened(d / ("n" * 256), os.O_RDONLY),
        opened(d / "dangling", create | write),
        (d / "nowhere").exists(),
        attempt(os.open, str(d / "file") + "/", os.O_RDONLY),
        attempt(os.open, str(d / "new") + "/", create | write, 0o644),
        opened(d, os.O_TMPFILE | os.O_RDWR) in ("ok", "ENOTSUP"),
        sorted(os.listdir(d)),
    ]


def open_truncate_append(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"0123456789")
    seen: list[Any] = [written(file, b"ab", os.O_WRONLY | os.O_TRUNC), file.read_bytes()]
    seen += [written(file, b"cd", os.O_WRONLY | os.O_APPEND), file.read_bytes()]
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND)
    seen.append(os.pread(descriptor, 9, 0))
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"ef")
    seen.append(os.lseek(descriptor, 0, os.SEEK_CUR))
    os.pwrite(descriptor, b"gh", 0)  # Linux appends here too
    os.ftruncate(descriptor, 3)
    os.write(descriptor, b"ij")
    os.close(descriptor)
    seen += [file.read_bytes(), opened(file, os.O_RDONLY | os.O_TRUNC), file.stat().st_size]
    file.write_bytes(b"full")
    file.chmod(0o444)
    seen.append(who.other.does(lambda: opened(file, os.O_WRONLY | os.O_TRUNC)))
    seen.append(who.other.does(lambda: opened(file, os.O_RDONLY | os.O_TRUNC)))
    seen.append(file.read_bytes())
    first = os.open(d / "two", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    second = os.open(d / "two", os.O_WRONLY | os.O_APPEND)
    for number in range(10):
        os.write(first if number % 2 else second, b"%d" % number)
    os.close(first)
    os.close(second)
    seen.append((d / "two").read_bytes())
    return seen


def open_access_modes(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"data")
    read_only = os.open(file, os.O_RDONLY)
    write_only = os.open(file, os.O_WRONLY)
    path_only = os.open(file, os.O_PATH)
    seen = [
        attempt(os.write, read_only, b"x"),
        attempt(os.read, write_only, 1),
        attempt(os.read, path_only, 1),
        attempt(os.ftruncate, read_only, 0),
        attempt(os.ftruncate, path_only, 0),
        attempt(os.fchmod, path_only, 0o600),
        attempt(os.ftruncate, write_only, -1),
        attempt(os.pread, read_only, 4, 100),
        attempt(os.lseek, read_only, -1, os.SEEK_SET),
        os.fstat(path_only).st_size,
    ]
    for descriptor in (read_only, write_only, path_only):
        os.close(descriptor)
    return seen
