"""The file that copied parts are put into, each where it was in its source.

Who changes a large object in part copies what stays and sends what does not: parts of any size,
but what is copied keeps its place. So a copied part goes to the place in one file that it had in
its source; when the upload is completed only the parts that were sent are copied into the gaps
between them, and that file is the object. Parts that turn out to have another place, as where
objects are joined, are copied like any that do not fit.

``ranges`` has a line for every place that was given, on the disk before anything is written
there; none is given twice, and none that overlaps another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import accumulate

from s3posixfs.store.backend.pending import copy_range
from s3posixfs.store.backend.records import PartRecord
from s3posixfs.store.backend.tree import FILE_FLAGS, write_all
from s3posixfs.store.backend.upload_whole import EDITED, Place, is_claimed, open_shared, take

_RANGES = "ranges"


def claim_at(upload: int, number: int, part_name: str, offset: int, length: int) -> Place | None:
    """A place for ``length`` copied bytes at ``offset``; None where it must be found elsewhere.

    ``upload`` is the upload's open directory, its lock held exclusively.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    ranges = os.open(_RANGES, flags, 0o600, dir_fd=upload)
    try:
        text = os.pread(ranges, os.fstat(ranges).st_size, 0)
        # The last piece is empty, or of a line that a crash cut short: nothing was put there.
        for line in text.split(b"\n")[:-1]:
            start, end = map(int, line.split())
            if start < offset + length and offset < end:
                return None
        if text and not text.endswith(b"\n"):
            return None
        write_all(ranges, b"%d %d\n" % (offset, offset + length))
        os.fsync(ranges)
        if not text:
            os.fsync(upload)
    finally:
        os.close(ranges)
    return take(upload, number, part_name, EDITED, offset, length)


def fill(
    upload: int,
    chosen: Sequence[PartRecord],
    others: Callable[[], Sequence[PartRecord]],
    open_part: Callable[[PartRecord], int],
) -> bool:
    """Copy into the file what belongs between the copied parts; False where it can't be the object.

    ``chosen`` are the parts of the object, ``others`` those of the upload that are none. Not
    durable. The upload's lock is held exclusively.
    """
    starts = list(accumulate((part.size for part in chosen), initial=0))
    missing = [(part, at) for part, at in zip(chosen, starts, strict=False) if not part.edited]
    if len(missing) == len(chosen) or is_claimed(upload):
        return False
    if any(part.edited and part.offset != at for part, at in zip(chosen, starts, strict=False)):
        return False
    # What is written over must be nobody's: the upload may be completed otherwise, if not so.
    if any(part.edited for part in others()):
        return False
    fd = os.open(EDITED, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=upload)
    try:
        if os.fstat(fd).st_size > starts[-1] or os.fstat(fd).st_nlink != 1:
            return False
        for part, at in missing:
            source = open_part(part)
            try:
                if copy_range(source, part.offset or 0, fd, at, part.size) != part.size:
                    return False
            finally:
                os.close(source)
    finally:
        os.close(fd)
    return True


def open_part(upload: int, part: PartRecord, part_name: str) -> int:
    """The file with a part's bytes, from ``part.offset`` on, to be read."""
    if part.offset is not None:
        return open_shared(upload, edited=part.edited)
    return os.open(part_name, FILE_FLAGS, dir_fd=upload)
