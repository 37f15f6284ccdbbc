"""Files: what is written is read, what is closed is in S3, errors are the caller's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Capabilities
from s3posixfs.fs.attributes import NS, AttributeChanges
from tests.filesystem_bed import ALICE, BUCKET, PLAIN, ROOT, filesystem_bed
from tests.memory_store import ALL_CAPABILITIES

STORES = pytest.mark.parametrize(
    "capabilities", [ALL_CAPABILITIES, PLAIN, Capabilities()], ids=["all", "plain", "none"]
)


def has_errno(code: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == code)


@contextmanager
def suppress_stale() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise


@STORES
async def test_write_close_read(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        found = await bed.write("a", b"hello", ALICE, mode=0o640)
        assert bed.store.data(BUCKET, "a") == b"hello"
        assert bed.s3_owner("a") == "alice"
        metadata = bed.store.stat(BUCKET, "a").metadata
        assert metadata is not None
        assert metadata["mode"] == str(0o100640)
        assert metadata["uid"] == "1001"
        assert found.attributes.size == 5
        assert found.blocks == 1
        assert await bed.read("a", ALICE) == b"hello"
        bed.pass_time()
        assert await bed.owner("a") == (1001, 1001)
        assert await bed.mode("a") == "-rw-r-----"
        assert (await bed.list(""))["a"].attributes.size == 5


async def test_random_writes_append_truncate(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", b"0123456789")
        found = await bed.walk("a")
        opened = await bed.fs.open(found.inode, os.O_RDWR, ROOT)
        await bed.fs.write(opened.handle, 2, b"ab")
        assert bytes(await bed.fs.read(opened.handle, 0, 100)) == b"01ab456789"
        await bed.fs.write(opened.handle, 12, b"end")
        await bed.fs.setattr(found.inode, AttributeChanges(size=14), opened.handle, ROOT)
        assert bed.store.data(BUCKET, "a") == b"0123456789"
        await bed.fs.flush(opened.handle)
        assert bed.store.data(BUCKET, "a") == b"01ab456789\0\0en"
        await bed.fs.release(opened.handle)

        appending = await bed.fs.open(found.inode, os.O_WRONLY | os.O_APPEND, ROOT)
        await bed.fs.write(appending.handle, 0, b"!")
        await bed.fs.flush(appending.handle)
        await bed.fs.release(appending.handle)
        assert bed.store.data(BUCKET, "a") == b"01ab456789\0\0en!"

        await bed.setattr("a", AttributeChanges(size=3))
        assert bed.store.data(BUCKET, "a") == b"01a"
        await bed.write("a", b"")
        assert bed.store.data(BUCKET, "a") == b""


async def test_several_flushes_upload_once(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        parent, name = await bed.split("a", ROOT)
        _, opened = await bed.fs.create(parent, name, 0o644, os.O_RDWR, ROOT)
        await bed.fs.write(opened.handle, 0, b"data")
        before = bed.store.requests["put"]
        for _ in range(4):
            await bed.fs.flush(opened.handle)
        await bed.fs.fsync(opened.handle, False)
        await bed.fs.release(opened.handle)
        assert bed.store.requests["put"] == before + 1


async def test_attributes_set_before_close_go_with_the_upload(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        parent, name = await bed.split("a", ROOT)
        found, opened = await bed.fs.create(parent, name, 0o600, os.O_WRONLY, ROOT)
        await bed.fs.write(opened.handle, 0, b"data")
        for changes in (
            AttributeChanges(atime_ns=5 * NS, mtime_ns=7 * NS + 123),
            AttributeChanges(uid=1001, gid=1001),
            AttributeChanges(mode=0o751),
        ):
            await bed.fs.setattr(found.inode, changes, opened.handle, ROOT)
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert bed.store.requests["copy"] == 0
        assert bed.s3_owner("a") == "alice"
        bed.pass_time()
        attributes = (await bed.walk("a")).attributes
        assert (attributes.mode, attributes.uid, attributes.gid) == (0o100751, 1001, 1001)
        assert (attributes.atime_ns, attributes.mtime_ns) == (5 * NS, 7 * NS + 123)


async def test_attributes_set_after_close_keep_the_owner(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.write("a", b"data", ALICE)
        await bed.chmod("a", 0o600, ALICE)
        await bed.setattr("a", AttributeChanges(mtime_ns=9 * NS), ROOT)
        assert bed.s3_owner("a") == "alice"
        assert bed.store.data(BUCKET, "a") == b"data"
        bed.pass_time()
        attributes = (await bed.walk("a")).attributes
        assert (attributes.mode, attributes.mtime_ns, attributes.uid) == (0o100600, 9 * NS, 1001)


async def test_exclusive_create_holds_against_another_host(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        parent, name = await bed.split("lock", ROOT)
        with has_errno(errno.ENOENT):
            await bed.fs.lookup(parent, name, ROOT)
        await bed.list("")  # a fresh listing says that there is no such name
        bed.put("lock", b"theirs", owner="bob")
        with has_errno(errno.EEXIST):
            await bed.fs.create(parent, name, 0o644, os.O_CREAT | os.O_EXCL | os.O_WRONLY, ROOT)
        assert bed.store.data(BUCKET, "lock") == b"theirs"
        _, opened = await bed.fs.create(
            parent, b"mine", 0o644, os.O_CREAT | os.O_EXCL | os.O_WRONLY, ROOT
        )
        assert bed.store.data(BUCKET, "mine") == b""
        await bed.fs.release(opened.handle)


async def test_unlinked_file_stays_readable(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        content = os.urandom(3_000_000)
        bed.put("a", content)
        found = await bed.walk("a")
        opened = await bed.fs.open(found.inode, os.O_RDWR, ROOT)
        await bed.unlink("a")
        assert bed.store.keys(BUCKET) == []
        assert (
            bytes(await bed.fs.read(opened.handle, 1_000_000, 4096)) == content[1_000_000:1_004_096]
        )
        await bed.fs.write(opened.handle, 0, b"still")
        assert bytes(await bed.fs.read(opened.handle, 0, 5)) == b"still"
        assert (await bed.fs.getattr(found.inode, ROOT)).links == 0
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert bed.store.keys(BUCKET) == []
        bed.fs.forget(found.inode, 10)
        assert bed.fs.status()["inodes"] == 1


async def test_file_unlinked_before_its_first_upload_is_never_put(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        parent, name = await bed.split("a", ROOT)
        _, opened = await bed.fs.create(parent, name, 0o644, os.O_RDWR, ROOT)
        await bed.fs.write(opened.handle, 0, b"data")
        await bed.fs.unlink(parent, name, ROOT)
        assert bytes(await bed.fs.read(opened.handle, 0, 9)) == b"data"
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert bed.store.keys(BUCKET) == []


async def test_foreign_change_is_seen_at_open(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", b"one")
        found = await bed.walk("a")
        first = await bed.fs.open(found.inode, os.O_RDONLY, ROOT)
        again = await bed.fs.open(found.inode, os.O_RDONLY, ROOT)
        assert (first.keep_cache, again.keep_cache) == (False, True)
        assert bytes(await bed.fs.read(first.handle, 0, 10)) == b"one"
        for opened in (first, again):
            await bed.fs.release(opened.handle)
        bed.put("a", b"two!")
        changed = await bed.fs.open(found.inode, os.O_RDONLY, ROOT)
        assert not changed.keep_cache
        assert changed.outdated
        assert bytes(await bed.fs.read(changed.handle, 0, 10)) == b"two!"
        await bed.fs.release(changed.handle)


async def test_foreign_version_of_an_open_file_is_another_file(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", b"one")
        found = await bed.walk("a")
        held = await bed.fs.open(found.inode, os.O_RDWR, ROOT)
        assert bytes(await bed.fs.read(held.handle, 0, 10)) == b"one"
        bed.put("a", b"two!")
        with pytest.raises(OSError, match="Stale"):  # the kernel looks the name up again
            await bed.fs.open(found.inode, os.O_RDONLY, ROOT)
        new = await bed.walk("a")
        assert new.inode != found.inode
        opened = await bed.fs.open(new.inode, os.O_RDONLY, ROOT)
        assert bytes(await bed.fs.read(opened.handle, 0, 10)) == b"two!"
        assert bytes(await bed.fs.read(held.handle, 0, 10)) == b"one"  # from memory
        with pytest.raises(OSError, match="Stale"):
            await bed.fs.write(held.handle, 0, b"lost")
        await bed.fs.flush(held.handle)
        await bed.fs.release(held.handle)
        assert bytes(await bed.fs.read(opened.handle, 0, 10)) == b"two!"
        await bed.fs.release(opened.handle)
        assert bed.store.keys(BUCKET) == ["a"]


async def test_replaced_while_being_read_is_estale_not_a_mixture(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        old, new = os.urandom(4_000_000), os.urandom(4_000_000)
        bed.put("a", old)
        found = await bed.walk("a")
        opened = await bed.fs.open(found.inode, os.O_RDONLY, ROOT)
        assert bytes(await bed.fs.read(opened.handle, 0, 1000)) == old[:1000]
        bed.put("a", new)
        # Read-ahead may have the old bytes at hand; new ones must not follow old ones.
        with suppress_stale():
            seen = bytes(await bed.fs.read(opened.handle, 3_900_000, 1000))
            assert seen == old[3_900_000:3_901_000]
        await bed.fs.release(opened.handle)


async def test_failed_upload_is_reported_kept_and_retried(tmp_path: Path) -> None:
    refusals = [S3Error("ServiceUnavailable", status=503)]

    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        if action == "s3:PutObject" and key == "a" and refusals and armed:
            raise refusals.pop()
        return True

    armed = False
    async with filesystem_bed(tmp_path, authorize=authorize) as bed:
        bed.put("a", b"old")
        found = await bed.walk("a")
        opened = await bed.fs.open(found.inode, os.O_WRONLY | os.O_TRUNC, ROOT)
        await bed.fs.write(opened.handle, 0, b"new")
        armed = True
        with has_errno(errno.EIO):
            await bed.fs.flush(opened.handle)
        assert bed.store.data(BUCKET, "a") == b"old"
        assert bed.fs.status()["dirty_files"] == 1
        await bed.fs.flush(opened.handle)
        assert bed.store.data(BUCKET, "a") == b"new"
        await bed.fs.release(opened.handle)


async def test_drain_uploads_what_is_open(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        parent, name = await bed.split("a", ROOT)
        _, opened = await bed.fs.create(parent, name, 0o644, os.O_RDWR, ROOT)
        await bed.fs.write(opened.handle, 0, b"data")
        assert await bed.fs.drain() == ()
        assert bed.store.data(BUCKET, "a") == b"data"


async def test_suid_is_cleared_by_a_write_of_another(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.write("a", b"x", mode=0o777)
        await bed.chmod("a", 0o6777)
        assert await bed.mode("a") == "-rwsrwsrwx"
        await bed.write("a", b"y")
        assert await bed.mode("a") == "-rwsrwsrwx"
        found = await bed.walk("a")
        opened = await bed.fs.open(found.inode, os.O_WRONLY, ALICE)
        await bed.fs.write(opened.handle, 0, b"z")
        assert await bed.mode("a") == "-rwxrwxrwx"
        await bed.fs.release(opened.handle)


async def test_xattrs_in_the_form_of_s3fs(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.write("a", b"data", ALICE)
        inode = (await bed.walk("a")).inode
        await bed.fs.setxattr(inode, b"user.colour", b"blue\0", ALICE)
        await bed.fs.setxattr(inode, b"user.b", b"2", ALICE)
        metadata = bed.store.stat(BUCKET, "a").metadata
        assert metadata is not None
        assert (
            metadata["xattr"]
            == "%7B%22user.colour%22%3A%22Ymx1ZQA%3D%22%2C%22user.b%22%3A%22Mg%3D%3D%22%7D"
        )
        bed.pass_time()
        assert await bed.fs.getxattr(inode, b"user.colour", ROOT) == b"blue\0"
        assert sorted(await bed.fs.listxattr(inode, ROOT)) == [b"user.b", b"user.colour"]
        await bed.fs.removexattr(inode, b"user.b", ALICE)
        with has_errno(errno.ENODATA):
            await bed.fs.getxattr(inode, b"user.b", ROOT)
        with has_errno(errno.ENOTSUP):
            await bed.fs.setxattr(inode, b"security.capability", b"x", ROOT)
        with has_errno(errno.ENOSPC):
            await bed.fs.setxattr(inode, b"user.big", bytes(3000), ALICE)
        assert bed.s3_owner("a") == "alice"


async def test_unknown_metadata_survives(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        bed.store.acting_as("alice").put_now(
            BUCKET, "a", b"x", metadata={"colour": "blue", "file-owner": "7"}, content_type="text/x"
        )
        await bed.chmod("a", 0o600, ALICE)
        await bed.write("a", b"new", ALICE)
        metadata = bed.store.stat(BUCKET, "a").metadata
        assert metadata is not None
        assert metadata["colour"] == "blue"
        assert "file-owner" not in metadata
        assert bed.store.stat(BUCKET, "a").content_type == "text/x"
