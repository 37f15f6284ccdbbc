"""What a folder's listing tells of single names, and when a listing is worth its request."""

from __future__ import annotations

from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import Listing
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.paging import load_page

# So many names of one folder asked for within the time to live, and its listing is fetched, which
# answers for all of them; unless it takes more than a page.
CROWD = 4
# A folder's listing, of so many pages at most, answers for names that are about to be made, and
# with write-back for all that are not there, for so many times as long as it took.
MOST_PAGES = 200
PAGES_FOR_NEW = 10
SECONDS_FOR_NEW = 5.0  # and no longer than that without write-back
LISTING_SHARE = 20


class NameListings:
    """Listings of folders, fetched for names that are looked up in them."""

    def __init__(self, state: MountState) -> None:
        self._state = state

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

    def absent_for(self, listing: Listing, name: bytes) -> float:
        """The seconds for which a name that was seen not to be there counts as missing; 0 or less
        where it has to be asked for."""
        seen = listing.absent_since(name)
        if seen is None:
            return 0.0
        config = self._state.config
        limit = config.new_folder_ttl if listing.made_here else config.absence_ttl
        return limit - (self._state.now() - seen)

    async def missing_for(self, folder: Inode, name: bytes, *, new: bool) -> float:
        """The seconds for which a name counts as missing, 0 where that is not known; with
        write-back, or where the name is ``new``, about to be made.

        Who makes many files is not to wait for S3 each time: a listing of the folder says
        what is there, for the time to live, or for long enough that listings are a small part of
        all work. What another host makes meanwhile is found at the upload, as a conflict."""
        state = self._state
        ttl = state.config.metadata_ttl
        most_pages = MOST_PAGES if state.writes_back else PAGES_FOR_NEW
        if new and ttl and folder.listing is None:
            state.listings.begin(folder, state.now())
        for attempt in range(2):
            listing = folder.listing
            if listing is None or not ttl:
                return 0.0
            seen = listing.absent_since(name) if listing.complete else None
            if seen is not None:
                counts = LISTING_SHARE * listing.took
                if not state.writes_back:
                    counts = min(counts, SECONDS_FOR_NEW)
                left = max(ttl, counts) - (state.now() - seen)
                if left > 0:
                    return min(left, ttl)
            elif listing.complete and state.listings.fresh(folder, state.now()) is listing:
                return 0.0  # it is there
            if attempt or (listing.asked < CROWD and not new):
                return 0.0
            if not listing.complete and listing.pages >= most_pages:
                return 0.0  # too many names
            await self._load_all(folder, most_pages)
        return 0.0

    async def _load_all(self, folder: Inode, most_pages: int) -> None:
        state = self._state
        listing = state.listings.begin(folder, state.now())
        while not listing.complete and listing.pages < most_pages:
            await load_page(state, folder, listing)
        listing.asked = max(listing.asked, CROWD)
