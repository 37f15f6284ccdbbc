"""Attributes of the next names, asked for together, where a program goes through a folder.

A store whose listings carry no metadata is asked for each object by itself, and ``ls -l`` asks for
one name after the other. So from the second name in the order of the listing on, the names that
come next are asked for at the same time, at first four and then up to 64. From there on the next
64 are under way while the kernel is handed these.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.fs.attributes import Entry
from s3posixfs.fs.concurrently import both, for_each
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import LARGEST, Listing, Row
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import key_segment
from s3posixfs.fs.object_heads import AT_ONCE, ObjectHeads
from s3posixfs.fs.paging import load_page
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

READING_SECONDS = 1.0  # after a file of a folder was opened to be read
PATIENCE = 5.0  # seconds for names that nobody has asked for yet

# bucket, key, the inode that is known there, its row in a fresh listing
Fetch = Callable[[str, str, Inode | None, Row | None], Awaitable[Entry | None]]


@dataclass(frozen=True, slots=True)
class _Place:
    """A name that is asked for, and what was known when that began."""

    name: bytes
    key: str
    known: Inode | None
    row: Row
    serials: tuple[int, int]  # of the folder and of what is known


@dataclass(frozen=True, slots=True)
class _Flight:
    """Names that are being asked for while nobody waits for them yet."""

    names: frozenset[bytes]
    landed: trio.Event


class LookAhead:
    """``fetch`` asks S3 what is at a key; ``is_fresh`` says that an inode need not be asked for."""

    def __init__(
        self,
        state: MountState,
        heads: ObjectHeads,
        entries: Entries,
        fetch: Fetch,
        is_fresh: Callable[[Inode], bool],
        nursery: trio.Nursery,
    ) -> None:
        self._state = state
        self._heads = heads
        self._entries = entries
        self._fetch = fetch
        self._is_fresh = is_fresh
        self._nursery = nursery
        self._flights: dict[int, _Flight] = {}  # at most one a folder, by its number

    async def fetch(
        self,
        parent: Inode,
        name: bytes,
        segment: str,
        known: Inode | None,
        row: Row | None,
        *,
        scanning: bool = False,
    ) -> Entry | None:
        """What is at a name that no fresh listing shows exactly; ``scanning`` as in Resolver. Its
        errors are those of its own request: the next names' are left to who asks for them."""
        bucket, prefix = self._state.table.place(parent)

        async def asked() -> Entry | None:
            return await self._fetch(bucket, prefix + segment, known, row)

        names = self._next_names(parent, name, scanning)
        if not names:
            return await asked()
        flight = self._flights.get(parent.number)
        if flight is not None and name in flight.names and await self._landed(flight):
            entry = self._known(parent, name)
            if entry is not None:
                self._start(parent, name, len(flight.names))
                return entry
        if row is None:
            row = await self._listed_again(parent, name)
        began = self._state.now()

        async def ahead() -> None:
            with trio.move_on_after(PATIENCE):
                await self._all(parent, names, began)

        entry, _ = await both(asked, ahead)
        if len(names) > LARGEST // 2:
            self._start(parent, name, len(names) + 1)
        return entry

    # While names are handed to the kernel, S3 is asked for those that come after them.

    def _start(self, parent: Inode, name: bytes, skipped: int) -> None:
        """Ask for the names that come ``skipped`` rows after this one, as a task of its own."""
        listing = parent.listing
        position = listing.index.get(name) if listing is not None else None
        if listing is None or position is None or parent.number in self._flights:
            return
        names = self._names(parent, listing, position + skipped, LARGEST)
        if not names:
            return
        flight = self._flights[parent.number] = _Flight(frozenset(names), trio.Event())
        self._nursery.start_soon(self._fly, parent, names, flight)

    async def _fly(self, parent: Inode, names: Sequence[bytes], flight: _Flight) -> None:
        try:
            with trio.move_on_after(PATIENCE):
                await self._all(parent, names, self._state.now())
        except Exception:  # who asks for the names asks S3
            logger.exception("the next names of a folder were not asked for")
        finally:
            flight.landed.set()
            if self._flights.get(parent.number) is flight:
                del self._flights[parent.number]

    @staticmethod
    async def _landed(flight: _Flight) -> bool:
        await waiting()
        with trio.move_on_after(PATIENCE):
            await flight.landed.wait()
        return flight.landed.is_set()

    def _known(self, parent: Inode, name: bytes) -> Entry | None:
        """What a fresh row and what S3 has just said of it tell, if that is all."""
        row = self._state.listings.row(parent, name, self._state.now())
        if row is None or row.stat is None:
            return None
        entry = self._entries.of_row(parent, row)
        return entry if entry.exact and entry.whole else None

    async def listed_again(self, parent: Inode, name: bytes) -> Row | None:
        """The row of a name in a new listing, where names of an old one are asked for in order."""
        in_order = self._rows_after(parent, name) > 0
        return await self._listed_again(parent, name) if in_order else None

    def _rows_after(self, parent: Inode, name: bytes) -> int:
        listing = parent.listing
        if listing is None or not self._state.config.metadata_ttl:
            return 0
        position = listing.index.get(name)
        return listing.scan.rows_after(position) if position is not None else 0

    def _next_names(self, parent: Inode, name: bytes, scanning: bool) -> list[bytes]:
        listing, rows = parent.listing, self._rows_after(parent, name)
        if listing is None or not rows:
            return []
        # Who reads the files of a folder asks for each with its content.
        if not scanning and self._state.now() - listing.scan.read_at < READING_SECONDS:
            return []
        return self._names(parent, listing, listing.index[name] + 1, rows)

    def _names(self, parent: Inode, listing: Listing, start: int, count: int) -> list[bytes]:
        """Names of rows from ``start`` on that S3 is to be asked for."""
        # Who enters one folder after the other is served by listings of whole trees.
        walks = self._state.flat.walks(parent, self._state.now())
        return [
            row.name
            for number in range(start, min(start + count, len(listing.rows)))
            if (row := listing.live(number)) is not None
            and (row.stat is not None or not (walks or parent.children.get(row.name) is None))
        ]

    async def _listed_again(self, parent: Inode, name: bytes) -> Row | None:
        """The row of a name in a new listing, or in a new page of a large one that begins there:
        it costs less than asking for each name whether keys are below it."""
        state = self._state
        former = parent.listing
        position = former.index.get(name) if former is not None else None
        if former is None or position is None:
            return None
        if parent.large:
            bucket, prefix = state.table.place(parent)
            ttl = state.config.metadata_ttl
            await former.renew(state.daemon_store, bucket, prefix, position, state.now(), ttl)
        else:
            listing = state.listings.begin(parent, state.now())
            listing.scan = former.scan
            await load_page(state, parent, listing)
        return state.listings.row(parent, name, state.now())

    async def _all(self, parent: Inode, names: Sequence[bytes], began: float) -> None:
        """Ask for what the names are; rows count that were young enough when that ``began``."""
        found = [self._place(parent, name, began) for name in names]
        places = [place for place in found if place is not None]
        objects = {place.key: place for place in places if place.row.stat is not None}
        others = [place for place in places if place.row.stat is None]

        async def listed() -> None:
            bucket = self._state.table.bucket(parent)
            rows = {key: place.row for key, place in objects.items()}
            found = await self._heads.ahead(bucket, rows)
            for key, stat in found.items():
                if objects[key].known is not None:
                    self._attach(parent, objects[key], self._entries.of_file(bucket, stat))
            # Where this identity may not look, or the answers did not come.
            await self._each(parent, [place for key, place in objects.items() if key not in found])

        await both(listed, lambda: self._each(parent, others))

    async def _each(self, parent: Inode, places: Sequence[_Place]) -> None:
        bucket = self._state.table.bucket(parent)

        async def one(place: _Place) -> None:
            try:
                entry = await self._fetch(bucket, place.key, place.known, place.row)
            except S3Error:
                return
            if entry is not None:
                self._attach(parent, place, entry)

        if places:
            await for_each(places, one, limit=AT_ONCE)

    def _place(self, parent: Inode, name: bytes, began: float) -> _Place | None:
        """Where to ask for a name, if S3 is to be asked."""
        state = self._state
        known = parent.children.get(name)
        segment = key_segment(name)
        if segment is None or (known is not None and (known.is_local or self._is_fresh(known))):
            return None
        bucket, prefix = state.table.place(parent)
        row = state.listings.row(parent, name, began)
        if row is None:
            return None  # beyond the page that was listed again: the next one comes with its turn
        stat = row.stat
        if stat is not None and state.known.complete(bucket, stat).metadata is not None:
            return None
        serials = parent.serial, known.serial if known is not None else 0
        return _Place(name, prefix + segment, known, row, serials)

    def _attach(self, parent: Inode, place: _Place, entry: Entry) -> None:
        """Note what is there now, unless the name was changed meanwhile; of one that nobody has
        asked for yet it is remembered what its metadata says."""
        known = place.known
        if known is None:
            return
        same = (parent.serial, known.serial) == place.serials
        if same and parent.children.get(place.name) is known and not known.is_local:
            self._state.table.attach(parent, place.name, entry)
