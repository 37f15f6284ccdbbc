"""Folders of several pages: read ahead, and not asked for name by name once that is old."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import trio.testing

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import ListPage
from s3posixfs.fs.attributes import FileAttributes, NoEntry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.listing import LONGEST_SECONDS, PAGE_KEYS, SHARE, Listing, ListingCache
from tests.filesystem_bed import BUCKET, PLAIN, ROOT, Bed, filesystem_bed
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


async def listed_large(bed: Bed, pages: int) -> int:
    """A folder of several pages that other hosts filled, whose listing has grown old."""
    for number in range(pages * PAGE_KEYS):
        bed.put(f"d/{number:05}")
    bed.pass_time(60)
    folder = (await bed.walk("d")).inode
    await bed.list("d")
    bed.pass_time()
    return folder


async def test_a_slow_scan_asks_for_each_part_of_a_listing_once(tmp_path: Path) -> None:
    """Not for all of it each time that it has grown old: that would be a square."""
    pages, per_second = 5, 500
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        folder = await listed_large(bed, pages)
        with counted(bed) as made:
            for number in range(pages * PAGE_KEYS):
                await bed.fs.lookup(folder, b"%05d" % number, ROOT)
                if number % per_second == per_second - 1:
                    bed.pass_time()
        renewals = pages * PAGE_KEYS // per_second
        assert made["head"] < pages * PAGE_KEYS * 1.02
        assert made["list_objects"] < 2.5 * renewals


async def test_a_part_asked_for_again_shows_what_is_there_now(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        folder = await listed_large(bed, 2)
        bed.put("d/00004", b"changed")
        bed.put("d/00005/inside")
        await bed.store.delete(BUCKET, "d/00006")
        for number in range(4):
            await bed.fs.lookup(folder, b"%05d" % number, ROOT)
        assert (await bed.fs.lookup(folder, b"00004", ROOT)).attributes.size == 7
        found = await bed.fs.lookup(folder, b"00005", ROOT)
        assert found.attributes.is_directory
        with pytest.raises(NoEntry):
            await bed.fs.lookup(folder, b"00006", ROOT)
        listing = bed.fs._state.table.get(folder).listing
        assert listing is not None
        row = listing.get(b"00007")
        assert row is not None
        assert row.fetched_at > listing.started_at, "nothing was asked for again"


async def test_own_changes_are_newer_than_a_part_that_is_asked_for(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        folder = await listed_large(bed, 2)
        listing = bed.fs._state.table.get(folder).listing
        assert listing is not None
        former = listing
        bed.put("d/new", b"new")
        of_own = (await bed.store.list_objects(BUCKET, prefix="d/new")).objects[0]

        class Slow:
            """Answers with what there was before the mount's own changes."""

            async def list_objects(self, *arguments: Any, **options: Any) -> ListPage:
                page = await bed.store.list_objects(*arguments, **options)
                former.put(b"00001", of_own, now)
                former.remove(b"00002")
                return page

        now = bed.fs._state.now()
        await listing.renew(cast(ObjectStore, Slow()), BUCKET, "d/", 0, now, TTL)
        assert [row.stat for row in (listing.get(b"00001"),) if row] == [of_own]
        assert listing.get(b"00002") is None
        third = listing.get(b"00003")
        assert third is not None
        assert third.fetched_at == now
        assert listing.get(b"new") is None, "positions are offsets of who reads the folder"


async def test_more_rows_than_are_kept_cost_who_reads_them_no_request_each(
    tmp_path: Path,
) -> None:
    pages, at_once = 3, 500
    config = FsConfig(bucket=BUCKET, listed_entries=PAGE_KEYS)
    async with filesystem_bed(tmp_path, config=config) as bed:
        for number in range(pages * PAGE_KEYS):
            bed.put(f"d/{number:05}")
            bed.put(f"e/{number:05}")
        folders = [(await bed.walk(name)).inode for name in ("d", "e")]
        handles = [await bed.fs.opendir(folder, ROOT) for folder in folders]
        with counted(bed) as made:
            for first in range(0, pages * PAGE_KEYS, at_once):
                for folder, handle in zip(folders, handles, strict=True):
                    await read_some(bed, handle, first, at_once + (0 if first else 2))
                    bed.pass_time()  # so that each name has to be asked for
                    for number in range(first, first + at_once):
                        await bed.fs.lookup(folder, b"%05d" % number, ROOT)
        assert sum(made.values()) < 10 * len(folders) * pages
        for handle in handles:
            await bed.fs.releasedir(handle)
        await bed.list("e")
        kept = [bed.fs._state.table.get(folder).listing for folder in folders]
        assert None in kept, "nobody reads them any more"
