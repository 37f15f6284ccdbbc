"""Blocks on the local disk: the right bytes or none, within a limit, over restarts and damage."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

from s3posixfs.data import cache_file, disk_cache
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.cache_file import CHUNK, BrokenFile
from s3posixfs.data.disk_cache import DiskCache, clear
from s3posixfs.data.reader import Readers
from s3posixfs.data.version import ObjectVersion
from tests.faulty_store import FaultyStore
from tests.memory_store import MemoryStore
from tests.unit.test_observing import eventually

MIB = 1024 * 1024
SIZE = 3 * MIB + 77
DATA = random.Random(1).randbytes(SIZE)
VERSION = ObjectVersion("bucket", "key", "etag", SIZE)
DIGEST = bytes(range(32))


def whole(start: int, end: int) -> memoryview:
    return memoryview(DATA)[start:end]


async def settled(nursery: trio.Nursery) -> None:
    """Wait for what is written behind the reader's back."""
    await eventually(lambda: not nursery.child_tasks)


def opened(folder: Path, nursery: trio.Nursery, limit: int = 100 * MIB) -> DiskCache:
    return DiskCache(folder / "blocks", limit, "http://store", nursery)


async def kept(cache: DiskCache, version: ObjectVersion, start: int, end: int) -> bytes | None:
    found = await cache.read(version, start, end - start)
    return bytes(found) if found is not None else None


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "blocks").rglob("*") if path.is_file()]


async def one_kept(folder: Path, nursery: trio.Nursery) -> tuple[DiskCache, Path]:
    """A cache that keeps the first MiB of the version, and the file that has it."""
    cache = opened(folder, nursery)
    cache.keep(VERSION, 0, whole(0, MIB))
    await settled(nursery)
    (path,) = files(folder)
    return cache, path


@pytest.mark.parametrize(
    ("start", "end", "there"),
    [
        (0, CHUNK, True),
        (CHUNK, 3 * CHUNK, True),
        (CHUNK + 5, 3 * CHUNK - 9, True),
        (0, 4 * CHUNK, False),
        (23 * CHUNK, SIZE, True),
        (SIZE - 1, SIZE, True),
        (10 * CHUNK, 11 * CHUNK, False),
    ],
)
def test_whole_chunks_are_kept(tmp_path: Path, start: int, end: int, there: bool) -> None:
    path = cache_file.path_of(tmp_path, DIGEST)
    cache_file.write(path, SIZE, 0, whole(0, 3 * CHUNK + 17))
    assert cache_file.write(path, SIZE, 23 * CHUNK - 5, whole(23 * CHUNK - 5, SIZE)) > 0
    assert cache_file.write(path, SIZE, 8 * CHUNK + 1, whole(8 * CHUNK + 1, 9 * CHUNK)) == 0
    found = cache_file.read(path, SIZE, start, end)
    assert found == (whole(start, end) if there else None)
    assert path.stat().st_blocks * 512 < 1024 * 1024, "a hole takes no room"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", ["magic", "digest", "table", "data"])
def test_damage_is_seen(tmp_path: Path, at: str) -> None:
    path = cache_file.path_of(tmp_path, DIGEST)
    cache_file.write(path, SIZE, 0, whole(0, CHUNK))
    offset = {"magic": 0, "digest": 40, "table": 64 + 1, "data": 4096 + 1000}[at]
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BrokenFile):
        cache_file.read(path, SIZE, 0, CHUNK)


@pytest.mark.parametrize("length", [0, 10, 64, 70, 5000])
def test_a_file_that_was_cut_is_seen(tmp_path: Path, length: int) -> None:
    path = cache_file.path_of(tmp_path, DIGEST)
    cache_file.write(path, SIZE, 0, whole(0, CHUNK))
    os.truncate(path, length)
    with pytest.raises(BrokenFile):
        cache_file.read(path, SIZE, 0, CHUNK)


async def test_the_next_mount_finds_it(tmp_path: Path, nursery: trio.Nursery) -> None:
    cache, _ = await one_kept(tmp_path, nursery)
    assert cache.used >= MIB
    again = opened(tmp_path, nursery)
    assert again.used == cache.used
    assert await kept(again, VERSION, 5, CHUNK) == DATA[5:CHUNK]
    assert (again.hits, again.misses) == (1, 0)


