"""What operations cost in requests, and that nothing is lost for having asked less."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3posixfs.core.types import Capabilities
from s3posixfs.fs.attributes import NS, AttributeChanges
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import FsConfig
from tests.filesystem_bed import ALICE, BOB, BUCKET, PLAIN, ROOT, Bed, filesystem_bed
from tests.memory_store import ALL_CAPABILITIES

STORES = pytest.mark.parametrize(
    "capabilities", [ALL_CAPABILITIES, PLAIN, Capabilities()], ids=["all", "plain", "none"]
)
THEIRS = {"cache-control": "max-age=60", "content-encoding": "gzip", "expires": "0"}


@contextmanager
def counted(bed: Bed) -> Iterator[Counter[str]]:
    """The requests made inside the block, once it has ended."""
    made: Counter[str] = Counter()
    before = Counter(bed.store.requests)
    yield made
    made.update(bed.store.requests)
    made.subtract(before)
    for name in [name for name, count in made.items() if not count]:
        del made[name]


def put_theirs(bed: Bed, key: str) -> None:
    """An object as another S3 client makes it, with all that it may carry."""
    bed.store.put_now(
        BUCKET,
        key,
        b"theirs",
        metadata={"project": "apollo"},
        content_type="text/csv",
        headers=THEIRS,
    )


def assert_kept(bed: Bed, key: str) -> None:
    found = bed.store.stat(BUCKET, key)
    assert found.metadata is not None
    assert found.metadata["project"] == "apollo"
    assert found.content_type == "text/csv"
    assert found.headers == THEIRS


async def test_change_of_attributes_after_own_close_is_one_copy(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.write("a", b"data", ALICE)
        with counted(bed) as made:
            await bed.chmod("a", 0o600, ALICE)
            await bed.setattr("a", AttributeChanges(mtime_ns=9 * NS), ALICE)
        assert made == {"copy": 2}
        assert bed.s3_owner("a") == "alice"


async def test_change_of_attributes_of_anothers_object_asks_once(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        put_theirs(bed, "a")
        found = await bed.walk("a")
        bed.pass_time()
        with counted(bed) as made:
            await bed.fs.setattr(found.inode, AttributeChanges(mode=0o600), None, ROOT)
        assert made == {"head": 1, "copy": 1}
        assert_kept(bed, "a")


async def test_replaced_between_own_write_and_chmod_is_stale_and_unharmed(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        found = await bed.write("a", b"mine")
        put_theirs(bed, "a")
        with pytest.raises(OSError, match="Stale"):
            await bed.fs.setattr(found.inode, AttributeChanges(mode=0o600), None, ROOT)
        assert bed.store.data(BUCKET, "a") == b"theirs"
        assert_kept(bed, "a")


@STORES
@pytest.mark.parametrize("listed", [False, True])
async def test_headers_of_others_survive_every_rewrite(
    tmp_path: Path, capabilities: Capabilities, listed: bool
) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        put_theirs(bed, "a")

        async def look() -> None:
            bed.pass_time()
            if listed:
                await bed.list("")

        await look()
        await bed.write("a", b"rewritten")
        assert bed.store.data(BUCKET, "a") == b"rewritten"
        assert_kept(bed, "a")
        await look()
        await bed.chmod("a", 0o640)
        assert_kept(bed, "a")
        await bed.setattr("a", AttributeChanges(size=3))
        assert_kept(bed, "a")
        await look()
        await bed.write("a", b"!", flags=os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        assert bed.store.data(BUCKET, "a") == b"rew!"
        assert_kept(bed, "a")
        await bed.chown("a", 1001, 1001)
        assert bed.s3_owner("a") == "alice"
        assert_kept(bed, "a")
        await look()
        await bed.rename("a", "b")
        assert_kept(bed, "b")


async def test_listing_while_a_file_is_open_does_not_cost_its_headers(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        put_theirs(bed, "a")
        found = await bed.walk("a")
        opened = await bed.fs.open(found.inode, os.O_WRONLY, ROOT)
        put_theirs(bed, "a")
        bed.pass_time()
        await bed.list("")
        await bed.fs.write(opened.handle, 0, b"T")
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert bed.store.data(BUCKET, "a") == b"Theirs"
        assert_kept(bed, "a")


async def test_headers_of_a_large_object_survive(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, config=FsConfig(bucket=BUCKET)) as bed:
        bed.store.put_now(
            BUCKET,
            "a",
            bytes(20_000_000),
            metadata={"project": "apollo"},
            content_type="text/csv",
            headers=THEIRS,
        )
        await bed.write("a", b"!", flags=os.O_CREAT | os.O_WRONLY)
        assert bed.store.requests["complete_multipart"] == 1
        assert_kept(bed, "a")


async def absent(bed: Bed, parent: int, name: bytes) -> bool:
    try:
        await bed.fs.lookup(parent, name, ROOT)
    except FileNotFoundError:
        return True
    return False


async def test_many_names_of_a_folder_cost_one_listing(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for number in range(100):
            bed.put(f"d/{number}")
        folder = (await bed.walk("d")).inode
        with counted(bed) as made:
            for number in range(100):
                assert not await absent(bed, folder, str(number).encode())
        assert made["head"] == 0
        assert made["list_objects"] <= 6


async def test_what_comes_by_another_door_is_found_at_once(tmp_path: Path) -> None:
    """A folder's listing answers for what it has, not for what came after it."""
    async with filesystem_bed(tmp_path) as bed:
        folder = (await bed.walk("")).inode
        for number in range(20):
            name = b"%d" % number
            assert await absent(bed, folder, name)
            bed.pass_time(0.01)
            bed.put(name.decode())
            assert not await absent(bed, folder, name)


