"""Uploads that fail: what is kept for another try, what is given up, and who hears of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.fs.attributes import AttributeChanges
from s3posixfs.fs.caller import Caller
from tests.filesystem_bed import ALICE, BOB, BUCKET, ROOT, Bed, filesystem_bed


def has_errno(code: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == code)


class Refusals:
    """Lets puts fail while ``error`` is set; asking beforehand (an empty put) is not refused."""

    def __init__(self) -> None:
        self.error: S3Error | None = None

    def __call__(self, identity: str, action: str, bucket: str, key: str) -> bool:
        if self.error is not None and action == "s3:PutObject":
            raise self.error
        return True


async def fail_to_close(bed: Bed, refusals: Refusals, error: S3Error, code: int) -> None:
    """Write `new` and `old` (which is there) and close them while uploads fail."""
    bed.put("old", b"before")
    for name in ("old", "new"):
        refusals.error = None
        parent, encoded = await bed.split(name, ROOT)
        flags = os.O_WRONLY | os.O_TRUNC | os.O_CREAT
        _, opened = await bed.fs.create(parent, encoded, 0o644, flags, ROOT)
        await bed.fs.write(opened.handle, 0, b"written")
        refusals.error = error
        with has_errno(code):
            await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)


async def test_passing_trouble_is_waited_out(tmp_path: Path) -> None:
    refusals = Refusals()
    async with filesystem_bed(tmp_path, authorize=refusals) as bed:
        await fail_to_close(bed, refusals, S3Error("InternalError", status=500), errno.EIO)
        assert bed.store.data(BUCKET, "old") == b"before"
        assert bed.fs.status()["owed_uploads"] == 2
        bed.pass_time()
        assert await bed.read("new") == b"written"  # here nothing is lost
        assert await bed.fs.drain() == ("new", "old")
        refusals.error = None
        assert await bed.fs.drain() == ()
        assert bed.store.data(BUCKET, "old") == bed.store.data(BUCKET, "new") == b"written"


async def test_what_s3_refuses_for_good_is_given_up(tmp_path: Path) -> None:
    refusals = Refusals()
    async with filesystem_bed(tmp_path, authorize=refusals) as bed:
        await fail_to_close(bed, refusals, S3Error("AccessDenied", status=403), errno.EACCES)
        assert bed.fs.status()["dirty_files"] == bed.fs.status()["owed_uploads"] == 0
        assert await bed.read("old") == b"before"
        with has_errno(errno.ENOENT):
            await bed.walk("new")
        assert set(await bed.list("")) == {"old"}


async def test_truncate_by_path_reports_its_upload(tmp_path: Path) -> None:
    refusals = Refusals()
    async with filesystem_bed(tmp_path, authorize=refusals) as bed:
        await bed.write("a", b"content", ALICE)
        refusals.error = S3Error("AccessDenied", status=403)
        with has_errno(errno.EACCES):
            await bed.setattr("a", AttributeChanges(size=0), ALICE)
        refusals.error = None
        assert await bed.read("a", ALICE) == b"content"


async def test_closing_without_a_change_uploads_nothing(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", b"content")
        opened = await bed.fs.open((await bed.walk("a")).inode, os.O_RDWR, ROOT)
        before = bed.store.requests["put"]
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert bed.store.requests["put"] == before


@pytest.mark.parametrize("writeback", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("maker", [ROOT, ALICE], ids=["root", "alice"])
async def test_a_new_file_stays_whose_it_is_when_another_stores_it_first(
    tmp_path: Path, writeback: bool, maker: Caller
) -> None:
    """Its maker has it open still; who may write to it cuts it by its name, which stores it."""
    async with filesystem_bed(tmp_path, writeback=writeback) as bed:
        parent, name = await bed.split("a", maker)
        _, opened = await bed.fs.create(parent, name, 0o666, os.O_RDONLY, maker)
        inode = (await bed.walk("a", BOB)).inode
        await bed.fs.setattr(inode, AttributeChanges(size=1000), None, BOB)
        assert (await bed.walk("a")).attributes.uid == maker.uid
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert await bed.fs.drain() == ()
        bed.pass_time()
        assert (await bed.walk("a")).attributes.uid == maker.uid
        assert bed.s3_owner("a") == ("alice" if maker is ALICE else "daemon")
