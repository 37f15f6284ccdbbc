"""What holds for files of every kind: renaming one over another, removing, counting links; and what
writing by others does to set-id bits."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import TICK, People, User, attempt, mode_of, put, written

NULL = os.makedev(1, 3)


def _socket(path: Path) -> None:
    # The address of a socket holds 108 bytes only: the folder is entered by a descriptor.
    holder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{holder}/{path.name}")
    finally:
        os.close(holder)


MAKERS: dict[str, Callable[[Path], object]] = {
    "file": put,
    "folder": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "socket": _socket,
    "character": lambda path: os.mknod(path, stat.S_IFCHR | 0o644, NULL),
    "link": lambda path: path.symlink_to("nowhere"),
}


def _take_away(path: Path) -> None:
    if not path.is_symlink() and path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def renaming_each_over_each(d: Path, who: People) -> list[Any]:
    seen: list[Any] = []
    old, new = d / "old", d / "new"
    for kind, make in MAKERS.items():
        for other, make_other in MAKERS.items():
            make(old)
            make_other(new)
            number = old.lstat().st_ino
            answer = attempt(os.rename, old, new)
            moved = new.lstat().st_ino == number
            seen.append((kind, other, answer, moved, mode_of(new)[0], new.lstat().st_nlink))
            _take_away(old)
            _take_away(new)
    return seen


def removing_each(d: Path, who: People) -> list[Any]:
    """By whom, out of whose folder, sticky or not; of root's files and the users' own."""
    seen: list[Any] = []
    folder = d / "folder"
    people = {0: User(0, 0), 1: who.owner, 2: who.other}
    for mode in (0o1777, 0o777):
        for keeper, maker in ((k, m) for k in people for m in people):
            folder.mkdir()
            os.chown(folder, people[keeper].uid, people[keeper].gid)
            folder.chmod(mode)
            for kind in ("file", "folder"):
                MAKERS[kind](folder / kind)
                os.chown(folder / kind, people[maker].uid, people[maker].gid, follow_symlinks=False)

            def tries() -> list[Any]:
                return [
                    attempt(os.rename, folder / "file", folder / "moved"),
                    attempt(os.unlink, folder / "moved"),
                    attempt(os.rmdir, folder / "folder"),
                ]

            seen.append((oct(mode), keeper, maker, who.other.does(tries)))
            for path in list(folder.iterdir()):
                _take_away(path)
            folder.rmdir()
    return seen


def links_of_folders(d: Path, who: People) -> list[Any]:
    """A folder has a link for each folder in it."""
    for name in ("a", "b", "a/x", "a/y", "b/z"):
        (d / name).mkdir()

    def counts() -> list[int]:
        return [(d / name).stat().st_nlink for name in (".", "a", "b")]

    seen: list[Any] = [counts()]
    put(d / "a" / "file")
    seen.append(counts())
    for old, new in (("a/x", "b/x"), ("b/x", "b/z"), ("a/file", "b/file"), ("a/y", "a/yy")):
        seen.append((attempt(os.rename, d / old, d / new), counts()))
        os.listdir(d / "b")
        seen.append(counts())
    for name in ("a/yy", "a", "b/z"):
        seen.append(attempt(os.rmdir, d / name))
    return [*seen, d.stat().st_nlink, (d / "b").stat().st_nlink]


def what_is_open_and_gone(d: Path, who: People) -> list[Any]:
    seen: list[Any] = []
    takers: list[Callable[[Path], object]] = [os.unlink, lambda p: os.rename(put(d / "over"), p)]
    for take in takers:
        file = put(d / "file")
        descriptor = os.open(file, os.O_RDWR)
        before = os.fstat(descriptor)
        time.sleep(TICK)
        take(file)
        after = os.fstat(descriptor)
        seen.append((after.st_nlink, after.st_ctime_ns > before.st_ctime_ns))
        seen.append(after.st_mtime_ns == before.st_mtime_ns)
        os.fchmod(descriptor, 0o4640)
        os.fchown(descriptor, who.owner.uid, who.other.gid)
        os.utime(descriptor, ns=(5, 6))
        found = os.fstat(descriptor)
        seen.append((oct(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns))
        seen.append(attempt(os.setxattr, descriptor, b"user.a", b"b"))
        seen.append(attempt(os.getxattr, descriptor, b"user.a"))
        seen.append((os.write(descriptor, b"abc"), os.pread(descriptor, 3, 0)))
        seen.append(attempt(os.ftruncate, descriptor, 1))
        seen.append((os.fstat(descriptor).st_size, attempt(os.fsync, descriptor)))
        os.close(descriptor)
    return seen


def set_id_bits_and_writers(d: Path, who: People) -> list[Any]:
    """Whoever may write to a setuid or setgid file can, and takes the bits away."""
    seen: list[Any] = []
    file = d / "file"
    member = User(who.other.uid, who.other.gid, (who.owner.gid,))
    for mode in (0o4777, 0o2767):
        for maker in (User(0, 0), who.owner):
            for user in (who.other, member):
                actions: list[Callable[[], Any]] = [
                    partial(written, file, b"x", os.O_WRONLY),
                    partial(written, file, b"", os.O_WRONLY | os.O_TRUNC),
                    partial(attempt, os.truncate, file, 3),
                ]
                for action in actions:
                    put(file)
                    os.chown(file, maker.uid, maker.gid)
                    file.chmod(mode)
                    answer = user.does(action)
                    seen.append((oct(mode), maker.uid, answer, mode_of(file), file.stat().st_size))
                    file.unlink()
    return seen


def group_changes_by_others(d: Path, who: People) -> list[Any]:
    """A group that the calling process is in, and that it is not in."""
    seen: list[Any] = []
    file = put(d / "file")
    in_two = User(who.owner.uid, who.other.gid, (4242,))
    for mode in (0o2644, 0o6755, 0o4711):
        for group in (who.other.gid, 4242, 4243):
            os.chown(file, who.owner.uid, who.owner.gid)
            file.chmod(mode)
            seen.append(in_two.does(partial(attempt, os.chown, file, -1, group)))
            found = file.stat()
            seen.append((found.st_uid, found.st_gid, mode_of(file)))
    return seen
