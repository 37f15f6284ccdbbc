"""One listing of a whole tree in the place of one for each of its folders, where a walk is seen.

S3 orders keys as a program that goes through a tree depth first sees them, so the thousand keys
from a folder on are those that it will ask for next, whatever folders they are in. A listing
without delimiter brings them in one request. Each folder that is whole in it becomes the page that
a request of its own would have brought, and waits to be asked for, for the time to live at most.

What goes wrong here, or does not help, costs a request now and then; nothing depends on it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import ListPage, ObjectStat
from s3posixfs.fs.inodes import Inode, InodeTable
from s3posixfs.fs.walk import Walk

KEPT = 4  # requests whose folders wait to be asked for
# What comes before all keys in a folder, and after all that begin with a smaller character there.
_LAST_BEFORE_SLASH = ".\U0010ffff"


@dataclass(slots=True)
class FlatFolder:
    """What a folder holds, as a listing with a delimiter tells it; ``first`` of all below it."""

    first: ObjectStat
    objects: list[ObjectStat] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)

    def page(self) -> ListPage:
        """The folder's only page."""
        return ListPage(tuple(self.objects), tuple(self.prefixes), None)


class _Request:
    """A listing: the folders that are whole in it, by prefix, and what of ``walk`` they are."""

    __slots__ = ("began_at", "bucket", "folders", "serial", "walk")

    def __init__(self, bucket: str, began_at: float, serial: int, walk: Walk) -> None:
        self.bucket = bucket
        self.began_at = began_at
        self.serial = serial
        self.walk = walk
        self.folders: dict[str, FlatFolder] = {}


class FlatListings:
    """Folders that came with others, for ``ttl`` seconds."""

    def __init__(self, table: InodeTable, ttl: float) -> None:
        self._table = table
        self._ttl = ttl
        self._requests: deque[_Request] = deque(maxlen=KEPT)

    def has(self, folder: Inode, bucket: str, prefix: str, now: float) -> bool:
        """Whether the folder's page is here."""
        return self._find(folder, bucket, prefix, now) is not None

    def take(
        self, folder: Inode, bucket: str, prefix: str, now: float
    ) -> tuple[FlatFolder, float] | None:
        """What the folder holds, and when it was asked for; once."""
        request = self._find(folder, bucket, prefix, now)
        if request is None:
            return None
        request.walk.asked_for += 1
        return request.folders.pop(prefix), request.began_at

    def _find(self, folder: Inode, bucket: str, prefix: str, now: float) -> _Request | None:
        """A request after which this mount has changed nothing there."""
        since = max(folder.serial, self._table.forgotten_serial)
        while self._requests and now - self._requests[0].began_at >= self._ttl:
            self._requests.popleft()
        for request in self._requests:
            counts = request.serial >= since and now - request.began_at < self._ttl
            if counts and request.bucket == bucket and prefix in request.folders:
                return request
        return None

    def walks(self, folder: Inode | None, now: float) -> bool:
        """Whether a program has just opened a folder in this one."""
        listing = folder.listing if folder is not None else None
        return listing is not None and now - listing.walk.entered_at < self._ttl

    def walk_above(self, folder: Inode, now: float) -> tuple[Inode, Walk] | None:
        """The highest folder that a program is going through, this one being in it, and of which
        S3 may be asked for everything."""
        found: tuple[Inode, Walk] | None = None
        for above in folder.ancestry():
            listing = above.listing
            if above is folder or listing is None or self._table.is_buckets_folder(above):
                continue
            if self.walks(above, now) and not listing.walk.refused:
                found = above, listing.walk
        return found

    async def fetch(
        self, store: ObjectStore, top: tuple[str, str], prefix: str, walk: Walk, now: float
    ) -> list[ObjectStat]:
        """Ask for the keys in a bucket below a prefix (``top``) from the folder ``prefix`` on, if
        that is worth it; the markers of the folders that have come. S3Error."""
        keys = walk.next_keys()
        if not keys:
            return []
        bucket, above = top
        request = _Request(bucket, now, self._table.last_serial, walk)
        page = await store.list_objects(
            bucket,
            prefix=above,
            start_after=prefix[:-1] + _LAST_BEFORE_SLASH,
            max_keys=keys,
        )
        request.folders = whole_folders(page, above, prefix)
        walk.brought = len(request.folders)
        self._requests.append(request)
        return [
            folder.first for place, folder in request.folders.items() if folder.first.key == place
        ]


def whole_folders(page: ListPage, above: str, start: str) -> dict[str, FlatFolder]:
    """The folders that are whole in a page of a listing without delimiter of all keys that begin
    with ``above``, from the folder ``start`` on; by prefix."""
    folders: dict[str, FlatFolder] = {}
    current, into = "", None
    for found in page.objects:
        key = found.key
        prefix = key[: key.rfind("/") + 1]
        if prefix != current or into is None:
            current, into = prefix, _opened(folders, prefix, len(above), found)
        into.objects.append(found)
    # The listing begins in the middle of what is above its first folder, and ends in the middle of
    # what its last key is in.
    for prefix in _and_above(start[:-1], len(above)):
        folders.pop(prefix, None)
    if page.next_token is not None and page.objects:
        for prefix in _and_above(page.objects[-1].key, len(above)):
            folders.pop(prefix, None)
    return folders


def _opened(folders: dict[str, FlatFolder], prefix: str, cut: int, found: ObjectStat) -> FlatFolder:
    """The folder with this prefix; new ones are known to those above them from now on."""
    folder = folders.get(prefix)
    if folder is not None:
        return folder
    folder = folders[prefix] = FlatFolder(found)
    below, inner = prefix, folder
    while len(below) > cut:
        above = below[: below.rfind("/", 0, -1) + 1]
        if len(above) < cut:
            break
        outer = folders.get(above)
        known = outer is not None
        if outer is None:
            outer = folders[above] = FlatFolder(inner.first)
        outer.prefixes.append(below)
        if known:
            break
        below, inner = above, outer
    return folder


def _and_above(key: str, cut: int) -> list[str]:
    """The folder that a key is in and those above it, as long as they begin with ``cut``
    characters."""
    found: list[str] = []
    end = key.rfind("/") + 1
    while end >= cut:
        found.append(key[:end])
        if not end:
            break
        end = key.rfind("/", 0, end - 1) + 1
    return found
