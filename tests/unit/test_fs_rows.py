"""``attributes=listing``: rows of a listing without metadata do, and what the metadata says is not
lost to a change, nor is anybody let in by what a row leaves out."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from s3posixfs.fs.attributes import NS, AttributeChanges
from s3posixfs.fs.config import FsConfig
from tests.filesystem_bed import ALICE, BOB, BUCKET, PLAIN, ROOT, Bed, filesystem_bed
from tests.unit.test_fs_identity import has_errno
from tests.unit.test_fs_requests import counted

LISTING = FsConfig(bucket=BUCKET, attributes="listing")
CLOSED = {"mode": str(0o100600), "uid": "1001", "mtime": "5", "project": "apollo"}


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with filesystem_bed(tmp_path, config=LISTING, capabilities=PLAIN) as bed:
        yield bed


async def test_no_object_is_asked_for(bed: Bed) -> None:
    for number in range(2500):
        bed.put(f"many/{number:04}", owner=("alice", "bob", "carol")[number % 3])
    folder = await bed.walk("many")
    bed.pass_time()
    with counted(bed) as made:
        rows = await bed.list("many")
        for shown in rows.values():
            await bed.fs.getattr(shown.inode, ROOT)
    assert set(made) == {"list_objects"}
    assert made["list_objects"] <= 3 + 2  # the folder and the root themselves
    assert folder.attributes.is_directory
    shown_owners = {name: row.attributes.uid for name, row in rows.items()}
    assert shown_owners == {f"{n:04}": (1001, 1002, 1003)[n % 3] for n in range(2500)}


async def test_whom_metadata_is_believed_of_is_asked_for(bed: Bed) -> None:
    bed.put("d/a", owner="daemon", metadata={"uid": "1500", "mode": str(0o100640)})
    bed.put("d/b", owner="alice")
    row = (await bed.list("d"))["a"]
    assert row.attributes_valid == 0, "the row of a believed owner says nothing"
    found = await bed.fs.getattr(row.inode, ROOT)
    assert (found.attributes.uid, stat.S_IMODE(found.attributes.mode)) == (1500, 0o640)


async def test_a_mode_that_a_row_leaves_out_counts_at_open(bed: Bed) -> None:
    bed.put("d/a", b"secret", owner="alice", metadata=CLOSED)
    row = (await bed.list("d"))["a"]
    assert stat.S_IMODE(row.attributes.mode) == 0o644
    with has_errno(13):
        await bed.fs.open(row.inode, os.O_RDONLY, BOB)
    assert await bed.read("d/a", ALICE) == b"secret"
    assert await bed.mode("d/a") == "-rw-------"


CHANGES: dict[str, Callable[[Bed], Awaitable[object]]] = {
    "utimens": lambda bed: bed.setattr("d/a", AttributeChanges(atime_ns=9 * NS), ALICE),
    "chgrp": lambda bed: bed.chown("d/a", None, 1001, ROOT),
    "chown": lambda bed: bed.chown("d/a", 1002, None, ROOT),
    "append": lambda bed: bed.write("d/a", b"y", ALICE, flags=os.O_WRONLY | os.O_APPEND),
    "rename": lambda bed: bed.rename("d/a", "d/b", ALICE),
    "rename by root": lambda bed: bed.rename("d/a", "d/b", ROOT),
    "rename of the folder": lambda bed: bed.rename("d", "d2", ROOT),
}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unseen"])
@pytest.mark.parametrize("owner", ["alice", "stranger"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_change_keeps_what_the_metadata_says(
    tmp_path: Path, change: Callable[[Bed], Awaitable[object]], owner: str, listed: bool
) -> None:
    # Who may change a stranger's file is root; here it is only about what is kept.
    config = replace(LISTING, uid=1001, gid=1001)
    async with filesystem_bed(tmp_path, config=config, capabilities=PLAIN) as bed:
        bed.put("d/a", b"x", owner=owner, metadata=CLOSED)
        if listed:
            await bed.list("d")
        await change(bed)
        bed.pass_time()
        (key,) = bed.store.keys(BUCKET)
        metadata = bed.store.stat(BUCKET, key).metadata
        assert metadata is not None
        assert metadata["project"] == "apollo"
        assert metadata["mode"] == str(0o100600)


async def test_an_xattr_is_there_although_the_row_leaves_it_out(bed: Bed) -> None:
    bed.put("d/a", owner="alice")
    await bed.fs.setxattr((await bed.walk("d/a")).inode, b"user.k", b"v", ALICE)
    bed.pass_time()
    row = (await bed.list("d"))["a"]
    assert await bed.fs.getxattr(row.inode, b"user.k", ALICE) == b"v"


async def test_a_link_shows_once_it_was_asked_for(bed: Bed) -> None:
    bed.put("d/l", b"target", owner="alice", metadata={"mode": str(0o120777)})
    row = (await bed.list("d"))["l"]
    assert stat.S_ISREG(row.attributes.mode)
    with has_errno(116):  # ESTALE: the kernel looks the name up again
        await bed.fs.open(row.inode, os.O_RDONLY, ALICE)
    found = await bed.walk("d/l", ALICE)
    assert await bed.fs.readlink(found.inode, ALICE) == b"target"
