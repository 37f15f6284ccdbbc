"""A file or directory that the kernel may name by number, in little memory while nobody asks."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import trio

from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.inode_numbers import ROOT_INODE
from s3posixfs.fs.packing import Held, has_times
from s3posixfs.waiting.quick_lock import QuickLock

if TYPE_CHECKING:
    from s3posixfs.fs.handles import OpenFile
    from s3posixfs.fs.listing import Listing


@dataclass(slots=True, eq=False)
class More:
    """What most inodes have nothing of: that of folders, and of files at work.

    ``unpacker`` gives what was ``packed`` of the inodes in a folder, which count as used then.
    """

    active: int = 0
    changing: int = 0
    children: dict[bytes, Inode] = field(default_factory=lambda: NO_CHILDREN)
    folders: int | None = None
    kept: bool = False
    kept_etag: str | None = None
    large: bool = False
    listing: Listing | None = None
    lock: QuickLock | None = None
    moving: trio.Event | None = None
    names_ns: int = 0
    open_file: OpenFile | None = None
    packed: bytes | None = None
    removed: bool = False
    renamed_ns: int = 0
    target: tuple[str, bytes] | None = None
    unpacker: Unpacker | None = None


Unpacker = Callable[["Inode", bytes], tuple[Entry, Held]]
NO_CHILDREN: dict[bytes, Inode] = {}  # of all that have none
_DEFAULTS = {one.name: getattr(More(), one.name) for one in fields(More)}
_PACKED = frozenset({"kept_etag", "names_ns", "renamed_ns"})


def _field(name: str) -> Any:
    """A field of ``More`` as one of the inode's own."""
    default, member = _DEFAULTS[name], More.__dict__[name]
    read, write, packs = member.__get__, member.__set__, name in _PACKED

    def get(inode: Inode) -> object:
        more = inode._more
        if more is not None:
            return read(more)
        if packs and inode.packed is not None:
            inode.unpack()
            return get(inode)
        return default

    def put(inode: Inode, value: object) -> None:
        more = inode._more
        if more is not None:
            write(more, value)
        elif value != default or inode.packed is not None:
            write(inode.more(), value)

    return property(get, put)


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
    ``target`` is of a symbolic link: ETag, where it points. ``active`` counts operations at work
    in this folder or below (SubtreeGate's), ``changing`` own requests under way that change its
    object or key.

    There may be millions, so a file that is not at work has eight slots, and ``pack`` makes bytes
    of its entry. Who asks for that finds it unpacked, and need not know; but for ``told``, which
    is ``None`` until the entry was asked for.
    """

    if not TYPE_CHECKING:  # mypy would refuse the fields of ``More``
        __slots__ = ("_entry", "_more", "lookups", "name", "number", "parent", "serial", "told")

    active: int = _field("active")
    changing: int = _field("changing")
    folders: int | None = _field("folders")
    kept: bool = _field("kept")
    kept_etag: str | None = _field("kept_etag")
    large: bool = _field("large")
    lock: QuickLock | None = _field("lock")
    moving: trio.Event | None = _field("moving")
    names_ns: int = _field("names_ns")
    removed: bool = _field("removed")
    renamed_ns: int = _field("renamed_ns")
    target: tuple[str, bytes] | None = _field("target")

    def __init__(self, number: int, parent: Inode | None, name: bytes, entry: Entry) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.lookups = 0
        self.serial = 0
        self.told: Attributes | None = None
        self._entry: Entry | bytes = entry
        self._more: More | None = None

    # Written out, as these are read in every operation.

    @property
    def entry(self) -> Entry:
        entry = self._entry
        return self.unpack() if entry.__class__ is bytes else entry  # type: ignore[return-value]

    @entry.setter
    def entry(self, entry: Entry) -> None:
        if self._entry.__class__ is bytes:
            self.unpack()
        self._entry = entry

    @property
    def children(self) -> dict[bytes, Inode]:
        more = self._more
        return NO_CHILDREN if more is None else more.children

    @property
    def listing(self) -> Listing | None:
        more = self._more
        return None if more is None else more.listing

    @listing.setter
    def listing(self, listing: Listing | None) -> None:
        if listing is not None or self._more is not None:
            self.more().listing = listing

    @property
    def open_file(self) -> OpenFile | None:
        more = self._more
        return None if more is None else more.open_file

    @open_file.setter
    def open_file(self, open_file: OpenFile | None) -> None:
        if open_file is not None or self._more is not None:
            self.more().open_file = open_file

    # Packed and unpacked.

    @property
    def packed(self) -> bytes | None:
        """The packed form, where that is what there is."""
        return self._entry if isinstance(self._entry, bytes) else None

    def pack(self, into: Callable[[Entry, Held], bytes | None]) -> bool:
        """Keep what is known in the form that ``into`` gives, unless it gives none."""
        entry, more = self._entry, self._more
        if isinstance(entry, bytes):
            return False
        if more is None:
            packed = into(entry, (self.told, None, 0, 0))
        elif all(
            name in _PACKED or getattr(more, name) is default for name, default in _DEFAULTS.items()
        ):
            packed = into(entry, (self.told, more.kept_etag, more.names_ns, more.renamed_ns))
            if packed is not None:
                self._more = None
        else:
            packed = into(entry, (self.told, None, 0, 0))
        if packed is None:
            return False
        self._entry, self.told = packed, None
        return True

    def unpack(self) -> Entry:
        """Have everything in its place again."""
        entry = self._entry
        if not isinstance(entry, bytes):
            return entry
        above = self.parent._more if self.parent is not None else None
        if above is None or above.unpacker is None:
            raise RuntimeError(f"nothing can unpack {self.path()}")
        self._entry, held = above.unpacker(self, entry)
        self.told, kept_etag, names_ns, renamed_ns = held
        if kept_etag is not None or names_ns or renamed_ns:
            more = self.more()
            more.kept_etag, more.names_ns, more.renamed_ns = kept_etag, names_ns, renamed_ns
        return self._entry

    def more(self) -> More:
        """What it has beyond an ordinary file, to be set."""
        if self._more is None:
            self.unpack()
        if self._more is None:
            self._more = More()
        return self._more

    def add_child(self, name: bytes, child: Inode, unpacker: Unpacker) -> None:
        """There is this at the name; for ``unpacker`` see ``More``."""
        more = self._more
        if more is None or more.unpacker is None:
            more = self.more()
            more.children, more.unpacker = {}, unpacker
        more.children[name] = child

    @property
    def is_used(self) -> bool:
        """Whether the kernel or this mount still needs it."""
        more = self._more
        if self.lookups or more is None:
            return self.lookups > 0
        if more.open_file or more.children or more.active:
            return True
        return more.kept or more.moving is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is at work on it: it may be packed."""
        more = self._more
        if more is None:
            return True
        if more.open_file or more.active or more.changing:
            return False
        return not (more.kept or more.removed or more.moving is not None)

    @property
    def times_ns(self) -> tuple[int, int]:
        """``names_ns`` and ``renamed_ns``; where they are 0, not unpacking it for that."""
        packed = self.packed
        if self._more is None and (packed is None or not has_times(packed)):
            return 0, 0
        return self.names_ns, self.renamed_ns

    @property
    def attributes(self) -> Attributes:
        entry = self._entry  # not by way of ``entry``: a property in a property costs twice
        return (self.unpack() if isinstance(entry, bytes) else entry).attributes

    @property
    def shown(self) -> Attributes:
        """The attributes with what has happened to names since they were last set."""
        entry = self._entry
        attributes = (self.unpack() if isinstance(entry, bytes) else entry).attributes
        if self._more is None:
            return attributes
        if self.names_ns > attributes.ctime_ns:
            attributes = attributes.written(attributes.mode, attributes.size, self.names_ns)
        if self.renamed_ns > attributes.ctime_ns:
            attributes = replace(attributes, ctime_ns=self.renamed_ns)
        return attributes

    @property
    def is_directory(self) -> bool:
        entry = self._entry
        attributes = (self.unpack() if isinstance(entry, bytes) else entry).attributes
        return stat.S_ISDIR(attributes.mode)

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
        more = self._more
        if more is None:
            return False
        return more.open_file is not None and more.open_file.unsaved

    def is_replaced_by(self, entry: Entry) -> bool:
        """Whether this is another host's version of a file that is open here to be read.

        What was read and what the kernel has cached is of the old one, so that one inode for
        both would show programs some of each.
        """
        if self.open_file is None or self.is_local:
            return False
        former, found = self.entry.stat, entry.stat
        if former is None or found is None:
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
        inode: Inode | None = self
        while inode is not None:
            if inode._more is not None and inode._more.changing:
                return True
            inode = inode.parent
        return False

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


def last_serial() -> int:
    """The number of the last change of all."""
    return _last_serial
