"""What is kept on the local disk of one object version: a sparse file. Everything here blocks.

The file has a header with the digest that names it, a table with eight bytes for each chunk of
128 KiB (zero: not here, else its CRC-64/NVME), and the chunks, each at its place. Nothing is
synced: after a crash a table may name what never got to the disk, and the checksum tells that.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from s3posixfs.core.checksums import crc64nvme

CHUNK = 128 * 1024
DIGEST_BYTES = 32
_MAGIC = b"s3posixfs blocks 1\n\0\0\0\0\0\0\0\0\0\0\0\0\0"
_HEADER = len(_MAGIC) + DIGEST_BYTES
_ENTRY = 8
_PAGE = 4096
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


class BrokenFile(Exception):
    """What is in the file is not what was put there."""


def path_of(folder: Path, digest: bytes) -> Path:
    """Where the file of a digest is; its directory may be missing."""
    name = digest.hex()
    return folder / name[:2] / name[2:]


def read(path: Path, size: int, start: int, end: int) -> memoryview | None:
    """The bytes ``[start, end)`` of a version of ``size`` bytes; ``None`` where not all of them are
    there. Raises BrokenFile, and OSError where the disk fails."""
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    try:
        first, last = start // CHUNK, (end - 1) // CHUNK
        _require_header(fd, path)
        table = os.pread(fd, (last - first + 1) * _ENTRY, _HEADER + first * _ENTRY)
        if len(table) != (last - first + 1) * _ENTRY:
            raise BrokenFile(f"{path} ends in its table")
        sums = struct.unpack(f"<{last - first + 1}Q", table)
        if not all(sums):
            return None
        begin = first * CHUNK
        data = memoryview(bytearray(min(size, (last + 1) * CHUNK) - begin))
        if os.preadv(fd, [data], _base(size) + begin) != len(data):
            raise BrokenFile(f"{path} ends in its data")
        for number, told in enumerate(sums):
            if _sum(data[number * CHUNK : (number + 1) * CHUNK]) != told:
                raise BrokenFile(f"chunk {first + number} of {path} is damaged")
        return data[start - begin : end - begin]
    finally:
        os.close(fd)


def write(path: Path, size: int, start: int, data: memoryview) -> int:
    """Keep the whole chunks that are in ``data``, the bytes from ``start`` on; how much of the disk
    the file takes then. OSError."""
    first = -(-start // CHUNK)
    end = start + len(data)
    last = -(-size // CHUNK) if end == size else end // CHUNK  # the one after the last
    if last <= first:
        return 0
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    try:
        if os.fstat(fd).st_size == 0:
            os.pwrite(fd, _MAGIC + _digest(path), 0)
        begin = first * CHUNK
        kept = data[begin - start : min(size, last * CHUNK) - start]
        sums = [_sum(kept[at : at + CHUNK]) for at in range(0, len(kept), CHUNK)]
        _write_all(fd, kept, _base(size) + begin)
        table = struct.pack(f"<{len(sums)}Q", *sums)
        _write_all(fd, memoryview(table), _HEADER + first * _ENTRY)
        return os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)


def used(path: Path) -> None:
    """Note that the file was of use now, for who looks for the one that was not."""
    with contextlib.suppress(OSError):
        os.utime(path, follow_symlinks=False)


def _base(size: int) -> int:
    """Where the data begins."""
    table = _HEADER + -(-size // CHUNK) * _ENTRY
    return -(-table // _PAGE) * _PAGE


def _digest(path: Path) -> bytes:
    return bytes.fromhex(path.parent.name + path.name)


def _require_header(fd: int, path: Path) -> None:
    if os.pread(fd, _HEADER, 0) != _MAGIC + _digest(path):
        raise BrokenFile(f"{path} is none of these files")


def _sum(data: memoryview) -> int:
    return crc64nvme(data) or 1


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done
