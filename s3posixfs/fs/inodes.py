"""The inode table: what the kernel may name by number.

Everything here is synchronous, so each method is one atomic step for the tasks of the loop. An
inode stays while the kernel remembers it (``lookups``), a handle or an unfinished upload uses
it (``open_file``), or it has children in the table.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from errno import ESTALE
from typing import TYPE_CHECKING

import trio

from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.inode_numbers import ROOT_INODE, InodeNumbers, Place
from s3posixfs.fs.names import BUCKET_KEY, key_segment, shown_name
from s3posixfs.fs.permissions import refusal
from s3posixfs.waiting.quick_lock import QuickLock

if TYPE_CHECKING:
    from s3posixfs.fs.handles import OpenFile
    from s3posixfs.fs.listing import Listing

REMEMBERED_TIMES = 100_000  # of files that the kernel forgot


class Inode:
    """A file or directory. ``parent`` is ``None`` for the root and for what has no name left.

    ``serial`` grows with every change this mount makes to it (for a directory: to its names),
    so that an answer asked for before a change is known to be old; it is the number of that change
    among those of all inodes. ``kept_etag`` is the version
    that the kernel's cached pages are of. ``lock`` (directories) is held by whoever makes,
    removes or renames a name in it. ``removed`` says that this mount took its name away.
    ``names_ns`` and ``renamed_ns`` are when this mount last changed a name in it and gave it
    another name, ns since the epoch: nothing in S3 tells. ``large`` says of a folder that it was
    seen not to fit into one page of a listing. ``told`` are the attributes that the kernel was
    given last. ``kept`` says of a folder that its time is still to be stored.
    ``folders`` counts the folders in it, as far as it was seen whole (``None``: it was not).
    """

    __slots__ = (
        "active",
        "changing",
        "children",
        "entry",
        "folders",
        "kept",
        "kept_etag",
        "large",
        "listing",
        "lock",
        "lookups",
        "moving",
        "name",
        "names_ns",
        "number",
        "open_file",
        "parent",
        "removed",
        "renamed_ns",
        "serial",
        "target",
        "told",
    )

    def __init__(self, number: int, parent: Inode | None, name: bytes, entry: Entry) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.entry = entry
        self.lookups = 0
        self.serial = 0
        self.children: dict[bytes, Inode] = _NO_CHILDREN
        self.open_file: OpenFile | None = None
        self.listing: Listing | None = None
        self.large = False
        self.lock: QuickLock | None = None
        self.kept_etag: str | None = None
        self.target: tuple[str, bytes] | None = None  # of a symbolic link: ETag, where it points
        self.active = 0  # operations at work in this folder or below: SubtreeGate's
        self.moving: trio.Event | None = None
        self.removed = False
        self.changing = 0  # own requests under way that change its object or key
        self.names_ns = 0
        self.renamed_ns = 0
        self.told: Attributes | None = None
        self.kept = False
        self.folders: int | None = None

    @property
    def attributes(self) -> Attributes:
        return self.entry.attributes

    @property
    def shown(self) -> Attributes:
        """The attributes with what has happened to names since they were last set."""
        attributes = self.entry.attributes
        changed = attributes.ctime_ns
        if self.names_ns > changed:
            attributes = attributes.written(attributes.mode, attributes.size, self.names_ns)
        if self.renamed_ns > attributes.ctime_ns:
            attributes = replace(attributes, ctime_ns=self.renamed_ns)
        return attributes

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.entry.attributes.mode)

    def note_change(self) -> None:
        """This mount changed it."""
        global _last_serial
        _last_serial += 1
        self.serial = _last_serial

    def count_folders(self, more: int) -> None:
        """So many more folders are in it."""
        if self.folders is not None:
            self.folders = max(0, self.folders + more)

    @property
    def detached(self) -> bool:
        """Removed, or replaced by another file of its name."""
        return self.parent is None and self.number != ROOT_INODE

    @property
    def is_local(self) -> bool:
        """Whether this mount knows better than S3 does, until the upload."""
        return self.open_file is not None and self.open_file.unsaved

    def is_replaced_by(self, entry: Entry) -> bool:
        """Whether this is another host's version of a file that is open here to be read.

        What was read and what the kernel has cached is of the old one, so that one inode for
        both would show programs some of each.
        """
        former, found = self.entry.stat, entry.stat
        if self.open_file is None or former is None or found is None or self.is_local:
            return False
        changed = former.etag not in ("", found.etag)
        return changed and any(handle.readable for handle in self.open_file.handles)

    @contextmanager
    def own_change(self) -> Iterator[None]:
        """Hold this round a request that changes the object and the step that records it here:
        what S3 is seen to have in between is neither old nor another host's doing."""
        self.changing += 1
        try:
            yield
        finally:
            self.changing -= 1

    @property
    def is_changing(self) -> bool:
        """Whether this mount is about to change the object, or the key of a folder above."""
        return any(inode.changing for inode in self.ancestry())

    def names_lock(self) -> QuickLock:
        """The lock on the names in this directory."""
        if self.lock is None:
            self.lock = QuickLock()
        return self.lock

    def ancestry(self) -> Iterator[Inode]:
        """This inode and its parents up to the root."""
        inode: Inode | None = self
        while inode is not None:
            yield inode
            inode = inode.parent

    def path(self) -> str:
        """For people: the path below the mountpoint."""
        names = [inode.name for inode in self.ancestry() if inode.name]
        return "/".join(name.decode("utf-8", "backslashreplace") for name in reversed(names))


