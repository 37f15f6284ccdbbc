"""What a directory holds, page by page, with this mount's own changes applied as they happen."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Final

import trio

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import ListPage, ObjectStat
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.names import key_segment, shown_name
from s3posixfs.fs.walk import Walk

PAGE_KEYS = 1000
# For a thread that goes through a folder its listing of several pages counts for so many times as
# long as they took, if that is longer than the time to live: else it would ask for name after name.
SHARE = 4
LONGEST_SECONDS = 30.0
ABSENT_NAMES = 10_000
MOST_DROPPED = 1000  # listings, in one step

# Of a scan: the rows that are asked for together, and those that may be left out in between.
SMALLEST, LARGEST = 4, 64
GROWTH = 4
GAP = 8
NOWHERE = -1000


class Row:
    """A name and its object; ``stat`` is ``None`` for a directory. ``fetched_at`` is when S3 said
    so, on the monotonic clock."""

    __slots__ = ("_stat", "fetched_at", "name")

    def __init__(self, name: bytes, stat: ObjectStat | None, fetched_at: float) -> None:
        self.name: Final = name
        self.fetched_at: Final = fetched_at
        self._stat: ObjectStat | Inode | None = stat

    @property
    def stat(self) -> ObjectStat | None:
        stat = self._stat
        # As isinstance, in half of the time: it is asked for each row that is read.
        return stat.entry.stat if stat.__class__ is Inode else stat  # type: ignore

    @property
    def is_directory(self) -> bool:
        return self._stat is None

    def follow(self, inode: Inode) -> None:
        """Take the object from the inode, which has the same or, later, a newer one: of a million
        names it is kept once, and packed."""
        self._stat = inode


class Scan:
    """How far a program that asks for one row after the other was seen to go. No I/O.

    ``read_at`` is when a file of the folder was last opened to be read, on the monotonic clock.
    """

    __slots__ = ("_end", "_last", "_rows", "read_at")

    def __init__(self) -> None:
        self.read_at = float("-inf")
        self._last = self._end = NOWHERE
        self._rows = 0

    def rows_after(self, position: int) -> int:
        """How many rows after this one will be asked for, as far as that shows: more each time,
        none for the first one or one out of order."""
        # Within what was asked for before, too: it may have grown old since.
        if position == self._last:
            return self._rows
        if self._last < position <= self._end + GAP:
            self._rows = min(max(SMALLEST, self._rows * GROWTH), LARGEST)
        else:
            self._rows = 0
        self._last, self._end = position, position + self._rows
        return self._rows


class Listing:
    """One directory's rows in the order they became known.

    ``rows`` only grows, so a position in it stays valid as a readdir offset; a row counts while
    ``index`` still points at it. ``lock`` lets one task at a time fetch the next page; own
    changes need no lock. ``started_at`` is on the monotonic clock: the listing is as old as
    its first page. ``asked`` counts how often a name was looked up in it; ``absent`` has names
    that were seen not to be there one by one, and when. ``walk`` is told of each folder in it that
    is opened; ``took`` the seconds that its pages took. ``first`` is the first of all keys below,
    where that is known; ``nameless`` says that there are keys with an empty segment
    there, which are not shown. ``ahead`` says that a page is being fetched before it is needed.
    ``handles`` counts the open directories that read from it; ``used_at`` is when S3 was last
    asked for a page.
    """

    __slots__ = (
        "_changed",
        "_changed_meanwhile",
        "_token",
        "absent",
        "ahead",
        "asked",
        "complete",
        "first",
        "handles",
        "index",
        "lock",
        "marker",
        "nameless",
        "pages",
        "rows",
        "scan",
        "started_at",
        "took",
        "used_at",
        "walk",
    )

    def __init__(self, started_at: float) -> None:
        self.rows: list[Row] = []
        self.index: dict[bytes, int] = {}
        self.complete = False
        self.started_at = self.used_at = started_at
        self.took = 0.0
        self.ahead = False
        self.handles = 0
        self.marker: ObjectStat | None = None
        self.first: ObjectStat | None = None
        self.nameless = False
        self.lock = trio.Lock()
        self.scan = Scan()
        self._token: str | None = None
        self._changed: set[bytes] = set()
        self._changed_meanwhile: set[bytes] = set()  # since rows are asked for again
        self.pages = 0
        self.walk = Walk()
        self.asked = 0
        self.absent: dict[bytes, float] = {}

    def get(self, name: bytes) -> Row | None:
        """The row of a name."""
        position = self.index.get(name)
        return self.rows[position] if position is not None else None

    def live(self, position: int) -> Row | None:
        """The row at a position, unless its name was removed since."""
        row = self.rows[position]
        return row if self.index.get(row.name) == position else None

    def put(self, name: bytes, found: ObjectStat | None, now: float) -> None:
        """This mount made or changed a name."""
        self._changed.add(name)
        self._changed_meanwhile.add(name)
        self.absent.pop(name, None)
        self._set(Row(name, found, now))

    def remove(self, name: bytes) -> None:
        """This mount removed a name."""
        self._changed.add(name)
        self._changed_meanwhile.add(name)
        self.index.pop(name, None)

    def removed(self, name: bytes) -> bool:
        """Whether this mount removed the name since the listing began."""
        return name in self._changed and name not in self.index

    def note_absent(self, name: bytes, now: float) -> None:
        """S3 was seen not to have the name. What is noted is of use for a short time only."""
        if len(self.absent) >= ABSENT_NAMES:
            self.absent.clear()
        self.absent[name] = now

    def count_folders(self) -> int:
        """The folders in it."""
        return sum(self.rows[position].is_directory for position in self.index.values())

    @property
    def made_here(self) -> bool:
        """Whether the folder is known to be complete because this mount has just made it."""
        return self.complete and not self.pages

    def absent_since(self, name: bytes) -> float | None:
        """When the name was seen not to be there, by the monotonic clock; ``None`` where that
        is not known."""
        if name in self.index:
            return None
        since = self.absent.get(name)
        return max(since or self.started_at, self.started_at) if self.complete else since

    def _set(self, row: Row) -> None:
        position = self.index.get(row.name)
        if position is not None:
            self.rows[position] = row
        else:
            self.index[row.name] = len(self.rows)
            self.rows.append(row)

    async def load_more(
        self, store: ObjectStore, bucket: str, prefix: str, now: float, *, have: int
    ) -> None:
        """Fetch one page, unless it has come to more than ``have`` pages or is complete.
        Cancelled or failed, it can go on."""
        async with self.lock:
            if self.complete or self.pages > have:
                return
            began = trio.current_time()
            page = await store.list_objects(
                bucket, prefix=prefix, delimiter="/", token=self._token, max_keys=PAGE_KEYS
            )
            if not self.pages:
                self.first = _first(page)
            self._take(page, len(prefix), now)
            self.took += trio.current_time() - began
            self.used_at = now

    def fill(self, page: ListPage, first: ObjectStat, prefix: str, asked_at: float) -> None:
        """Take the only page, which came with others'; ``first`` of all keys below."""
        self.first = first
        self.started_at = min(self.started_at, asked_at)
        self._take(page, len(prefix), asked_at)

    def _take(self, page: ListPage, cut: int, now: float) -> None:
        """The next page's rows; names begin after ``cut`` characters of the keys."""
        for found in page.objects:
            if len(found.key) == cut:
                self.marker = found
                continue
            name = shown_name(found.key[cut:])
            if name is None or name in self._changed:
                continue
            known = self.get(name)
            if known is None or not known.is_directory:  # `a/` hides `a`
                self._set(Row(name, found, now))
        for common in page.prefixes:
            self.nameless = self.nameless or common[cut:] == "/"
            name = shown_name(common[cut:-1])
            if name is not None and name not in self._changed:
                self._set(Row(name, None, now))
        self._token = page.next_token
        self.pages += 1
        self.complete = page.next_token is None

    async def renew(
        self, store: ObjectStore, bucket: str, prefix: str, position: int, now: float, ttl: float
    ) -> None:
        """Ask again for a page of rows from a position on, unless that row is younger than ``ttl``
        meanwhile. Names that are gone stay as old as they are, new ones are not shown."""
        async with self.lock:
            if now - self.rows[position].fetched_at < ttl:
                return
            self._changed_meanwhile = set()
            self.used_at = now
            page = await store.list_objects(
                bucket,
                prefix=prefix,
                delimiter="/",
                start_after=self._key_before(position, prefix),
                max_keys=PAGE_KEYS,
            )
            cut = len(prefix)
            folders = {shown_name(common[cut:-1]) for common in page.prefixes}
            for found in page.objects:
                name = shown_name(found.key[cut:])
                if name is not None and name not in folders:
                    self._renewed(Row(name, found, now))
            for name in folders:
                if name is not None:
                    self._renewed(Row(name, None, now))

    def _key_before(self, position: int, prefix: str) -> str:
        """A key that comes before that of the row, and after those of most rows before it."""
        if not position:
            return ""
        before = self.rows[position - 1]
        segment = key_segment(before.name)
        if not segment:
            return ""
        return f"{prefix}{segment}/" if before.is_directory else prefix + segment

    def _renewed(self, row: Row) -> None:
        if row.name in self.index and row.name not in self._changed_meanwhile:
            self.rows[self.index[row.name]] = row


