"""From names to inodes and back to what S3 says of them."""

from __future__ import annotations

import stat
from dataclasses import replace
from errno import EACCES, ENAMETOOLONG, ESTALE

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import MAX_KEY_BYTES, ListPage, ObjectStat
from s3posixfs.data.staged_file import KEPT_BYTES
from s3posixfs.data.version import ObjectVersion
from s3posixfs.fs.attributes import Attributes, Entry, FileAttributes, NoEntry
from s3posixfs.fs.concurrently import both
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import Listing, Row
from s3posixfs.fs.lookahead import LookAhead
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import MAX_NAME_BYTES, key_segment
from s3posixfs.fs.paging import load_page
from s3posixfs.fs.permissions import refusal

ATTEMPTS = 4  # of an answer that own changes overtake
CHANGE_SECONDS = 0.005  # between two looks whether an own change is done
# So many names of one folder asked for within the time to live, and its listing is fetched, which
# answers for all of them; unless it takes more than a page.
CROWD = 4
# With write-back a folder's listing, of so many pages at most, answers for names that are not there
# for so many times as long as it took.
MOST_PAGES = 200
LISTING_SHARE = 20
NEIGHBOURS = 16  # keys that begin with a name, among which the name and its folder are looked for


def absent(error: S3Error) -> bool:
    """Whether the store says that there is no such object. Nothing else is taken for it."""
    return error.code in ("NoSuchKey", "NotFound") or (error.status == 404 and not error.code)


