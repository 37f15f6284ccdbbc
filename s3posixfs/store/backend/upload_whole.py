"""The file that most parts of an upload are written into, each at its own place.

Clients cut an object into parts of one size and a rest. So part *n* goes to ``(n - 1) * size`` of
one file, and when they are all there that file is the object: nothing is copied. Whatever does
not fit this (parts of several sizes, a part sent a second time) is a file of its own, and the
parts are then joined by copying.

A part's place is written by one writer at a time, and by none once the part is there:

- ``step`` holds the parts' size, decided by the first part that comes;
- ``cNNNNN``, made exclusively, claims the place of a part; with the facts of the part it becomes
  ``pNNNNN``. A claim whose process died stays, and its part is a file of its own;
- ``whole`` gets a second name when it becomes the object (one upload, completed under its
  exclusive lock): from then on no place is given, and none is while a claim is open.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass

from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.tree import DIRECTORY_FLAGS, FILE_FLAGS, OBJECT_MODE, write_all

_STEP = "step"
WHOLE = "whole"
EDITED = "edited"  # see :mod:`upload_edited`
_CLAIM = re.compile(r"c\d{5}")
# What link(2) says where there are no hard links, or no more of this file.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV}
)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(slots=True)
class Place:
    """Where a part's bytes go: ``length`` bytes at ``offset`` of the open ``fd``.

    ``claim`` is the open claim, named ``name`` in the open ``upload``; all three are closed by
    :meth:`close`. ``edited`` says that ``fd`` is the file of copies, not that of parts of a size.
    """

    upload: int
    claim: int
    name: str
    fd: int
    offset: int
    length: int
    edited: bool

    def close(self, *, release: bool) -> None:
        """Close the files; with ``release`` another writer may have the place."""
        if release:
            with suppress(FileNotFoundError):
                os.unlink(self.name, dir_fd=self.upload)
        for fd in (self.fd, self.claim, self.upload):
            os.close(fd)


def claim(
    upload: int, scratch: Scratch, number: int, part_name: str, length: int, least: int
) -> Place | None:
    """A place for part ``number`` of ``length`` bytes; None where it must be a file of its own.

    ``upload`` is the upload's open directory, its lock held shared. The first part decides the
    size of all, unless it has fewer than ``least`` bytes.
    """
    step = _step(upload, scratch, length, least)
    if step is None or not 0 < length <= step or _exists(upload, part_name):
        return None
    return take(upload, number, part_name, WHOLE, (number - 1) * step, length)


def take(
    upload: int, number: int, part_name: str, shared: str, offset: int, length: int
) -> Place | None:
    """A part's place in a file that parts share; None where somebody has or had the part."""
    name = f"c{number:05d}"
    try:
        held = os.open(name, _NEW, 0o600, dir_fd=upload)
    except FileExistsError:
        return None
    fd = -1
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(shared, flags, OBJECT_MODE, dir_fd=upload)
        if os.fstat(fd).st_nlink == 1 and not _exists(upload, part_name):
            os.lseek(fd, offset, os.SEEK_SET)
            # Opened anew: a duplicate would keep the upload's lock.
            folder = os.open(".", DIRECTORY_FLAGS, dir_fd=upload)
            return Place(folder, held, name, fd, offset, length, shared == EDITED)
    except BaseException:
        _give_up(upload, name, held, fd)
        raise
    _give_up(upload, name, held, fd)
    return None


def open_shared(upload: int, *, edited: bool) -> int:
    """The file with the parts in their places, to be read."""
    return os.open(EDITED if edited else WHOLE, FILE_FLAGS, dir_fd=upload)


def is_claimed(upload: int) -> bool:
    """Whether somebody writes a part into a shared file, or died doing so."""
    return any(_CLAIM.fullmatch(name) for name in os.listdir(upload))


def link_shared(upload: int, scratch: Scratch, size: int, shared: str) -> tuple[int, str] | None:
    """Give a shared file a second name among the temporary files; its descriptor and that name.

    None where it isn't exactly ``size`` bytes or somebody still writes to it, or where the
    filesystem has no hard links. The upload's lock is held exclusively.
    """
    if is_claimed(upload):
        return None
    try:
        fd = os.open(shared, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=upload)
    except FileNotFoundError:
        return None
    name = scratch.new_name()
    try:
        stat = os.fstat(fd)
        if stat.st_size == size and stat.st_nlink == 1 and _link(upload, shared, scratch.fd, name):
            return fd, name
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _step(upload: int, scratch: Scratch, length: int, least: int) -> int | None:
    for _ in range(2):
        try:
            fd = os.open(_STEP, FILE_FLAGS, dir_fd=upload)
        except FileNotFoundError:
            if length < least:
                return None
            _decide(upload, scratch, length)
            continue
        try:
            return int(os.read(fd, 32))
        finally:
            os.close(fd)
    return None


def _decide(upload: int, scratch: Scratch, length: int) -> None:
    """Whoever is first decides; the file has its content when it gets its name."""
    fd, name = scratch.new_file()
    try:
        write_all(fd, b"%d" % length)
        os.fsync(fd)
        with suppress(FileExistsError):
            if _link(scratch.fd, name, upload, _STEP):
                # Before any part has a place by it: another size would have them overlap.
                os.fsync(upload)
    finally:
        os.close(fd)
        scratch.discard(name)


def _link(source: int, old: str, target: int, new: str) -> bool:
    """Give a file another name; False where the filesystem has no hard links."""
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def _exists(upload: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=upload, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _give_up(upload: int, name: str, held: int, fd: int) -> None:
    os.unlink(name, dir_fd=upload)
    os.close(held)
    if fd >= 0:
        os.close(fd)
