"""Who opens one file after the other asks S3 once for each; nobody is shown an old version."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import NoEntry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.habits import STREAK
from tests.filesystem_bed import PLAIN, Bed, filesystem_bed
from tests.unit.test_fs_requests import counted

READER, OTHER = Caller(0, 0, pid=71), Caller(0, 0, pid=72)
ALICES = Caller(1001, 1001, pid=73)
COUNT = 60


class OwnerlessHeads:
    """A store that names owners in listings alone, as S3 does."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def head(self, bucket: str, key: str) -> ObjectStat:
        return replace(await self._store.head(bucket, key), owner=None)

    async def get(self, bucket: str, key: str, **options: Any) -> tuple[ObjectStat, memoryview]:
        found, data = await self._store.get(bucket, key, **options)
        return replace(found, owner=None), data


def ownerless(store: ObjectStore) -> ObjectStore:
    return cast(ObjectStore, OwnerlessHeads(store))


async def looked_up(bed: Bed, folder: int, name: str, caller: Caller) -> int:
    found = await bed.fs.lookup(folder, name.encode(), caller)
    bed.fs.forget(found.inode, 1)
    return found.inode


async def content(bed: Bed, inode: int, caller: Caller) -> bytes:
    opened = await bed.fs.open(inode, os.O_RDONLY, caller)
    data = bytes(await bed.fs.read(opened.handle, 0, 128 * 1024))
    await bed.fs.release(opened.handle)
    return data


async def read(bed: Bed, folder: int, name: str, caller: Caller = READER) -> bytes:
    """What the kernel asks for open(2) and read."""
    return await content(bed, await looked_up(bed, folder, name, caller), caller)


async def folder_of(bed: Bed, owner: str = "daemon") -> int:
    """A folder that another host filled, whose listing is fresh."""
    for number in range(COUNT):
        bed.put(f"d/{number:03}", b"%03d" % number, owner=owner)
    bed.pass_time(60)
    found = await bed.walk("d")
    await bed.list("d")
    return found.inode


async def test_reading_files_costs_a_request_each(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=ownerless) as bed:
        folder = await folder_of(bed)
        for number in range(STREAK):
            assert await read(bed, folder, f"{number:03}") == b"%03d" % number
        with counted(bed) as made:
            for number in range(COUNT - 1, COUNT - 21, -1):
                assert await read(bed, folder, f"{number:03}") == b"%03d" % number
        assert made == {"get": 20}


async def test_reading_files_of_an_old_listing_in_order_costs_a_request_each(
    tmp_path: Path,
) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        folder = await folder_of(bed)
        names = sorted(await bed.list("d"))
        for name in names[:5]:
            await read(bed, folder, name)
        with counted(bed) as made:
            for number, name in enumerate(names[5:]):
                if number % 20 == 10:
                    bed.pass_time()
                await read(bed, folder, name)
        assert made["get"] <= COUNT
        assert made["head"] <= 10
        assert made["list_objects"] <= 10


async def test_several_readers_in_order_ask_for_no_heads_of_what_comes_next(
    tmp_path: Path,
) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        folder = await folder_of(bed)
        names = sorted(await bed.list("d"))
        with counted(bed) as made:
            for number, name in enumerate(names):
                await read(bed, folder, name, Caller(0, 0, pid=100 + number % 8))
        assert made["get"] <= COUNT
        assert made["head"] <= 8 * 2, "until each is known to read"
        with counted(bed) as made:
            bed.pass_time()
            for name in names:
                await bed.fs.lookup(folder, name.encode(), OTHER)
        assert made["list_objects"] <= 3, "who only looks is served as ever"


async def test_reading_files_that_no_listing_shows_costs_two(tmp_path: Path) -> None:
    """The content, and one listing for the owner and for what would hide the file."""
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=ownerless) as bed:
        folder = await folder_of(bed)
        bed.fs._state.table.get(folder).large = True
        bed.fs._state.listings.drop(bed.fs._state.table.get(folder))
        for number in range(STREAK):
            assert await read(bed, folder, f"{number:03}") == b"%03d" % number
        with counted(bed) as made:
            for number in range(COUNT - 1, COUNT - 21, -1):
                assert await read(bed, folder, f"{number:03}") == b"%03d" % number
        assert made == {"get": 20, "list_objects": 20}
        bed.put("d/010/inside")
        assert (await bed.fs.lookup(folder, b"010", READER)).attributes.is_directory
        for number in range(20):  # between `011` and `011/`
            bed.put(f"d/011-{number}")
        bed.put("d/011/inside")
        assert (await bed.fs.lookup(folder, b"011", READER)).attributes.is_directory
        with pytest.raises(NoEntry):
            await bed.fs.lookup(folder, b"none", READER)


async def test_what_is_replaced_between_stat_and_open_is_seen(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=ownerless) as bed:
        folder = await folder_of(bed)
        for number in range(COUNT // 2):
            name = f"{number:03}"
            inode = await looked_up(bed, folder, name, READER)
            bed.put(f"d/{name}", b"new", owner="daemon")
            bed.pass_time(0.003)  # no request takes less
            assert await content(bed, inode, READER) == b"new"


async def test_who_looks_and_another_who_opens_are_no_reader(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=ownerless) as bed:
        folder = await folder_of(bed)
        for number in range(STREAK):
            await read(bed, folder, f"{number:03}")
        inode = await looked_up(bed, folder, "050", READER)
        bed.put("d/050", b"new", owner="daemon")
        assert await content(bed, inode, OTHER) == b"new"


async def test_who_only_looks_brings_no_content(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=ownerless) as bed:
        folder = await folder_of(bed)
        for number in range(STREAK):
            await read(bed, folder, f"{number:03}")
        with counted(bed) as made:
            for number in range(COUNT - 1, COUNT - 21, -1):
                await looked_up(bed, folder, f"{number:03}", READER)
        assert made["get"] <= 1
        assert made["head"] >= 19


@pytest.mark.parametrize("owner", ["daemon", "alice"])
async def test_who_has_an_identity_reads_by_it(tmp_path: Path, owner: str) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=ownerless) as bed:
        folder = await folder_of(bed, owner)
        for number in range(STREAK + 4):
            await read(bed, folder, f"{number:03}", ALICES)
        with counted(bed) as made:
            await read(bed, folder, "050", ALICES)
        assert made == {"head": 1, "get": 1}


async def test_an_owner_is_not_taken_from_a_listing_of_the_same_second(tmp_path: Path) -> None:
    """Else who writes the same content within a second of a trusted owner would be believed."""
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=ownerless) as bed:
        bed.put("d/a", b"same", owner="daemon")
        folder = (await bed.walk("d")).inode
        await bed.list("d")
        bed.put("d/a", b"same", owner="bob", metadata={"uid": "0", "mode": str(0o104755)})
        found = await bed.fs.lookup(folder, b"a", OTHER)
        assert found.attributes.uid == 1002
        assert found.attributes.mode & 0o7000 == 0
