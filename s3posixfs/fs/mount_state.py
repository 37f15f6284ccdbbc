"""What the parts of one filesystem share."""

from __future__ import annotations

from dataclasses import dataclass
from errno import ENOTDIR, EROFS

from s3posixfs.core.clock import Clock
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.data.reader import Readers
from s3posixfs.data.staged_file import KEPT_BYTES
from s3posixfs.data.staging import StagingArea
from s3posixfs.data.version import ObjectVersion
from s3posixfs.fs.access import AccessGate
from s3posixfs.fs.attributes import Entry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.flat_listings import FlatListings
from s3posixfs.fs.habits import Habits
from s3posixfs.fs.inodes import Inode, InodeTable
from s3posixfs.fs.known_metadata import KnownMetadata
from s3posixfs.fs.listing import ListingCache
from s3posixfs.fs.ownership import OwnershipRules
from s3posixfs.fs.permissions import refusal, require
from s3posixfs.fs.signers import Signers
from s3posixfs.fs.subtree_gate import SubtreeGate


@dataclass(frozen=True, slots=True)
class MountState:
    """Configuration, tables and caches. Locks, in the order in which a task may take them: the
    name locks of folders by ascending inode number, ``SubtreeGate.moving``,
    ``SubtreeGate.working_in``, ``OpenFile.lock`` by ascending inode number, ``Listing.lock``.
    None is held while anything waits for the kernel.
    """

    config: FsConfig
    signers: Signers
    clock: Clock
    readers: Readers
    staging: StagingArea
    rules: OwnershipRules
    access: AccessGate
    table: InodeTable
    listings: ListingCache
    flat: FlatListings
    known: KnownMetadata
    gate: SubtreeGate
    habits: Habits
    started_ns: int

    @property
    def daemon_store(self) -> ObjectStore:
        """S3 as the daemon sees it."""
        return self.signers.daemon().store

    @property
    def writes_back(self) -> bool:
        """Whether what programs close goes to S3 later, out of a journal."""
        return self.staging.journal is not None

    async def settle_journal(self) -> None:
        """Wait until the journal knows what is in S3 already. To be called before that is
        changed in another way: a crash must not bring back what was there before."""
        if self.staging.journal is not None:
            await self.staging.journal.settle()

    def lacks_content(self, version: ObjectVersion) -> bool:
        """Whether a file that is small enough to come with its attributes is not in memory."""
        return 0 < version.size <= KEPT_BYTES and not self.readers.holds(version)

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return self.clock.monotonic()

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return int(self.clock.time() * 1e9)

    def unmarked_directory(self, seen_ns: int | None = None) -> Entry:
        """A directory that is there because keys are below it."""
        attributes = self.rules.directory(
            None, None, seen_ns=seen_ns if seen_ns is not None else self.started_ns
        )
        return Entry(attributes, None, self.now(), exact=True)

    def writable(self) -> None:
        """EROFS on a mount that only reads."""
        if self.config.read_only:
            raise refusal(EROFS)

    def require(self, inode: Inode, caller: Caller, mask: int) -> None:
        """EACCES unless the mode grants ``mask``, where modes decide."""
        if self.config.posix_decides:
            require(inode.attributes, caller, mask)

    def directory(self, number: int) -> Inode:
        """The directory with this number; ENOTDIR, ESTALE."""
        inode = self.table.get(number)
        if not inode.is_directory:
            raise refusal(ENOTDIR)
        return inode
