"""Temporary files of this process, and the removal of those that dead processes left.

Every process has a directory of its own in ``tmp`` and holds flock(2) on it: one whose lock is
free belongs to no living process.

Files are made without a name (O_TMPFILE) in one of the folders of :mod:`spreading`, and then
named here: so they are also synced without the folder that they will leave again.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
from contextlib import suppress

from s3posixfs.store.backend.spreading import open_folders
from s3posixfs.store.backend.tree import DIRECTORY_FLAGS, OBJECT_MODE, remove_tree

_NAMED = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_NAMELESS = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
_IN_A_ROW = 16  # files in one folder before the next one's turn: those of one time are neighbours


class Scratch:
    """This process's directory for files that are not yet anything."""

    __slots__ = ("_counter", "_folders", "_name", "_parent", "fd")

    def __init__(self, parent: int, spread: int) -> None:
        """``parent`` is the open ``tmp`` directory, ``spread`` the one with the folders to make
        files in; they stay the caller's to close."""
        self._parent = parent
        self._name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._counter = itertools.count()
        # The lock on the parent keeps others from taking the new directory for a dead one.
        fcntl.flock(parent, fcntl.LOCK_EX)
        try:
            os.mkdir(self._name, 0o700, dir_fd=parent)
            self.fd = os.open(self._name, DIRECTORY_FLAGS, dir_fd=parent)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            self._remove_dead()
        finally:
            fcntl.flock(parent, fcntl.LOCK_UN)
        self._folders = open_folders(spread) if self._names_the_nameless() else []

    def new_name(self) -> str:
        """A name that nothing in this directory has or had."""
        return f"{next(self._counter):x}"

    def new_file(self) -> tuple[int, str]:
        """An empty file, open for reading and writing, and its name here."""
        number = next(self._counter)
        name = f"{number:x}"
        # Nobody else can enter the directory, so a file may have its later mode from the start.
        if not self._folders:
            return os.open(name, _NAMED, OBJECT_MODE, dir_fd=self.fd), name
        folder = self._folders[number // _IN_A_ROW % len(self._folders)]
        fd = os.open(".", _NAMELESS, OBJECT_MODE, dir_fd=folder)
        try:
            self._give_name(fd, name)
        except BaseException:
            os.close(fd)
            raise
        return fd, name

    def holds(self, name: str) -> bool:
        """Whether a file is still here."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def discard(self, name: str) -> None:
        """Remove a file, if it is still here."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def close(self) -> None:
        """Remove the directory with all in it."""
        remove_tree(self._parent, self._name)
        for folder in (*self._folders, self.fd):
            os.close(folder)

    def _give_name(self, fd: int, name: str) -> None:
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self.fd, follow_symlinks=True)

    def _names_the_nameless(self) -> bool:
        """Whether files can be made without a name and get one later; tries it."""
        name = self.new_name()
        try:
            fd = os.open(".", _NAMELESS, OBJECT_MODE, dir_fd=self.fd)
            try:
                self._give_name(fd, name)
            finally:
                os.close(fd)
        except OSError:  # an old filesystem, no /proc: then they have a name from the start
            return False
        self.discard(name)
        return True

    def _remove_dead(self) -> None:
        for name in os.listdir(self._parent):
            if name == self._name:
                continue
            try:
                fd = os.open(name, DIRECTORY_FLAGS, dir_fd=self._parent)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                remove_tree(self._parent, name)
            finally:
                os.close(fd)
