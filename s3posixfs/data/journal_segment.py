"""One segment of the journal: a file that is there whole before it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from s3posixfs.core.types import MIB
from s3posixfs.data.direct_writer import BLOCK
from s3posixfs.data.durable import sync_folder
from s3posixfs.data.journal_records import SEGMENT_HEADER, encode_header
from s3posixfs.data.shared_file import SharedFile

_ZEROS = memoryview(bytes(1 * MIB))


@dataclass(slots=True)
class Segment:
    """``end`` is where the next record comes, ``tail`` what is before that in the same block.
    ``needed``: how many states and contents in it count. ``direct``: a descriptor for writes past
    the page cache, -1 where there are to be none."""

    number: int
    file: SharedFile
    size: int
    end: int = SEGMENT_HEADER.size
    needed: int = 0
    tail: bytes = b""
    direct: int = -1

    def grow(self, data: bytes) -> None:
        """These records are in it now."""
        self.end += len(data)
        kept = self.end % BLOCK
        self.tail = (self.tail + data[-BLOCK:])[-kept:] if kept else b""

    def let_go_direct(self) -> None:
        """From now on it is written to through the page cache only."""
        if self.direct >= 0:
            os.close(self.direct)
        self.direct = -1


def make_segment(path: Path, number: int, size: int) -> Segment:
    """A new segment of ``size`` bytes or a little more, durable. Blocking. OSError leaves nothing.

    It is filled with zeros where that is what later writes go over: in space that is only reserved,
    each of them has to change the file's extents as well, and to wait for the filesystem's journal.
    """
    size += -size % BLOCK
    header = encode_header(number)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        for offset in range(0, size, len(_ZEROS)) if _writes_in_place(fd) else ():
            write_all(fd, offset, _ZEROS[: size - offset])
        write_all(fd, 0, header)
        os.fsync(fd)
        sync_folder(path.parent)
    except BaseException:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    file = SharedFile(fd, path, temporary=False)
    return Segment(number, file, size, tail=header, direct=open_direct(path))


def _writes_in_place(fd: int) -> bool:
    """Whether what is written over something takes no room, also on a full disk. Others (Btrfs)
    write elsewhere, and what is reserved serves the first write only."""
    device = os.fstat(fd).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    for line in mounts:
        fields, _, source = line.partition(" - ")
        if fields.split()[2] == name:
            return source.split()[0] in ("ext4", "xfs")
    return False


def open_direct(path: Path) -> int:
    """A descriptor for writes past the page cache; -1 where the filesystem has no such writes."""
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1


def write_all(fd: int, offset: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data`` at ``offset``; OSError where the disk refuses some of it. Blocking."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
