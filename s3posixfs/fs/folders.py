"""What making, removing and renaming a name have in common: the folder's lock, what this mount
knows of the folder afterwards, and its marker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.folder_times import FolderTimes
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.rewriting import DIRECTORY_TYPE
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)


class Folders:
    """Folders whose names change."""

    def __init__(self, state: MountState, times: FolderTimes) -> None:
        self._state = state
        self.times = times

    @asynccontextmanager
    async def changing(self, *folders: Inode) -> AsyncIterator[None]:
        """The name locks of folders in the order of their numbers."""
        ordered = sorted({folder.number: folder for folder in folders}.items())
        locks = [folder.names_lock() for _, folder in ordered]
        for position, lock in enumerate(locks):
            try:
                await lock.acquire()
            except BaseException:
                for held in locks[:position]:
                    held.release()
                raise
        try:
            yield
        finally:
            for lock in locks:
                lock.release()

    def names_changed(self, *folders: Inode) -> None:
        """This mount made, removed or renamed a name in these folders."""
        now = self._state.now_ns()
        for folder in folders:
            folder.note_change()
            folder.names_ns = now
            self.times.changed(folder)

    def publish(
        self, parent: Inode, name: bytes, attributes: Attributes, found: ObjectStat, signer: Signer
    ) -> Inode:
        """The name is there: say so everywhere in this step."""
        state = self._state
        entry = Entry(attributes, found, state.now(), exact=True, writer=signer.name)
        inode = state.table.attach(parent, name, entry)
        inode.note_change()
        inode.names_ns = inode.renamed_ns = 0
        self.names_changed(parent)
        if attributes.is_directory:
            parent.count_folders(1)
            inode.folders = 0
        if parent.listing is not None:
            row = None if attributes.is_directory else found
            parent.listing.put(name, row, state.now())
        return inode

    def unpublish(self, parent: Inode, inode: Inode) -> None:
        """The name is gone: say so everywhere in this step."""
        self.names_changed(parent)
        if parent.listing is not None:
            parent.listing.remove(inode.name)
        if inode.is_directory:
            parent.count_folders(-1)
        inode.removed = True
        inode.renamed_ns = self._state.now_ns()  # a link fewer: the ctime of what is still open
        self._state.table.detach(inode)

    async def put_new(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        signer: Signer,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectStat:
        """Put a new object that must not be there yet; EEXIST where it is. ``metadata`` is what
        it has beside the attributes."""
        metadata = encode(attributes, metadata or {})
        result = await signer.store.put(
            bucket, key, body, metadata=metadata, content_type=content_type, if_none_match=True
        )
        modified = result.last_modified or self._state.clock.time()
        found = ObjectStat(
            key,
            len(body),
            result.etag,
            modified,
            metadata=metadata,
            content_type=content_type,
            headers={},
        )
        self._state.known.remember(bucket, found)
        self._state.access.wrote(signer, bucket, key)
        return found

    async def keep(self, folder: Inode) -> None:
        """A folder without a marker must not vanish with its last file: give it one.

        The daemon writes it, with the attributes that the folder has been shown with. Where it
        cannot, the folder goes; the caller's own work is done all the same.
        """
        state = self._state
        if folder.entry.stat is not None or folder.parent is None:
            return
        bucket, prefix = state.table.place(folder)
        if not prefix:
            return
        listing = folder.listing
        if listing is not None and listing.complete and len(listing.index) > 1:
            return  # others are left, as far as was seen lately
        daemon = state.signers.daemon()
        try:
            page = await daemon.store.list_objects(bucket, prefix=prefix, max_keys=1)
            if page.objects or page.prefixes:
                return
            shown = folder.shown
            found = await self.put_new(bucket, prefix, b"", shown, daemon, DIRECTORY_TYPE)
        except S3Error as error:
            logger.debug("no marker for %s: %s", folder.path(), error)
            return
        folder.entry = Entry(shown, found, state.now(), exact=True, writer=daemon.name)
        folder.note_change()
