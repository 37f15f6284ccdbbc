"""Folders of several pages: read ahead, and not asked for name by name once that is old."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing

from s3posixfs.fs.attributes import FileAttributes
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.listing import LONGEST_SECONDS, PAGE_KEYS, SHARE, Listing, ListingCache
from tests.filesystem_bed import ROOT, Bed, filesystem_bed
from tests.unit.test_fs_requests import counted

TTL = 1.0


@pytest.mark.parametrize(
    ("pages", "took", "lasts"),
    [
        (1, 5.0, TTL),
        (2, 0.1, TTL),
        (2, 2.0, SHARE * 2.0),
        (200, 1000.0, LONGEST_SECONDS),
    ],
)
async def test_how_long_a_listing_counts(
    tmp_path: Path, pages: int, took: float, lasts: float
) -> None:
    async with filesystem_bed(tmp_path) as bed:
        folder = bed.fs._state.table.get(1)
        cache = ListingCache(TTL, 1000)
        folder.listing = Listing(100.0)
        folder.listing.pages, folder.listing.took = pages, took
        assert cache.fresh(folder, 100.0 + lasts - 0.01, scanning=True) is folder.listing
        assert cache.fresh(folder, 100.0 + lasts, scanning=True) is None
        assert cache.fresh(folder, 100.0 + TTL) is None, "nobody else is shown what is old"
        assert ListingCache(0, 1000).fresh(folder, 100.0) is None


async def read_some(bed: Bed, handle: int, first: int, count: int) -> list[bytes]:
    """Entries from an offset on, as many as a buffer takes."""
    names: list[bytes] = []

    def emit(name: bytes, _: FileAttributes, __: int) -> bool:
        if len(names) == count:
            return False
        names.append(name)
        return True

    await bed.fs.readdir(handle, first, emit)
    return names


async def test_the_next_page_is_fetched_while_this_one_is_read(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for number in range(3 * PAGE_KEYS):
            bed.put(f"d/{number:05}")
        folder = await bed.walk("d")
        handle = await bed.fs.opendir(folder.inode, ROOT)
        with counted(bed) as made:
            names = await read_some(bed, handle, 0, 100)
            await trio.testing.wait_all_tasks_blocked()
        assert made == {"list_objects": 1}, "who looks at a few names pays for no more"
        with counted(bed) as made:
            names += await read_some(bed, handle, 100, PAGE_KEYS // 2)
            await trio.testing.wait_all_tasks_blocked()
        assert made == {"list_objects": 1}
        with counted(bed) as made:
            names += await read_some(bed, handle, len(names), PAGE_KEYS // 2)
        assert made == {}
        while more := await read_some(bed, handle, len(names), 300):
            names += more
        await bed.fs.releasedir(handle)
        assert names[2:] == [b"%05d" % number for number in range(3 * PAGE_KEYS)]


async def test_names_of_an_old_listing_are_not_asked_for_one_by_one(
    tmp_path: Path,
) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for number in range(3 * PAGE_KEYS):
            bed.put(f"d/{number:05}")
        folder = await bed.walk("d")
        await bed.list("d")
        bed.pass_time()
        with counted(bed) as made:
            for number in range(2000):
                await bed.fs.lookup(folder.inode, b"%05d" % number, ROOT)
        assert made["list_objects"] < 20
        assert made["head"] < 5


async def test_who_goes_through_a_large_folder_may_take_long(tmp_path: Path) -> None:
    scanner, other = Caller(0, 0, pid=71), Caller(0, 0, pid=72)
    async with filesystem_bed(tmp_path) as bed:
        for number in range(3 * PAGE_KEYS):
            bed.put(f"d/{number:05}")
        folder = (await bed.walk("d")).inode
        handle = await bed.fs.opendir(folder, scanner)
        names: list[bytes] = []
        while more := await read_some(bed, handle, len(names), 1000):
            names += more
        listing = bed.fs._state.table.get(folder).listing
        assert listing is not None
        listing.took = 3.0  # of a busy store
        with counted(bed) as made:
            for number in range(0, 3 * PAGE_KEYS, 300):
                bed.pass_time(0.9)
                await bed.fs.lookup(folder, b"%05d" % number, scanner)
        assert made == {}
        bed.put("d/02999", b"new")
        found = await bed.fs.lookup(folder, b"02999", other)
        assert found.attributes.size == 3
        bed.pass_time(1.1)  # it did something else
        bed.put("d/02998", b"new")
        found = await bed.fs.lookup(folder, b"02998", scanner)
        assert found.attributes.size == 3
        await bed.fs.releasedir(handle)
