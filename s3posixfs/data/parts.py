"""How a file is cut into the parts of a multipart upload. Pure.

S3's rules (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): at most 10,000
parts; every part but the last has at least 5 MiB, none more than 5 GiB; an object at most
5 TiB. Ranges that did not change are copied inside the store, without their bytes coming here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from s3posixfs.core.types import MAX_PART_BYTES, MAX_PARTS, MIB, MIN_PART_BYTES

GROWTHS = 11  # doublings of the parts of a file that grows


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """How files are uploaded; sizes in bytes.

    Up to ``put_limit`` a file is one PUT. Above, it is uploaded in parts of ``part_size``
    (more where the object is so large that they would be too many), ``parallel`` at a time.
    ``copy_size`` is what one part copy moves at most. ``min_part`` and ``max_parts`` are S3's.
    A file that is written in sequence is sent from ``early_parts`` parts on, while it is written.
    """

    put_limit: int = 16 * MIB
    part_size: int = 16 * MIB
    copy_size: int = 256 * MIB
    min_part: int = MIN_PART_BYTES
    max_parts: int = MAX_PARTS
    parallel: int = 4
    early_parts: int = 3


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes ``[offset, offset + length)`` of the file as part ``number`` (from 1).

    ``copied``: they are the same bytes of the base object, copied inside the store.
    """

    number: int
    offset: int
    length: int
    copied: bool


def _pieces(start: int, end: int, size: int, least: int) -> list[tuple[int, int]]:
    """``[start, end)`` in pieces of ``size``; a rest under ``least`` joins the piece before."""
    pieces: list[tuple[int, int]] = []
    while end - start >= size + least:
        pieces.append((start, start + size))
        start += size
    if start < end:
        pieces.append((start, end))
    return pieces


def early_length(number: int, settings: UploadSettings) -> int:
    """Bytes of part ``number`` of a file whose size nobody knows yet.

    They double now and then on the way to the last number, so that 5 TiB fit into 10,000 parts.
    """
    doublings = number * GROWTHS // (settings.max_parts + 1)
    return min(settings.part_size << doublings, MAX_PART_BYTES)


def copy_length(size: int, settings: UploadSettings) -> int:
    """Bytes of one part copy out of an object of ``size`` bytes that is going to be added to: a
    quarter of the part numbers is enough for it."""
    least = -(-size // (settings.max_parts // 4))
    return min(max(settings.copy_size, least), MAX_PART_BYTES)


def early_parts(unchanged: int, settings: UploadSettings) -> list[Part]:
    """The first parts of a file that begins with ``unchanged`` bytes of its base. Too few for a
    part are part of one that has to be sent, as the bytes behind them must be."""
    if not unchanged:
        return []
    if unchanged < settings.min_part:
        return [Part(1, 0, settings.part_size, copied=False)]
    pieces = _pieces(0, unchanged, copy_length(unchanged, settings), settings.min_part)
    return [Part(n, start, end - start, copied=True) for n, (start, end) in enumerate(pieces, 1)]


def plan_parts(
    size: int,
    unchanged: Iterable[tuple[int, int]],
    settings: UploadSettings,
    *,
    sent: int = 0,
    used: int = 0,
) -> list[Part]:
    """The parts of a file of ``size`` bytes (> 0), of which ``unchanged`` are as in the base.

    ``unchanged`` are disjoint ascending ranges. A changed range that is too short for a part is
    lengthened by unchanged bytes behind it; an unchanged range that is too short is uploaded.
    Every part but the last has at least ``least`` bytes, so there are at most ``max_parts``.
    Of the file, ``sent`` bytes are already planned, as the first ``used`` parts.
    """
    least = max(settings.min_part, -(-(size - sent) // (settings.max_parts - used - 1)))
    spans: list[tuple[int, int, bool]] = []
    begun = sent  # where the span that has to be uploaded began
    for start, end in unchanged:
        start = max(start, sent)
        if begun < start < begun + least:
            start = begun + least
        if end - start < least and not (end == size and start < end):
            continue
        if begun < start:
            spans.append((begun, start, False))
        spans.append((start, end, True))
        begun = end
    if begun < size:
        spans.append((begun, size, False))
    parts: list[Part] = []
    for start, end, copied in spans:
        largest = max(settings.copy_size if copied else settings.part_size, least)
        for piece_start, piece_end in _pieces(start, end, largest, least):
            number = used + len(parts) + 1
            parts.append(Part(number, piece_start, piece_end - piece_start, copied))
    return parts
