"""A user who does the same in two folders: the calls of a program, each made in both.

A :class:`User` is a process of that uid, so that the kernel checks its permissions. It answers
each call with what came of it in either folder, errno or value, and keeps descriptors by number.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
import stat
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 90.0  # after which a call hangs
AT_FDCWD = -100
NOREPLACE = 1
OLD = 10**18  # ns: a time before this (2001) was set, one after it is the clock's

Outcome = tuple[str, object]  # ("errno", number) or ("value", what)


class Trees:
    """The folders and the descriptors of one user, in the user's process."""

    def __init__(self, tops: Sequence[str]) -> None:
        self._tops = tops
        self._open: dict[int, list[int]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._tree = 0

    def both(self, name: str, arguments: Sequence[Any]) -> tuple[Outcome, Outcome]:
        """Make the call in the first and in the second folder."""
        outcomes: list[Outcome] = []
        for self._tree in (0, 1):
            try:
                outcomes.append(("value", getattr(self, name)(*arguments)))
            except OSError as error:
                outcomes.append(("errno", error.errno))
        return outcomes[0], outcomes[1]

    def enter(self, *folders: str) -> None:
        """Go on in these two folders, with nothing open."""
        if self._tree == 0:
            self._tops = folders
            for slot in list(self._open):
                self._forget(slot)

    def forget(self) -> None:
        """Close all descriptors, whatever comes of it: the mount has died."""
        for slot in list(self._open):
            self._forget(slot)

    def _forget(self, slot: int) -> None:
        for descriptor in self._open.pop(slot):
            try:
                os.close(descriptor)
            except OSError:
                continue

    def _at(self, path: str) -> str:
        return f"{self._tops[self._tree]}/{path}"

    def _fd(self, slot: int) -> int:
        return self._open[slot][self._tree]

    # Calls on descriptors.

    def open(self, slot: int, path: str, flags: int, mode: int) -> None:
        descriptor = os.open(self._at(path), flags | os.O_CLOEXEC, mode)
        self._open.setdefault(slot, [-1, -1])[self._tree] = descriptor

    def close(self, slot: int) -> None:
        os.close(self._fd(slot))
        if self._tree == 1:
            del self._open[slot]

    def write(self, slot: int, data: bytes) -> int:
        return os.write(self._fd(slot), data)

    def pwrite(self, slot: int, offset: int, data: bytes) -> int:
        return os.pwrite(self._fd(slot), data, offset)

    def pread(self, slot: int, offset: int, length: int) -> bytes:
        return os.pread(self._fd(slot), length, offset)

    def seek(self, slot: int, offset: int, whence: int) -> int | None:
        """Not to the end of a folder: each filesystem has another."""
        if whence == os.SEEK_END and stat.S_ISDIR(os.fstat(self._fd(slot)).st_mode):
            return None
        return os.lseek(self._fd(slot), offset, whence)

    def ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self._fd(slot), size)

    def fsync(self, slot: int) -> None:
        os.fsync(self._fd(slot))

    def fstat(self, slot: int) -> object:
        return self._shown(os.fstat(self._fd(slot)))

    def fchmod(self, slot: int, mode: int) -> None:
        os.fchmod(self._fd(slot), mode)

    def map_write(self, slot: int, offset: int, data: bytes) -> object:
        """Through shared memory, as far as the file reaches; what the whole file is then."""
        descriptor = self._fd(slot)
        size = os.fstat(descriptor).st_size
        if offset >= size:
            return None
        with mmap.mmap(descriptor, size) as view:
            data = data[: size - offset]
            view[offset : offset + len(data)] = data
            view.flush()
            return view[:]

    # Calls on names.

    def stat(self, path: str) -> object:
        return self._shown(os.lstat(self._at(path)))

    def same_file(self, slot: int, path: str) -> bool:
        return os.path.samestat(os.fstat(self._fd(slot)), os.stat(self._at(path)))

    def read(self, path: str) -> bytes:
        with open(self._at(path), "rb") as stream:
            return stream.read()

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def list_folder(self, path: str) -> list[tuple[str, bool, bool]]:
        with os.scandir(self._at(path)) as entries:
            return sorted(
                (one.name, one.is_dir(follow_symlinks=False), one.is_symlink()) for one in entries
            )

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, old: str, new: str, flags: int) -> None:
        names = os.fsencode(self._at(old)), os.fsencode(self._at(new))
        if self._libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flags) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._at(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid, follow_symlinks=False)

    def utimens(self, path: str, atime_ns: int, mtime_ns: int) -> object:
        os.utime(self._at(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)
        found = os.lstat(self._at(path))
        return found.st_atime_ns, found.st_mtime_ns

    def access(self, path: str, mode: int) -> bool:
        return os.access(self._at(path), mode)

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self._at(path), name, value, flags)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), name)

    def listxattr(self, path: str) -> list[str]:
        return sorted(os.listxattr(self._at(path)))

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name)

    def _shown(self, found: os.stat_result) -> object:
        """What both must agree on. Sizes and links of folders are the filesystem's own."""
        if stat.S_ISDIR(found.st_mode):
            return oct(found.st_mode), found.st_uid, found.st_gid
        mtime = found.st_mtime_ns if found.st_mtime_ns < OLD else "now"
        links = found.st_nlink
        return oct(found.st_mode), found.st_uid, found.st_gid, found.st_size, links, mtime


def _work(connection: Connection, uid: int) -> None:
    """The user's process: answer calls until told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o022)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    trees = Trees(("", ""))
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        connection.send(trees.both(name, arguments))


class User:
    """A process of ``uid`` that makes calls."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, uid), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, name: str, *arguments: Any) -> tuple[Outcome, Outcome]:
        """What came of a call in the first and in the second folder."""
        self._connection.send((name, arguments))
        assert self._connection.poll(SECONDS), f"{name}{arguments} hangs"
        outcome: tuple[Outcome, Outcome] = self._connection.recv()
        return outcome

    def enter(self, ours: Path, local: Path) -> None:
        self.call("enter", str(ours), str(local))

    def end(self) -> None:
        self._connection.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(30)
        self._process.close()
