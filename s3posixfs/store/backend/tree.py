"""Walking the file tree one name at a time, from an open directory, never through a symlink."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress

from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.names import Step

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a fifo that a local program left must not wait for its other end.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# Of every object's file.
OBJECT_MODE = 0o644

# A directory has this mode (no program gives it) until its name is known to be on the disk.
_UNSYNCED_MODE = 0o1700
_DIRECTORY_MODE = 0o755


def open_directory(start: int, names: Sequence[bytes | str]) -> int:
    """Open a directory below an open one; the caller closes it.

    Raises FileNotFoundError, or NotADirectoryError where a name is a file or a symlink.
    """
    fd = os.dup(start) if not names else -1
    for name in names:
        try:
            inner = os.open(name, DIRECTORY_FLAGS, dir_fd=start if fd < 0 else fd)
        finally:
            if fd >= 0:
                os.close(fd)
        fd = inner
    return fd


def open_steps(start: int, steps: Sequence[Step]) -> int:
    """:func:`open_directory` for steps of a key."""
    return open_directory(start, [step.name for step in steps])


def make_directory(parent: int, name: bytes | str, owner: PosixOwner | None) -> int:
    """Open a directory in an open one, making it (0755, ``owner``) where it is not there.

    Its name is on the disk on return, also when another thread or process made the directory a
    moment ago, or died doing so: the mode tells. Raises FileExistsError where the name is
    something other than a directory.
    """
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, _UNSYNCED_MODE, dir_fd=parent)
        try:
            fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
        except NotADirectoryError:
            raise FileExistsError(name) from None
    except NotADirectoryError:
        raise FileExistsError(name) from None
    try:
        if _is_unsynced(fd):
            _complete(fd, parent, owner)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_unsynced(fd: int) -> bool:
    # Without the setgid bit, which a directory takes over from the one it is made in.
    return os.fstat(fd).st_mode & 0o5777 == _UNSYNCED_MODE


def _complete(fd: int, parent: int, owner: PosixOwner | None) -> None:
    """Give a new directory owner and mode: one of those who came upon it, and nobody later, when
    it may have been given to somebody else, who made it a marker object."""
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        if _is_unsynced(fd):
            if owner is not None:
                os.fchown(fd, owner.uid, owner.gid)
            os.fsync(parent)
            os.fchmod(fd, _DIRECTORY_MODE)
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def write_whole(
    directory: int, folder: str, name: str, data: bytes, *, scratch: int | None = None
) -> None:
    """Put a small file at ``folder/name`` below an open directory: atomic and durable.

    Only for directories that no one but the store can write to. The temporary file is made in
    the open directory ``scratch``, else beside the file.
    """
    target = open_directory(directory, [folder] if folder else [])
    try:
        temporary = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        source = target if scratch is None else scratch
        fd = os.open(temporary, flags, 0o600, dir_fd=source)
        try:
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=source, dst_dir_fd=target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=source)
            raise
        os.fsync(target)
    finally:
        os.close(target)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """write(2) until all is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove_tree(parent: int, name: bytes | str) -> None:
    """Remove a directory of the store's own with all in it; one that is gone is no error."""
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for child, is_directory in found:
            if is_directory:
                remove_tree(fd, child)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(child, dir_fd=fd)
    finally:
        os.close(fd)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)


def rename_between(source: int, old: bytes | str, target: int, new: bytes | str) -> None:
    """rename(2) from one open directory to another."""
    os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
