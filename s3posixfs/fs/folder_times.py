"""Times of folders whose names change, stored some seconds after the last change.

A request for each new name would be too many. So the time is kept in memory, and the folder's
object gets it once for a whole run of changes: when there have been none for ``DELAY`` seconds,
after ``LONGEST`` seconds at the latest, and when the mount ends. A chmod, chown or utimens of the
folder in between stores it along with the rest.

Only the object that a folder has is changed, and only as whose it is: none is made for a time's
sake, and none changes its owner. What cannot be stored is given up: no call waits for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import Attributes
from s3posixfs.fs.concurrently import for_each
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.rewriting import Rewriter, copy_onto_itself
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)

DELAY = 5.0  # seconds
LONGEST = 30.0
TICK = 1.0
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Due:
    """A folder whose time is to be stored, and when (monotonic seconds): at ``at``, which further
    changes put off until ``latest``."""

    folder: Inode
    at: float
    latest: float


class FolderTimes:
    """What is to be stored, by inode number, and what is being stored now."""

    def __init__(self, state: MountState, rewriter: Rewriter) -> None:
        self._state = state
        self._rewriter = rewriter
        self._due: dict[int, Due] = {}
        self._storing: dict[int, trio.Event] = {}
        self._woken = trio.Event()

    def changed(self, folder: Inode) -> None:
        """A name in the folder was made, removed or renamed."""
        if folder.entry.stat is None or self._state.config.read_only:
            return
        now = self._state.now()
        known = self._due.get(folder.number)
        latest = known.latest if known is not None else now + LONGEST
        self._due[folder.number] = Due(folder, min(now + DELAY, latest), latest)
        folder.kept = True
        self._woken.set()

    async def settle(self, folder: Inode) -> None:
        """Before the folder's object is changed in another way, or goes: nothing is stored on its
        account any more, and what is under way is done."""
        if self._due.pop(folder.number, None) is not None:
            self._let_go(folder)
        storing = self._storing.get(folder.number)
        if storing is not None:
            await storing.wait()

    async def run(self) -> None:
        """Store what is due, for ever."""
        while True:
            if not self._due:
                self._woken = trio.Event()
                await self._woken.wait()
            await trio.sleep(TICK)
            now = self._state.now()
            await self._store([due for due in self._due.values() if due.at <= now])

    async def flush(self) -> None:
        """Store all that is left: the mount ends."""
        await self._store(list(self._due.values()))

    async def _store(self, due: list[Due]) -> None:
        await for_each(due, self._store_one, limit=AT_ONCE)

    async def _store_one(self, due: Due) -> None:
        folder = due.folder
        if self._due.get(folder.number) is not due:
            return
        # Whoever moves a folder waits for what works in it, which may wait here in ``settle``.
        if folder.changing or any(one.moving is not None for one in folder.ancestry()):
            again = self._state.now() + DELAY
            self._due[folder.number] = replace(due, at=again, latest=max(again, due.latest))
            return
        del self._due[folder.number]
        done = self._storing[folder.number] = trio.Event()
        try:
            with trio.move_on_after(self._state.config.request_deadline):
                async with self._state.gate.working_in(folder):
                    await self._write(folder)
        except OSError as error:
            logger.debug("the time of %s is not stored: %s", folder.path(), error)
        finally:
            del self._storing[folder.number]
            done.set()
            if folder.number not in self._due:
                self._let_go(folder)

    def _let_go(self, folder: Inode) -> None:
        folder.kept = False
        self._state.table.tidy(folder)

    async def _write(self, folder: Inode) -> None:
        """Copy the folder's object onto itself with the new time and all else as S3 has it now. A
        copy fails where the object went meanwhile, so that it does not bring the folder back."""
        if folder.detached or folder.entry.stat is None:
            return
        bucket, key = self._state.table.key(folder)
        changed_ns = folder.names_ns
        try:
            found = await self._rewriter.head(folder, bucket, key)
            rules = self._state.rules
            stated = rules.directory(found, found.metadata, seen_ns=0)
            signer = self._owner(found)
            if signer is None or stated.ctime_ns >= changed_ns:
                return  # nobody to sign as, or another host stored a later time
            wanted = replace(stated, mtime_ns=changed_ns, ctime_ns=changed_ns)
            if rules.settle(wanted, signer) == wanted:
                await self._copy(folder, bucket, found, wanted, signer)
        except S3Error as error:
            logger.debug("the time of %s is not stored: %s", folder.path(), error)

    def _owner(self, found: ObjectStat) -> Signer | None:
        """The identity whose the object is, where there are credentials for it."""
        signers = self._state.signers
        owner = signers.for_owner(found.owner.id) if found.owner is not None else None
        if owner is None or self._state.config.sign_as == "caller":
            return owner
        return owner if owner.name == signers.daemon().name else None

    async def _copy(
        self, folder: Inode, bucket: str, found: ObjectStat, wanted: Attributes, signer: Signer
    ) -> None:
        metadata = encode(wanted, found.metadata or {})
        result = await copy_onto_itself(signer.store, bucket, found.key, found, metadata)
        written = replace(
            found,
            etag=result.etag or found.etag,
            last_modified=result.last_modified,
            metadata=metadata,
        )
        if not folder.detached:
            self._rewriter.record(folder, wanted, written, signer)