def _first(page: ListPage) -> ObjectStat | None:
    """The object of a page, if there is one before all of its folders."""
    if not page.objects:
        return None
    found = page.objects[0]
    before = page.prefixes and _bytes(page.prefixes[0]) < _bytes(found.key)
    return None if before else found


def _bytes(key: str) -> bytes:
    return key.encode(errors="surrogateescape")


class ListingCache:
    """The latest listing of each directory, for ``ttl`` seconds and ``limit`` rows in all."""

    def __init__(self, ttl: float, limit: int) -> None:
        self._ttl = ttl
        self._limit = limit
        self._recent: OrderedDict[int, Inode] = OrderedDict()
        self._loads = 0

    def fresh(self, directory: Inode, now: float, *, scanning: bool = False) -> Listing | None:
        """The directory's listing, perhaps not complete yet, unless it is too old; for who is
        ``scanning`` the folder see ``SHARE``."""
        listing = directory.listing
        if listing is None or not self._ttl:
            return None
        lasts = self._ttl
        if scanning and listing.pages > 1:
            lasts = max(lasts, min(SHARE * listing.took, LONGEST_SECONDS))
        if now - listing.started_at >= lasts:
            return None
        return listing

    def row(
        self, directory: Inode, name: bytes, now: float, *, scanning: bool = False
    ) -> Row | None:
        """What a listing, or a part of it that was asked for again, has just told of a name."""
        listing = directory.listing
        row = listing.get(name) if listing is not None else None
        if row is None or not self._ttl:
            return None
        if now - row.fetched_at < self._ttl or self.fresh(directory, now, scanning=scanning):
            return row
        return None

    def begin_empty(self, directory: Inode, now: float) -> None:
        """This mount has just made the directory: it is known to hold nothing."""
        self.begin(directory, now).complete = True

    def begin(self, directory: Inode, now: float) -> Listing:
        """A fresh listing: the one there is, or a new one with nothing in it."""
        listing = self.fresh(directory, now)
        if listing is None:
            former = directory.listing
            listing = directory.listing = Listing(now)
            if former is not None:
                listing.scan = former.scan
                listing.walk = former.walk
        self._recent[directory.number] = directory
        self._recent.move_to_end(directory.number)
        return listing

    def trim(self) -> None:
        """A page was loaded: drop the listings used longest ago while there are too many rows.

        One that an open directory reads from stays, as it is held by that anyway, and its names
        would be asked for one by one. Counting takes time, so it is done once in several pages.
        """
        self._loads += 1
        if self._loads * PAGE_KEYS < self._limit // 8 and len(self._recent) < self._limit // 8:
            return
        self._loads = 0
        weights = {number: _weight(directory) for number, directory in self._recent.items()}
        total = sum(weights.values())
        for number, weight in weights.items():
            if total <= self._limit:
                return
            directory = self._recent[number]
            if directory.listing is None or not directory.listing.handles:
                total -= weight
                self.drop(directory)

    def drop_idle(self, now: float, seconds: float, share: float) -> None:
        """Drop listings that nobody reads from and that grew too old to answer for anything: for
        so many seconds, or times as long as they took."""
        idle: list[Inode] = []
        for directory in islice(self._recent.values(), MOST_DROPPED):
            listing = directory.listing
            if listing is not None and now - listing.started_at < seconds:
                break
            if listing is None or not (
                listing.handles
                or now - listing.used_at < max(seconds, self._ttl, share * listing.took)
            ):
                idle.append(directory)
        for directory in idle:
            self.drop(directory)

    def drop(self, directory: Inode) -> None:
        """Forget what is known of a directory's names."""
        directory.listing = None
        self._recent.pop(directory.number, None)


def _weight(directory: Inode) -> int:
    listing = directory.listing
    return 1 + (len(listing.rows) + len(listing.absent) if listing is not None else 0)
