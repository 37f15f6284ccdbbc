"""What operations cost in requests, and that nothing is lost for having asked less."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3posixfs.core.types import Capabilities
from s3posixfs.fs.attributes import NS, AttributeChanges
from s3posixfs.fs.config import FsConfig
from tests.filesystem_bed import ALICE, BUCKET, PLAIN, ROOT, Bed, filesystem_bed
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
