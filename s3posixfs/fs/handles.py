"""Open files and directories."""

from __future__ import annotations

import os
from errno import EBADF
from typing import Generic, TypeVar

from s3posixfs.data.reader import ObjectReader
from s3posixfs.data.staging import StagedFile
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.listing import Listing
from s3posixfs.fs.pending import Pending
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.signers import Signer
from s3posixfs.waiting.quick_lock import QuickLock


class OpenFile:
    """What all handles of one inode share; it outlives them while an upload is owed.

    ``staged`` is the content where this mount has its own; ``base`` the reader it was made over.
    ``fresh`` says that the name is not in S3 yet; ``changed`` that attributes wait for the upload.
    ``writer`` is the identity that owes the upload: who wrote last, or, after a change of owner,
    who was ``assigned``; ``maker`` the first of them, whose a new file is. ``pending`` is the
    journal's entry of the file, where write-back owes S3 one. ``attempts`` are uploads of which no
    answer came for sure, by what tells versions of the file apart. ``torn`` says that a write was
    refused and nothing was stored since: what there is may be a part of what was to be written.
    ``lock`` is held while content is staged, uploaded or moved.
    """

    __slots__ = (
        "_writer",
        "assigned",
        "attempts",
        "base",
        "changed",
        "failure",
        "fresh",
        "handles",
        "inode",
        "lock",
        "maker",
        "pending",
        "staged",
        "torn",
    )

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self.lock = QuickLock()
        self.handles: set[FileHandle] = set()
        self.staged: StagedFile | None = None
        self.base: ObjectReader | None = None
        self.fresh = False
        self.changed = False
        self.maker: Signer | None = None
        self._writer: Signer | None = None
        self.assigned = False
        self.pending: Pending | None = None
        self.failure: Exception | None = None  # of the last upload
        self.torn = False
        self.attempts: tuple[tuple[str, int], ...] = ()

    @property
    def writer(self) -> Signer | None:
        """Who owes the upload."""
        return self._writer

    @writer.setter
    def writer(self, signer: Signer | None) -> None:
        self._writer = signer
        self.maker = self.maker or signer

    @property
    def content_unsaved(self) -> bool:
        """Whether bytes wait for an upload."""
        return self.fresh or (self.staged is not None and self.staged.dirty)

    @property
    def unsaved(self) -> bool:
        """Whether bytes or attributes wait for an upload."""
        return self.changed or self.content_unsaved

    @property
    def uncommitted(self) -> bool:
        """Whether neither S3 nor the journal has the file as it is now."""
        if self.changed or not self.content_unsaved or self.pending is None:
            return self.unsaved
        return self.staged is None or self.staged.generation != self.pending.generation

    async def drop_content(self) -> None:
        """Let go of staged content and its reader."""
        staged, self.staged = self.staged, None
        base, self.base = self.base, None
        if staged is not None:
            await staged.aclose()
        if base is not None:
            await base.aclose()


class FileHandle:
    """One open(2). ``signer`` is whom its reads and writes are signed by, settled at open."""

    __slots__ = ("caller", "delivered", "flags", "number", "open_file", "reader", "signer")

    def __init__(
        self, number: int, open_file: OpenFile, flags: int, caller: Caller, signer: Signer
    ) -> None:
        self.number = number
        self.open_file = open_file
        self.flags = flags
        self.caller = caller
        self.signer = signer
        self.reader: ObjectReader | None = None
        self.delivered = False  # whether bytes of ``reader``'s version went to the program

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class DirectoryHandle:
    """One opendir(3): a listing whose rows only grow, so offsets stay what they were, until
    rewinddir(3) asks for what is there now. ``started`` says that entries were asked for."""

    __slots__ = ("inode", "listing", "number", "started")

    def __init__(self, number: int, inode: Inode, listing: Listing) -> None:
        self.number = number
        self.inode = inode
        self.listing = listing
        self.started = False
        listing.handles += 1

    def read_from(self, listing: Listing) -> None:
        """Go on with another listing of the directory."""
        self.listing.handles -= 1
        listing.handles += 1
        self.listing = listing

    def close(self) -> None:
        """Nothing is read through it any more."""
        self.listing.handles -= 1


H = TypeVar("H", FileHandle, DirectoryHandle)


class Handles(Generic[H]):
    """Handles by number; numbers are not used again."""

    def __init__(self) -> None:
        self._handles: dict[int, H] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._handles)

    def next_number(self) -> int:
        """A number no handle ever had."""
        self._last += 1
        return self._last

    def add(self, handle: H) -> None:
        """Make the handle known by its number."""
        self._handles[handle.number] = handle

    def get(self, number: int) -> H:
        """EBADF for what is not open."""
        found = self._handles.get(number)
        if found is None:
            raise refusal(EBADF)
        return found

    def remove(self, number: int) -> H | None:
        """Forget a handle; ``None`` where it was not known."""
        return self._handles.pop(number, None)
