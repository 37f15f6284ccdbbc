"""Keeps the memory of many names small: what nobody asks for is packed, old listings are dropped.

A mount with few names is left alone. What is at work here is held for about a millisecond at a
time, so that no operation waits for it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

import trio

from s3posixfs.fs.evicting import Evictor
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.name_listings import LISTING_SHARE
from s3posixfs.waiting.slices import Slices

logger = logging.getLogger(__name__)

FEW = 20_000  # inodes of which none is packed
TICK_SECONDS = 2.0
IDLE_SECONDS = 4.0  # that an inode's entry stays as it is after it was asked for
# A listing answers for no name after that, but for one that took more than three seconds, with
# write-back.
LISTING_SECONDS = 60.0


class Sweeper:
    """Goes through what was used a while ago."""

    def __init__(self, state: MountState, evictor: Evictor) -> None:
        self._state = state
        self._evictor = evictor
        self.table = state.table
        self._used: deque[tuple[float, list[Inode]]] = deque()  # when the list was closed

    async def run(self) -> None:
        """Sweep from time to time; runs until cancelled."""
        while True:
            await trio.sleep(TICK_SECONDS)
            try:
                await self.sweep()
            except Exception:  # without it there is more memory in use, no more
                logger.exception("what is known of names was not packed")

    async def sweep(self, few: int | None = None) -> None:
        """Go through what has not been used since long enough, where the table has more than
        ``few`` inodes (default: ``FEW``, or half of how many there may be)."""
        state, table = self._state, self.table
        if few is None:
            few = min(FEW, state.config.cached_entries // 2 or FEW)
        state.listings.drop_idle(state.now(), LISTING_SECONDS, LISTING_SHARE)
        if len(table) <= few:
            if self._used or len(table.recent) > 2 * few:
                self._used.clear()
                table.recent = [inode for inode in table if inode.packed is None]
            return
        self._evictor.next_round()
        now = state.now()
        self._used.append((now, table.recent))
        table.recent = []
        while self._used and now - self._used[0][0] >= IDLE_SECONDS:
            await self._pack(self._used.popleft()[1], now - IDLE_SECONDS)

    async def _pack(self, used: Iterable[Inode], before: float) -> None:
        """Pack those that are at rest and whose entries are older than that; the others have to
        wait for another time."""
        table = self.table
        slices = Slices()
        for inode in used:
            if not table.knows(inode) or inode.packed is not None or inode is table.root:
                continue
            if not self._pack_one(inode, before):
                table.recent.append(inode)
            if slices.over():
                await slices.turn()

    def _pack_one(self, inode: Inode, before: float) -> bool:
        """Whether it need not be looked at again before somebody uses it."""
        entry, parent = inode.entry, inode.parent
        if not inode.is_idle or entry.fetched_at > before:
            return False
        listing = parent.listing if parent is not None else None
        row = listing.get(inode.name) if listing is not None else None
        if row is not None and entry.stat is not None and row.stat is entry.stat:
            if row.fetched_at > entry.fetched_at:
                # This mount wrote it. Who reads the row goes by its being the entry's very object.
                return False
            row.follow(inode)
        if self.table.pack(inode, self._evictor.stamp) and not entry.attributes.is_directory:
            self._evictor.note(inode)
        return True
