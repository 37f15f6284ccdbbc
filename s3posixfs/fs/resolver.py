"""From names to inodes, and inodes kept as fresh as the mount promises."""

from __future__ import annotations

from dataclasses import replace
from errno import ENAMETOOLONG, ESTALE

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.fs.attributes import Entry, NoEntry
from s3posixfs.fs.buckets_folder import BucketsFolder
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.habits import How
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.key_lookup import KeyLookup
from s3posixfs.fs.listing import Row
from s3posixfs.fs.lookahead import LookAhead
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.name_listings import NameListings
from s3posixfs.fs.names import MAX_NAME_BYTES, key_segment
from s3posixfs.fs.object_heads import ObjectHeads, absent
from s3posixfs.fs.permissions import refusal
from s3posixfs.waiting.deadlines import waiting

ATTEMPTS = 4  # of an answer that own changes overtake
CHANGE_SECONDS = 0.005  # between two looks whether an own change is done


class Resolver:
    """Looks names up and keeps inodes as fresh as ``metadata_ttl`` asks, in the daemon's name."""

    def __init__(
        self,
        state: MountState,
        entries: Entries,
        heads: ObjectHeads,
        buckets: BucketsFolder,
        nursery: trio.Nursery,
    ) -> None:
        self._state = state
        self._entries = entries
        self._heads = heads
        self._buckets = buckets
        self._keys = KeyLookup(state, entries, heads)
        self._listings = NameListings(state)
        self._ahead = LookAhead(state, heads, entries, self._keys.at, entries.is_fresh, nursery)

    # Names.

    async def child(
        self,
        parent: Inode,
        name: bytes,
        *,
        certain: bool = False,
        whole: bool = False,
        new: bool = False,
        content: bool = False,
        scanning: bool = False,
    ) -> Inode:
        """The inode at a name, exact and no older than the time to live; NoEntry, ENAMETOOLONG.

        ``certain``: that there is none is not to be taken from memory. ``whole``: a row of a
        listing does not do, as what the object's metadata says is to be kept. ``new``: there is
        to be none, and the caller is about to make it. ``content``: the caller is about to read it.
        ``scanning``: the caller goes through the folder.
        """
        state = self._state
        if len(name) > MAX_NAME_BYTES:
            raise refusal(ENAMETOOLONG)
        segment = key_segment(name)
        if segment is None:
            raise NoEntry(name, state.config.absence_ttl)
        for _ in range(ATTEMPTS):
            known = parent.children.get(name)
            if known is not None and (known.is_local or self._entries.is_fresh(known, whole=whole)):
                return known
            if state.table.is_buckets_folder(parent):
                found = await self._buckets.child(name)
                await self.refresh(found, whole=whole)
                return found
            if (state.writes_back or new) and not certain:
                left = await self._listings.missing_for(parent, name, new=new)
                if left > 0:
                    if not state.writes_back:  # it holds for who makes it, not for others
                        left = min(left, state.config.absence_ttl)
                    raise self._no_entry(parent, name, left)
            serial, known_serial = parent.serial, known.serial if known else 0
            listing = await self._listings.glance(parent)
            row = state.listings.row(parent, name, state.now(), scanning=scanning)
            left = 0.0 if certain else self._listings.absent_for(listing, name)
            if left > 0:
                raise self._no_entry(parent, name, left)
            entry = self._entries.of_row(parent, row) if row is not None else None
            asked_at = state.now()
            if entry is None or not entry.exact or (whole and not entry.whole):
                if content and row is None:
                    row = await self._ahead.listed_again(parent, name)
                if content and self._lacks_content(parent, name, row):
                    entry = await self._keys.with_content(parent, segment, known, row)
                else:
                    entry = await self._ahead.fetch(
                        parent, name, segment, known, row, scanning=scanning
                    )
            if parent.serial != serial or (known is not None and known.serial != known_serial):
                continue
            if known is not None and known.changing:
                return known
            if entry is not None:
                return state.table.attach(parent, name, entry)
            if parent.is_changing:
                await self.settled(parent)
                continue
            listing.note_absent(name, asked_at)
            raise self._no_entry(parent, name, state.config.absence_ttl)
        return await self._overtaken(parent, name, segment)

    def _lacks_content(self, parent: Inode, name: bytes, row: Row | None) -> bool:
        """Whether a name is to be asked for together with its content: the row shows a small
        file that is not here, or no listing shows anything."""
        if row is not None:
            return self._heads.lacks_content(parent, row)
        return parent.listing is None or name not in parent.listing.index

    async def _overtaken(self, parent: Inode, name: bytes, segment: str) -> Inode:
        """Changes go on and on in this folder: here only those of this name count."""
        for _ in range(ATTEMPTS):
            known = parent.children.get(name)
            if known is not None and (
                known.is_local or known.changing or self._entries.is_fresh(known)
            ):
                return known
            serial = known.serial if known is not None else 0
            entry = await self._ahead.fetch(parent, name, segment, known, None)
            if parent.children.get(name) is not known or (known and known.serial != serial):
                continue
            if entry is not None and parent.listing is not None and parent.listing.removed(name):
                continue  # this mount removed it while S3 was being asked
            if entry is None:
                raise self._no_entry(parent, name, 0.0)
            return self._state.table.attach(parent, name, entry)
        raise NoEntry(name, 0.0)  # made and removed, time and again

    def _no_entry(self, parent: Inode, name: bytes, seconds: float) -> NoEntry:
        """There is nothing at the name, and that holds for so long."""
        self._state.table.gone(parent, name)
        return NoEntry(name, seconds)

    async def existing(
        self,
        parent: Inode,
        name: bytes,
        thread: int,
        how: How,
        *,
        certain: bool = False,
    ) -> Inode | None:
        """The inode at a name that the thread is about to make, or ``None``."""
        habits = self._state.habits
        expected = habits.expects(thread)
        just_missed = habits.makes(thread, parent.number, name, how)
        if just_missed and not certain and name not in parent.children:
            return None
        try:
            return await self.child(parent, name, certain=certain, new=expected)
        except NoEntry:
            return None

    @staticmethod
    async def settled(inode: Inode) -> None:
        """Wait until own changes of the inode are in S3 and known here."""
        while inode.is_changing:
            await waiting()
            await trio.sleep(CHANGE_SECONDS)

    # Keeping inodes fresh.

    async def refresh(self, inode: Inode, *, whole: bool = False) -> None:
        """Make the inode's entry exact and fresh, and ``whole`` (see ``child``); ESTALE where its
        name holds another file or none, so that the kernel looks the name up again."""
        state = self._state
        if inode.detached and inode.open_file is None and not inode.removed:
            raise refusal(ESTALE)
        if inode.is_local or inode.detached or self._entries.is_fresh(inode, whole=whole):
            return
        if state.table.is_buckets_folder(inode):
            inode.entry = replace(inode.entry, fetched_at=state.now())
            return
        if state.table.is_bucket(inode) and inode.name not in await self._buckets.buckets():
            self._lost(inode)
        if self._refreshed_by_listing(inode) and (inode.entry.whole or not whole):
            return
        await self.fetch(inode)

    def _refreshed_by_listing(self, inode: Inode) -> bool:
        """Whether a listing has just told all that is to be known of the file."""
        parent = inode.parent
        state = self._state
        row = state.listings.row(parent, inode.name, state.now()) if parent else None
        if parent is None or row is None or row.stat is None or inode.is_directory:
            return False
        entry = self._entries.of_row(parent, row)
        if not entry.exact or entry.attributes.type != inode.attributes.type:
            return False
        if entry.fetched_at <= inode.entry.fetched_at:
            return False
        inode.entry = entry
        return self._entries.is_fresh(inode)

    async def fetch(
        self, inode: Inode, store: ObjectStore | None = None, *, content: bool = False
    ) -> None:
        """Ask S3 for the inode's entry; a file that is to be read, as ``store``'s identity, and
        with its ``content`` where that is small."""
        serial = inode.serial
        bucket, key = self._state.table.key(inode)
        if inode.is_directory:
            entry = await self._keys.folder(inode, bucket, key)
        else:
            entry = await self._file(inode, bucket, key, store, content=content)
        if inode.serial != serial or inode.is_local or inode.is_changing:
            return
        other_type = entry is not None and entry.attributes.type != inode.attributes.type
        if entry is None or other_type or inode.is_replaced_by(entry):
            self._lost(inode)
        else:
            inode.entry = entry

    async def _file(
        self, inode: Inode, bucket: str, key: str, reader: ObjectStore | None, *, content: bool
    ) -> Entry | None:
        store, to_read = reader or self._state.daemon_store, reader is not None
        try:
            found = await self._heads.head(
                store, bucket, key, inode, to_read=to_read, content=content
            )
        except S3Error as error:
            if absent(error):
                return None
            raise
        return self._entries.of_file(bucket, found)

    def _lost(self, inode: Inode) -> None:
        """The inode's name is not its any more: ESTALE."""
        parent = inode.parent
        if parent is not None:
            parent.listing = None
        self._state.table.detach(inode)
        raise refusal(ESTALE)
