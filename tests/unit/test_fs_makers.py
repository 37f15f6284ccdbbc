"""Who makes one name after the other asks S3 little; everybody else is told the truth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3posixfs.core.types import Capabilities
from s3posixfs.fs.attributes import NoEntry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.habits import STREAK
from tests.filesystem_bed import BUCKET, PLAIN, Bed, filesystem_bed
from tests.memory_store import ALL_CAPABILITIES
from tests.unit.test_fs_requests import counted

# Files after which a maker is known, and its folder has been listed.
KNOWN = 2 * STREAK
MAKER, OTHER = Caller(0, 0, pid=71), Caller(0, 0, pid=72)
STORES = pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, PLAIN], ids=["all", "plain"])


async def looked_up(bed: Bed, folder: int, name: str, caller: Caller) -> bool:
    bed.pass_time(0.01)  # longer than a name that is not there is taken to be missing
    try:
        found = await bed.fs.lookup(folder, name.encode(), caller)
    except NoEntry:
        return False
    bed.fs.forget(found.inode, 1)
    return True


async def make(
    bed: Bed, folder: int, name: str, caller: Caller = MAKER, flags: int = os.O_TRUNC
) -> None:
    """What the kernel asks for open(2) with O_CREAT, write and close."""
    await looked_up(bed, folder, name, caller)
    found, opened = await bed.fs.create(
        folder, name.encode(), 0o644, flags | os.O_CREAT | os.O_WRONLY, caller
    )
    await bed.fs.write(opened.handle, 0, b"ours")
    await bed.fs.flush(opened.handle)
    await bed.fs.release(opened.handle)
    bed.fs.forget(found.inode, 1)


async def folder_of(bed: Bed, names: int) -> int:
    """A folder that another host filled, as old as what is cached can be."""
    for number in range(names):
        bed.put(f"d/theirs-{number:05}", b"theirs")
    found = await bed.walk("d")
    bed.pass_time()
    return found.inode


@STORES
async def test_making_files_costs_a_request_each(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        folder = await folder_of(bed, 50)
        for number in range(KNOWN):
            await make(bed, folder, f"first-{number}")
        with counted(bed) as made:
            for number in range(40):
                await make(bed, folder, f"{number}")
        assert made == {"put": 40}


@STORES
async def test_the_lookup_before_a_create_is_not_repeated(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        folder = await folder_of(bed, 1)
        await make(bed, folder, "first", OTHER)  # whether it may
        await looked_up(bed, folder, "a", MAKER)
        bed.pass_time(0.008)  # the store was slow
        with counted(bed) as made:
            found, opened = await bed.fs.create(
                folder, b"a", 0o644, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, MAKER
            )
            await bed.fs.flush(opened.handle)
            await bed.fs.release(opened.handle)
        assert made == {"put": 1}
        assert found.inode


async def test_what_another_host_makes_is_seen_by_who_only_looks(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        folder = await folder_of(bed, 1)
        for number in range(KNOWN):
            await make(bed, folder, f"{number}")
            bed.put(f"d/new-{number}", b"theirs")
            assert await looked_up(bed, folder, f"new-{number}", OTHER)


async def test_a_maker_that_once_only_looked_is_told_the_truth_from_then_on(
    tmp_path: Path,
) -> None:
    async with filesystem_bed(tmp_path) as bed:
        folder = await folder_of(bed, 1)
        for number in range(KNOWN):
            await make(bed, folder, f"{number}")
        await looked_up(bed, folder, "nothing", MAKER)
        await looked_up(bed, folder, "nothing at all", MAKER)
        bed.put("d/new", b"theirs")
        assert await looked_up(bed, folder, "new", MAKER)


async def test_who_makes_and_reads_in_turn_sees_what_others_made(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        folder = await folder_of(bed, 1)
        for number in range(2 * KNOWN):
            bed.put(f"d/new-{number}", b"theirs")
            assert await looked_up(bed, folder, f"new-{number}", MAKER)
            await make(bed, folder, f"{number}")


async def test_folders_do_not_make_a_maker(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await folder_of(bed, 1)
        for number in range(2 * KNOWN):
            assert not await looked_up(bed, 1, f"{number}", MAKER)
            found = await bed.fs.mkdir(1, b"%d" % number, 0o755, MAKER)
        bed.put(f"{number}/new", b"theirs")
        bed.pass_time(0.3)
        assert await looked_up(bed, found.inode, "new", MAKER)


async def test_what_is_cached_for_a_maker_grows_old(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        folder = await folder_of(bed, 1)
        for number in range(KNOWN):
            await make(bed, folder, f"{number}")
        bed.put("d/new", b"theirs")
        bed.pass_time(1.5)
        assert await looked_up(bed, folder, "new", MAKER)


async def test_with_no_time_to_live_every_lookup_asks(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, config=FsConfig(bucket=BUCKET, metadata_ttl=0)) as bed:
        folder = await folder_of(bed, 1)
        for number in range(KNOWN):
            await make(bed, folder, f"{number}")
        bed.put("d/new", b"theirs")
        assert await looked_up(bed, folder, "new", MAKER)


@STORES
@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_EXCL, 0], ids=["trunc", "excl", "plain"])
async def test_another_hosts_file_that_a_maker_does_not_see_is_kept(
    tmp_path: Path, capabilities: Capabilities, flags: int
) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        folder = await folder_of(bed, 1)
        for number in range(KNOWN):
            await make(bed, folder, f"{number}")
        bed.put("d/new", b"theirs")
        if flags == os.O_EXCL:
            with pytest.raises(FileExistsError):
                await make(bed, folder, "new", flags=flags)
            assert bed.store.data(BUCKET, "d/new") == b"theirs"
        elif flags:
            await make(bed, folder, "new", flags=flags)
            kept = [key for key in bed.store.keys(BUCKET) if key.startswith("d/new.conflict-")]
            assert bed.store.data(BUCKET, "d/new") == b"ours"
            assert [bed.store.data(BUCKET, key) for key in kept] == [b"theirs"]
        else:  # it may want to add to what is there
            await make(bed, folder, "new", flags=flags)
            assert bed.store.data(BUCKET, "d/new") == b"oursrs"


@STORES
async def test_a_folder_of_more_names_than_a_listing_is_worth(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        folder = await folder_of(bed, 11_000)
        for number in range(STREAK + 1):
            await make(bed, folder, f"{number}")
        bed.pass_time(2)  # and again
        for number in range(STREAK + 1):
            await make(bed, folder, f"again-{number}")
        with counted(bed) as made:
            await make(bed, folder, "another")
        assert made["list_objects"] <= 1
        assert made["put"] == 1


async def test_renaming_one_file_after_the_other(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        folder = await folder_of(bed, 40)

        async def rename(number: int) -> None:
            old, new = f"theirs-{number:05}", f"ours-{number:05}"
            assert await looked_up(bed, folder, old, MAKER)
            assert not await looked_up(bed, folder, new, MAKER)
            await bed.fs.rename(folder, old.encode(), folder, new.encode(), 0, MAKER)

        for number in range(KNOWN):
            await rename(number)
        with counted(bed) as made:
            for number in range(KNOWN, KNOWN + 24):
                await rename(number)
        assert made == {"rename": 24}
