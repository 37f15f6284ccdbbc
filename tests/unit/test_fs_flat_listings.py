"""One listing of a whole tree for who walks through it, and when not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from s3posixfs.fs.attributes import NoEntry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.flat_listings import whole_folders
from s3posixfs.fs.walk import LARGEST, PAUSE, SMALLEST, Walk
from tests.filesystem_bed import ALICE, BUCKET, PLAIN, ROOT, Bed, filesystem_bed
from tests.memory_store import MemoryStore
from tests.unit.test_fs_requests import counted

NAMES = st.sampled_from(["a", "b", "b.c", "b0", "", "ä", "\U0001f600", "z" * 30])
KEYS = st.sets(
    st.builds(
        lambda names, end: "/".join(names) + end,
        st.lists(NAMES, min_size=1, max_size=4),
        st.sampled_from(["", "/"]),
    ).filter(bool),
    min_size=1,
    max_size=25,
)


def folders_of(keys: set[str]) -> Iterator[str]:
    for key in keys:
        for position, letter in enumerate(key):
            if letter == "/":
                yield key[: position + 1]


@settings(max_examples=300, deadline=None)
@given(
    keys=KEYS, above=st.sampled_from(["", "t/", "t/b/"]), most=st.integers(1, 30), data=st.data()
)
def test_a_folder_out_of_a_flat_listing_is_as_one_listed_by_itself(
    keys: set[str], above: str, most: int, data: st.DataObject
) -> None:
    keys = {above + key for key in keys} | {"s", "t0", "t/b.x"}
    below = sorted({folder for folder in folders_of(keys) if folder.startswith(above)} - {above})

    async def compare() -> None:
        store = MemoryStore(BUCKET)
        for key in keys:
            store.put_now(BUCKET, key, b"")
        start = data.draw(st.sampled_from(below)) if below else f"{above}none/"
        page = await store.list_objects(
            BUCKET, prefix=above, start_after=start[:-1] + ".\U0010ffff", max_keys=most
        )
        found = whole_folders(page, above, start)
        for prefix, folder in found.items():
            itself = await store.list_objects(BUCKET, prefix=prefix, delimiter="/", max_keys=1000)
            assert [row.key for row in folder.page().objects] == [r.key for r in itself.objects]
            assert sorted(folder.page().prefixes) == sorted(itself.prefixes)
            first = await store.list_objects(BUCKET, prefix=prefix, max_keys=1)
            assert folder.first == first.objects[0]
        if page.next_token is None:
            later = {folder for folder in below if folder.encode() >= start.encode()}
            assert later <= found.keys() | set(_above(start))

    trio.run(compare)


def _above(prefix: str) -> Iterator[str]:
    for position, letter in enumerate(prefix[:-1]):
        if letter == "/":
            yield prefix[: position + 1]


def test_how_many_keys_are_asked_for() -> None:
    walk = Walk()
    assert walk.next_keys() == SMALLEST
    walk.brought, walk.asked_for = 4, 4
    assert walk.next_keys() == LARGEST
    walk.brought, walk.asked_for = 9, 3
    assert [walk.next_keys() for _ in range(PAUSE)] == [0] * PAUSE
    assert walk.next_keys() == SMALLEST
    assert walk.next_keys() == LARGEST, "nothing was whole in the small one"
    assert walk.next_keys() == 0, "nor in the large one"


async def go_through(bed: Bed, path: str, caller: Caller = ROOT) -> AsyncGenerator[str, None]:
    """As find(1) does: each folder is looked up, opened and read, and then those in it."""
    entries = await bed.list(path, caller)
    for name, attributes in entries.items():
        inner = f"{path}/{name}"
        yield inner
        if attributes.attributes.is_directory:
            async for below in go_through(bed, inner, caller):
                yield below


def fill(bed: Bed, folders: int, files: int, *, made: bool = False) -> set[str]:
    """A tree ``t/NN/s/NN``, with markers if it was ``made`` by a mount; its paths."""
    paths = set()
    for folder in range(folders):
        for place in (f"t/{folder:03}", f"t/{folder:03}/s"):
            paths.add(place)
            if made:
                bed.put(f"{place}/", b"")
        for number in range(files):
            paths.add(f"t/{folder:03}/s/{number:02}")
            bed.put(f"t/{folder:03}/s/{number:02}")
    return paths


@pytest.mark.parametrize("made", [False, True])
async def test_a_walk_costs_a_request_for_a_thousand_keys(tmp_path: Path, made: bool) -> None:
    async with filesystem_bed(tmp_path) as bed:
        paths = fill(bed, 300, 10, made=made)
        with counted(bed) as asked:
            assert {path async for path in go_through(bed, "t")} == paths
        assert asked["list_objects"] < 20
        assert asked["head"] == 0


async def test_what_listings_do_not_tell_of_folders_is_asked_for_at_once(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        paths = fill(bed, 100, 0, made=True)
        for path in paths:
            bed.put(f"{path}/", b"", metadata={"mode": str(0o40700)})
        before, ahead, folders = bed.store.requests.copy(), 0, 0
        async for path in go_through(bed, "t"):
            folders += 1
            ahead = max(ahead, (bed.store.requests - before)["head"] - folders)
            assert (await bed.walk(path)).attributes.mode == 0o40700
        assert folders == len(paths)
        assert ahead >= 50
        assert (bed.store.requests - before)["head"] <= folders + 5


async def test_what_this_mount_changed_since_does_not_count(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        fill(bed, 10, 3)
        state, now = bed.fs._state, bed.fs._state.now()
        folders = [state.table.get((await bed.walk(f"t/{n:03}/s")).inode) for n in range(10)]

        async def asked() -> None:
            await state.flat.fetch(state.daemon_store, (BUCKET, "t/"), "t/000/", Walk(), now)

        def there() -> list[int]:
            return [
                number
                for number, folder in enumerate(folders)
                if state.flat.has(folder, BUCKET, f"t/{number:03}/s/", now)
            ]

        await asked()
        assert there() == list(range(10))
        folders[3].note_change()
        assert there() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert state.flat.take(folders[4], BUCKET, "t/004/s/", now) is not None
        assert there() == [0, 1, 2, 5, 6, 7, 8, 9]
        await asked()
        assert there() == list(range(10))
        state.table.detach(folders[0])
        assert there() == [], "it may come back as a folder that nothing is known of"
        await asked()
        assert there() == list(range(10))
        now += state.config.metadata_ttl
        assert there() == []


async def test_what_this_mount_did_meanwhile_is_shown(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        fill(bed, 60, 3)
        seen: set[str] = set()
        async for path in go_through(bed, "t"):
            seen.add(path)
            if path == "t/002":
                await bed.write("t/003/s/new", b"new")
                await bed.unlink("t/004/s/00")
                await bed.mkdir("t/005/made")
                await bed.rename("t/006/s/00", "t/006/moved")
                await bed.rename("t/007/s", "t/007/folder")
                await bed.write("t/008/s/00", b"longer")
                await bed.write("t/009/x", b"", flags=577)
                await bed.unlink("t/009/x")
        assert {"t/003/s/new", "t/005/made", "t/006/moved", "t/007/folder/02"} <= seen
        assert not {"t/004/s/00", "t/006/s/00", "t/007/s", "t/009/x"} & seen
        assert (await bed.walk("t/008/s/00")).attributes.size == 6


async def test_what_others_did_is_shown_after_the_time_to_live(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        fill(bed, 60, 3)
        seen: set[str] = set()
        async for path in go_through(bed, "t"):
            seen.add(path)
            if path == "t/010":
                bed.put("t/020/s/theirs")
                await bed.store.delete(BUCKET, "t/021/s/00")
                bed.pass_time(1.1)
        assert "t/020/s/theirs" in seen
        assert "t/021/s/00" not in seen


async def test_other_identities_are_asked_for_in_their_own_name(tmp_path: Path) -> None:
    """The daemon's listing is no proof that they may see what is in it."""

    def authorize(identity: str, _: str, __: str, key: str) -> bool:
        return identity == "daemon" or not key.startswith("t/015")

    config = FsConfig(bucket=BUCKET, access="s3")
    async with filesystem_bed(tmp_path, authorize=authorize, config=config) as bed:
        fill(bed, 20, 3)
        async with aclosing(go_through(bed, "t")) as paths:
            async for path in paths:
                if path == "t/010":
                    break  # what follows is here, too
        await bed.list("t/014", ALICE)
        with pytest.raises(OSError, match="Permission denied"):
            await bed.list("t/015", ALICE)


