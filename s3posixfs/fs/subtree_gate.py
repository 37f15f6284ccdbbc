"""Keeps a folder still while it is renamed.

Everything that makes keys below a folder (an upload, a new name) works *in* it; a rename of the
folder waits for those and holds new ones up. No task ever waits here while it works in another
folder (both folders of a rename are entered in one step), and only one folder moves at a time,
so nothing can wait in a circle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

import trio

from s3posixfs.fs.inodes import Inode, InodeTable


class SubtreeGate:
    """Counts, on every folder up to the root, the operations at work below it."""

    def __init__(self, table: InodeTable) -> None:
        self._table = table
        self._one_move = trio.Lock()
        self._changed = trio.Event()

    def working_in(self, *folders: Inode) -> AbstractAsyncContextManager[None]:
        """Hold folders (and all above them) where they are. Cancelled, it holds nothing."""
        return _Working(self, folders)

    async def _begin(self, folders: tuple[Inode, ...]) -> list[Inode]:
        while True:
            held = [inode for folder in folders for inode in folder.ancestry()]
            blocker = next((inode.moving for inode in held if inode.moving is not None), None)
            if blocker is None:
                break
            await blocker.wait()
        for inode in held:
            inode.active += 1
        return held

    def _end(self, held: list[Inode]) -> None:
        for inode in held:
            inode.active -= 1
        for inode in held:
            self._table.tidy(inode)
        if self._one_move.locked():  # somebody may wait for this
            self._changed.set()
            self._changed = trio.Event()

    @asynccontextmanager
    async def moving(self, *folders: Inode) -> AsyncIterator[None]:
        """Wait until nothing works in or below the folders, and keep it so."""
        async with self._one_move:
            still = set(folders)
            for folder in still:
                folder.moving = trio.Event()
            try:
                while any(folder.active for folder in still):
                    await self._changed.wait()
                yield
            finally:
                for folder in still:
                    if folder.moving is not None:
                        folder.moving.set()
                    folder.moving = None


class _Working(AbstractAsyncContextManager[None]):
    """Work in folders. A class, as every operation goes through here: a generator costs twice."""

    __slots__ = ("_folders", "_gate", "_held")

    def __init__(self, gate: SubtreeGate, folders: tuple[Inode, ...]) -> None:
        self._gate = gate
        self._folders = folders
        self._held: list[Inode] = []

    async def __aenter__(self) -> None:
        self._held = await self._gate._begin(self._folders)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gate._end(self._held)