async def test_what_is_written_at_once_is_counted_whole(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    cache = opened(tmp_path, nursery)
    for number in range(100):
        version = ObjectVersion("bucket", str(number), "etag", MIB)
        for start in range(0, MIB, CHUNK):
            cache.keep(version, start, whole(start, start + CHUNK))
        await settled(nursery)
        assert cache.used == sum(path.stat().st_blocks * 512 for path in files(tmp_path))


async def test_reads_in_odd_order_and_places_leave_nothing_out(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    memory = MemoryStore("bucket")
    stat = memory.put_now("bucket", "key", DATA)
    version = ObjectVersion("bucket", "key", stat.etag, SIZE)
    cache = opened(tmp_path, nursery)
    readers = Readers(
        cache=BlockCache(64 * MIB),
        budget=MemoryBudget(64 * MIB),
        nursery=nursery,
        disk=cache,
    )
    reader = readers.open(memory, version)
    for start in (4096, 3 * CHUNK + 8192, 0, 7 * CHUNK - 4096, *range(12288, SIZE, CHUNK)):
        assert bytes(await reader.read(start, CHUNK)) == DATA[start : start + CHUNK]
    await reader.aclose()
    await settled(nursery)
    assert await kept(cache, version, 0, SIZE) == DATA


@pytest.mark.parametrize(
    "other",
    [
        ObjectVersion("bucket", "key", "other", SIZE),
        ObjectVersion("bucket", "key2", "etag", SIZE),
        ObjectVersion("bucke", "tkey", "etag", SIZE),
        ObjectVersion("bucket", "key", "etag", SIZE + 1),
    ],
)
async def test_another_version_is_not_taken_for_it(
    tmp_path: Path, nursery: trio.Nursery, other: ObjectVersion
) -> None:
    cache, _ = await one_kept(tmp_path, nursery)
    assert await kept(cache, other, 0, CHUNK) is None
    elsewhere = DiskCache(tmp_path / "blocks", 100 * MIB, "http://elsewhere", nursery)
    assert await kept(elsewhere, VERSION, 0, CHUNK) is None


async def test_what_was_of_use_longest_ago_goes_first(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    cache = opened(tmp_path, nursery, limit=4 * MIB)
    versions = [ObjectVersion("bucket", f"key{n}", "etag", SIZE) for n in range(6)]
    for version in versions[:3]:
        cache.keep(version, 0, whole(0, MIB))
        await settled(nursery)
    assert await kept(cache, versions[0], 0, CHUNK) is not None
    for version in versions[3:5]:
        cache.keep(version, 0, whole(0, MIB))
        await settled(nursery)
    assert cache.used <= 4 * MIB
    assert sum(path.stat().st_blocks * 512 for path in files(tmp_path)) == cache.used
    assert await kept(cache, versions[0], 0, CHUNK) is not None
    assert await kept(cache, versions[1], 0, CHUNK) is None
    smaller = opened(tmp_path, nursery, limit=2 * MIB)
    assert smaller.used <= 2 * MIB
    assert sum(path.stat().st_blocks * 512 for path in files(tmp_path)) == smaller.used


async def test_what_is_damaged_is_fetched_and_gone(tmp_path: Path, nursery: trio.Nursery) -> None:
    cache, path = await one_kept(tmp_path, nursery)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\0" * 512)
    assert await kept(cache, VERSION, 0, CHUNK) is None
    assert not files(tmp_path)
    assert cache.used == 0
    assert await kept(cache, VERSION, 0, CHUNK) is None


async def test_a_disk_without_room_is_left_alone(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened(tmp_path, nursery)
    # All of the disk: what is free now may be less than what is free when it is looked at.
    whole_disk = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    monkeypatch.setattr(disk_cache, "FREE_BYTES", whole_disk)
    cache.keep(VERSION, 0, whole(0, MIB))
    await settled(nursery)
    monkeypatch.undo()
    cache.keep(VERSION, 0, whole(0, MIB))  # not asked again so soon
    await settled(nursery)
    assert not files(tmp_path)
    assert cache.dropped == 1


async def test_what_the_disk_does_not_follow_is_dropped(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    cache = opened(tmp_path, nursery)
    for number in range(100):
        cache.keep(ObjectVersion("bucket", f"{number}", "etag", SIZE), 0, whole(0, MIB))
    assert cache.dropped == 100 - 32
    await settled(nursery)
    assert len(files(tmp_path)) == 32


async def test_other_things_in_its_folder_are_removed(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    cache, path = await one_kept(tmp_path, nursery)
    secret = tmp_path / "secret"
    secret.write_text("x")
    (tmp_path / "blocks" / "zz").mkdir()
    (tmp_path / "blocks" / "zz" / "file").touch()
    (tmp_path / "blocks" / "link").symlink_to(secret)
    (path.parent / "short").touch()
    (path.parent / "folder").mkdir()
    assert opened(tmp_path, nursery).used == cache.used
    assert files(tmp_path) == [path]
    assert secret.exists()
    clear(tmp_path / "blocks")
    clear(tmp_path / "blocks")
    assert not (tmp_path / "blocks").exists()


async def test_a_link_in_the_place_of_a_file_is_not_followed(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    cache, path = await one_kept(tmp_path, nursery)
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    assert await kept(cache, VERSION, 0, CHUNK) is None
    assert moved.exists()


async def test_readers_ask_the_disk_first(tmp_path: Path, nursery: trio.Nursery) -> None:
    memory = MemoryStore("bucket")
    store = FaultyStore(memory)
    stat = memory.put_now("bucket", "key", DATA)
    version = ObjectVersion("bucket", "key", stat.etag, SIZE)

    async def read_all() -> bytes:
        readers = Readers(
            cache=BlockCache(64 * MIB),
            budget=MemoryBudget(64 * MIB),
            nursery=nursery,
            disk=opened(tmp_path, nursery),
        )
        reader = readers.open(store, version)
        found = bytearray()
        while piece := await reader.read(len(found), CHUNK):
            found += piece
        await reader.aclose()
        await settled(nursery)
        return bytes(found)

    assert await read_all() == DATA
    fetched = memory.state.bytes_read
    assert fetched >= SIZE
    assert await read_all() == DATA
    assert memory.state.bytes_read == fetched, "all of it was on the disk"
