"""Metadata of object versions, for stores whose listings do not give it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from s3posixfs.core.types import ObjectStat

# An answer to a write names the time by the server's Date, a listing by what it stored.
TOLERANCE_SECONDS = 1


class KnownMetadata:
    """A bounded LRU by bucket, key, ETag and the second of last modification.

    A time of 0.0 (the store did not say) takes on the time of the first row that it meets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], ObjectStat] = OrderedDict()

    def remember(self, bucket: str, found: ObjectStat) -> None:
        """Keep the metadata of an object; nothing where it has none to keep."""
        if found.metadata is None or not found.etag:
            return
        place = (bucket, found.key)
        self._known[place] = found
        self._known.move_to_end(place)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def complete(self, bucket: str, row: ObjectStat) -> ObjectStat:
        """A row of a listing, with what else is known of the version that it shows."""
        place = (bucket, row.key)
        known = self._known.get(place)
        if known is None or known.etag != row.etag:
            return row
        if known.last_modified == 0.0:
            self._known[place] = replace(known, last_modified=row.last_modified)
        elif abs(int(known.last_modified) - int(row.last_modified)) > TOLERANCE_SECONDS:
            return row
        if row.metadata is not None and row.metadata != known.metadata:
            return row
        self._known.move_to_end(place)
        return replace(
            row,
            metadata=known.metadata,
            content_type=row.content_type or known.content_type,
            headers=row.headers if row.headers is not None else known.headers,
        )
