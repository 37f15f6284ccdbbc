"""Names: folders real and implied, listings, renames, removals, and what other hosts do."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Capabilities
from s3posixfs.fs.attributes import MAX_TARGET_BYTES, FileAttributes, NoEntry
from s3posixfs.fs.config import FsConfig
from tests.filesystem_bed import (
    ALICE,
    BOB,
    BUCKET,
    CAROL,
    PLAIN,
    ROOT,
    Bed,
    filesystem_bed,
)
from tests.memory_store import ALL_CAPABILITIES

SINGLE = replace(ALL_CAPABILITIES, rename_folder=False)
STORES = pytest.mark.parametrize(
    "capabilities", [ALL_CAPABILITIES, SINGLE, PLAIN], ids=["all", "single", "plain"]
)


def has_errno(code: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == code)


async def tree(bed: Bed, path: str = "") -> set[str]:
    """All paths, folders with a slash."""
    found: set[str] = set()
    for name, entry in (await bed.list(path)).items():
        below = f"{path}/{name}".lstrip("/")
        if entry.attributes.is_directory:
            found.add(f"{below}/")
            found |= await tree(bed, below)
        else:
            found.add(below)
    return found


@STORES
async def test_folders_with_and_without_markers(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        bed.put("implied/deep/file")
        bed.put("marked/", b"", owner="alice", metadata={"mode": str(0o40750)})
        bed.put("both")
        bed.put("both/file")
        bed.put("//odd")
        bed.put("a/../b")
        assert await tree(bed) == {
            "implied/",
            "implied/deep/",
            "implied/deep/file",
            "marked/",
            "both/",
            "both/file",
            "a/",
        }
        assert await bed.mode("marked") == "drwxr-x---"
        assert await bed.owner("marked") == (1001, 1001)
        assert await bed.owner("implied") == (65534, 65534)
        assert stat.S_ISDIR((await bed.walk("both")).attributes.mode)
        with has_errno(errno.ENOENT):
            await bed.walk("implied/dee")
        with has_errno(errno.ENOTDIR):
            await bed.walk("both/file/x")


async def test_a_folder_outlives_its_last_file(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("d/e/file")
        await bed.unlink("d/e/file")
        bed.pass_time()
        assert await tree(bed) == {"d/", "d/e/"}
        await bed.rmdir("d/e")
        bed.pass_time()
        assert await tree(bed) == {"d/"}
        await bed.rmdir("d")
        assert bed.store.keys(BUCKET) == []


async def test_rmdir_and_unlink_refuse(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.mkdir("d")
        with has_errno(errno.EEXIST):
            await bed.mkdir("d")
        await bed.write("d/a", b"x")
        with has_errno(errno.ENOTEMPTY):
            await bed.rmdir("d")
        with has_errno(errno.EISDIR):
            await bed.unlink("d")
        with has_errno(errno.ENOTDIR):
            await bed.rmdir("d/a")
        await bed.unlink("d/a")
        parent, _ = await bed.split("d/new", ROOT)
        _, opened = await bed.fs.create(parent, b"new", 0o644, os.O_WRONLY, ROOT)
        with has_errno(errno.ENOTEMPTY):  # not in S3 yet, but there
            await bed.rmdir("d")
        await bed.fs.unlink(parent, b"new", ROOT)
        await bed.rmdir("d")
        await bed.fs.release(opened.handle)
        assert bed.store.keys(BUCKET) == []


async def test_own_changes_show_at_once_in_old_listings(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("d/old")
        assert set(await bed.list("d")) == {"old"}
        await bed.write("d/new", b"x", ALICE)
        await bed.unlink("d/old")
        await bed.mkdir("d/sub")
        parent, _ = await bed.split("d/open", ROOT)
        _, opened = await bed.fs.create(parent, b"open", 0o644, os.O_WRONLY, ROOT)
        assert set(await bed.list("d")) == {"new", "sub", "open"}
        bed.pass_time()
        assert set(await bed.list("d")) == {"new", "sub", "open"}
        await bed.fs.release(opened.handle)


async def test_foreign_changes_show_after_the_time_to_live(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", b"1")
        await bed.list("")
        await bed.walk("a")
        requests = sum(bed.store.requests.values())
        bed.put("a", b"12")
        bed.put("b")
        with pytest.raises(NoEntry) as missing:
            await bed.walk("b")
        assert 0 < missing.value.valid <= 1
        assert (await bed.walk("a")).attributes.size == 1
        assert sum(bed.store.requests.values()) == requests
        bed.pass_time(1.1)
        assert (await bed.walk("a")).attributes.size == 2
        await bed.walk("b")
        assert set(await bed.list("")) == {"a", "b"}


async def test_what_a_row_does_not_tell_the_type_of(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        bed.put("l", b"target", owner="alice", metadata={"mode": str(0o120777)})
        row = (await bed.list(""))["l"]
        assert row.attributes.mode == 0, "DT_UNKNOWN"
        assert row.attributes_valid == row.entry_valid == 0
        found = await bed.walk("l")
        assert stat.S_ISLNK(found.attributes.mode)
        assert found.inode == row.inode
        assert await bed.fs.readlink(found.inode, ROOT) == b"target"
        bed.pass_time()
        assert stat.S_ISLNK((await bed.list(""))["l"].attributes.mode)  # remembered


async def test_what_is_too_large_for_a_link_is_a_regular_file(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        for size, kind in ((MAX_TARGET_BYTES, 0), (MAX_TARGET_BYTES + 1, stat.S_IFREG)):
            bed.put("l", b"x" * size, owner="alice", metadata={"mode": str(0o120777)})
            bed.pass_time()
            before = bed.store.requests["head"]
            row = (await bed.list(""))["l"]
            assert stat.S_IFMT(row.attributes.mode) == kind
            assert row.attributes_valid == row.entry_valid == 0
            assert bed.store.requests["head"] == before
            bed.pass_time()
            found = await bed.walk("l")
            assert stat.S_IFMT(found.attributes.mode) == (kind or stat.S_IFLNK)
            assert found.attributes.size == size


async def test_what_was_shown_as_a_regular_file_becomes_another_as_a_link(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        bed.put("l", b"x" * (MAX_TARGET_BYTES + 1), owner="alice")
        row = (await bed.list(""))["l"]
        bed.put("l", b"target", owner="alice", metadata={"mode": str(0o120777)})
        bed.pass_time()
        found = await bed.walk("l")
        assert stat.S_ISLNK(found.attributes.mode)
        assert found.inode != row.inode


async def test_metadata_is_remembered_by_version(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        bed.put("a", b"1", metadata={"mode": str(0o100600)})
        await bed.walk("a")
        bed.pass_time()
        assert (await bed.list(""))["a"].attributes.mode == 0o100600
        heads = bed.store.requests["head"]
        await bed.walk("a")
        assert bed.store.requests["head"] == heads
        bed.pass_time()
        bed.put("a", b"1", metadata={"mode": str(0o100640)})  # same bytes, another second
        row = (await bed.list(""))["a"]
        assert (row.attributes.mode, row.attributes_valid) == (0, 0)
        assert await bed.mode("a") == "-rw-r-----"


async def test_large_folders_in_small_pieces(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        names = {f"n{number:05}" for number in range(2500)}
        for name in names:
            bed.put(f"d/{name}")
        inode = (await bed.walk("d")).inode
        handle = await bed.fs.opendir(inode, ROOT)
        seen: list[str] = []
        offset, more = 0, True

        def emit(name: bytes, _: FileAttributes, next_offset: int) -> bool:
            nonlocal offset, more
            if len(piece) == 100:
                return False
            piece.append(name.decode())
            offset, more = next_offset, True
            return True

        while more:
            more = False
            piece: list[str] = []
            await bed.fs.readdir(handle, offset, emit)
            seen += piece
            if len(seen) == 100:
                await bed.unlink("d/n02400")
                await bed.unlink("d/n00001")
                await bed.write("d/zz", b"")
        assert len(seen) == len(set(seen))
        assert set(seen) - {".", ".."} - {"zz"} == names - {"n02400"}
        await bed.fs.releasedir(handle)


async def test_lookups_are_counted_and_forgotten(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("d/a")
        entries = await bed.list("d")
        found = await bed.walk("d/a")
        assert found.inode == entries["a"].inode
        bed.fs.forget(found.inode, 1)
        assert (await bed.fs.getattr(found.inode, ROOT)).inode == found.inode
        bed.fs.forget(found.inode, 1)
        with has_errno(errno.ESTALE):
            await bed.fs.getattr(found.inode, ROOT)
        again = await bed.walk("d/a")
        assert again.inode == found.inode  # the same number for the same name


@STORES
async def test_rename_files(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        await bed.write("a", b"a", ALICE)
        await bed.write("b", b"b", ALICE)
        before = await bed.walk("a")
        await bed.rename("a", "c", ALICE)
        assert (await bed.walk("c")).inode == before.inode
        await bed.rename("c", "b", ALICE)
        assert bed.store.keys(BUCKET) == ["b"]
        assert await bed.read("b", ALICE) == b"a"
        assert bed.s3_owner("b") == "alice"
        await bed.write("x", b"x", ALICE)
        with has_errno(errno.EEXIST):
            await bed.rename("b", "x", ALICE, flags=1)
        with has_errno(errno.EINVAL):
            await bed.rename("b", "x", ALICE, flags=2)
        with has_errno(errno.ENOENT):
            await bed.rename("none", "x", ALICE)
        await bed.mkdir("d", ALICE)
        with has_errno(errno.EISDIR):
            await bed.rename("x", "d", ALICE)
        with has_errno(errno.ENOTDIR):
            await bed.rename("d", "x", ALICE)
        await bed.rename("b", "b", ALICE)
        await bed.rename("b", "d/b", ALICE, flags=1)
        assert bed.store.keys(BUCKET) == ["d/", "d/b", "x"]
        bed.pass_time()
        assert await tree(bed) == {"d/", "d/b", "x"}


@STORES
async def test_rename_of_open_files(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        content = os.urandom(2_000_000)
        bed.put("a", content)
        bed.put("b", content[::-1])
        first = await bed.fs.open((await bed.walk("a")).inode, os.O_RDWR, ROOT)
        second = await bed.fs.open((await bed.walk("b")).inode, os.O_RDONLY, ROOT)
        await bed.fs.write(first.handle, 10, b"new")
        await bed.rename("a", "b")
        changed = content[:10] + b"new" + content[13:]
        assert bed.store.data(BUCKET, "b") == changed
        assert bytes(await bed.fs.read(first.handle, 0, 4096)) == changed[:4096]
        assert bytes(await bed.fs.read(second.handle, 0, 4096)) == content[::-1][:4096]
        await bed.fs.write(first.handle, 0, b"!")
        await bed.fs.flush(first.handle)
        assert bed.store.data(BUCKET, "b") == b"!" + changed[1:]
        for opened in (first, second):
            await bed.fs.release(opened.handle)
        assert bed.store.keys(BUCKET) == ["b"]


@STORES
async def test_rename_folders(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        await bed.mkdir("d")
        for number in range(50):
            bed.put(f"d/sub/{number}", str(number).encode(), owner="alice" if number % 2 else "bob")
        bed.pass_time()
        parent, _ = await bed.split("d/sub/open", ROOT)
        found, opened = await bed.fs.create(parent, b"open", 0o644, os.O_RDWR, ROOT)
        await bed.fs.write(opened.handle, 0, b"unsaved")
        with has_errno(errno.EINVAL):
            await bed.rename("d", "d/sub/in-itself")
        await bed.mkdir("full")
        await bed.write("full/x", b"")
        with has_errno(errno.ENOTEMPTY):
            await bed.rename("d", "full")
        await bed.mkdir("empty")
        await bed.rename("d", "empty")
        assert "d/" not in bed.store.keys(BUCKET)
        assert bed.store.data(BUCKET, "empty/sub/7") == b"7"
        assert bed.s3_owner("empty/sub/7") == "alice"
        assert bed.s3_owner("empty/sub/8") == "bob"
        assert bed.store.data(BUCKET, "empty/sub/open") == b"unsaved"
        await bed.fs.write(opened.handle, 7, b"!")
        await bed.fs.flush(opened.handle)
        assert bed.store.data(BUCKET, "empty/sub/open") == b"unsaved!"
        assert (await bed.walk("empty/sub/open")).inode == found.inode
        await bed.fs.release(opened.handle)
        with has_errno(errno.ENOENT):
            await bed.walk("d")
        assert len(await bed.list("empty/sub")) == 51


@STORES
async def test_failed_folder_rename_leaves_everything(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (identity == "alice" and key == "e/30")

    async with filesystem_bed(tmp_path, capabilities=capabilities, authorize=authorize) as bed:
        for number in range(60):
            bed.put(f"d/{number}", str(number).encode(), owner="alice")
        await bed.chown("d", 1001, 1001)
        before = bed.store.keys(BUCKET)
        with has_errno(errno.EACCES):
            await bed.rename("d", "e", ALICE)
        assert bed.store.keys(BUCKET) == before
        assert bed.s3_owner("d/7") == "alice"
        assert len(await bed.list("d")) == 60


async def test_uploads_and_folder_renames_do_not_cross(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.mkdir("d0")

        async def write(number: int) -> None:
            for turn in range(10):
                while True:
                    try:
                        inode = next(
                            e.inode for n, e in (await bed.list("")).items() if n.startswith("d")
                        )
                        name = f"f{number}-{turn}".encode()
                        _, opened = await bed.fs.create(inode, name, 0o644, os.O_WRONLY, ROOT)
                    except (OSError, StopIteration):
                        continue
                    break
                await bed.fs.write(opened.handle, 0, name)
                await bed.fs.flush(opened.handle)
                await bed.fs.release(opened.handle)

        async def rename() -> None:
            for number in range(10):
                await bed.rename(f"d{number}", f"d{number + 1}")
                await trio.sleep(0.001)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(write, number)
                nursery.start_soon(rename)
        expected = {f"d10/f{number}-{turn}" for number in range(4) for turn in range(10)}
        assert set(bed.store.keys(BUCKET)) == expected | {"d10/"}


async def test_all_buckets_as_folders(tmp_path: Path) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return identity != "carol"

    async with filesystem_bed(tmp_path, config=FsConfig(), authorize=authorize) as bed:
        bed.put("a", b"data", owner="alice")
        assert set(await bed.list("")) == {BUCKET}
        assert await bed.read("shared/a", BOB) == b"data"
        await bed.mkdir("more", ALICE)
        assert "more" in bed.store.state.buckets
        assert await bed.owner("more") == (
            65534,
            65534,
        )  # as after a remount: nothing in S3 says whose it is
        await bed.write("more/x", b"x", ALICE)
        assert bed.store.data("more", "x") == b"x"
        with has_errno(errno.ENOTEMPTY):
            await bed.rmdir("more", ALICE)
        await bed.rename("more/x", "shared/x", ALICE)
        assert bed.s3_owner("x") == "alice"
        with has_errno(errno.EXDEV):
            await bed.rename("more", "most", ALICE)
        await bed.rmdir("more", ALICE)
        bed.pass_time()
        assert set(await bed.list("")) == {BUCKET}
        with has_errno(errno.EPERM):
            await bed.write("file", b"", ALICE)
        with has_errno(errno.ENOENT):
            await bed.walk("nothing")
        with has_errno(errno.EACCES):
            await bed.list("", CAROL)


async def test_a_prefix_as_the_root(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, config=FsConfig(bucket=BUCKET, prefix="p/q/")) as bed:
        bed.put("p/q/a", b"in")
        bed.put("p/out", b"out")
        assert set(await bed.list("")) == {"a"}
        await bed.write("d", b"x", ALICE)
        await bed.chmod("", 0o750)
        assert bed.store.keys(BUCKET) == ["p/out", "p/q/", "p/q/a", "p/q/d"]
        bed.pass_time()
        assert await bed.mode("") == "drwxr-x---"


async def test_names_that_no_key_can_have(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        flags = os.O_CREAT | os.O_WRONLY
        with has_errno(errno.EILSEQ):
            await bed.fs.create(1, b"\xff", 0o644, flags, ROOT)
        with has_errno(errno.ENAMETOOLONG):
            await bed.fs.create(1, b"n" * 256, 0o644, flags, ROOT)
        with has_errno(errno.ENOENT):
            await bed.fs.lookup(1, b"\xff", ROOT)
        path = ""
        for _ in range(4):
            path += "d" * 250 + "/"
            await bed.mkdir(path)
        with has_errno(errno.ENAMETOOLONG):
            await bed.write(path + "n" * 21, b"")
        await bed.write(path + "n" * 20, b"fits")


async def test_read_only(tmp_path: Path) -> None:
    config = FsConfig(bucket=BUCKET, read_only=True)
    async with filesystem_bed(tmp_path, config=config) as bed:
        bed.put("a")
        bed.put("d/x")
        with has_errno(errno.EROFS):
            await bed.write("b", b"")
        with has_errno(errno.EROFS):
            await bed.write("a", b"")
        with has_errno(errno.EROFS):
            await bed.chmod("a", 0o600)
        with has_errno(errno.EROFS):
            await bed.unlink("a")
        with has_errno(errno.EROFS):
            await bed.rename("a", "b")
        with has_errno(errno.EROFS):
            await bed.rmdir("d")
        with has_errno(errno.EROFS):
            await bed.mkdir("e")
        assert await bed.read("a") == b"x"


async def test_trouble_is_not_taken_for_absence(tmp_path: Path) -> None:
    trouble: list[S3Error] = []

    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        if trouble:
            raise trouble[0]
        return True

    async with filesystem_bed(tmp_path, authorize=authorize) as bed:
        bed.put("d/a")
        inode = (await bed.walk("d/a")).inode
        bed.pass_time()
        for error, code in (
            (S3Error("ServiceUnavailable", status=503), errno.EIO),
            (S3Error("SlowDown", status=503), errno.EAGAIN),
            (S3Error("ConnectionError"), errno.EIO),
            (S3Error("AccessDenied", status=403), errno.EACCES),
        ):
            trouble[:] = [error]
            with has_errno(code):
                await bed.walk("d/a")
            with has_errno(code):
                await bed.fs.getattr(inode, ROOT)
        trouble.clear()
        assert (await bed.walk("d/a")).inode == inode


async def test_setgid_folders_hand_on_their_group(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.mkdir("d", ROOT, 0o777)
        await bed.chown("d", 0, 77)
        await bed.chmod("d", 0o2777)
        await bed.write("d/a", b"")
        await bed.mkdir("d/e")
        bed.pass_time()
        assert await bed.owner("d/a") == (0, 77)
        assert await bed.mode("d/e") == "drwxr-sr-x"


async def test_vanished_for_others_is_estale_for_holders(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a")
        inode = (await bed.walk("a")).inode
        await bed.store.delete(BUCKET, "a")
        bed.pass_time()
        with has_errno(errno.ESTALE):
            await bed.fs.getattr(inode, ROOT)
        with has_errno(errno.ENOENT):
            await bed.walk("a")
