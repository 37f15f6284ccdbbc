"""Two prefixes side by side: what is at each key below them, in S3's order, some at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import ObjectStat

PAIRS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Pair:
    """What is at the same rest of a key below the old prefix and below the new one."""

    rest: str
    old: ObjectStat | None
    new: ObjectStat | None


class Rows:
    """The objects below a prefix, page by page."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self._token: str | None = None
        self._ended = False
        self._waiting: deque[ObjectStat] = deque()

    async def first(self) -> ObjectStat | None:
        """The next object, which stays the next; None at the end."""
        while not self._waiting and not self._ended:
            page = await self._store.list_objects(
                self._bucket, prefix=self._prefix, token=self._token
            )
            self._waiting.extend(page.objects)
            self._token = page.next_token
            self._ended = page.next_token is None
        return self._waiting[0] if self._waiting else None

    def rest(self, found: ObjectStat) -> str:
        """An object's key without the prefix."""
        return found.key[len(self._prefix) :]

    def take(self) -> ObjectStat:
        """Go on to the next object; the one that was the next."""
        return self._waiting.popleft()

    async def take_page(self) -> list[ObjectStat]:
        """Go on behind as many as are at hand, at least one; none at the end."""
        await self.first()
        page = list(self._waiting)
        self._waiting.clear()
        return page


class Pairs:
    """Walks below an old and a new prefix at once; of stores that list in S3's order."""

    def __init__(self, old: Rows, new: Rows) -> None:
        self._old = old
        self._new = new

    async def take(self) -> list[Pair]:
        """The next pairs; none at the end."""
        found: list[Pair] = []
        while len(found) < PAIRS_AT_ONCE:
            old, new = await self._old.first(), await self._new.first()
            if old is None and new is None:
                break
            found.append(self._next(old, new))
        return found

    def _next(self, old: ObjectStat | None, new: ObjectStat | None) -> Pair:
        at_old = self._old.rest(old) if old is not None else None
        at_new = self._new.rest(new) if new is not None else None
        if at_new is None or (at_old is not None and at_old.encode() < at_new.encode()):
            return Pair(at_old or "", self._old.take(), None)
        if at_old is None or at_new.encode() < at_old.encode():
            return Pair(at_new, None, self._new.take())
        return Pair(at_old, self._old.take(), self._new.take())


def is_copied(old: ObjectStat, new: ObjectStat | None) -> bool:
    """Whether ``new`` is a copy of what is at the old key now, or was put over such a copy.

    A copy keeps the ETag of what came in one piece, and is made later than its original: one that
    is older is of an original that was replaced since. Times are the store's own.
    """
    if new is None:
        return False
    if old.etag == new.etag:
        return True
    in_parts = "-" in old.etag or "-" in new.etag
    if in_parts and new.last_modified == old.last_modified:
        return new.size == old.size
    return new.last_modified > old.last_modified


def is_copy(old: ObjectStat, new: ObjectStat) -> bool:
    """Whether ``new`` has, as far as can be told, the content of what is at the old key now: it may
    go, where the old one stays."""
    in_parts = "-" in old.etag or "-" in new.etag
    return old.size == new.size and (old.etag == new.etag or in_parts)
