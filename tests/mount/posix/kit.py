"""One script of system calls, run on the mount and on a local filesystem: both must answer alike.

A case is a function of an empty folder that returns what it saw: errno names, modes, contents.
The oracle is what the kernel and the host's own filesystem do with the same calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import stat
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
TICK = 0.012  # seconds: more than the clock of any local filesystem takes to move on

_LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What the call returned (``ok`` for what no two filesystems answer alike), or its errno."""
    try:
        result = function(*arguments, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return result if type(result) in (str, bytes, bool, tuple, list) else "ok"


def put(path: Path, data: bytes = b"content") -> Path:
    """A new file with this content."""
    path.write_bytes(data)
    return path


def opened(path: Path, flags: int, mode: int = 0o666) -> Any:
    """Open and close; ``ok`` or the errno."""

    def call() -> None:
        os.close(os.open(path, flags, mode))

    return attempt(call)


def written(path: Path, data: bytes = b"x", flags: int = os.O_WRONLY | os.O_CREAT) -> Any:
    """Open, write, close; ``ok`` or the errno."""

    def call() -> None:
        descriptor = os.open(path, flags, 0o666)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    return attempt(call)


def mode_of(path: Path) -> str:
    """Type and permission bits, as `ls` shows them."""
    return stat.filemode(path.lstat().st_mode)


def owner_of(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def renameat2(old: Path, new: Path, flags: int) -> str:
    """renameat2(2): ``ok`` or the errno."""
    done = _LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)
    return "ok" if done == 0 else errno.errorcode[ctypes.get_errno()]


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> str:
    """fallocate(2): ``ok`` or the errno."""
    call = _LIBC.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return "ok" if call(descriptor, mode, offset, length) == 0 else _last_error()


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def utimensat(path: Path, atime: tuple[int, int], mtime: tuple[int, int]) -> str:
    """utimensat(2) with seconds and nanoseconds, or UTIME_NOW and UTIME_OMIT for these."""
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    done = _LIBC.utimensat(AT_FDCWD, os.fsencode(path), times, 0)
    return "ok" if done == 0 else _last_error()


def _last_error() -> str:
    return errno.errorcode[ctypes.get_errno()]


@dataclass(frozen=True, slots=True)
class User:
    """Whom a part of a case runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def does(self, action: Callable[[], Any]) -> Any:
        """Run ``action`` in a child process with these ids; what it returned."""
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            answer: tuple[bool, Any]
            try:
                os.setgroups(self.groups)
                os.setresgid(self.gid, self.gid, self.gid)
                os.setresuid(self.uid, self.uid, self.uid)
                answer = True, action()
            except BaseException:
                answer = False, traceback.format_exc()
            with os.fdopen(writable, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)
        os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            good, result = pickle.load(pipe)  # noqa: S301 - our own child's
        os.waitpid(child, 0)
        assert good, result
        return result


@dataclass(frozen=True, slots=True)
class People:
    """Two ordinary users; the folder of a case belongs to the first."""

    owner: User
    other: User


Case = Callable[[Path, People], Any]


def run_case(case: Case, parent: Path, people: People, name: str) -> Any:
    """The outcome of a case in a new folder below ``parent``, owned by the first user."""
    folder = parent / name
    folder.mkdir()
    os.chown(folder, people.owner.uid, people.owner.gid)
    folder.chmod(0o755)
    former = os.umask(0o022)
    try:
        return case(folder, people)
    finally:
        os.umask(former)


def differences(local: Sequence[Any], mounted: Sequence[Any]) -> list[str]:
    """Where two outcomes differ, for people."""
    found = [
        f"{position}: local {expected!r}, mount {got!r}"
        for position, (expected, got) in enumerate(zip(local, mounted, strict=False))
        if expected != got
    ]
    if len(local) != len(mounted):
        found.append(f"{len(local)} answers locally, {len(mounted)} on the mount")
    return found
