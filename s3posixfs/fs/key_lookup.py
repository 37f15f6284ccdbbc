"""What S3 has at a key: an object, keys below it, or neither."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from errno import EACCES

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES, ListPage, ObjectStat
from s3posixfs.fs.attributes import NS, Entry
from s3posixfs.fs.concurrently import both, for_each
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import Row
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import BUCKET_KEY
from s3posixfs.fs.object_heads import ObjectHeads, absent
from s3posixfs.fs.paging import load_page
from s3posixfs.fs.walk import Walk

MARKERS = 64  # of folders that came with others: those whose metadata is asked for at once
NEIGHBOURS = 16  # keys that begin with a name, among which the name and its folder are looked for
NOTHING = ListPage((), (), None)


class KeyLookup:
    """Asks whether a key is a file or a folder, with as few requests as the store allows."""

    def __init__(self, state: MountState, entries: Entries, heads: ObjectHeads) -> None:
        self._state = state
        self._entries = entries
        self._heads = heads

    async def at(
        self,
        bucket: str,
        key: str,
        known: Inode | None,
        row: Row | None,
        *,
        content: bool = False,
    ) -> Entry | None:
        """Ask for the object and for keys below it at once, or, where a listing has just told
        which of them there is, for that one. A folder hides its namesake. ``content``: what no
        listing shows comes with its content, if that is small."""
        if len(key.encode()) > MAX_KEY_BYTES:
            return None
        if row is None:
            page, found = await self._unlisted(bucket, key, known, content=content)
        else:
            page, found = await self._listed(bucket, key, known, row)
        if _shows_folder(page):
            return await self._folder(bucket, f"{key}/", page)
        return self._entries.of_file(bucket, found) if found is not None else None

    async def with_content(
        self, folder: Inode, segment: str, known: Inode | None, row: Row | None
    ) -> Entry | None:
        """What a fresh row shows as a small file, or what no listing shows, and its content, as
        the mount's identity."""
        bucket, prefix = self._state.table.place(folder)
        store, key = self._state.daemon_store, prefix + segment
        if row is None:
            return await self.at(bucket, key, known, None, content=True)
        try:
            found = await self._heads.head(
                store, bucket, key, None, row, to_read=True, content=True
            )
        except S3Error as error:
            if absent(error):
                return None
            if error.errno != EACCES:
                raise
            return await self.at(bucket, key, None, row)
        return self._entries.of_file(bucket, found)

    async def _listed(
        self, bucket: str, key: str, known: Inode | None, row: Row
    ) -> tuple[ListPage, ObjectStat | None]:
        if row.stat is not None:
            return NOTHING, await self._here(bucket, key, known, row)
        if known is not None and known.is_directory:
            return await self._first_below(known, bucket, f"{key}/"), None
        return await self._below(bucket, key), None

    async def _unlisted(
        self, bucket: str, key: str, known: Inode | None, *, content: bool
    ) -> tuple[ListPage, ObjectStat | None]:
        if known is not None and known.is_directory:
            page = await self._first_below(known, bucket, f"{key}/")
            return page, None if _shows_folder(page) else await self._here(bucket, key, known)
        store = self._state.daemon_store
        if store.capabilities.listing_metadata:
            page = await self._near(bucket, key)
            found = next((row for row in page.objects if row.key == key), None)
            is_folder = _names_folder(page, key)
            if is_folder:
                return await self._below(bucket, key), found
            whole = found is None or (found.metadata is not None and found.owner is not None)
            if is_folder is not None and whole:
                return NOTHING, found
        elif store.capabilities.listing_owner:
            # One listing tells both whose the object is and whether there are keys below it.
            found, page = await self._heads.head_beside(
                store, bucket, key, known, lambda: self._near(bucket, key), content=content
            )
            if _names_folder(page, key) is False:
                return NOTHING, found
            return await self._below(bucket, key), found
        return await both(lambda: self._below(bucket, key), lambda: self._here(bucket, key, known))

    async def _below(self, bucket: str, key: str) -> ListPage:
        store = self._state.daemon_store
        return await store.list_objects(bucket, prefix=f"{key}/", max_keys=1)

    async def _here(
        self, bucket: str, key: str, known: Inode | None, row: Row | None = None
    ) -> ObjectStat | None:
        try:
            return await self._heads.head(self._state.daemon_store, bucket, key, known, row)
        except S3Error as error:
            if absent(error):
                return None
            raise

    async def _near(self, bucket: str, key: str) -> ListPage:
        """What begins with a key, as far as a few rows tell."""
        store = self._state.daemon_store
        return await store.list_objects(bucket, prefix=key, delimiter="/", max_keys=NEIGHBOURS)

    async def folder(self, inode: Inode, bucket: str, prefix: str) -> Entry | None:
        """A folder that is known, as it is now; ``None`` where no key shows it any more."""
        if prefix == BUCKET_KEY:
            return await self._bucket(inode, bucket)
        # While S3 is asked, the folder may lose its name: that does not make it the root.
        is_root = inode.parent is None
        page = await self._first_below(inode, bucket, prefix)
        if _shows_folder(page):
            return await self._folder(bucket, prefix, page)
        if is_root or any(child.is_local for child in self._state.table.below(inode)):
            return replace(inode.entry, fetched_at=self._state.now())
        return None

    async def _folder(self, bucket: str, prefix: str, page: ListPage) -> Entry:
        first = page.objects[0] if page.objects else None
        if first is None or first.key != prefix:
            # Every host sees the same first key below a folder that no object stands for.
            seen_ns = round(first.last_modified * NS) if first is not None else None
            return self._entries.of_folder(None, seen_ns)
        return self._entries.of_folder(await self._described(bucket, first))

    async def _bucket(self, folder: Inode, bucket: str) -> Entry:
        """A bucket's own folder: as the mount's identity, or who is trusted, left it, and as it is
        shown without that where nobody did."""
        state = self._state
        marker: ObjectStat | None = None
        listing = state.listings.fresh(folder, state.now())
        asked_at = state.now()
        if listing is not None and listing.complete and listing.pages and not listing.nameless:
            asked_at = listing.started_at
        else:
            marker = await self._bucket_marker(bucket)
        if marker is not None:
            entry = self._entries.of_folder(marker)
        elif folder.entry.stat is not None:
            entry = state.unmarked_directory()
        else:
            entry = folder.entry
        return replace(entry, fetched_at=asked_at)

    async def _bucket_marker(self, bucket: str) -> ObjectStat | None:
        try:
            page = await self._below(bucket, "")
            found = page.objects[0] if page.objects else None
            if found is None or found.key != BUCKET_KEY:
                return None
            if not self._state.rules.trusts(found.owner.id if found.owner is not None else None):
                return None
            return await self._described(bucket, found)
        except S3Error as error:
            if error.errno != EACCES and error.status != 400:
                raise
            return None  # the daemon may list some prefixes only, or no key can begin so

    async def _described(self, bucket: str, marker: ObjectStat) -> ObjectStat:
        """A marker out of a listing, with its metadata. All markers have the same content, so that
        nothing but the exact time tells this version from that of another host."""
        state = self._state
        if marker.metadata is not None:
            return marker
        known = state.known.complete(bucket, marker, exactly=True)
        if known.metadata is not None:
            return known
        headed = await self._heads.as_daemon_or_owner(state.daemon_store, bucket, marker.key)
        found = replace(headed, owner=headed.owner or marker.owner)
        state.known.remember(bucket, found)
        state.known.complete(bucket, marker)  # from now on it has this time
        return found

    async def _describe(self, bucket: str, markers: list[ObjectStat]) -> None:
        """Ask at once for what listings do not tell of folders that a walk will come to."""
        state = self._state

        async def ask(marker: ObjectStat) -> None:
            with suppress(S3Error):  # it is asked for again, and who needs it is told
                await self._described(bucket, marker)

        unknown = [
            marker
            for marker in markers
            if state.known.complete(bucket, marker, exactly=True).metadata is None
        ]
        if unknown:
            limit = min(len(unknown), state.config.parallel_requests)
            await for_each(unknown, ask, limit=limit)

    async def _first_below(self, folder: Inode, bucket: str, prefix: str) -> ListPage:
        """The marker of a folder, or what else shows that it is there. Where a program goes through
        the folders around this one, it will list this one, too: then with a page of that, or with
        all that comes next."""
        state, now = self._state, self._state.now()
        walked = state.flat.walk_above(folder, now)
        is_here = state.flat.has(folder, bucket, prefix, now)
        if is_here or walked is not None:
            listing = state.listings.begin(folder, now)
            if not (listing.pages or listing.complete or folder.large):
                if walked is not None and not is_here:
                    is_here = await self._with_others(folder, bucket, prefix, walked)
                if is_here or state.flat.walks(folder.parent, now):
                    await load_page(state, folder, listing)
                    if listing.marker is not None:
                        return ListPage((listing.marker,), (), None)
                    if listing.first is not None:
                        return ListPage((listing.first,), (), None)
        return await state.daemon_store.list_objects(bucket, prefix=prefix, max_keys=1)

    async def _with_others(
        self, folder: Inode, bucket: str, prefix: str, walked: tuple[Inode, Walk]
    ) -> bool:
        """Ask for the folder and those that follow it; whether the folder has come."""
        state, (above, walk) = self._state, walked
        try:
            top = state.table.place(above)
            markers = await state.flat.fetch(state.daemon_store, top, prefix, walk, state.now())
        except S3Error as error:
            if error.errno != EACCES:
                raise
            walk.refused = True
        else:
            await self._describe(bucket, markers[:MARKERS])
        return state.flat.has(folder, bucket, prefix, state.now())


def _names_folder(page: ListPage, key: str) -> bool | None:
    """Whether a listing of what begins with the key shows keys below it; ``None`` where it ends
    before it would."""
    if f"{key}/" in page.prefixes:
        return True
    if page.next_token is not None:
        names = [*page.prefixes, *(row.key for row in page.objects)]
        last = max((_bytes(name) for name in names), default=b"")
        if last < _bytes(f"{key}/"):
            return None
    return False


def _shows_folder(page: ListPage) -> bool:
    return bool(page.objects or page.prefixes)


def _bytes(key: str) -> bytes:
    """What S3 orders keys by; a key of others need not be UTF-8."""
    return key.encode(errors="surrogateescape")