class Resolver:
    """Looks names up and keeps inodes as fresh as ``metadata_ttl`` asks, in the daemon's name."""

    def __init__(self, state: MountState) -> None:
        self._state = state
        self._buckets: tuple[float, dict[bytes, float]] = (float("-inf"), {})
        self._head_names_owner = True  # until a store is seen not to
        self._ahead = LookAhead(state, self._fetch, self.is_fresh)
        self.bucket_attributes: dict[bytes, Attributes] = {}  # set through this mount

    # Names.

    async def child(
        self, parent: Inode, name: bytes, *, certain: bool = False, whole: bool = False
    ) -> Inode:
        """The inode at a name, exact and no older than the time to live; NoEntry, ENAMETOOLONG.

        ``certain``: that there is none is not to be taken from memory. ``whole``: a row of a
        listing does not do, as what the object's metadata says is to be kept.
        """
        state = self._state
        if len(name) > MAX_NAME_BYTES:
            raise refusal(ENAMETOOLONG)
        segment = key_segment(name)
        if segment is None:
            raise NoEntry(name, state.config.absence_ttl)
        for _ in range(ATTEMPTS):
            known = parent.children.get(name)
            if known is not None and (known.is_local or self.is_fresh(known, whole=whole)):
                return known
            if state.table.is_buckets_folder(parent):
                return await self._bucket(name)
            if state.writes_back and not certain:
                missing = await self._missing(parent, name)
                if missing > 0:
                    self._gone(parent, name)
                    raise NoEntry(name, missing)
            serial, known_serial = parent.serial, known.serial if known else 0
            listing = await self.glance(parent)
            fresh = state.listings.fresh(parent, state.now())
            row = fresh.get(name) if fresh is not None else None
            seen = listing.absent_since(name)
            if seen is not None and not certain:
                config = state.config
                limit = config.new_folder_ttl if listing.made_here else config.absence_ttl
                left = limit - (state.now() - seen)
                if left > 0:
                    self._gone(parent, name)
                    raise NoEntry(name, left)
            entry = self.row_entry(parent, row) if row is not None else None
            asked_at = state.now()
            if entry is None or not entry.exact or (whole and not entry.whole):
                entry = await self._ahead.fetch(parent, name, segment, known, row)
            if parent.serial != serial or (known is not None and known.serial != known_serial):
                continue
            if known is not None and known.changing:
                return known
            if entry is None and parent.is_changing:
                await self.settled(parent)
                continue
            if entry is None:
                self._gone(parent, name)
                listing.note_absent(name, asked_at)
                raise NoEntry(name, state.config.absence_ttl)
            return state.table.attach(parent, name, entry)
        return await self._overtaken(parent, name, segment)

    async def _missing(self, parent: Inode, name: bytes) -> float:
        """With write-back: the seconds for which a name counts as missing, 0 where that is not
        known. Who makes many files is not to wait for S3 each time: a listing of the folder says
        what is there, for the time to live, or for long enough that listings are a small part of
        all work. What another host makes meanwhile is found at the upload, as a conflict."""
        state = self._state
        ttl = state.config.metadata_ttl
        for attempt in range(2):
            listing = parent.listing
            if listing is None or not ttl:
                return 0.0
            seen = listing.absent_since(name) if listing.complete else None
            if seen is not None:
                left = max(ttl, LISTING_SHARE * listing.took) - (state.now() - seen)
                if left > 0:
                    return min(left, ttl)
            elif listing.complete and state.listings.fresh(parent, state.now()) is listing:
                return 0.0  # it is there
            if attempt or listing.asked < CROWD:
                return 0.0
            began = state.now()
            listing = state.listings.begin(parent, began)
            while not listing.complete and listing.pages < MOST_PAGES:
                await load_page(state, parent, listing)
            listing.took += state.now() - began
            listing.asked = max(listing.asked, CROWD)
        return 0.0

    @staticmethod
    async def settled(inode: Inode) -> None:
        """Wait until own changes of the inode are in S3 and known here."""
        while inode.is_changing:  # noqa: ASYNC110 - many may end it, and few wait
            await trio.sleep(CHANGE_SECONDS)

    async def _overtaken(self, parent: Inode, name: bytes, segment: str) -> Inode:
        """Changes go on and on in this folder: here only those of this name count."""
        for _ in range(ATTEMPTS):
            known = parent.children.get(name)
            if known is not None and (known.is_local or known.changing or self.is_fresh(known)):
                return known
            serial = known.serial if known is not None else 0
            entry = await self._ahead.fetch(parent, name, segment, known, None)
            if parent.children.get(name) is not known or (known and known.serial != serial):
                continue
            if entry is not None and parent.listing is not None and parent.listing.removed(name):
                continue  # this mount removed it while S3 was being asked
            if entry is None:
                self._gone(parent, name)
                raise NoEntry(name, 0.0)
            return self._state.table.attach(parent, name, entry)
        raise NoEntry(name, 0.0)  # made and removed, time and again

    def _gone(self, parent: Inode, name: bytes) -> None:
        known = parent.children.get(name)
        if known is not None and not known.is_local:
            self._state.table.detach(known)

    async def existing(self, parent: Inode, name: bytes, *, certain: bool = False) -> Inode | None:
        """The inode at a name, or ``None``."""
        try:
            return await self.child(parent, name, certain=certain)
        except NoEntry:
            return None

    # Listings.

    async def glance(self, folder: Inode) -> Listing:
        """A listing of the folder for one of its names: with all of them where several were
        asked for lately and they fit into a page, old where they do not."""
        state, former = self._state, folder.listing
        if former is not None and folder.large:
            return former
        listing = state.listings.begin(folder, state.now())
        if former is not None and listing is not former and former.asked >= CROWD:
            busy = True
        else:
            busy = listing.asked >= CROWD
        listing.asked += 1
        if busy and not listing.pages and not listing.complete and not folder.large:
            await load_page(state, folder, listing)
        return listing

    def is_fresh(self, inode: Inode, *, whole: bool = False) -> bool:
        """Whether the entry is exact (and ``whole``) and younger than the time to live."""
        entry = inode.entry
        age = self._state.now() - entry.fetched_at
        known = entry.exact and (entry.whole or not whole)
        return known and age < self._state.config.metadata_ttl

    # Buckets as folders.

    async def buckets(self) -> dict[bytes, float]:
        """Names and creation times (seconds since the epoch) of the buckets the daemon sees."""
        fetched_at, buckets = self._buckets
        if self._state.now() - fetched_at >= self._state.config.metadata_ttl:
            found = await self._state.daemon_store.list_buckets()
            buckets = {bucket.name.encode(): bucket.created for bucket in found}
            self._buckets = (self._state.now(), buckets)
        return buckets

    def forget_buckets(self) -> None:
        """A bucket was made or removed."""
        self._buckets = (float("-inf"), {})

    async def _bucket(self, name: bytes) -> Inode:
        root = self._state.table.root
        buckets = await self.buckets()
        if name not in buckets:
            self._gone(root, name)
            raise NoEntry(name, self._state.config.absence_ttl)
        return self.bucket_inode(name, buckets[name])

    def bucket_inode(self, name: bytes, created: float) -> Inode:
        """The folder of a bucket; attributes that were set on it hold while mounted."""
        root = self._state.table.root
        known = root.children.get(name)
        if known is not None:
            known.entry = replace(known.entry, fetched_at=self._state.now())
            return known
        entry = self._state.unmarked_directory(int(created * 1e9) or None)
        chosen = self.bucket_attributes.get(name)
        if chosen is not None:
            entry = replace(entry, attributes=chosen)
        return self._state.table.attach(root, name, entry)

    # What S3 says.

    async def _fetch(
        self, bucket: str, key: str, known: Inode | None, row: Row | None
    ) -> Entry | None:
        """Ask for the object and for keys below it at once, or, where a listing has just told
        which of them there is, for that one. A folder hides its namesake."""
        if len(key.encode()) > MAX_KEY_BYTES:
            return None
        store = self._state.daemon_store

        async def below() -> ListPage:
            return await store.list_objects(bucket, prefix=f"{key}/", max_keys=1)

        async def here() -> ObjectStat | None:
            try:
                return await self.head(store, bucket, key, known)
            except S3Error as error:
                if absent(error):
                    return None
                raise

        page, found = ListPage((), (), None), None
        if row is None and known is not None and known.is_directory:
            page = await below()
            if not (page.objects or page.prefixes):
                found = await here()
        elif row is None and store.capabilities.listing_metadata:
            answer = await self._neighbours(bucket, key)
            if answer is None:
                page, found = await both(below, here)
            else:
                found, is_folder = answer
                if is_folder:
                    page = await below()
        elif row is None:
            page, found = await both(below, here)
        elif row.stat is None and known is not None and known.is_directory:
            page = await self._first_below(known, bucket, f"{key}/")
        elif row.stat is None:
            page = await below()
        else:
            found = await here()
        if page.objects or page.prefixes:
            return await self._folder(bucket, f"{key}/", page)
        return self.file_entry(bucket, found) if found is not None else None

    async def _neighbours(self, bucket: str, key: str) -> tuple[ObjectStat | None, bool] | None:
        """The object and whether there are keys below it, from one listing of what begins with
        its key; ``None`` where that has too much else in it, or not all that is needed."""
        page = await self._state.daemon_store.list_objects(
            bucket, prefix=key, delimiter="/", max_keys=NEIGHBOURS
        )
        found = next((row for row in page.objects if row.key == key), None)
        if f"{key}/" in page.prefixes:
            return found, True
        if page.next_token is not None:
            names = [*page.prefixes, *(row.key for row in page.objects)]
            last = max((_bytes(name) for name in names), default=b"")
            if last < _bytes(f"{key}/"):
                return None
        if found is not None and (found.metadata is None or found.owner is None):
            return None
        return found, False

    async def head(
        self,
        store: ObjectStore,
        bucket: str,
        key: str,
        known: Inode | None,
        *,
        to_read: bool = False,
        content: bool = False,
    ) -> ObjectStat:
        """HEAD as ``store``'s identity, with the owner; NoSuchKey, AccessDenied. ``to_read``
        says that this identity is to read the object, so that no other may ask in its place, and
        ``content`` that the object is small and wanted: then it comes along, into the cache.

        Plain S3 names no owner in a HEAD: then it is the one known of the same version, else a
        listing of that one key gives it.
        """
        owner_comes = self._head_names_owner or not store.capabilities.listing_owner

        async def heading() -> ObjectStat:
            if to_read and content:
                return await self._get(store, bucket, key)
            if to_read:
                return await store.head(bucket, key)
            return await self._head(store, bucket, key)

        if owner_comes or known is not None:
            found = await heading()
        else:

            async def owning() -> ListPage:
                return await self._listed(bucket, key)

            found, page = await both(heading, owning)
            found = _with_listed_owner(found, page)
        if found.owner is None and store.capabilities.listing_owner:
            self._head_names_owner = False
            former = known.entry.stat if known is not None else None
            if former is not None and self._same_version(former, found):
                found = replace(found, owner=former.owner)
            else:
                found = _with_listed_owner(found, await self._listed(bucket, key))
        self._state.known.remember(bucket, found)
        return found

    async def _get(self, store: ObjectStore, bucket: str, key: str) -> ObjectStat:
        found, data = await store.get(bucket, key, length=KEPT_BYTES)
        if found.etag and len(data) == min(found.size, KEPT_BYTES):
            version = ObjectVersion(bucket, key, found.etag, found.size)
            self._state.readers.keep(version, 0, data)
        return found

    async def _listed(self, bucket: str, key: str) -> ListPage:
        """A listing of one key, which names its owner."""
        return await self._state.daemon_store.list_objects(bucket, prefix=key, max_keys=1)

    async def _head(self, store: ObjectStore, bucket: str, key: str) -> ObjectStat:
        """HEAD; what the daemon may not read (RGW closes an object to all but its writer) is
        asked for as the owner, since attributes are shown to all who may look into the folder."""
        try:
            return await store.head(bucket, key)
        except S3Error as error:
            if error.errno != EACCES or store is not self._state.daemon_store:
                raise
            for row in (await self._listed(bucket, key)).objects:
                signer = self._state.signers.for_owner(row.owner.id) if row.owner else None
                if row.key == key and signer is not None:
                    return await signer.store.head(bucket, key)
            raise

    def _same_version(self, former: ObjectStat, found: ObjectStat) -> bool:
        """Whether the owner of ``former`` may be taken for that of ``found``. What a trusted
        owner stated is believed, so for those the metadata must be the same too."""
        if former.owner is None or former.etag != found.etag:
            return False
        if int(former.last_modified) != int(found.last_modified):
            return False
        return former.metadata == found.metadata or not self._state.rules.trusts(former.owner.id)

    async def _folder(self, bucket: str, prefix: str, page: ListPage) -> Entry:
        marker = page.objects[0] if page.objects and page.objects[0].key == prefix else None
        if marker is not None and marker.metadata is None:
            marker = self._state.known.complete(bucket, marker)
            if marker.metadata is None:
                headed = await self._head(self._state.daemon_store, bucket, prefix)
                marker = replace(headed, owner=headed.owner or marker.owner)
                self._state.known.remember(bucket, marker)
        return self.folder_entry(marker)

    def folder_entry(self, marker: ObjectStat | None) -> Entry:
        """A directory with this marker."""
        if marker is None:
            return self._state.unmarked_directory()
        attributes = self._state.rules.directory(marker, marker.metadata, seen_ns=0)
        return Entry(attributes, marker, self._state.now(), exact=True)

    def file_entry(self, bucket: str, found: ObjectStat) -> Entry:
        """A file as its HEAD or its row shows it."""
        if found.metadata is None or found.headers is None:
            found = self._state.known.complete(bucket, found)
        attributes = self._state.rules.file(found, found.metadata)
        exact = found.metadata is not None or self._does(found)
        return Entry(attributes, found, self._state.now(), exact=exact)

    def _does(self, row: ObjectStat) -> bool:
        """Whether a row without metadata says enough. Never one of an owner who is believed:
        there the metadata says whose the file is."""
        if self._state.config.attributes != "listing" or row.owner is None:
            return False
        return not self._state.rules.trusts(row.owner.id)

    def row_entry(self, directory: Inode, row: Row) -> Entry:
        """What a row of a listing tells; of a folder nothing but that it is there."""
        if row.stat is None:
            entry = replace(self._state.unmarked_directory(), exact=False)
        else:
            bucket, _ = self._state.table.place(directory)
            entry = self.file_entry(bucket, row.stat)
            if row.stat.owner is None and self._state.daemon_store.capabilities.listing_owner:
                entry = replace(entry, exact=False)  # a row of our own making
        return replace(entry, fetched_at=row.fetched_at)

    # Keeping inodes fresh.

    async def refresh(self, inode: Inode, *, whole: bool = False) -> None:
        """Make the inode's entry exact and fresh, and ``whole`` (see ``child``); ESTALE where its
        name holds another file or none, so that the kernel looks the name up again."""
        state = self._state
        if inode.detached and inode.open_file is None and not inode.removed:
            raise refusal(ESTALE)
        if inode.is_local or inode.detached or self.is_fresh(inode, whole=whole):
            return
        if state.table.is_buckets_folder(inode):
            inode.entry = replace(inode.entry, fetched_at=state.now())
            return
        if state.table.is_bucket(inode):
            if inode.name not in await self.buckets():
                self.lost(inode)
            inode.entry = replace(inode.entry, fetched_at=state.now())
            return
        if self._refreshed_by_listing(inode) and (inode.entry.whole or not whole):
            return
        await self.fetch(inode)

    def _refreshed_by_listing(self, inode: Inode) -> bool:
        """Whether a listing has just told all that is to be known of the file."""
        parent = inode.parent
        listing = self._state.listings.fresh(parent, self._state.now()) if parent else None
        row = listing.get(inode.name) if listing is not None else None
        if parent is None or row is None or row.stat is None or inode.is_directory:
            return False
        entry = self.row_entry(parent, row)
        if not entry.exact or entry.attributes.type != inode.attributes.type:
            return False
        if entry.fetched_at <= inode.entry.fetched_at:
            return False
        inode.entry = entry
        return self.is_fresh(inode)

    async def fetch(
        self, inode: Inode, store: ObjectStore | None = None, *, content: bool = False
    ) -> None:
        """Ask S3 for the inode's entry; a file that is to be read, as ``store``'s identity, and
        with its ``content`` where that is small."""
        state = self._state
        serial = inode.serial
        bucket, key = state.table.key(inode)
        entry: Entry | None
        if inode.is_directory:
            entry = await self._directory(inode, bucket, key)
        else:
            try:
                asking = store or state.daemon_store
                to_read = store is not None
                found = await self.head(
                    asking, bucket, key, inode, to_read=to_read, content=content
                )
            except S3Error as error:
                if not absent(error):
                    raise
                entry = None
            else:
                entry = self.file_entry(bucket, found)
        if inode.serial != serial or inode.is_local or inode.is_changing:
            return
        other_type = entry is not None and entry.attributes.type != inode.attributes.type
        if entry is None or other_type or inode.is_replaced_by(entry):
            self.lost(inode)
        else:
            inode.entry = entry

    async def _directory(self, inode: Inode, bucket: str, prefix: str) -> Entry | None:
        root = inode.parent is None
        if not prefix:
            return replace(inode.entry, fetched_at=self._state.now())
        page = await self._first_below(inode, bucket, prefix)
        if page.objects or page.prefixes:
            return await self._folder(bucket, prefix, page)
        if root or any(child.is_local for child in self._state.table.below(inode)):
            return replace(inode.entry, fetched_at=self._state.now())
        return None

    async def _first_below(self, folder: Inode, bucket: str, prefix: str) -> ListPage:
        """The marker of a folder, or what else shows that it is there. Where a program has just
        opened a folder beside this one, it will list this one, too: then with a whole page."""
        state, parent = self._state, folder.parent
        beside = parent.listing if parent is not None else None
        if beside is not None and state.now() - beside.entered_at < state.config.metadata_ttl:
            listing = state.listings.begin(folder, state.now())
            if not (listing.pages or listing.complete or folder.large):
                await load_page(state, folder, listing)
                if listing.marker is not None:
                    return ListPage((listing.marker,), (), None)
                if listing.rows:  # else there may still be keys that are not shown
                    return ListPage((), (prefix,), None)
        return await state.daemon_store.list_objects(bucket, prefix=prefix, max_keys=1)

    def lost(self, inode: Inode) -> None:
        """The inode's name is not its any more: ESTALE."""
        parent = inode.parent
        if parent is not None:
            parent.listing = None
        self._state.table.detach(inode)
        raise refusal(ESTALE)

    # Answers.

    def view(self, inode: Inode) -> FileAttributes:
        """What the kernel is told of an inode, and for how long it holds."""
        state = self._state
        ttl = state.config.metadata_ttl
        entry = inode.entry
        left = ttl if inode.is_local else max(0.0, ttl - (state.now() - entry.fetched_at))
        attributes = inode.told = inode.shown
        return FileAttributes(
            inode=inode.number,
            attributes=attributes,
            links=0 if inode.detached else 2 if stat.S_ISDIR(attributes.mode) else 1,
            blocks=-(-attributes.size // 512),
            # What a row shows as a file may be a link: nothing to be remembered by the kernel.
            entry_valid=left if entry.exact or attributes.is_directory else 0.0,
            attributes_valid=left if entry.exact else 0.0,
        )


def _bytes(key: str) -> bytes:
    """What S3 orders keys by; a key of others need not be UTF-8."""
    return key.encode(errors="surrogateescape")


def _with_listed_owner(found: ObjectStat, page: ListPage) -> ObjectStat:
    """The owner from a listing of one key, if that lists the version that the HEAD found."""
    for row in page.objects:
        if row.key == found.key and row.etag == found.etag:
            return replace(found, owner=row.owner)
    return found
