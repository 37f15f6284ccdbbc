"""The cases of the POSIX table, by system call. Each returns a list of what it saw."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.mount.posix_kit import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    UTIME_NOW,
    UTIME_OMIT,
    People,
    User,
    attempt,
    fallocate,
    mode_of,
    opened,
    owner_of,
    renameat2,
    utimensat,
    written,
)

TICK = 0.012  # more than the clock of any local filesystem takes to move on


def put(path: Path, data: bytes = b"content") -> Path:
    path.write_bytes(data)
    return path


# open(2)


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


# write, truncate, holes, fallocate, mmap, locks


def truncate_calls(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"0123456789")
    (d / "sub").mkdir()
    os.mkfifo(d / "fifo")
    (d / "link").symlink_to("file")
    seen = [
        attempt(os.truncate, file, 4),
        file.read_bytes(),
        attempt(os.truncate, d / "link", 6),
        file.read_bytes(),
        attempt(os.truncate, d / "sub", 0),
        attempt(os.truncate, d / "missing", 0),
        attempt(os.truncate, d / "fifo", 0),
        attempt(os.truncate, file, -1),
        attempt(os.truncate, file / "x", 0),
        who.other.does(lambda: attempt(os.truncate, file, 0)),
        file.stat().st_size,
    ]
    file.chmod(0o666)
    seen.append(who.other.does(lambda: attempt(os.truncate, file, 2)))
    seen.append(file.read_bytes())
    before = file.stat()
    time.sleep(TICK)
    os.truncate(file, 2)
    after = file.stat()
    seen.append((after.st_mtime_ns > before.st_mtime_ns, after.st_ctime_ns > before.st_ctime_ns))
    return seen


def holes(d: Path, who: People) -> list[Any]:
    file = d / "file"
    with file.open("wb") as stream:
        stream.seek(100_000)
        stream.write(b"end")
        stream.truncate(200_000)
        stream.seek(300_000)
        stream.write(b"z")
    content = file.read_bytes()
    with file.open("rb") as stream:
        ends = [os.lseek(stream.fileno(), 0, os.SEEK_END)]
        ends.append(attempt(os.lseek, stream.fileno(), 300_001, os.SEEK_DATA))
        ends.append(os.lseek(stream.fileno(), 300_000, os.SEEK_HOLE))
    return [len(content), content.count(0), content[100_000:100_003], content[-1:], ends]


def fallocate_calls(d: Path, who: People) -> list[Any]:
    descriptor = os.open(d / "file", os.O_CREAT | os.O_RDWR, 0o644)
    os.write(descriptor, b"x" * 5000)
    seen = [
        fallocate(descriptor, 0, 0, 10_000) in ("ok", "ENOTSUP"),
        attempt(os.posix_fallocate, descriptor, 0, 20_000),
        os.fstat(descriptor).st_size,
        attempt(os.posix_fallocate, descriptor, 0, 0),
        attempt(os.posix_fallocate, descriptor, -1, 10),
        os.pread(descriptor, 3, 4998),
    ]
    os.close(descriptor)
    return [*seen, (d / "file").stat().st_size]


def mmap_shared(d: Path, who: People) -> list[Any]:
    file = put(d / "file", bytes(10_000))
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
        view[5000:5004] = b"mmap"
        view.flush()
        seen: list[Any] = [os.pread(stream.fileno(), 4, 5000)]
        os.pwrite(stream.fileno(), b"file", 100)
        seen.append(view[100:104])
        view[9000:9003] = b"end"
    seen.append(file.read_bytes()[5000:5004] + file.read_bytes()[9000:9003])
    with file.open("rb") as held, mmap.mmap(held.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        view[0:4] = b"priv"
        seen.append(file.read_bytes()[0:4])
    return seen


def locks(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    with file.open("r+b") as first, file.open("r+b") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        seen = [attempt(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)]
        fcntl.flock(first, fcntl.LOCK_UN)
        seen.append(attempt(fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB))
        fcntl.lockf(first, fcntl.LOCK_EX, 10, 0)

        def in_child() -> list[Any]:
            with file.open("r+b") as third:
                return [
                    attempt(fcntl.lockf, third, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5),
                    attempt(fcntl.lockf, third, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 10),
                ]

        file.chmod(0o666)
        seen += who.other.does(in_child)
    return seen


# mode, owner, times


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


def chown_calls(d: Path, who: People) -> list[Any]:
    owner, other = who.owner, who.other
    file = Path(owner.does(lambda: str(put(d / "file"))))
    (d / "link").symlink_to("file")
    member = User(owner.uid, owner.gid, (other.gid,))
    seen = [
        owner.does(lambda: attempt(os.chown, file, other.uid, -1)),
        owner.does(lambda: attempt(os.chown, file, -1, other.gid)),
        owner.does(lambda: attempt(os.chown, file, owner.uid, owner.gid)),
        owner.does(lambda: attempt(os.chown, file, -1, -1)),
        other.does(lambda: attempt(os.chown, file, other.uid, other.gid)),
        other.does(lambda: attempt(os.chown, file, -1, -1)),
        owner_of(file),
        attempt(os.chown, file, other.uid, other.gid),
        owner_of(file),
        attempt(os.chown, file, owner.uid, -1),
        attempt(os.chown, file, -1, owner.gid),
        owner_of(file),
        attempt(os.lchown, d / "link", other.uid, other.gid),
        (owner_of(d / "link"), owner_of(file)),
        attempt(os.chown, file, 0, 0),
        owner_of(file),
        attempt(os.chown, file, 54321, 54322),
        owner_of(file),
        attempt(os.chown, d / "missing", 1, 1),
        attempt(os.chown, d, other.uid, other.gid),
        owner_of(d),
    ]
    before = file.stat()
    time.sleep(TICK)
    os.chown(file, 54321, 54322)
    seen.append(file.stat().st_ctime_ns > before.st_ctime_ns)
    seen.append((member.gid, member.groups) == (owner.gid, (other.gid,)))
    return seen


def chgrp_by_member(d: Path, who: People) -> list[Any]:
    member = User(who.owner.uid, who.owner.gid, (who.other.gid,))
    file = Path(member.does(lambda: str(put(d / "file"))))
    return [member.does(lambda: attempt(os.chown, file, -1, who.other.gid)), owner_of(file)]


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


# names


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


def link_and_symlink_calls(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    (d / "a").symlink_to("b")
    (d / "b").symlink_to("a")
    seen = [
        attempt(os.symlink, "file", file),
        attempt(os.symlink, "file", d / "link"),
        attempt(os.symlink, "", d / "empty"),
        attempt(os.symlink, "t" * 1000, d / "long"),
        attempt(os.readlink, d / "long"),
        attempt(os.symlink, "t" * 4095, d / "longest") in ("ok", "ENAMETOOLONG"),
        attempt(os.symlink, "t" * 4096, d / "too-long"),
        attempt(os.symlink, "x", d / ("n" * 256)),
        attempt(os.readlink, file),
        attempt(os.readlink, d / "missing"),
        attempt(os.readlink, d),
        attempt(os.stat, d / "a"),
        attempt(os.lstat, d / "a"),
        (d / "link").lstat().st_size,
        (d / "link").read_bytes(),
        mode_of(d / "link"),
        attempt(os.link, d / "missing", d / "x"),
        attempt(os.link, file, d / "link"),
        attempt(os.symlink, b"\xc3\xa4\xe2\x82\xac", os.fsencode(d / "utf")),
        os.readlink(os.fsencode(d / "utf")),
        attempt(os.unlink, d / "link"),
        file.exists(),
    ]
    chain = d / "file"
    for number in range(45):
        link = d / f"chain{number}"
        link.symlink_to(chain.name)
        chain = link
    seen += [opened(d / "chain30", os.O_RDONLY), opened(d / "chain44", os.O_RDONLY)]
    return seen


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


def rename_calls(d: Path, who: People) -> list[Any]:
    def fresh() -> Path:
        fresh.number += 1  # type: ignore[attr-defined]
        sub = d / str(fresh.number)  # type: ignore[attr-defined]
        sub.mkdir()
        put(sub / "f", b"f")
        put(sub / "g", b"g")
        (sub / "empty").mkdir()
        (sub / "full").mkdir()
        put(sub / "full" / "x")
        (sub / "l").symlink_to("f")
        os.mkfifo(sub / "p")
        return sub

    fresh.number = 0  # type: ignore[attr-defined]
    pairs = [
        ("f", "new"), ("f", "g"), ("f", "f"), ("f", "empty"), ("f", "full"), ("f", "l"),
        ("f", "p"), ("f", "missing/x"), ("f", "g/x"), ("f", "n" * 256), ("missing", "new"),
        ("empty", "new"), ("empty", "full"), ("full", "empty"), ("empty", "f"), ("full", "f"),
        ("full", "l"), ("full", "full/in"), ("full", "full/in/deeper"), ("full", "full"),
        ("full/x", "full"), ("full", "new/"), ("f", "new/"), ("l", "new"), ("l", "f"), ("l", "g"),
        ("p", "f"), ("p", "new"), ("full/x", "x"), ("f", "full/x"), (".", "new"), ("f", "."),
        ("full/.", "new"), ("full", "empty/."), ("full/x", "empty/x"), ("empty", "l"),
        ("full", "full/x"), ("f/", "new"), ("l/", "new"), ("full/", "new"), ("full", "empty/"),
    ]  # fmt: skip
    seen: list[Any] = []
    for old, new in pairs:
        sub = fresh()
        outcome = attempt(os.rename, f"{sub}/{old}", f"{sub}/{new}")
        found = sorted(
            (str(p.relative_to(sub)), mode_of(p)) for p in sub.rglob("*") if p.name != "n" * 256
        )
        contents = [(p.name, p.read_bytes()) for p in sorted(sub.rglob("*")) if p.is_file()]
        seen.append(((old[:20], new[:20]), outcome, found, contents))
    for flags in (RENAME_NOREPLACE, RENAME_NOREPLACE | RENAME_EXCHANGE, 64):
        for old, new in (("f", "new"), ("f", "g"), ("full", "empty"), ("f", "f"), ("no", "f")):
            sub = fresh()
            outcome = renameat2(sub / old, sub / new, flags)
            seen.append((flags, old, new, outcome, sorted(os.listdir(sub))))
    return seen


def rename_open_files(d: Path, who: People) -> list[Any]:
    source, target = put(d / "source", b"source"), put(d / "target", b"target")
    with source.open("r+b") as held_source, target.open("r+b") as held_target:
        held_source.write(b"S")
        held_source.flush()
        os.rename(source, target)
        held_source.seek(0, os.SEEK_END)
        held_source.write(b"+")
        held_source.flush()
        held_target.write(b"T")
        held_target.flush()
        held_target.seek(0)
        seen: list[Any] = [
            held_target.read(),
            os.fstat(held_target.fileno()).st_nlink,
            os.fstat(held_source.fileno()).st_nlink,
            target.stat().st_ino == os.fstat(held_source.fileno()).st_ino,
        ]
    seen += [target.read_bytes(), sorted(os.listdir(d))]
    (d / "dir").mkdir()
    with put(d / "dir" / "inside", b"inside").open("r+b") as held:
        held.write(b"IN")
        held.flush()
        os.rename(d / "dir", d / "moved")
        held.seek(0, os.SEEK_END)
        held.write(b"!")
    seen.append((d / "moved" / "inside").read_bytes())
    return seen


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


# directories


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


ALL = tuple(
    value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__ and name != "put"
)
