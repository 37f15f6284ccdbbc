"""What S3 says of an object, as an inode's entry, and for how long it holds. Asks nothing."""

from __future__ import annotations

from dataclasses import replace

from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import Attributes, Entry, FileAttributes
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import Row
from s3posixfs.fs.mount_state import MountState


class Entries:
    """Entries out of HEADs, markers and rows of listings."""

    def __init__(self, state: MountState) -> None:
        self._state = state

    def of_folder(self, marker: ObjectStat | None, seen_ns: int | None = None) -> Entry:
        """A directory with this marker; ``seen_ns`` is its time where there is none."""
        if marker is None:
            return self._state.unmarked_directory(seen_ns)
        attributes = self._state.rules.directory(marker, marker.metadata, seen_ns=0)
        return Entry(attributes, marker, self._state.now(), exact=True)

    def of_file(self, bucket: str, found: ObjectStat, row: Row | None = None) -> Entry:
        """A file as its HEAD or its row shows it."""
        if found.metadata is None or found.headers is None:
            found = self._state.known.complete(bucket, found)
        attributes = self._state.rules.file(found, found.metadata)
        exact = found.metadata is not None or self._suffices(found)
        if row is None:
            return Entry(attributes, found, self._state.now(), exact=exact)
        if found.owner is None and self._state.daemon_store.capabilities.listing_owner:
            exact = False  # a row of our own making
        return Entry(attributes, found, row.fetched_at, exact=exact)

    def _suffices(self, row: ObjectStat) -> bool:
        """Whether a row without metadata says enough. Never one of an owner who is believed:
        there the metadata says whose the file is."""
        if self._state.config.attributes != "listing" or row.owner is None:
            return False
        return not self._state.rules.trusts(row.owner.id)

    def of_row(self, directory: Inode, row: Row) -> Entry:
        """What a row of a listing tells; of a folder nothing but that it is there."""
        if row.stat is None:
            entry = self._state.unmarked_directory()
            return replace(entry, exact=False, fetched_at=row.fetched_at)
        return self.of_file(self._state.table.bucket(directory), row.stat, row)

    def is_fresh(self, inode: Inode, *, whole: bool = False) -> bool:
        """Whether the entry is exact (and ``whole``) and younger than the time to live."""
        entry = inode.entry
        age = self._state.now() - entry.fetched_at
        known = entry.exact and (entry.whole or not whole)
        return known and age < self._state.config.metadata_ttl

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
            links=self._links(inode, attributes),
            blocks=-(-attributes.size // 512),
            # What a row shows as a file may be a link: nothing to be remembered by the kernel.
            entry_valid=left if entry.exact or attributes.is_directory else 0.0,
            attributes_valid=left if entry.exact else 0.0,
        )

    @staticmethod
    def _links(inode: Inode, attributes: Attributes) -> int:
        """A folder has two, and one for each folder in it that is known of."""
        if inode.detached:
            return 0
        return 2 + (inode.folders or 0) if attributes.is_directory else 1