async def test_a_mount_that_may_not_list_the_whole_tree_lists_its_folders(tmp_path: Path) -> None:
    listed: list[str] = []

    def authorize(_: str, action: str, __: str, key: str) -> bool:
        if action == "s3:ListBucket":
            listed.append(key)
        return key != "" or listed.count("") == 1  # not of the second, which is the walk's

    async with filesystem_bed(tmp_path, authorize=authorize) as bed:
        paths = fill(bed, 30, 3)
        assert {path async for path in go_through(bed, "t")} == paths
        assert listed.count("") == 2
        assert len(listed) < 20, "of the next folder below all of it may be listed"


async def test_ls_of_a_folder_of_folders_asks_for_several_at_once(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        fill(bed, 100, 1, made=True)
        folder = (await bed.walk("t")).inode
        names = sorted(await bed.list("t"))
        bed.pass_time()
        before, ahead = bed.store.requests.copy(), 0
        for number, name in enumerate(names, 1):
            found = await bed.fs.lookup(folder, name.encode(), ROOT)
            assert found.attributes.is_directory
            ahead = max(ahead, (bed.store.requests - before)["list_objects"] - number)
        assert ahead >= 30
        assert (bed.store.requests - before)["list_objects"] <= 110
        await bed.store.delete(BUCKET, "t/050/")
        await bed.store.delete(BUCKET, "t/050/s/")
        await bed.store.delete(BUCKET, "t/050/s/00")
        bed.pass_time()
        with pytest.raises(NoEntry):
            await bed.fs.lookup(folder, b"050", ROOT)
