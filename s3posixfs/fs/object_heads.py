"""HEAD of one object, with its owner, also where a store tells that elsewhere only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from errno import EACCES

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import ListPage, ObjectStat
from s3posixfs.data.staged_file import KEPT_BYTES
from s3posixfs.data.version import ObjectVersion
from s3posixfs.fs.concurrently import both, for_each
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import Row
from s3posixfs.fs.mount_state import MountState

SETTLED_SECONDS = 10.0
# Of requests for the next names: a distant store answers each as late as all of them.
AT_ONCE = 32


def absent(error: S3Error) -> bool:
    """Whether the store says that there is no such object. Nothing else is taken for it."""
    return error.code in ("NoSuchKey", "NotFound") or (error.status == 404 and not error.code)


class ObjectHeads:
    """Asks S3 for single objects and remembers what it says of them."""

    def __init__(self, state: MountState) -> None:
        self._state = state
        self._head_names_owner = True  # until a store is seen not to

    async def head(
        self,
        store: ObjectStore,
        bucket: str,
        key: str,
        known: Inode | None,
        listed: Row | None = None,
        *,
        to_read: bool = False,
        content: bool = False,
    ) -> ObjectStat:
        """HEAD as ``store``'s identity, with the owner; NoSuchKey, AccessDenied. ``to_read``
        says that this identity is to read the object, so that no other may ask in its place, and
        ``content`` that the object is small and wanted: then it comes along, into the cache.

        Plain S3 names no owner in a HEAD: then it is the one known of the same version, or of what
        was ``listed``, else a listing of that one key gives it.
        """
        owner_comes = self._head_names_owner or not store.capabilities.listing_owner

        async def heading() -> ObjectStat:
            if to_read and content:
                return await self._with_content(store, bucket, key)
            if to_read:
                return await store.head(bucket, key)
            return await self.as_daemon_or_owner(store, bucket, key)

        former = known.entry.stat if known is not None else None
        settled = listed is not None and self._is_settled(listed)
        if listed is not None and (settled or former is None):
            former = listed.stat
        if owner_comes or former is not None:
            found = await heading()
        else:

            async def owning() -> ListPage:
                return await self._listed(bucket, key)

            found, page = await both(heading, owning)
            found = _with_listed_owner(found, page)
        if found.owner is None and store.capabilities.listing_owner:
            self._head_names_owner = False
            if former is not None and self._same_version(former, found, settled=settled):
                found = replace(found, owner=former.owner)
            else:
                found = _with_listed_owner(found, await self._listed(bucket, key))
        self._state.known.remember(bucket, found)
        return found

    async def ahead(self, bucket: str, rows: Mapping[str, Row]) -> dict[str, ObjectStat]:
        """HEAD of many listed objects as the mount's identity, by key; what did not come, or is
        another version than its row shows, is left out. Raises nothing."""
        store = self._state.daemon_store
        heads: dict[str, ObjectStat] = {}
        unowned: list[ObjectStat] = []

        def take(found: ObjectStat) -> None:
            self._state.known.remember(bucket, found)
            heads[found.key] = found

        async def own(found: ObjectStat) -> None:
            with suppress(S3Error):
                take(_with_listed_owner(found, await self._listed(bucket, found.key)))

        for key, found in (await store.heads(bucket, list(rows))).items():
            listed = rows[key].stat
            if listed is None or found.etag != listed.etag or found.size != listed.size:
                continue
            if found.owner is not None or not store.capabilities.listing_owner:
                take(found)
                continue
            self._head_names_owner = False
            if self._same_version(listed, found, settled=self._is_settled(rows[key])):
                take(replace(found, owner=listed.owner))
            else:
                unowned.append(found)
        if unowned:
            await for_each(unowned, own, limit=AT_ONCE)
        return heads

    async def head_beside(
        self,
        store: ObjectStore,
        bucket: str,
        key: str,
        known: Inode | None,
        listing: Callable[[], Awaitable[ListPage]],
        *,
        content: bool,
    ) -> tuple[ObjectStat | None, ListPage]:
        """HEAD as the mount's identity, ``None`` where there is no such object, and at the same
        time a ``listing`` that has its row, if there is one; that names the owner where the HEAD
        does not. ``content`` as in :meth:`head`, where the version ``known`` is not here yet."""
        former = known.entry.stat if known is not None else None

        async def heading() -> ObjectStat | None:
            try:
                if content and (former is None or self._lacks(bucket, former)):
                    try:
                        return await self._with_content(store, bucket, key)
                    except S3Error as error:
                        if error.errno != EACCES:
                            raise
                return await self.as_daemon_or_owner(store, bucket, key)
            except S3Error as error:
                if absent(error):
                    return None
                raise

        found, page = await both(heading, listing)
        if found is None:
            return None, page
        if found.owner is None:
            self._head_names_owner = False
            if former is not None and self._same_version(former, found, settled=False):
                found = replace(found, owner=former.owner)
            else:
                found = _with_listed_owner(found, page)
        if found.owner is None:  # it changed between the two, or has too many neighbours
            found = _with_listed_owner(found, await self._listed(bucket, key))
        self._state.known.remember(bucket, found)
        return found, page

    def lacks_content(self, folder: Inode, row: Row) -> bool:
        """Whether a listed file is small enough to come with its attributes, and not here."""
        return row.stat is not None and self._lacks(self._state.table.bucket(folder), row.stat)

    def _lacks(self, bucket: str, found: ObjectStat) -> bool:
        if not found.etag:
            return False
        return self._state.lacks_content(ObjectVersion(bucket, found.key, found.etag, found.size))

    async def _with_content(self, store: ObjectStore, bucket: str, key: str) -> ObjectStat:
        found, data = await store.get(bucket, key, length=KEPT_BYTES)
        if found.etag and len(data) == min(found.size, KEPT_BYTES):
            version = ObjectVersion(bucket, key, found.etag, found.size)
            self._state.readers.keep(version, 0, data)
        return found

    async def _listed(self, bucket: str, key: str) -> ListPage:
        """A listing of one key, which names its owner."""
        return await self._state.daemon_store.list_objects(bucket, prefix=key, max_keys=1)

    async def as_daemon_or_owner(self, store: ObjectStore, bucket: str, key: str) -> ObjectStat:
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

    def _is_settled(self, row: Row) -> bool:
        """Whether no other version can have the same second as the row's: it was over when the
        listing was made. The host's clock may be wrong by ``SETTLED_SECONDS``."""
        listed_at = self._state.clock.time() - (self._state.now() - row.fetched_at)
        return row.stat is not None and row.stat.last_modified + SETTLED_SECONDS < listed_at

    def _same_version(self, former: ObjectStat, found: ObjectStat, *, settled: bool) -> bool:
        """Whether the owner of ``former`` may be taken for that of ``found``. What a trusted
        owner stated is believed, so for those the metadata must be the same too, unless ETag and
        time alone tell that it is the same version."""
        if former.owner is None or former.etag != found.etag:
            return False
        if int(former.last_modified) != int(found.last_modified):
            return False
        return (
            settled
            or former.metadata == found.metadata
            or not self._state.rules.trusts(former.owner.id)
        )


def _with_listed_owner(found: ObjectStat, page: ListPage) -> ObjectStat:
    """The owner from a listing of one key, if that lists the version that the HEAD found."""
    for row in page.objects:
        if row.key == found.key and row.etag == found.etag:
            return replace(found, owner=row.owner)
    return found
