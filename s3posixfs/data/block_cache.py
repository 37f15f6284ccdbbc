"""Blocks of object versions kept in memory, bounded, the least recently wanted dropped first.

A block is any contiguous range of a version: a sequential reader fetches 8 MiB at a time, a
random one 128 KiB, and each is kept as it came, so that a read is a slice and not a copy.
Blocks of one version never overlap.

Locking: used from the trio thread only; every method is an atomic region (none yields).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from s3posixfs.data.version import ObjectVersion


@dataclass(eq=False, slots=True)
class Block:
    """Bytes ``[start, end)`` of ``version``; ``data`` is never written to."""

    version: ObjectVersion
    start: int
    end: int
    data: memoryview


MAX_BLOCKS = 1 << 16  # what stands round each takes memory, too


def _start(block: Block) -> int:
    return block.start


class BlockCache:
    """At most ``memory_limit`` bytes of blocks, those being fetched into it included."""

    __slots__ = ("_blocks", "_limit", "_order", "_reserved", "_streams", "_used", "hits", "misses")

    def __init__(self, memory_limit: int) -> None:
        self._limit = memory_limit
        self._used = 0
        self._reserved = 0
        self._streams = 0
        self._blocks: dict[ObjectVersion, list[Block]] = {}
        self._order: OrderedDict[Block, None] = OrderedDict()
        self.hits = 0
        self.misses = 0

    @property
    def memory_limit(self) -> int:
        """Bytes that may be held in all."""
        return self._limit

    @property
    def used(self) -> int:
        """Bytes of the blocks held now."""
        return self._used

    @property
    def reserved(self) -> int:
        """Bytes of the blocks that are being fetched."""
        return self._reserved

    @property
    def streams(self) -> int:
        """How many sequential readers share the cache now."""
        return self._streams

    def stream_began(self) -> None:
        """One more reader reads ahead: each reader's share of the cache becomes smaller."""
        self._streams += 1

    def stream_ended(self) -> None:
        """One reader fewer reads ahead."""
        self._streams -= 1

    def find(self, version: ObjectVersion, offset: int) -> Block | None:
        """The block that holds ``offset``, now the most recently wanted one."""
        blocks = self._blocks.get(version)
        if blocks:
            index = bisect_right(blocks, offset, key=_start) - 1
            if index >= 0 and offset < blocks[index].end:
                block = blocks[index]
                self._order.move_to_end(block)
                self.hits += 1
                return block
        self.misses += 1
        return None

    def covered_until(self, version: ObjectVersion, offset: int) -> int:
        """The end of the run of blocks that holds ``offset``; ``offset`` where none does."""
        for block in self._from(version, offset):
            if block.start > offset:
                break
            offset = block.end
        return offset

    def next_start(self, version: ObjectVersion, offset: int) -> int | None:
        """Where the first block at or after ``offset`` begins."""
        for block in self._from(version, offset):
            if block.start >= offset:
                return block.start
        return None

    def held_before(self, version: ObjectVersion, offset: int) -> int:
        """Where the last block that lies wholly before ``offset`` ends; 0 where none does."""
        blocks = self._blocks.get(version, [])
        for index in range(bisect_right(blocks, offset, key=_start) - 1, -1, -1):
            if blocks[index].end <= offset:
                return blocks[index].end
        return 0

    def _from(self, version: ObjectVersion, offset: int) -> Iterator[Block]:
        blocks = self._blocks.get(version, [])
        for index in range(max(0, bisect_right(blocks, offset, key=_start) - 1), len(blocks)):
            if blocks[index].end > offset:
                yield blocks[index]

    def reserve(self, size: int) -> None:
        """Announce ``size`` bytes that are to come, dropping old blocks to make room for them."""
        self._reserved += size
        self._shrink()

    def unreserve(self, size: int) -> None:
        """Take back what :meth:`reserve` announced: the bytes came, or will not come."""
        self._reserved -= size

    def insert(self, version: ObjectVersion, start: int, data: memoryview) -> None:
        """Keep bytes that were fetched; the part that another block already holds is cut off."""
        end = start + len(data)
        held = self.covered_until(version, start)
        if held >= end:
            return
        stop = self.next_start(version, held)
        if stop is not None and stop < end:
            end = stop
        block = Block(version, held, end, data[held - start : end - start])
        insort(self._blocks.setdefault(version, []), block, key=_start)
        self._order[block] = None
        self._used += end - held
        self._shrink()

    def consumed(self, block: Block) -> None:
        """A sequential reader has passed the block: it is the first to go when room is needed."""
        if block in self._order:
            self._order.move_to_end(block, last=False)

    def forget(self, version: ObjectVersion) -> None:
        """Drop every block of a version that is known to be gone."""
        for block in self._blocks.pop(version, []):
            del self._order[block]
            self._used -= block.end - block.start

    def _shrink(self) -> None:
        while self._order and (
            self._used + self._reserved > self._limit or len(self._order) > MAX_BLOCKS
        ):
            block, _ = self._order.popitem(last=False)
            blocks = self._blocks[block.version]
            del blocks[bisect_right(blocks, block.start, key=_start) - 1]
            if not blocks:
                del self._blocks[block.version]
            self._used -= block.end - block.start
