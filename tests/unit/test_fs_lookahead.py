"""A program that asks for name after name on a store whose listings carry no metadata."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.fs.attributes import NoEntry
from s3posixfs.fs.listing import Scan
from tests.faulty_store import FaultyStore
from tests.filesystem_bed import ALICE, PLAIN, ROOT, filesystem_bed

COUNT = 300


def test_more_is_asked_for_each_time_while_it_goes_in_order() -> None:
    scan = Scan()
    assert [scan.rows_after(position) for position in (0, 1, 6, 23, 90)] == [0, 4, 16, 64, 64]
    assert scan.rows_after(10) == 0  # back
    assert scan.rows_after(200) == 0  # far ahead
    assert scan.rows_after(205) == 4  # near enough


async def test_every_object_is_asked_for_once_and_many_at_a_time(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        for number in range(COUNT):
            bed.put(f"f/{number:03}", owner="alice", metadata={"mode": str(0o100640)})
        bed.put("f/150", b"149", owner="alice", metadata={"mode": str(0o120777)})
        folder = (await bed.walk("f")).inode
        names = sorted(await bed.list("f"))
        before = bed.store.requests.copy()
        seen_ahead = 0
        for number, name in enumerate(names, 1):
            found = (await bed.fs.lookup(folder, name.encode(), ALICE)).attributes
            seen_ahead = max(seen_ahead, (bed.store.requests - before)["head"] - number)
            kind = stat.S_IFLNK | 0o777 if name == "150" else stat.S_IFREG | 0o640
            assert (found.mode, found.uid) == (kind, 1001), name
        made = bed.store.requests - before
        assert made["head"] == COUNT
        assert made["list_objects"] == 0
        assert seen_ahead >= 60


async def test_an_old_listing_is_fetched_again_rather_than_each_name(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        for number in range(COUNT):
            bed.put(f"f/{number:03}", owner="alice")
        folder = (await bed.walk("f")).inode
        names = sorted(await bed.list("f"))
        before = bed.store.requests.copy()
        for number, name in enumerate(names):
            if number % 100 == 50:
                bed.pass_time()
            await bed.fs.lookup(folder, name.encode(), ROOT)
        made = bed.store.requests - before
        assert made["head"] <= COUNT + 3 * 64
        assert made["list_objects"] <= 3
        # A file that is not in S3 yet stays in the folder's new listing.
        await bed.write("f/new", b"here", ALICE)
        assert set(await bed.list("f")) == {*names, "new"}


async def test_what_is_gone_is_said_of_its_own_name_only(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        for number in range(20):
            bed.put(f"f/{number:02}", owner="alice")
        folder = (await bed.walk("f")).inode
        names = sorted(await bed.list("f"))
        await bed.store.delete("shared", "f/03")
        for name in names:
            if name == "03":
                with pytest.raises(NoEntry):
                    await bed.fs.lookup(folder, name.encode(), ROOT)
            else:
                await bed.fs.lookup(folder, name.encode(), ROOT)


async def test_a_single_question_stays_one(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        for number in range(20):
            bed.put(f"f/{number:02}", owner="alice")
        folder = (await bed.walk("f")).inode
        await bed.list("f")
        before = bed.store.requests.copy()
        await bed.fs.lookup(folder, b"07", ROOT)
        assert (bed.store.requests - before)["head"] == 1


async def test_names_behind_a_page_that_was_listed_again_wait_for_theirs(tmp_path: Path) -> None:
    count = 1500  # the listing is of more than one page
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        for number in range(count):
            bed.put(f"f/{number:04}", owner="alice")
        folder = (await bed.walk("f")).inode
        names = sorted(await bed.list("f"))
        for name in names[:90]:
            await bed.fs.lookup(folder, name.encode(), ROOT)
        bed.pass_time()
        before = bed.store.requests.copy()
        for name in names[90:1400]:
            await bed.fs.lookup(folder, name.encode(), ROOT)
        made = bed.store.requests - before
        assert made["list_objects"] <= 3
        assert made["head"] <= 1400


async def test_what_another_client_changed_meanwhile_is_seen(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        for number in range(40):
            bed.put(f"f/{number:02}", b"old", owner="alice", metadata={"mode": str(0o100600)})
        folder = (await bed.walk("f")).inode
        names = sorted(await bed.list("f"))
        for name in names[:3]:
            await bed.fs.lookup(folder, name.encode(), ROOT)
        # Listed as it was, and answered for as it is: asked for ahead and then by itself.
        bed.put("f/20", b"new one", owner="bob", metadata={"mode": str(0o100640)})
        for name in names[3:]:
            found = (await bed.fs.lookup(folder, name.encode(), ROOT)).attributes
            wanted = (0o640, 1002, 7) if name == "20" else (0o600, 1001, 3)
            assert (stat.S_IMODE(found.mode), found.uid, found.size) == wanted, name


async def test_the_next_names_are_under_way_while_these_are_handed_out(tmp_path: Path) -> None:
    stores: list[FaultyStore] = []

    def wrap(store: ObjectStore) -> ObjectStore:
        stores.append(FaultyStore(store))
        return stores[-1]

    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=wrap) as bed:
        daemon = stores[0]
        for number in range(COUNT):
            bed.put(f"f/{number:03}", owner="alice", metadata={"mode": str(0o100640)})
        folder = (await bed.walk("f")).inode
        names = sorted(await bed.list("f"))
        before = bed.store.requests["head"]

        async def look_up(some: Sequence[str]) -> None:
            for name in some:
                found = (await bed.fs.lookup(folder, name.encode(), ALICE)).attributes
                assert (stat.S_IMODE(found.mode), found.uid) == (0o640, 1001), name

        await look_up(names[:24])  # 1, 4, 16 names and then 64
        await wait_all_tasks_blocked()
        assert bed.store.requests["head"] - before == 24 + 64 + 64
        # What is under way is waited for, and not asked for by itself as well.
        held = daemon.hold("heads")
        await look_up(names[24:88])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_up, names[88:200])
            await wait_all_tasks_blocked()
            held.set()
        daemon.clear()
        await look_up(names[200:])
        assert bed.store.requests["head"] - before == COUNT
