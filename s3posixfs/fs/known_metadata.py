"""Metadata of object versions, for stores whose listings do not give it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from s3posixfs.core.types import ObjectStat

# An answer to a write names the time by the server's Date, a listing by what it stored.
TOLERANCE_SECONDS = 1


class KnownMetadata:
    """A bounded LRU by bucket, key, ETag and time of last modification.

    A listing tells the time to the millisecond, other answers to the second at best. So a version
    takes on the time of the first row that fits it, and from then on has that and no other: a
    change of the attributes alone leaves the ETag as it is. A time of 0.0 (the store did not say)
    fits any row.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], ObjectStat] = OrderedDict()
        self._timed: set[tuple[str, str]] = set()  # by a row of a listing

    def remember(self, bucket: str, found: ObjectStat) -> None:
        """Keep the metadata of an object; nothing where it has none to keep."""
        if found.metadata is None or not found.etag:
            return
        place = (bucket, found.key)
        known = self._known.get(place)
        if place in self._timed and known is not None and _same(known, found):
            found = replace(found, last_modified=known.last_modified)
        else:
            self._timed.discard(place)
        self._known[place] = found
        self._known.move_to_end(place)
        if len(self._known) > self._limit:
            dropped, _ = self._known.popitem(last=False)
            self._timed.discard(dropped)

    def complete(self, bucket: str, row: ObjectStat, *, exactly: bool = False) -> ObjectStat:
        """A row of a listing, with what else is known of the version that it shows; ``exactly``:
        what may as well be another of the same second and content does not count."""
        place = (bucket, row.key)
        known = self._known.get(place)
        if known is None or known.etag != row.etag or (exactly and place not in self._timed):
            return row
        tolerance = 0 if place in self._timed else TOLERANCE_SECONDS
        if known.last_modified and not _near(known, row, tolerance):
            return row
        if row.metadata is not None and row.metadata != known.metadata:
            return row
        headers = row.headers if row.headers is not None else known.headers
        content_type = row.content_type or known.content_type
        completed = ObjectStat(
            *(row.key, row.size, row.etag, row.last_modified, row.owner, known.metadata),
            *(content_type, row.storage_class, headers),
        )
        # One object for all who ask: of a million names each is a hundred bytes.
        if completed == known:
            completed = known
        else:
            self._known[place] = completed
        self._known.move_to_end(place)
        self._timed.add(place)
        return completed


def _same(known: ObjectStat, found: ObjectStat) -> bool:
    """Whether another answer, which tells the time to the second, is of the same version."""
    same_second = int(known.last_modified) == int(found.last_modified)
    return same_second and known.etag == found.etag and known.metadata == found.metadata


def _near(known: ObjectStat, row: ObjectStat, tolerance: int) -> bool:
    if not tolerance:
        return known.last_modified == row.last_modified
    return abs(int(known.last_modified) - int(row.last_modified)) <= tolerance
