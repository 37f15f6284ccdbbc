"""Renaming all that is in a folder: in one request where the store can, else key by key.

Key by key it is never left half done. Where the store has RenameObject every object gets its new
name by it. Else all are copied, then
the originals are removed: each file is at its old name until it has a copy, and at its new one
from then on. A note in the cache directory says what is under way (``rename_notes``); the rest is
read from the two prefixes, a page at a time. A refusal midway takes everything back; what a crash
or a store that is away leaves is gone on with, at once or by the next mount, in the name of who
asked for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from errno import EACCES, EIO, ENOTEMPTY
from pathlib import Path

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.data.rename_notes import RenameNote, Step
from s3posixfs.fs.concurrently import for_each
from s3posixfs.fs.key_pairs import Pair, Pairs, Rows, is_copied, is_copy
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.object_heads import absent
from s3posixfs.fs.object_moves import Move, ObjectMover
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.signers import Signer
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

# So long a mount waits for what an earlier one left before it answers, seconds.
FIRST_SECONDS = 20.0
AGAIN_SECONDS = 30.0
# Rounds through a folder in which others go on to write.
MOST_ROUNDS = 20
_UNDOING: dict[Step, Step] = {
    "copying": "undoing",
    "removing": "restoring",
    "renaming": "returning",
    "undoing": "undoing",
    "restoring": "restoring",
    "returning": "returning",
}


class FolderMover:
    """Moves all keys below a prefix, and goes on with what an earlier run left."""

    def __init__(self, state: MountState, mover: ObjectMover) -> None:
        self._state = state
        self._mover = mover
        self._notes = state.staging.renames
        self._at_work: set[Path] = set()
        self._said: dict[Path, str] = {}
        self._wake = trio.Event()
        # Keeps this mount from writing below both names of what an earlier one left.
        self.holding: Callable[[RenameNote], AbstractAsyncContextManager[None]] = _not_held

    async def move(
        self, bucket: str, prefix: str, new_bucket: str, new_prefix: str, signer: Signer
    ) -> None:
        """Move every key below a prefix, the marker of the folder too.

        ENOTEMPTY where more than a marker is below the new one. Key by key, a failure, or
        cancellation, is undone as far as the store lets it within ``request_deadline``; the rest
        is gone on with.
        """
        if signer.store.capabilities.rename_folder and bucket == new_bucket:
            await signer.store.rename_folder(bucket, prefix, new_prefix)
            return
        page = await self._state.daemon_store.list_objects(
            new_bucket, prefix=new_prefix, max_keys=2
        )
        if any(found.key != new_prefix for found in page.objects):
            raise refusal(ENOTEMPTY)
        by_renaming = signer.store.capabilities.rename_object and bucket == new_bucket
        path = await self._notes.add(
            (bucket, prefix),
            (new_bucket, new_prefix),
            signer.name,
            "renaming" if by_renaming else "copying",
            over_marker=bool(page.objects),
        )
        self._at_work.add(path)
        try:
            await self._go_on(path, signer)
        except BaseException:
            await waiting()
            with trio.move_on_after(self._state.config.request_deadline, shield=True):
                await self._take_back(path)
            raise
        finally:
            self._at_work.discard(path)
            self._wake.set()

    # What is left.

    def status(self) -> dict[str, object]:
        """How many renamings wait to be ended, and why the first of them does."""
        waiting = [path for path in self._notes.left if path not in self._at_work]
        said = next((self._said[path] for path in waiting if path in self._said), None)
        return {"unfinished_renames": len(waiting), "rename_error": said}

    async def finish_left(self) -> None:
        """Go on with what an earlier mount left, before programs see it; not for long."""
        with trio.move_on_after(FIRST_SECONDS):
            await self._finish_all()

    async def run(self) -> None:
        """Go on with what is left, again and again; for as long as the mount."""
        while True:
            if any(path not in self._at_work for path, _ in self._notes.own):
                with trio.move_on_after(AGAIN_SECONDS):
                    await trio.sleep_forever()
            else:
                self._wake = trio.Event()
                await self._wake.wait()
            await self._finish_all()

    async def _finish_all(self) -> None:
        for path, note in self._notes.own:
            if path in self._at_work:
                continue
            self._at_work.add(path)
            try:
                await self._finish(path, note)
            except (S3Error, OSError) as error:  # of what had to be stored first
                self._say(path, f"the renaming of {note} is not finished: {error}")
            finally:
                self._at_work.discard(path)

    async def _finish(self, path: Path, note: RenameNote) -> None:
        config = self._state.config
        mounted = config.bucket is None or (
            {note.bucket, note.new_bucket} == {config.bucket}
            and note.prefix.startswith(config.prefix)
            and note.new_prefix.startswith(config.prefix)
        )
        signer = self._state.signers.for_name(note.identity)
        if not mounted:
            self._say(path, f"the renaming of {note} is kept until that is mounted")
        elif config.read_only:
            self._say(path, f"the renaming of {note} waits for a mount that may write")
        elif signer is None:
            self._say(path, f"the renaming of {note} waits for credentials of {note.identity}")
        else:
            async with self.holding(note):
                await self._try(path, note, signer)

    async def _try(self, path: Path, note: RenameNote, signer: Signer) -> None:
        undoes = note.step == _UNDOING[note.step]
        try:
            try:
                if undoes:
                    await self._undo(path)
                else:
                    await self._go_on(path, signer)
            except (S3Error, OSError) as error:
                if undoes or error.errno != EACCES:
                    raise
                logger.error("the renaming of %s is refused and taken back: %s", note, error)
                await self._undo(path)
        except (S3Error, OSError) as error:
            self._say(path, f"the renaming of {note} is not finished: {error}")
        else:
            self._said.pop(path, None)
            done = "taken back" if undoes else "finished"
            logger.warning("the renaming of %s, which was interrupted, is %s", note, done)

    def _say(self, path: Path, text: str) -> None:
        if self._said.get(path) != text:
            logger.warning("%s", text)
            self._said[path] = text

    async def _take_back(self, path: Path) -> None:
        try:
            await self._undo(path)
        except (S3Error, OSError) as error:
            self._say(path, f"the renaming of {self._notes.left[path]} is not undone: {error}")

    # Forwards.

    async def _go_on(self, path: Path, signer: Signer) -> None:
        """Do what is left to be done from where the note says; then there is no note."""
        if self._notes.left[path].step == "renaming":
            await self._rename_all(self._notes.left[path], signer)
        else:
            if self._notes.left[path].step == "copying":
                await self._copy_all(self._notes.left[path], signer)
                await self._notes.reached(path, "removing")
            await self._remove_all(self._notes.left[path], signer)
        await self._notes.remove(path)

    def _pairs(self, note: RenameNote) -> Pairs:
        store = self._state.daemon_store
        return Pairs(
            Rows(store, note.bucket, note.prefix), Rows(store, note.new_bucket, note.new_prefix)
        )

    async def _copy_all(self, note: RenameNote, signer: Signer) -> None:
        pairs = self._pairs(note)
        while page := await pairs.take():
            # The folder's own attributes go over those of a folder that was there.
            await self._copy(
                [
                    (_move(note, pair.rest), pair.old)
                    for pair in page
                    if pair.old is not None and (not pair.rest or not is_copied(pair.old, pair.new))
                ],
                signer,
            )

    async def _copy(self, objects: list[tuple[Move, ObjectStat]], signer: Signer) -> None:
        async def one(item: tuple[Move, ObjectStat]) -> None:
            move, found = item
            try:
                await self._mover.copy(move, found, signer)
            except S3Error as error:
                # Changed or removed by others meanwhile: looked at again when it is to go.
                if error.code != "PreconditionFailed" and not absent(error):
                    raise

        await for_each(objects, one, limit=self._state.config.parallel_requests)

    async def _remove_all(self, note: RenameNote, signer: Signer) -> None:
        """Remove what has its copy; what has none, as others wrote it meanwhile, gets one."""
        for _ in range(MOST_ROUNDS):
            pairs = self._pairs(note)
            uncopied = False
            while page := await pairs.take():
                there = [(pair, pair.old) for pair in page if pair.old is not None]
                moved = [old.key for pair, old in there if _has_moved(pair, old)]
                await self._delete(signer, note.bucket, moved)
                late = [
                    (_move(note, pair.rest), old)
                    for pair, old in there
                    if not _has_moved(pair, old)
                ]
                uncopied = uncopied or bool(late)
                await self._copy(late, signer)
            if not uncopied:
                return
        raise refusal(EIO)

    @staticmethod
    async def _delete(signer: Signer, bucket: str, keys: list[str]) -> None:
        if keys:
            refused = await signer.store.delete_many(bucket, keys)
            for error in refused.values():
                raise error

    async def _rename_all(self, note: RenameNote, signer: Signer) -> None:
        async def one(pair: Pair) -> None:
            old, new = pair.old, pair.new
            if old is None:
                return
            try:
                if pair.rest and new is not None and new.last_modified > old.last_modified:
                    # Written under the new name, after a crash, by who saw that free.
                    await self._delete(signer, note.bucket, [old.key])
                else:
                    await signer.store.rename(note.bucket, old.key, note.new_prefix + pair.rest)
            except S3Error as error:
                if not absent(error):  # others removed it meanwhile
                    raise

        pairs = self._pairs(note)
        while page := await pairs.take():
            await for_each(page, one, limit=self._state.config.parallel_requests)

    # Backwards.

    async def _undo(self, path: Path) -> None:
        note = self._notes.left[path]
        with suppress(OSError):  # a full disk: the next mount would only finish it instead
            await self._notes.reached(path, _UNDOING[note.step])
        if _UNDOING[note.step] == "returning":
            await self._return_all(note)
        else:
            await self._remove_copies(note, restore=_UNDOING[note.step] == "restoring")
        await self._notes.remove(path)

    async def _remove_copies(self, note: RenameNote, *, restore: bool) -> None:
        """Remove the copies whose originals are there; ``restore`` those that are gone."""
        daemon = self._state.daemon_store
        pairs = self._pairs(note)
        while page := await pairs.take():
            copies = [(pair, pair.new) for pair in page if pair.new is not None]
            lost = [(pair, new) for pair, new in copies if pair.old is None] if restore else []
            back = [(_move(note, pair.rest).back(), new) for pair, new in lost]
            await for_each(back, self._copy_back, limit=self._state.config.parallel_requests)
            doomed = [new.key for _, new in lost]
            for pair, new in copies:
                if pair.old is not None and is_copy(pair.old, new):
                    doomed.append(new.key)
                elif pair.old is not None:
                    logger.warning("%s/%s was changed and is left", note.new_bucket, new.key)
            if note.over_marker:
                doomed = [key for key in doomed if key != note.new_prefix]
            refused = await daemon.delete_many(note.new_bucket, doomed) if doomed else {}
            for key in refused:
                logger.warning("%s/%s is left over", note.new_bucket, key)

    async def _copy_back(self, item: tuple[Move, ObjectStat]) -> None:
        await self._mover.copy_as_owner(*item)

    async def _return_all(self, note: RenameNote) -> None:
        daemon = self._state.daemon_store

        async def one(found: ObjectStat) -> None:
            key = note.prefix + found.key[len(note.new_prefix) :]
            try:
                await daemon.rename(note.bucket, found.key, key, no_replace=True)
            except S3Error as error:
                if error.code != "PreconditionFailed" and not absent(error):
                    raise

        await self._each(note.new_bucket, note.new_prefix, one)

    async def _each(
        self, bucket: str, prefix: str, work: Callable[[ObjectStat], Awaitable[None]]
    ) -> None:
        rows = Rows(self._state.daemon_store, bucket, prefix)
        while page := await rows.take_page():
            await for_each(page, work, limit=self._state.config.parallel_requests)


def _not_held(_note: RenameNote) -> AbstractAsyncContextManager[None]:
    return nullcontext()


def _move(note: RenameNote, rest: str) -> Move:
    return Move(note.bucket, note.prefix + rest, note.new_bucket, note.new_prefix + rest)


def _has_moved(pair: Pair, old: ObjectStat) -> bool:
    """Whether the original may go. The folder's own attributes were copied in any case."""
    return pair.new is not None and (not pair.rest or is_copied(old, pair.new))
