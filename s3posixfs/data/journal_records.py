"""The journal's format on disk. Pure.

A segment is a file: a header of 32 bytes, then records, then zeros. All numbers are
little-endian.

    header   20 bytes magic with the version, 8 bytes number of the segment, 4 bytes CRC-32C
    record   4 bytes length of the description, 4 bytes length of the content, 8 bytes sequence
             number, 4 bytes CRC-32C; the description (MessagePack); the content

The CRC is over the segment's number, the record's other header fields, description and content,
so a record that lies where it does not belong, or whose lengths were damaged, is not taken for
one. Sequence numbers go up by one from record to record, through all segments.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from s3posixfs.core.checksums import crc32c

MAGIC = b"s3posixfs journal 1\n"
SEGMENT_HEADER = struct.Struct("<20sQI")
RECORD_HEADER = struct.Struct("<IIQI")
_NUMBERED = struct.Struct("<QIIQ")

LINEAGE = 8  # former versions that are remembered


@dataclass(frozen=True, slots=True)
class Blob:
    """Content that stands in the journal itself."""

    segment: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PendingState:
    """One file that S3 is owed, as a record states it.

    ``operation`` says what made the record, for people. ``identity`` is the name of who signs;
    ``keeper`` of whose the object is to be after that, empty where it is to be the signer's.
    ``posix``: mode, uid, gid, size, mtime, atime, ctime (ns), as shown. ``metadata``,
    ``content_type`` and ``headers`` go with the object. ``base`` is the ETag of the object that
    this one replaces; ``None``: there must be none. ``lineage`` are versions of this file that
    may be in S3 already, by the ``ctime`` of their metadata and their size in bytes.
    ``data``: content in the journal, the name of a file of staged data, or nothing (an empty
    file). ``since``: seconds since the epoch.
    """

    entry: int
    operation: str
    bucket: str
    key: str
    identity: str
    posix: tuple[int, ...]
    metadata: Mapping[str, str]
    content_type: str | None
    headers: Mapping[str, str]
    base: str | None
    lineage: tuple[tuple[str, int], ...]
    data: Blob | str | None
    since: float
    keeper: str = ""

    @property
    def owner(self) -> str:
        """The name of the identity that the object is to belong to."""
        return self.keeper or self.identity

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.posix[3]

    @property
    def mark(self) -> tuple[str, int]:
        """What tells this version from others in S3."""
        return self.metadata.get("ctime", ""), self.size

    def descended(self) -> tuple[tuple[str, int], ...]:
        """The lineage of what comes after this version."""
        if self.mark in self.lineage:
            return self.lineage
        return (*self.lineage, self.mark)[-LINEAGE:]


@dataclass(frozen=True, slots=True)
class Record:
    """What one record says: new states of entries, and entries that are owed no more.

    At most one state is new content: its ``data`` is a :class:`Blob` in this record.
    """

    sequence: int
    states: tuple[PendingState, ...]
    gone: tuple[int, ...]


def encode_header(segment: int) -> bytes:
    """The header of a segment."""
    return SEGMENT_HEADER.pack(MAGIC, segment, crc32c(MAGIC + segment.to_bytes(8, "little")))


def decode_header(data: bytes | memoryview) -> int | None:
    """The number of the segment that begins so; ``None`` where it is no segment."""
    if len(data) < SEGMENT_HEADER.size:
        return None
    magic, segment, crc = SEGMENT_HEADER.unpack_from(data)
    if magic != MAGIC or crc != crc32c(MAGIC + segment.to_bytes(8, "little")):
        return None
    return int(segment)


def _packed(state: PendingState) -> list[Any]:
    data: Any = state.data
    if isinstance(data, Blob):
        data = [data.segment, data.offset, data.length]
    return [
        *(state.entry, state.operation, state.bucket, state.key, state.identity),
        *(state.posix, dict(state.metadata), state.content_type, dict(state.headers)),
        *(state.base, state.lineage, data, state.since, state.keeper),
    ]


def _unpacked(fields: list[Any], content: Blob) -> PendingState:
    entry, operation, bucket, key, identity, posix, metadata = fields[:7]
    content_type, headers, base, lineage, data, since, *keeper = fields[7:]
    if data is True:
        data = content
    elif isinstance(data, list):
        data = Blob(*data)
    return PendingState(
        entry,
        operation,
        bucket,
        key,
        identity,
        tuple(posix),
        metadata,
        content_type,
        headers,
        base,
        tuple((ctime, size) for ctime, size in lineage),
        data,
        since,
        *keeper,  # older journals say nothing of it
    )


def encode_record(
    segment: int,
    offset: int,
    sequence: int,
    states: tuple[PendingState, ...],
    gone: tuple[int, ...],
    content: bytes | bytearray | memoryview | None,
) -> tuple[list[bytes | bytearray | memoryview], tuple[PendingState, ...]]:
    """The record's bytes, to stand at ``offset``, and the states as it holds them.

    ``content`` is the first state's, where it is given; its place is after the description, so
    that is what tells it: the description says only that it is there.
    """
    described = [_packed(state) for state in states]
    if content is not None:
        described[0][11] = True
    description = msgpack.packb([described, gone])
    length = len(content) if content is not None else 0
    crc = crc32c(_NUMBERED.pack(segment, len(description), length, sequence))
    crc = crc32c(description, crc)
    pieces: list[bytes | bytearray | memoryview] = []
    if content is not None:
        crc = crc32c(content, crc)
        start = offset + RECORD_HEADER.size + len(description)
        states = (replace(states[0], data=Blob(segment, start, length)), *states[1:])
        pieces = [content]
    header = RECORD_HEADER.pack(len(description), length, sequence, crc)
    return [header + description, *pieces], states


def decode_record(
    data: memoryview, segment: int, offset: int, sequence: int | None
) -> tuple[Record, int] | None:
    """The record at ``offset`` of a segment and where the next one begins.

    ``None`` where there is no whole, valid record with this sequence number (any, where that is
    not known).
    """
    if len(data) < offset + RECORD_HEADER.size:
        return None
    described, length, found, crc = RECORD_HEADER.unpack_from(data, offset)
    start = offset + RECORD_HEADER.size
    end = start + described + length
    if not described or end > len(data) or (sequence is not None and found != sequence):
        return None
    computed = crc32c(_NUMBERED.pack(segment, described, length, found))
    if crc32c(data[start:end], computed) != crc:
        return None
    states, gone = msgpack.unpackb(data[start : start + described])
    place = Blob(segment, start + described, length)
    unpacked = tuple(_unpacked(state, place) for state in states)
    return Record(found, unpacked, tuple(gone)), end