# Of all changes, as an inode has no way to its table.
_last_serial = 0

# Of all that have none, which files never have: an empty dict each were 64 bytes a file.
_NO_CHILDREN: dict[bytes, Inode] = {}


def _add(parent: Inode, name: bytes, child: Inode) -> None:
    if parent.children is _NO_CHILDREN:
        parent.children = {}
    parent.children[name] = child


class InodeTable:
    """All inodes by number. ``bucket`` ``None`` means that the root's children are buckets.

    ``forgotten_serial`` is the last change of what is not in it any more, or not at its name.
    """

    def __init__(self, bucket: str | None, prefix: str, root: Entry) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self.root = Inode(ROOT_INODE, None, b"", root)
        self._inodes = {ROOT_INODE: self.root}
        self._times: OrderedDict[Place, tuple[int, int]] = OrderedDict()
        self._numbers = InodeNumbers()
        self.forgotten_serial = 0

    @property
    def last_serial(self) -> int:
        """The number of the last change of all."""
        return _last_serial

    def __len__(self) -> int:
        return len(self._inodes)

    def __iter__(self) -> Iterator[Inode]:
        return iter(tuple(self._inodes.values()))

    def get(self, number: int) -> Inode:
        """ESTALE for a number that is not (or no longer) known."""
        found = self._inodes.get(number)
        if found is None:
            raise refusal(ESTALE)
        return found

    def attach(self, parent: Inode, name: bytes, entry: Entry) -> Inode:
        """The inode for what is at ``name`` now.

        An inode keeps its number while its file type stays; of another type it is another file,
        and so is another version of what is open to be read. A type that a row of a listing only
        led to suppose was never told to the kernel.
        """
        known = parent.children.get(name)
        if known is not None:
            supposed = not (known.entry.is_of_sure_type or entry.attributes.is_directory)
            same_type = supposed or known.attributes.type == entry.attributes.type
            if same_type and not known.is_replaced_by(entry):
                known.entry = entry
                return known
            self.detach(known)
        place = (parent.number, name)
        inode = Inode(self._numbers.choose(place, self._inodes), parent, name, entry)
        inode.names_ns, inode.renamed_ns = self._times.pop(place, (0, 0))
        self._inodes[inode.number] = inode
        _add(parent, name, inode)
        return inode

    def detach(self, inode: Inode) -> None:
        """Take the inode's name away; it stays for who holds it."""
        if inode.parent is not None:
            parent, inode.parent = inode.parent, None
            if parent.children.get(inode.name) is inode:
                del parent.children[inode.name]
            self.tidy(parent)
        inode.note_change()
        self.forgotten_serial = inode.serial
        inode.listing = None
        self.tidy(inode)

    def gone(self, parent: Inode, name: bytes) -> None:
        """S3 has nothing at the name: its inode loses it, unless S3 has not got that yet."""
        known = parent.children.get(name)
        if known is not None and not known.is_local:
            self.detach(known)

    def move(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """Give the inode another name; what had that name loses it."""
        replaced = parent.children.get(name)
        if replaced is not None and replaced is not inode:
            self.detach(replaced)
        former = inode.parent
        if former is not None and former.children.get(inode.name) is inode:
            del former.children[inode.name]
        inode.parent, inode.name = parent, name
        inode.note_change()
        _add(parent, name, inode)
        if former is not None:
            self.tidy(former)

    def forget(self, number: int, count: int) -> None:
        """The kernel drops ``count`` of its references."""
        inode = self._inodes.get(number)
        if inode is not None:
            inode.lookups = max(0, inode.lookups - count)
            self.tidy(inode)

    def tidy(self, inode: Inode) -> None:
        """Drop the inode, and then its parents, if nothing needs them."""
        current: Inode | None = inode
        while current is not None and current.number != ROOT_INODE:
            if current.lookups or current.open_file or current.children or current.active:
                return
            if current.kept or current.moving is not None:
                return
            self._inodes.pop(current.number, None)
            self.forgotten_serial = max(self.forgotten_serial, current.serial)
            parent = current.parent
            if parent is not None:
                self._remember((parent.number, current.name), current)
            if parent is not None and parent.children.get(current.name) is current:
                del parent.children[current.name]
            current = parent

    def _remember(self, place: Place, inode: Inode) -> None:
        self._numbers.keep(place, inode.number)
        if inode.names_ns or inode.renamed_ns:
            self._times[place] = inode.names_ns, inode.renamed_ns
        if len(self._times) > REMEMBERED_TIMES:
            self._times.popitem(last=False)

    def below(self, inode: Inode) -> Iterator[Inode]:
        """The inode and all that are known below it."""
        waiting = [inode]
        while waiting:
            current = waiting.pop()
            yield current
            waiting.extend(current.children.values())

    # Where an inode is in S3.

    def is_buckets_folder(self, inode: Inode) -> bool:
        """Whether the children of this directory are buckets."""
        return self._bucket is None and inode.number == ROOT_INODE

    def is_bucket(self, inode: Inode) -> bool:
        """Whether this directory is a bucket shown as a top-level folder."""
        return self._bucket is None and inode.parent is self.root

    def place(self, directory: Inode) -> tuple[str, str]:
        """Bucket and key prefix (empty, or with a final slash) of what a directory holds.

        ESTALE where the directory has lost its name. The folder of all buckets has no place.
        """
        segments: list[str] = []
        current = directory
        while current.number != ROOT_INODE:
            segment = key_segment(current.name)
            if current.parent is None or segment is None:
                raise refusal(ESTALE)
            segments.append(segment)
            current = current.parent
        bucket = self._bucket if self._bucket is not None else segments.pop()
        segments.reverse()
        return bucket, self._prefix + "".join(f"{segment}/" for segment in segments)

    def bucket(self, directory: Inode) -> str:
        """The bucket of what a directory holds; see ``place``."""
        return self._bucket if self._bucket is not None else self.place(directory)[0]

    def nearest(self, bucket: str, prefix: str) -> tuple[Inode, list[bytes]]:
        """The lowest known folder on the way to what begins with a prefix of this mount, and the
        names from there on."""
        names = [shown_name(part) or b"" for part in prefix[len(self._prefix) :].split("/")[:-1]]
        if self._bucket is None:
            names.insert(0, bucket.encode())
        current = self.root
        while names:
            child = current.children.get(names[0])
            if child is None or not child.is_directory:
                break
            current = child
            del names[0]
        return current, names

    def key(self, inode: Inode) -> tuple[str, str]:
        """Bucket and key of a file, or of a directory's marker (which ends with a slash)."""
        if inode.is_directory:
            bucket, prefix = self.place(inode)
            return bucket, prefix or BUCKET_KEY
        segment = key_segment(inode.name)
        if inode.parent is None or segment is None:
            raise refusal(ESTALE)
        bucket, prefix = self.place(inode.parent)
        return bucket, prefix + segment
