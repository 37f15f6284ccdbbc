"""Keeps a folder still while it is renamed.

Everything that makes keys below a folder (an upload, a new name) works *in* it; a rename of the
folder waits for those and holds new ones up. No task ever waits here while it works in another
folder (both folders of a rename are entered in one step), and only one folder moves at a time,
so nothing can wait in a circle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from s3posixfs.fs.inodes import Inode, InodeTable


class SubtreeGate:
    """Counts, on every folder up to the root, the operations at work below it."""

    def __init__(self, table: InodeTable) -> None:
        self._table = table
        self._one_move = trio.Lock()
        self._changed = trio.Event()

    @asynccontextmanager
    async def working_in(self, *folders: Inode) -> AsyncIterator[None]:
        """Hold folders (and all above them) where they are. Cancelled, it holds nothing."""
        while True:
            held = [inode for folder in folders for inode in folder.ancestry()]
            blocker = next((inode.moving for inode in held if inode.moving is not None), None)
            if blocker is None:
                break
            await blocker.wait()
        for inode in held:
            inode.active += 1
        try:
            yield
        finally:
            for inode in held:
                inode.active -= 1
            for inode in held:
                self._table.tidy(inode)
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    @asynccontextmanager
    async def moving(self, folder: Inode) -> AsyncIterator[None]:
        """Wait until nothing works in or below the folder, and keep it so."""
        async with self._one_move:
            folder.moving = trio.Event()
            try:
                while folder.active:
                    await self._changed.wait()
                yield
            finally:
                folder.moving.set()
                folder.moving = None
