"""The next page of a directory's listing, with what this mount has not uploaded yet."""

from __future__ import annotations

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import Listing
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import key_segment


async def load_page(
    state: MountState, inode: Inode, listing: Listing, store: ObjectStore | None = None
) -> None:
    """Ask S3 for one page, as ``store``'s identity or the daemon, unless the folder has come with
    others; the last page brings the files that S3 has not got."""
    bucket, prefix = state.table.place(inode)
    untouched = not (listing.pages or listing.complete or listing.lock.locked())
    flat = None
    if store is None and untouched:
        flat = state.flat.take(inode, bucket, prefix, state.now())
    if flat is not None:
        folder, asked_at = flat
        listing.fill(folder.page(), folder.first, prefix, asked_at)
    else:
        await listing.load_more(
            store or state.daemon_store, bucket, prefix, state.now(), have=listing.pages
        )
    if listing.complete:
        for name, child in inode.children.items():
            if child.is_local and listing.get(name) is None and key_segment(name):
                row = None if child.is_directory else child.entry.stat
                listing.put(name, row, state.now())
        inode.folders = listing.count_folders()
    inode.large = not listing.complete or listing.pages > 1
    state.listings.trim()
