"""Bytes on their way to becoming an object or a part: a temporary file."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from s3posixfs.store.backend.early_writing import STEP_BYTES, begin_writing
from s3posixfs.store.backend.problems import translated
from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.tree import write_all

_COPY_BYTES = 1024 * 1024
_NO_COPY_RANGE = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
)
_CLONE_RANGE = 0x4020_940D  # ioctl_ficlonerange(2)
_NO_SHARING = _NO_COPY_RANGE | {errno.ENOTTY, errno.EBADF}

Result = TypeVar("Result")


class Pending(ABC):
    """A range of a file that takes bytes in order and is then committed or aborted.

    For one thread at a time. Used in a ``with`` statement it is aborted unless it was committed.
    """

    __slots__ = ("_begun", "_fd", "_size", "start")

    def __init__(self, fd: int, start: int = 0) -> None:
        """``fd`` is at ``start``, where the bytes begin; :meth:`_forget` gives it back."""
        self._fd = fd
        self._size = 0
        self._begun = 0  # of it, what the disk has been told to write
        self.start = start

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def fileno(self) -> int:
        """The descriptor; until commit or abort pread from ``start`` on is allowed."""
        return self._fd

    @translated
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes. S3Error StorageFull (507) when the disk is full."""
        self._check_room(len(data))
        write_all(self._fd, data)
        self._size += len(data)
        if self._size - self._begun >= STEP_BYTES:
            begin_writing(self._fd, self.start + self._begun, self._size - self._begun)
            self._begun = self._size

    @translated
    def write_from(self, fd: int, offset: int, length: int) -> None:
        """Append a range of an open file, inside the kernel and shared where it can be.

        S3Error InvalidRange (416) is the caller's to prevent: a range past the end appends what
        is there.
        """
        self._check_room(length)
        end = self.start + self._size
        self._size += copy_range(fd, offset, self._fd, end, length)
        os.lseek(self._fd, self.start + self._size, os.SEEK_SET)

    @translated
    def share_from(self, fd: int, offset: int, length: int) -> bool:
        """Append a range of an open file by sharing its blocks; whether that can be done."""
        self._check_room(length)
        where = struct.pack("qQQQ", fd, offset, length, self.start + self._size)
        try:
            fcntl.ioctl(self._fd, _CLONE_RANGE, where)
        except OSError as error:
            if error.errno not in _NO_SHARING:
                raise
            return False
        self._size += length
        os.lseek(self._fd, self.start + self._size, os.SEEK_SET)
        return True

    def abort(self) -> None:
        """Drop the bytes; after a commit or an abort this does nothing."""
        if self._fd >= 0:
            self._fd = -1
            self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()

    @abstractmethod
    def _check_room(self, length: int) -> None:
        """Raise where ``length`` more bytes would be too many."""

    @abstractmethod
    def _forget(self) -> None:
        """Close and drop what the bytes went to."""


class ScratchFile(Pending):
    """A temporary file that takes bytes and is then given a name."""

    __slots__ = ("_name", "_open", "_scratch")

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._open, self._name = scratch.new_file()
        super().__init__(self._open)

    def _check_room(self, length: int) -> None:
        """It has a file to itself: there is room for any length."""

    def _forget(self) -> None:
        os.close(self._open)
        self._scratch.discard(self._name)

    def _commit_with(self, place: Callable[[int, str], Result]) -> Result:
        """Run ``place(descriptor, temporary name)``, which gives the file another name.

        Where it fails the temporary file is removed.
        """
        try:
            result = place(self._fd, self._name)
        except BaseException:
            self.abort()
            raise
        os.close(self._fd)
        self._fd = -1
        return result


def copy_range(source: int, offset: int, target: int, at: int, length: int) -> int:
    """Copy up to ``length`` bytes between files; how many there were.

    copy_file_range(2) shares blocks on btrfs and XFS and copies in the kernel elsewhere.
    """
    copied = 0
    in_kernel = True
    while copied < length:
        wanted = length - copied
        if in_kernel:
            try:
                count = os.copy_file_range(source, target, wanted, offset + copied, at + copied)
            except OSError as error:
                if error.errno not in _NO_COPY_RANGE:
                    raise
                in_kernel = False
                continue
        else:
            data = os.pread(source, min(wanted, _COPY_BYTES), offset + copied)
            count = os.pwrite(target, data, at + copied)
        if count == 0:
            break
        copied += count
    return copied
