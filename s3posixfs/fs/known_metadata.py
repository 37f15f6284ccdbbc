"""Metadata of object versions, for stores whose listings do not give it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from s3posixfs.core.types import ObjectStat

# An answer to a write names the time by the server's Date, a listing by what it stored.
TOLERANCE_SECONDS = 1


class KnownMetadata:
    """A bounded LRU by bucket, key, ETag and the second of last modification.

    A time of 0.0 (the store did not say) takes on the time of the first row that it meets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], tuple[str, float, Mapping[str, str]]]
        self._known = OrderedDict()

    def remember(self, bucket: str, found: ObjectStat) -> None:
        """Keep the metadata of an object; nothing where it has none to keep."""
        if found.metadata is None or not found.etag:
            return
        place = (bucket, found.key)
        self._known[place] = (found.etag, found.last_modified, found.metadata)
        self._known.move_to_end(place)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def recall(self, bucket: str, row: ObjectStat) -> Mapping[str, str] | None:
        """The metadata of the version that a listing shows, if it is known."""
        place = (bucket, row.key)
        known = self._known.get(place)
        if known is None:
            return None
        etag, modified, metadata = known
        if etag != row.etag:
            return None
        if modified == 0.0:
            self._known[place] = (etag, row.last_modified, metadata)
        elif abs(int(modified) - int(row.last_modified)) > TOLERANCE_SECONDS:
            return None
        self._known.move_to_end(place)
        return metadata
