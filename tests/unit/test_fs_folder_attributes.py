"""What POSIX says of folders, buckets and the root outlives the mount, at a bounded price."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from s3posixfs.core.types import Capabilities
from s3posixfs.fs import folder_times
from s3posixfs.fs.attributes import NS, AttributeChanges
from s3posixfs.fs.config import FsConfig
from tests.filesystem_bed import ALICE, BOB, BUCKET, PLAIN, ROOT, Bed, filesystem_bed
from tests.memory_store import ALL_CAPABILITIES, MemoryStore
from tests.unit.test_fs_requests import counted

BOTH = pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, PLAIN], ids=["all", "plain"])
ALL_BUCKETS = FsConfig()


@BOTH
async def test_a_buckets_root_is_as_it_was_left(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path / "1", capabilities=capabilities) as bed:
        await bed.chmod("", 0o1770)
        await bed.chown("", 1001, 1002)
        await bed.setattr("", AttributeChanges(mtime_ns=5 * NS, atime_ns=6 * NS))
        await bed.fs.setxattr(1, b"user.a", b"one", ROOT)
        assert await bed.list("") == {}, "what holds it is not shown"
        async with filesystem_bed(tmp_path / "2", store=bed.store) as other:
            found = (await other.walk("")).attributes
            assert found.mode == stat.S_IFDIR | 0o1770
            assert (found.uid, found.gid) == (1001, 1002)
            assert (found.mtime_ns, found.atime_ns) == (5 * NS, 6 * NS)
            assert await other.fs.getxattr(1, b"user.a", ROOT) == b"one"
            # Alice owns it by root's word, and may go on.
            bed.pass_time()
            await other.chmod("", 0o755, ALICE)
            with pytest.raises(PermissionError):
                await other.chmod("", 0o777, BOB)
        bed.pass_time()
        assert await bed.mode("") == "drwxr-xr-x"
        assert bed.s3_owner("/") == "daemon"
        async with filesystem_bed(tmp_path / "3", store=bed.store, config=ALL_BUCKETS) as top:
            assert await top.mode(BUCKET) == "drwxr-xr-x"
            assert await top.owner(BUCKET) == (1001, 1002)


async def test_nobody_takes_a_buckets_root_over(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        before = (await bed.walk("")).attributes
        bed.put("/", b"", owner="alice", metadata={"mode": "16895", "uid": "0"})
        bed.pass_time()
        assert (await bed.walk("")).attributes == before
        await bed.chmod("", 0o750)
        bed.pass_time()
        assert await bed.mode("") == "drwxr-x---"
        bed.put("/", b"", owner="bob", metadata={"mode": "16895"})
        bed.pass_time()
        assert (await bed.walk("")).attributes.mode == before.mode


async def test_a_prefix_as_root_is_the_folder_that_it_is(tmp_path: Path) -> None:
    config = FsConfig(bucket=BUCKET, prefix="a/b/")
    async with filesystem_bed(tmp_path / "1", config=config) as bed:
        await bed.chmod("", 0o750)
        await bed.chown("", 1001, 1001)
        async with filesystem_bed(tmp_path / "2", store=bed.store) as other:
            assert await other.mode("a/b") == "drwxr-x---"
            assert await other.owner("a/b") == (1001, 1001)
            await other.chmod("a/b", 0o700, ALICE)
        bed.pass_time()
        assert await bed.mode("") == "drwx------"


@pytest.mark.parametrize("others", ["a", "/x", "-"])
async def test_a_bucket_with_attributes_is_removed_when_it_is_empty(
    tmp_path: Path, others: str
) -> None:
    async with filesystem_bed(tmp_path, config=ALL_BUCKETS) as bed:
        await bed.chmod(BUCKET, 0o750)
        bed.put(others)
        with pytest.raises(OSError, match="not empty"):
            await bed.rmdir(BUCKET)
        assert await bed.mode(BUCKET) == "drwxr-x---"
        await bed.store.delete(BUCKET, others)
        await bed.rmdir(BUCKET)
        assert await bed.list("") == {}


async def test_a_root_costs_one_request_in_a_time_to_live(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        await bed.chmod("", 0o750)
        bed.pass_time()
        await bed.walk("")
        bed.pass_time()
        with counted(bed) as made:
            for _ in range(5):
                await bed.walk("")
        assert made == {"list_objects": 1}, "its metadata is known"
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        with counted(bed) as made:
            await bed.list("")
            bed.pass_time(0.9)
            await bed.walk("")
        assert made == {"list_objects": 2}, "its listing says that nobody left anything"


def times_of(bed: Bed, key: str) -> tuple[str, str]:
    metadata = bed.store.stat(BUCKET, key).metadata or {}
    return metadata["mtime"], metadata["ctime"]


@BOTH
async def test_a_folders_time_is_stored_once_for_many_names(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    async with filesystem_bed(tmp_path / "1", capabilities=capabilities) as bed:
        await bed.mkdir("d", ALICE, mode=0o777)
        before = times_of(bed, "d/")
        for number in range(20):
            await bed.write(f"d/{number}", b"x", BOB)
        shown = (await bed.walk("d")).attributes
        assert times_of(bed, "d/") == before
        bed.pass_time(folder_times.DELAY)
        with counted(bed) as made:
            await bed.fs.drain()
        assert made["copy"] == 1
        assert sum(made.values()) <= 3, "a HEAD, the owner where that does not tell, a copy"
        assert times_of(bed, "d/") != before
        assert bed.s3_owner("d/") == "alice"
        async with filesystem_bed(tmp_path / "2", store=bed.store) as other:
            again = (await other.walk("d")).attributes
        assert (again.mtime_ns, again.ctime_ns) == (shown.mtime_ns, shown.ctime_ns)
        assert again == shown


async def test_a_folders_time_is_stored_a_while_after_the_last_change(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.mkdir("d")
        await bed.write("d/a", b"x")
        before = times_of(bed, "d/")
        await trio.sleep(1.5 * folder_times.TICK)
        assert times_of(bed, "d/") == before
        bed.pass_time(folder_times.DELAY)
        with trio.fail_after(10):
            while times_of(bed, "d/") == before:  # noqa: ASYNC110 - the store says nothing
                await trio.sleep(0.05)
        with counted(bed) as made:
            await bed.fs.drain()
        assert made["copy"] == 0


async def test_a_time_that_was_set_goes_with_no_further_request(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.mkdir("d")
        await bed.write("d/a", b"x")
        await bed.setattr("d", AttributeChanges(mtime_ns=7 * NS))
        bed.pass_time()
        with counted(bed) as made:
            await bed.fs.drain()
        assert not made
        assert times_of(bed, "d/")[0] == "7"


async def test_what_another_host_did_to_a_folder_is_not_undone(tmp_path: Path) -> None:
    store = MemoryStore(BUCKET)
    async with filesystem_bed(tmp_path / "1", store=store) as bed:
        await bed.mkdir("mode")
        await bed.mkdir("gone")
        for name in ("mode", "gone"):
            await bed.write(f"{name}/a", b"x")
            await bed.unlink(f"{name}/a")
        async with filesystem_bed(tmp_path / "2", store=store) as other:
            await other.chmod("mode", 0o700)
            await other.fs.setxattr((await other.walk("mode")).inode, b"user.a", b"b", ROOT)
            await other.rmdir("gone")
            later = times_of(other, "mode/")
        await bed.fs.drain()
        assert store.keys(BUCKET) == ["mode/"]
        assert times_of(bed, "mode/") == later, "a later change of its attributes stands"
        await bed.write("mode/b", b"x")
        await bed.fs.drain()
        assert await bed.mode("mode") == "drwx------"
        assert await bed.fs.getxattr((await bed.walk("mode")).inode, b"user.a", ROOT) == b"b"
        assert times_of(bed, "mode/") != later


async def test_no_object_is_made_or_taken_for_a_times_sake(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("implied/a")
        bed.put("strangers/", b"", owner="stranger")
        await bed.write("implied/b", b"x")
        await bed.write("strangers/b", b"x")
        await bed.fs.drain()
        assert bed.store.keys(BUCKET) == ["implied/a", "implied/b", "strangers/", "strangers/b"]
        assert bed.s3_owner("strangers/") == "stranger"


async def test_removed_and_renamed_folders_are_not_brought_back(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        for name in ("a", "b", "c"):
            await bed.mkdir(name)
            await bed.write(f"{name}/x", b"x")
        await bed.unlink("a/x")
        await bed.rmdir("a")
        await bed.rename("b", "d")
        await bed.unlink("c/x")
        await bed.mkdir("e")
        await bed.rename("e", "c")
        await bed.fs.drain()
        assert bed.store.keys(BUCKET) == ["c/", "d/", "d/x"]


async def test_a_folder_that_nobody_made_has_the_same_time_everywhere(tmp_path: Path) -> None:
    store = MemoryStore(BUCKET)
    async with filesystem_bed(tmp_path / "1", store=store) as bed:
        bed.put("top/sub/a")
        first = store.stat(BUCKET, "top/sub/a").last_modified
        bed.pass_time()
        bed.put("top/sub/b")
        async with filesystem_bed(tmp_path / "2", store=store) as other:
            for shown in (bed, other):
                await shown.list("top")
                for name in ("top", "top/sub"):
                    assert (await shown.walk(name)).attributes.mtime_ns == round(first * NS)


async def test_numbers_are_the_same_on_two_hosts_and_kept_through_renames(tmp_path: Path) -> None:
    store = MemoryStore(BUCKET)
    async with filesystem_bed(tmp_path / "1", store=store) as bed:
        await bed.mkdir("d")
        numbers: dict[str, int] = {}
        for name in ("a", "d/a", "d/b", "d"):
            if name != "d":
                await bed.write(name, b"x")
            numbers[name] = (await bed.walk(name)).inode
        assert len(set(numbers.values())) == 4
        async with filesystem_bed(tmp_path / "2", store=store) as other:
            assert {name: (await other.walk(name)).inode for name in numbers} == numbers
        await bed.rename("a", "moved")
        await bed.rename("d", "folder")
        await bed.write("a", b"new")
        forget(bed, numbers.values())
        new = (await bed.walk("a")).inode
        assert new not in numbers.values(), "it belongs to the renamed one, forgotten or not"
        assert (await bed.walk("moved")).inode == numbers["a"]
        assert (await bed.walk("folder")).inode == numbers["d"]
        assert (await bed.walk("folder/b")).inode == numbers["d/b"]
        forget(bed, [*numbers.values(), new])
        assert (await bed.walk("folder/a")).inode == numbers["d/a"]
        assert (await bed.walk("a")).inode == new


def forget(bed: Bed, numbers: Iterable[int]) -> None:
    """The kernel is short of memory: it forgets all these."""
    known = tuple(numbers)
    for number in known * 2:  # what is in a folder before the folder
        bed.fs.forget(number, 1000)
    bed.pass_time()


async def test_a_folder_changed_by_another_host_within_the_same_second(tmp_path: Path) -> None:
    """Nothing but the listing's milliseconds tells the two versions of its object apart."""
    async with filesystem_bed(tmp_path / "1", capabilities=PLAIN) as bed:
        await bed.mkdir("d", mode=0o755)
        async with filesystem_bed(tmp_path / "2", store=bed.store) as other:
            await other.chmod("d", 0o700)
        bed.pass_time()
        assert await bed.mode("d") == "drwx------"
        bed.pass_time()
        with counted(bed) as made:
            assert await bed.mode("d") == "drwx------"
        assert set(made) == {"list_objects"}
