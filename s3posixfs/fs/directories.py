"""Reading directories: a listing per handle whose rows only grow."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from errno import EACCES

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.fs.attributes import FileAttributes
from s3posixfs.fs.buckets_folder import BucketsFolder
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.handles import DirectoryHandle, Handles
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import PAGE_KEYS, Listing, Row
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.paging import load_page
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)

Emit = Callable[[bytes, FileAttributes, int], bool]

DOTS = 2  # offsets 1 and 2 are `.` and `..`; row N of the listing has offset N + 3


class Directories:
    """Directory handles."""

    def __init__(
        self,
        state: MountState,
        resolver: Resolver,
        entries: Entries,
        buckets: BucketsFolder,
        nursery: trio.Nursery,
    ) -> None:
        self._state = state
        self._nursery = nursery
        self._resolver = resolver
        self._entries = entries
        self._buckets = buckets
        self.handles: Handles[DirectoryHandle] = Handles()

    async def opendir(self, inode: Inode, caller: Caller) -> int:
        """Open a directory; EACCES where its mode or S3, in the caller's name, refuses."""
        state = self._state
        await self._resolver.refresh(inode)
        state.require(inode, caller, os.R_OK)
        if inode.removed:
            handle = DirectoryHandle(self.handles.next_number(), inode, Listing(state.now()))
            handle.listing.complete = True
            self.handles.add(handle)
            return handle.number
        signer = state.access.signer(caller)
        if state.table.is_buckets_folder(inode):
            listing = await self._visible_buckets(caller)
        else:
            bucket, prefix = state.table.place(inode)
            listing = state.listings.begin(inode, state.now())
            if state.access.needs_list_proof(signer, bucket, prefix):
                await self._list_as(signer, inode, listing)
            await state.access.require_list(signer, bucket, prefix)
            if inode.parent is not None and inode.parent.listing is not None:
                inode.parent.listing.walk.entered_at = state.now()
        handle = DirectoryHandle(self.handles.next_number(), inode, listing)
        self.handles.add(handle)
        return handle.number

    async def _list_as(self, signer: Signer, inode: Inode, listing: Listing) -> None:
        """Fetch the first page in the caller's name, where none has been fetched: it is the same
        for all who may list, and so it is the proof that the caller may."""
        state = self._state
        if listing.pages or listing.complete:
            return
        try:
            await load_page(state, inode, listing, signer.store)
        except S3Error as error:
            if error.errno != EACCES:
                raise
        else:
            bucket, prefix = state.table.place(inode)
            state.access.listed(signer, bucket, prefix)

    async def _visible_buckets(self, caller: Caller) -> Listing:
        """The buckets that the caller may see: a listing of this handle alone."""
        state = self._state
        buckets = await self._buckets.buckets()
        names = tuple(name.decode() for name in buckets)
        signer = state.access.signer(caller)
        visible = await state.access.visible_buckets(signer, names)
        listing = Listing(state.now())
        for name in sorted(visible):
            listing.put(name.encode(), None, state.now())
        listing.complete = True
        return listing

    async def readdir(self, handle: DirectoryHandle, offset: int, emit: Emit) -> None:
        """Give entries from ``offset`` on to ``emit`` until it takes no more.

        An entry that was taken counts as looked up; there is no checkpoint in between.
        """
        inode = handle.inode
        parent = inode.parent or inode
        if offset == 0:
            self._rewind(handle)
        for position, (name, shown) in enumerate(((b".", inode), (b"..", parent)), 1):
            if offset < position:
                if not emit(name, self._entries.view(shown), position):
                    return
                offset = position
        listing = handle.listing
        position = offset - DOTS
        while True:
            while position < len(listing.rows):
                row = listing.live(position)
                position += 1
                if row is None or self._removed_since(inode, row):
                    continue
                if not self._emit(inode, row, emit, position + DOTS):
                    self._look_ahead(inode, listing, position)
                    return
            if listing.complete:
                return
            await load_page(self._state, inode, listing)

    def _look_ahead(self, inode: Inode, listing: Listing, position: int) -> None:
        """Who has read more than a few names gets the next page without waiting for it."""
        if listing.complete or listing.ahead or position < PAGE_KEYS // 8:
            return
        if len(listing.rows) - position <= PAGE_KEYS:
            listing.ahead = True
            self._nursery.start_soon(self._load_ahead, inode, listing)

    async def _load_ahead(self, inode: Inode, listing: Listing) -> None:
        try:
            await load_page(self._state, inode, listing)
        except Exception as error:  # who needs the page asks again, and is told
            logger.debug("a page of %s was not fetched ahead: %s", inode.path(), error)
        finally:
            listing.ahead = False

    def _rewind(self, handle: DirectoryHandle) -> None:
        """rewinddir(3): the names are those of now. (Which buckets there are holds for the handle:
        they are those that its caller may see.)"""
        inode, started = handle.inode, handle.started
        handle.started = True
        if started and not inode.removed and not self._state.table.is_buckets_folder(inode):
            handle.read_from(self._state.listings.begin(inode, self._state.now()))

    @staticmethod
    def _removed_since(inode: Inode, row: Row) -> bool:
        """Whether a newer listing than the handle's knows that the name went: to tell it to the
        kernel now would bring the file back."""
        listing = inode.listing
        return listing is not None and listing.removed(row.name)

    def _emit(self, inode: Inode, row: Row, emit: Emit, next_offset: int) -> bool:
        child = self._inode(inode, row)
        view = self._entries.view(child)
        if not child.entry.is_of_sure_type:
            # Its metadata may say that it is a symbolic link or a fifo: of no type (DT_UNKNOWN), so
            # that programs ask. The kernel remembers no inode by such an entry.
            view = replace(view, attributes=replace(view.attributes, mode=0))
            child.told = None
        if not emit(row.name, view, next_offset):
            child.told = None
            self._state.table.tidy(child)
            return False
        child.lookups += 1
        return True

    def _inode(self, inode: Inode, row: Row) -> Inode:
        """The inode of a row; one that is known better than the row tells stays as it is."""
        state = self._state
        if state.table.is_buckets_folder(inode):
            return self._buckets.inode(row.name)
        known = inode.children.get(row.name)
        if known is not None and (
            known.is_local
            or (entry := known.entry).fetched_at >= row.fetched_at
            or self._entries.is_fresh(known)
            # A row of this mount's own write: it lacks the owner, whom the entry knows.
            or (row.stat is not None and entry.stat is row.stat)
            # A folder's row proves only that it is there; attributes are asked for when needed.
            or (row.is_directory and known.is_directory)
        ):
            return known
        return state.table.attach(inode, row.name, self._entries.of_row(inode, row))

    async def releasedir(self, number: int) -> None:
        """Close a directory."""
        handle = self.handles.remove(number)
        if handle is not None:
            handle.close()
