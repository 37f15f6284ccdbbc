"""Calls that the kernel answers over the filesystem, and ways to look at a file that few take."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    AT_FDCWD,
    People,
    attempt,
    put,
)

_LIBC = ctypes.CDLL(None, use_errno=True)
HANDLE_BYTES = 128
IN_CREATE = 0x100
NO_BLOCK = 0o4000


def _called(function: Any, *arguments: Any) -> str | int:
    """What a function of the C library returned, or its errno."""
    done = function(*arguments)
    return int(done) if done >= 0 else errno.errorcode[ctypes.get_errno()]


def _with(path: Path, flags: int, use: Callable[[int], Any]) -> Any:
    descriptor = os.open(path, flags, 0o644)
    try:
        return use(descriptor)
    finally:
        os.close(descriptor)


def odd_ways_to_open(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"0123456789" * 1000)

    def direct(descriptor: int) -> bytes:
        with mmap.mmap(-1, 4096) as page:
            return bytes(page[: os.preadv(descriptor, [page], 0)])

    def by_handle(_: int) -> Any:
        handle = (ctypes.c_uint32 * (2 + HANDLE_BYTES // 4))(HANDLE_BYTES)
        mount = ctypes.c_int()
        name = _LIBC.name_to_handle_at
        if name(AT_FDCWD, os.fsencode(file), handle, ctypes.byref(mount), 0):
            return "no handle"
        folder = os.open(d, os.O_RDONLY)
        opened = _LIBC.open_by_handle_at(folder, handle, os.O_RDONLY)
        os.close(folder)
        if opened < 0:
            return "not opened"
        found = os.read(opened, 5)
        os.close(opened)
        return found

    return [
        _with(file, os.O_RDONLY | os.O_DIRECT, direct)[:10],
        _with(file, os.O_WRONLY | os.O_SYNC, lambda f: os.write(f, b"abc")),
        _with(file, os.O_WRONLY | os.O_DSYNC, lambda f: os.pwrite(f, b"def", 5)),
        file.read_bytes()[:12],
        _with(file, os.O_PATH, lambda f: (attempt(os.read, f, 1), os.fstat(f).st_size)),
        _with(file, os.O_RDONLY | os.O_NOATIME, lambda f: os.read(f, 3)),
        _with(file, os.O_RDONLY, by_handle) if os.geteuid() == 0 else b"abc34",
    ]


def syncing(d: Path, who: People) -> list[Any]:
    def all_ways(descriptor: int) -> list[Any]:
        os.write(descriptor, b"data")
        os.sync()
        zero, some = ctypes.c_long(0), ctypes.c_long(4)
        return [
            attempt(os.fdatasync, descriptor),
            _called(_LIBC.sync_file_range, descriptor, zero, some, 7),
            _called(_LIBC.syncfs, descriptor),
            attempt(os.fsync, descriptor),
        ]

    folder = os.open(d, os.O_RDONLY)
    seen = [attempt(os.fsync, folder), attempt(os.fdatasync, folder)]
    os.close(folder)
    return [*seen, _with(d / "f", os.O_WRONLY | os.O_CREAT, all_ways), (d / "f").read_bytes()]


def seeking(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"x" * 10_000)

    def positions(descriptor: int) -> list[Any]:
        places = [(0, os.SEEK_END), (-10, os.SEEK_CUR), (20_000, os.SEEK_SET)]
        places += [(0, os.SEEK_DATA), (500, os.SEEK_DATA), (0, os.SEEK_HOLE)]
        found: list[Any] = [os.lseek(descriptor, *place) for place in places]
        found += [attempt(os.lseek, descriptor, 10_000, os.SEEK_DATA)]
        found += [attempt(os.lseek, descriptor, -1, os.SEEK_SET), os.read(descriptor, 1)]
        return found

    return [_with(file, os.O_RDONLY, positions)]


def copying_in_the_kernel(d: Path, who: People) -> list[Any]:
    source = put(d / "source", bytes(range(256)) * 40)
    into, out = os.open(d / "target", os.O_RDWR | os.O_CREAT), os.open(source, os.O_RDONLY)
    seen: list[Any] = [os.copy_file_range(out, into, 1000, 100, 0), os.sendfile(into, out, 50, 70)]
    read_end, write_end = os.pipe()
    seen += [os.splice(out, write_end, 300, 5), os.splice(read_end, into, 300)]
    for descriptor in (into, out, read_end, write_end):
        os.close(descriptor)
    return [*seen, (d / "target").read_bytes()]


def advice(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"x" * 10_000)

    def advised(descriptor: int) -> list[Any]:
        kinds = (os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED)
        seen = [attempt(os.posix_fadvise, descriptor, 0, 0, kind) for kind in kinds]
        return [*seen, _called(_LIBC.readahead, descriptor, ctypes.c_long(0), 4096)]

    return [_with(file, os.O_RDONLY, advised), file.read_bytes() == b"x" * 10_000]


def looking(d: Path, who: People) -> list[Any]:
    file = put(d / "file", b"12345")
    (d / "sub").mkdir()
    (d / "link").symlink_to("file")
    seen: list[Any] = [
        [os.access(path, mask) for mask in (os.F_OK, os.R_OK, os.W_OK, os.X_OK)]
        for path in (file, d / "sub", d / "link", d / "missing")
    ]
    seen += [os.access(file, os.W_OK, effective_ids=True), file.stat().st_size]
    seen += [(d / "link").lstat().st_size, attempt((d / "missing").stat)]

    def rooted() -> Any:
        os.chdir(d / "sub")
        at = os.getcwd() == str(d / "sub")
        if os.geteuid():
            return at, [""]
        os.chroot(d)
        os.chdir("/sub")
        return at, [os.getcwd()[5:]]

    child = os.fork()
    if not child:
        try:
            os._exit(rooted() != (True, [""]))
        finally:
            os._exit(9)
    return [*seen, os.waitpid(child, 0)[1]]


class _Entry(ctypes.Structure):
    _fields_ = (
        ("inode", ctypes.c_ulong),
        ("offset", ctypes.c_long),
        ("length", ctypes.c_ushort),
        ("kind", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


def _directory_calls() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.opendir.restype = ctypes.c_void_p
    library.readdir.restype = ctypes.POINTER(_Entry)
    library.telldir.restype = ctypes.c_long
    library.readdir.argtypes = library.telldir.argtypes = [ctypes.c_void_p]
    library.rewinddir.argtypes = library.closedir.argtypes = [ctypes.c_void_p]
    library.rewinddir.restype = None
    library.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    library.seekdir.restype = None
    return library


def positions(d: Path, who: People) -> list[Any]:
    """From each position that telldir gave, the rest follows, though names come and go meanwhile
    (removed ones may be left out); rewinddir shows what is there then."""
    count = 180
    for number in range(count):
        put(d / f"{number:03}", b"")
    library = _directory_calls()
    stream = library.opendir(os.fsencode(d))

    def following() -> list[str]:
        names: list[str] = []
        while entry := library.readdir(stream):
            names.append(entry.contents.name.decode())
        return names

    places: list[int] = []
    order: list[str] = []
    while True:
        place = library.telldir(stream)
        entry = library.readdir(stream)
        if not entry:
            break
        places.append(place)
        order.append(entry.contents.name.decode())
    for number in range(0, count, 7):
        (d / f"{number:03}").unlink()
    for number in range(50):
        put(d / f"new{number}", b"")
    gone = {f"{number:03}" for number in range(0, count, 7)}
    right: list[bool] = []
    for at in range(5, count, 17):  # the very first one is a rewinddir
        library.seekdir(stream, places[at])
        rest = [name for name in following() if not name.startswith("new") and name not in gone]
        right.append(rest == [name for name in order[at:] if name not in gone])
    library.rewinddir(stream)
    again = following()
    library.closedir(stream)
    there = {name for name in order if name not in gone} | {f"new{n}" for n in range(50)}
    return [
        sorted(order)[2:5],
        len(order),
        all(right),
        set(again) == there,
        len(again) == len(there),
    ]


def attribute_sizes(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    os.setxattr(file, "user.name", b"12345")
    os.setxattr(file, "user.empty", b"")
    path, short = os.fsencode(file), ctypes.create_string_buffer(4)
    get, names = _LIBC.getxattr, _LIBC.listxattr
    return [
        _called(get, path, b"user.name", None, 0),
        _called(get, path, b"user.name", short, 4),
        _called(get, path, b"user.empty", short, 4),
        _called(get, path, b"user.none", short, 4),
        _called(names, path, None, 0),
        _called(names, path, short, 4),
        _called(get, path, b"user." + b"n" * 251, None, 0),
        attempt(os.setxattr, file, "user.name", b"1", os.XATTR_CREATE),
        attempt(os.setxattr, file, "user.none", b"1", os.XATTR_REPLACE),
        attempt(os.setxattr, file, "user.name", b"1", 8),
        attempt(os.setxattr, file, "user.long", bytes(65_537)),
        os.getxattr(file, "user.name"),
    ]


def events(d: Path, who: People) -> list[Any]:
    file = put(d / "file")

    def leased(descriptor: int) -> Any:
        return attempt(fcntl.fcntl, descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)

    def polled(descriptor: int) -> int:
        poll = select.poll()
        poll.register(descriptor)
        return len(poll.poll(0)) + len(select.select([descriptor], [], [], 0)[0])

    watch = _LIBC.inotify_init1(NO_BLOCK)
    _LIBC.inotify_add_watch(watch, os.fsencode(d), IN_CREATE)
    put(d / "new", b"")
    time.sleep(0.05)
    heard = os.read(watch, 4096)
    os.close(watch)
    length = struct.unpack_from("iIII", heard)[3]
    return [
        _with(file, os.O_RDONLY, leased),
        _with(file, os.O_RDWR, polled),
        heard[16 : 16 + length].rstrip(b"\0"),
        _with(d, os.O_RDONLY, lambda f: attempt(fcntl.fcntl, f, fcntl.F_NOTIFY, fcntl.DN_CREATE)),
    ]


def running_programs(d: Path, who: People) -> list[Any]:
    script, binary = put(d / "script", b"#!/bin/sh\nexit 7\n"), d / "sleep"
    seen: list[Any] = [attempt(subprocess.run, [str(script)])]
    script.chmod(0o755)
    seen.append(str(subprocess.run([str(script)], check=False).returncode))
    shutil.copy("/bin/sleep", binary)
    running = subprocess.Popen([str(binary), "20"])
    time.sleep(0.3)
    seen += [attempt(os.open, binary, os.O_WRONLY), attempt(os.truncate, binary, 0)]
    running.kill()
    running.wait()
    put(d / "module.py", b"answer = 42\n")
    run = [sys.executable, "-c", "import module; print(module.answer)"]
    done = subprocess.run(run, cwd=d, env={"PYTHONPATH": str(d)}, capture_output=True, check=False)
    return [*seen, done.stdout]
