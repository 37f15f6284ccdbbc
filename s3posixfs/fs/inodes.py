"""The inode table: what the kernel may name by number.

Everything here is synchronous, so each method is one atomic step for the tasks of the loop. An
inode stays while the kernel remembers it (``lookups``), a handle or an unfinished upload uses
it (``open_file``), or it has children in the table.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from errno import ESTALE
from stat import S_IFDIR
from typing import TYPE_CHECKING

from s3posixfs.fs.attributes import Entry
from s3posixfs.fs.inode import Inode, last_serial
from s3posixfs.fs.inode_numbers import REMEMBERED, ROOT_INODE, InodeNumbers, Place, derived
from s3posixfs.fs.names import BUCKET_KEY, key_segment, shown_name
from s3posixfs.fs.packing import Held, Packer
from s3posixfs.fs.permissions import refusal

if TYPE_CHECKING:
    from s3posixfs.fs.handles import OpenFile

__all__ = ["Inode", "InodeTable"]

TYPE = 0o170000  # the bits of a mode that say which type of file it is
REMEMBERED_TIMES = 100_000  # of files that the kernel forgot


class InodeTable:
    """All inodes by number. ``bucket`` ``None`` means that the root's children are buckets.

    ``forgotten_serial`` is the last change of what is not in it any more, or not at its name.
    ``packed`` counts the packed ones; ``recent`` are those that were new or unpacked since somebody
    last took that list, among them ones that were forgotten meanwhile.
    """

    def __init__(self, bucket: str | None, prefix: str, root: Entry) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self.root = Inode(ROOT_INODE, None, b"", root)
        self._inodes = {ROOT_INODE: self.root}
        self._times: OrderedDict[Place, tuple[int, int]] = OrderedDict()
        self._numbers = InodeNumbers()
        self._packer = Packer()
        self._keyed: tuple[Inode, str] | None = None  # a folder, and what keys in it begin with
        self.forgotten_serial = 0
        self.packed = 0
        self.recent: list[Inode] = []
        self._opened: dict[int, Inode] = {}

    @property
    def last_serial(self) -> int:
        """The number of the last change of all."""
        return last_serial()

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
            former = known.entry
            was, now = former.attributes.mode & TYPE, entry.attributes.mode & TYPE
            supposed = not (former.is_of_sure_type or now == S_IFDIR)
            if (supposed or was == now) and not known.is_replaced_by(entry):
                known.entry = entry
                return known
            self.detach(known)
        place = (parent.number, name)
        inode = Inode(self._numbers.choose(place, self._inodes), parent, name, entry)
        if place in self._times:
            inode.names_ns, inode.renamed_ns = self._times.pop(place)
        self._inodes[inode.number] = inode
        parent.add_child(name, inode, self._unpacked)
        self.recent.append(inode)
        return inode

    def detach(self, inode: Inode) -> None:
        """Take the inode's name away; it stays for who holds it."""
        if inode.parent is not None:
            inode.unpack()  # for which it takes its name
            self._keyed = None
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
        inode.unpack()
        self._keyed = None
        former = inode.parent
        if former is not None and former.children.get(inode.name) is inode:
            del former.children[inode.name]
        inode.parent, inode.name = parent, name
        inode.note_change()
        parent.add_child(name, inode, self._unpacked)
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
            if current.is_used:
                return
            if self._inodes.pop(current.number, None) is not None and current.packed is not None:
                self.packed -= 1
            self.forgotten_serial = max(self.forgotten_serial, current.serial)
            parent = current.parent
            if parent is not None:
                self._remember((parent.number, current.name), current)
            if parent is not None and parent.children.get(current.name) is current:
                del parent.children[current.name]
            current = parent

    def _remember(self, place: Place, inode: Inode) -> None:
        self._numbers.keep(place, inode.number)
        times = inode.times_ns
        if any(times):
            self._times[place] = times
        if len(self._times) > REMEMBERED_TIMES:
            self._times.popitem(last=False)

    # Of those that are open, or owe an upload.

    @property
    def opened(self) -> tuple[Inode, ...]:
        """All of which there is an ``open_file``: few, among what may be a million."""
        return tuple(self._opened.values())

    def open(self, inode: Inode, open_file: OpenFile) -> None:
        """The inode is open from now on."""
        inode.open_file = open_file
        self._opened[inode.number] = inode

    def close(self, inode: Inode) -> None:
        """It is not any more."""
        inode.open_file = None
        self._opened.pop(inode.number, None)

    # Of those that nobody asks for.

    def knows(self, inode: Inode) -> bool:
        """Whether the inode is still in the table."""
        return self._inodes.get(inode.number) is inode

    def pack(self, inode: Inode, stamp: int = 0) -> bool:
        """Keep the inode packed until somebody asks for it, if it can be."""
        key = self._known_key(inode)
        done = inode.pack(lambda entry, held: self._packer.pack(entry, held, key, stamp))
        self.packed += done
        return done

    def may_forget(self, inode: Inode) -> bool:
        """Whether the inode will be the same again after the kernel has forgotten it: where what
        nothing in S3 tells is to be remembered, that there is room enough for others' as well."""
        if inode.parent is None:
            return False
        if not any(inode.times_ns) and inode.number == derived((inode.parent.number, inode.name)):
            return True
        return self._numbers.kept < REMEMBERED // 2 and len(self._times) < REMEMBERED_TIMES // 2

    def _unpacked(self, inode: Inode, packed: bytes) -> tuple[Entry, Held]:
        if self.knows(inode):
            self.packed -= 1
            self.recent.append(inode)
        return self._packer.unpack(packed, self._known_key(inode))

    def _known_key(self, inode: Inode) -> str | None:
        """The key by its name and those above; of a folder without its slash."""
        parent, segment = inode.parent, key_segment(inode.name)
        if parent is None or segment is None:
            return None
        if self._keyed is None or self._keyed[0] is not parent:
            folders = [key_segment(folder.name) for folder in parent.ancestry() if folder.name]
            if self._bucket is None and folders:
                folders.pop()  # the bucket
            prefix = "".join(f"{name}/" for name in reversed(folders))
            self._keyed = parent, self._prefix + prefix
        return self._keyed[1] + segment

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
