"""Files that the journal holds for S3, and how much of them there may be at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.data.journal_records import PendingState
from s3posixfs.data.shared_file import Extent
from s3posixfs.waiting.quick_lock import QuickLock

if TYPE_CHECKING:
    from s3posixfs.fs.handles import OpenFile

ENTRY_COST = 4096  # bytes that a file counts beside its content


class Pending:
    """One entry of the journal that S3 is owed.

    ``content`` is what ``state`` names, held for this. ``version`` grows with every new state.
    ``lock`` is held while a record of it is appended, ``uploading`` by who talks to S3 about it;
    the first is taken last. ``attempted`` says that S3 may have some version of it. ``tried`` is
    set, and replaced, when an attempt has ended.
    """

    __slots__ = (
        "alive",
        "attempted",
        "content",
        "error",
        "failures",
        "generation",
        "lock",
        "next_at",
        "open_file",
        "state",
        "ticket",
        "tried",
        "uploading",
        "version",
    )

    def __init__(self, state: PendingState, content: Extent | None) -> None:
        self.state = state
        self.content = content
        self.open_file: OpenFile | None = None
        self.generation = 0  # of the staged file, as it was sealed
        self.version = 1
        self.attempted = False
        self.alive = True
        self.failures = 0
        self.error: Exception | None = None
        self.next_at = 0.0
        self.ticket = 0
        self.lock = QuickLock()
        self.uploading = QuickLock()
        self.tried = trio.Event()

    @property
    def cost(self) -> int:
        """Bytes that it counts."""
        return self.state.size + ENTRY_COST

    @property
    def path(self) -> str:
        """For people: where it goes."""
        return f"{self.state.bucket}/{self.state.key}"

    @property
    def refused(self) -> bool:
        """Whether S3 said no to its identity."""
        return isinstance(self.error, S3Error) and self.error.status in (401, 403)

    def end_attempt(self) -> None:
        """Wake who waits for the attempt that has ended."""
        self.tried.set()
        self.tried = trio.Event()


class Room:
    """Bytes that may wait for S3 in all. One file more than that is let in where none waits."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0
        self._freed = trio.Event()

    @property
    def half_full(self) -> bool:
        """Whether less than half of it is free."""
        return 2 * self.used > self._limit

    async def take(self, size: int) -> None:
        """Take ``size`` bytes, waiting for them. Cancelled, it holds nothing."""
        while self.used and self.used + size > self._limit:
            await self._freed.wait()
        self.used += size

    def take_anyway(self, size: int) -> None:
        """What is there already, from an earlier run."""
        self.used += size

    def give(self, size: int) -> None:
        """Give ``size`` bytes back."""
        self.used -= size
        self._freed.set()
        self._freed = trio.Event()