async def test_many_names_of_a_folder_over_a_page_cost_a_request_each(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for number in range(1200):
            bed.put(f"d/{number:04}")
        folder = (await bed.walk("d")).inode
        for _ in range(2):
            with counted(bed) as made:
                for number in range(20):
                    assert await absent(bed, folder, b"x%d" % number)
            assert made["head"] == 0
            # Its first page is fetched once and tells that there are more.
            assert made["list_objects"] <= 22
            bed.pass_time()
            await bed.walk("d")


@STORES
async def test_names_are_told_apart_whatever_begins_alike(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    """The folder `a/` comes after `a-1`, `a.1` … in S3's order, however many these are."""
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        for number in range(40):
            bed.put(f"a-{number}")
            bed.put(f"both.{number}")
        bed.put("a/inside")
        bed.put("both")
        bed.put("both/inside")
        bed.put("file")
        bed.put("file2")
        bed.put("\u00fc/x")
        bed.put("\u00fc-")
        for name, kind in (("a", "d"), ("both", "d"), ("file", "-"), ("a-7", "-"), ("\u00fc", "d")):
            assert (await bed.mode(name))[0] == kind, name
            bed.pass_time()
        for missing in (b"fil", b"a-", b"inside", b"both."):
            assert await absent(bed, 1, missing), missing
            bed.pass_time()


async def test_looking_a_name_up_is_one_request_where_rows_tell_all(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a")
        await bed.walk("")
        with counted(bed) as made:
            await bed.walk("a")
            assert await absent(bed, 1, b"b")
        assert made == {"list_objects": 2}


async def test_exclusive_create_after_its_lookup_is_one_request(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.walk("")
        assert await absent(bed, 1, b"a")
        with counted(bed) as made:
            _, opened = await bed.fs.create(
                1, b"a", 0o644, os.O_CREAT | os.O_EXCL | os.O_WRONLY, ROOT
            )
        assert made == {"put": 1}
        await bed.fs.release(opened.handle)


async def test_anothers_new_file_is_appended_to_though_it_was_just_seen_missing(
    tmp_path: Path,
) -> None:
    async with filesystem_bed(tmp_path) as bed:
        assert await absent(bed, 1, b"log")
        await bed.list("")
        bed.put("log", b"theirs\n")
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
        _, opened = await bed.fs.create(1, b"log", 0o644, flags, ROOT)
        await bed.fs.write(opened.handle, 0, b"ours\n")
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert bed.store.data(BUCKET, "log") == b"theirs\nours\n"


async def test_own_changes_show_at_once_among_remembered_absences(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for name in (b"a", b"b", b"c", b"d", b"e", b"f"):
            assert await absent(bed, 1, name)
        await bed.write("a", b"1")
        await bed.mkdir("b")
        await bed.write("b/x", b"1")
        await bed.rename("a", "c")
        assert await absent(bed, 1, b"a")
        assert set(await bed.list("")) == {"b", "c"}
        await bed.unlink("c")
        assert await absent(bed, 1, b"c")
        _, opened = await bed.fs.create(1, b"d", 0o644, os.O_CREAT | os.O_WRONLY, ROOT)
        bed.pass_time()
        for name in (b"a", b"c", b"e", b"f", b"g", b"h"):
            assert await absent(bed, 1, name)  # by now from a listing, without the open file
        assert not await absent(bed, 1, b"d")
        assert set(await bed.list("")) == {"b", "d"}
        await bed.fs.release(opened.handle)


async def test_anothers_new_name_shows_once_the_time_to_live_is_over(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for name in (b"a", b"b", b"c", b"d", b"e", b"f"):
            assert await absent(bed, 1, name)
        bed.put("a")
        bed.pass_time(1.0)
        assert not await absent(bed, 1, b"a")
    config = FsConfig(bucket=BUCKET, metadata_ttl=0.0)
    async with filesystem_bed(tmp_path, config=config) as bed:
        for name in (b"a", b"b", b"c", b"d", b"e", b"f"):
            assert await absent(bed, 1, name)
        bed.put("a")
        assert not await absent(bed, 1, b"a")


async def test_small_file_comes_with_what_open_asks_for(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", b"content", owner="alice")
        bed.put("big", bytes(200_000), owner="alice")
        await bed.list("")
        with counted(bed) as made:
            assert await bed.read("a", ALICE) == b"content"
        assert made == {"get": 1}
        with counted(bed) as made:
            assert await bed.read("a", ALICE) == b"content"
        assert made == {"head": 1}
        with counted(bed) as made:
            assert len(await bed.read("big", ALICE)) == 200_000
        assert made["head"] == 1


async def test_open_sees_what_another_host_closed_a_moment_ago(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", b"one")
        bed.put("b", b"one")
        await bed.list("")
        bed.put("a", b"three")  # nothing of it was here
        assert await bed.read("a") == b"three"
        assert await bed.read("b") == b"one"
        bed.put("b", b"three")  # the old one is in memory
        assert await bed.read("b") == b"three"
        bed.put("b", bytes(300_000))  # grown beyond what comes along
        assert await bed.read("b") == bytes(300_000)
        bed.put("a", b"")
        assert await bed.read("a") == b""


async def test_who_may_not_read_gets_nothing_from_what_others_have_read(tmp_path: Path) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (identity == "bob" and action == "s3:GetObject")

    async with filesystem_bed(tmp_path, authorize=authorize) as bed:
        bed.put("a", b"content", owner="alice")
        await bed.list("")
        with pytest.raises(PermissionError):
            await bed.read("a", BOB)
        assert await bed.read("a", ALICE) == b"content"
        with pytest.raises(PermissionError):
            await bed.read("a", BOB)


async def test_what_was_written_is_read_and_added_to_without_fetching_it(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.write("a", b"1")
        with counted(bed) as made:
            for number in range(5):
                flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
                found = await bed.walk("a")
                opened = await bed.fs.open(found.inode, flags, ROOT)
                await bed.fs.write(opened.handle, found.attributes.size, b"%d" % number)
                await bed.fs.flush(opened.handle)
                await bed.fs.release(opened.handle)
        assert made == {"head": 5, "put": 5}
        assert await bed.read("a") == b"101234"
        assert bed.store.requests["get"] == 0


@pytest.mark.parametrize("caller", [ROOT, ALICE])
@pytest.mark.parametrize("marked", [False, True])
async def test_going_through_folders_costs_little_more_than_their_listings(
    tmp_path: Path, caller: Caller, marked: bool
) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for number in range(50):
            if marked:
                mode = str(stat.S_IFDIR | 0o751)
                bed.put(f"d{number:02}/", b"", owner="alice", metadata={"mode": mode})
            bed.put(f"d{number:02}/file")
        with counted(bed) as made:
            for name in await bed.list("", caller):
                found = await bed.walk(name, caller)  # as find(1): stat, then opendir, readdir
                assert stat.S_IMODE(found.attributes.mode) == (0o751 if marked else 0o777)
                assert set(await bed.list(name, caller)) == {"file"}
        assert set(made) == {"list_objects"}
        assert made["list_objects"] <= 50 * (1 if caller is ROOT else 2) + 10


async def test_proof_by_the_page_itself_refuses_whom_s3_refuses(tmp_path: Path) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (identity == "bob" and action == "s3:ListBucket" and key == "d/")

    async with filesystem_bed(tmp_path, authorize=authorize) as bed:
        bed.put("d/file")
        bed.put("e/file")
        for _ in range(2):
            with pytest.raises(PermissionError):
                await bed.list("d", BOB)
            assert set(await bed.list("e", BOB)) == {"file"}
            assert set(await bed.list("d", ALICE)) == {"file"}
            bed.pass_time()


async def test_own_folder_without_files_is_there_while_its_neighbours_are_gone_through(
    tmp_path: Path,
) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("d/file")
        await bed.mkdir("new", ALICE)
        await bed.list("")
        await bed.list("d")
        found = await bed.walk("new")
        bed.pass_time(1.5)
        await bed.list("")
        await bed.list("d")
        assert (await bed.fs.getattr(found.inode, ROOT)).attributes.uid == 1001
        assert await bed.list("new") == {}
