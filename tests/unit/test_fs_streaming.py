"""Files that go to S3 while a program writes them: what becomes of the name, the attributes, the
identity and the object when things happen meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.staging import StagingSettings
from s3posixfs.fs import saving
from s3posixfs.fs.attributes import AttributeChanges
from s3posixfs.fs.caller import Caller
from tests.faulty_store import FaultyStore
from tests.filesystem_bed import ALICE, BOB, BUCKET, ROOT, Bed, filesystem_bed
from tests.memory_store import Authorize, MemoryStore
from tests.unit.test_fs_saving import has_errno

KIB = 1024
PART = 64 * KIB
SIZES = StagingSettings(
    memory_file=16 * KIB,
    batch=32 * KIB,
    upload=UploadSettings(
        put_limit=PART, part_size=PART, copy_size=4 * PART, min_part=PART // 2, early_parts=2
    ),
)


@asynccontextmanager
async def streaming_bed(
    tmp_path: Path,
    *,
    authorize: Authorize | None = None,
    faulty: Callable[[ObjectStore], ObjectStore] = lambda store: store,
    store: MemoryStore | None = None,
) -> AsyncIterator[Bed]:
    if store is None:
        store = MemoryStore(BUCKET, min_part_bytes=PART // 2, authorize=authorize)
    async with filesystem_bed(tmp_path, store=store, wrap=faulty, sizes=SIZES) as bed:
        yield bed


async def create(bed: Bed, name: str, caller: Caller = ROOT, *, flags: int = os.O_RDWR) -> int:
    parent, encoded = await bed.split(name, caller)
    _, opened = await bed.fs.create(parent, encoded, 0o666, flags | os.O_CREAT, caller)
    return opened.handle


async def write_parts(bed: Bed, handle: int, count: float, *, at: int = 0) -> bytes:
    """Write so many parts in sequence, and wait until those that are full are in S3."""
    data = os.urandom(int(count * PART))
    for offset in range(0, len(data), 16 * KIB):
        await bed.fs.write(handle, at + offset, data[offset : offset + 16 * KIB])
    await sent(bed, int(count) - 1)
    return data


async def until(happened: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not happened():  # noqa: ASYNC110 - the store is not told who waits
            await trio.sleep(0.001)


async def sent(bed: Bed, parts: int) -> None:
    await until(lambda: sum(len(one.parts) for one in bed.store.state.uploads.values()) >= parts)


def stored(bed: Bed, key: str) -> bool:
    return key in bed.store.state.buckets[BUCKET]


async def close(bed: Bed, handle: int) -> None:
    try:
        await bed.fs.flush(handle)
    finally:
        await bed.fs.release(handle)


def nothing_is_left(bed: Bed, tmp_path: Path) -> bool:
    notes = list((tmp_path / "cache" / "uploads").iterdir())
    return bed.store.state.uploads == {} and not notes


async def test_parts_are_sent_before_close_and_not_again(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path) as bed:
        handle = await create(bed, "a", ALICE)
        data = await write_parts(bed, handle, 6.5)
        assert not stored(bed, "a")
        before = bed.store.requests["upload_part"]
        assert before >= 5
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == data
        assert bed.s3_owner("a") == "alice"
        assert bed.store.requests["upload_part"] <= 8
        assert nothing_is_left(bed, tmp_path)


async def test_times_and_modes_are_those_at_close(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path) as bed:
        handle = await create(bed, "a", ALICE)
        data = await write_parts(bed, handle, 4)
        bed.clock.offset += 100
        await bed.fs.write(handle, len(data), b"more")
        inode = (await bed.walk("a", ALICE)).inode
        await bed.fs.setattr(inode, AttributeChanges(mode=0o600), handle, ALICE)
        await close(bed, handle)
        shown = (await bed.walk("a", ALICE)).attributes
        metadata = bed.store.stat(BUCKET, "a").metadata or {}
        assert metadata["mode"] == str(0o100600)
        assert float(metadata["mtime"]) == pytest.approx(shown.mtime_ns / 1e9, abs=1e-6)
        assert bed.store.data(BUCKET, "a") == data + b"more"
        bed.pass_time()
        assert (await bed.walk("a", ALICE)).attributes.mtime_ns == shown.mtime_ns


async def test_what_may_not_be_copied_onto_itself_is_sent_again(tmp_path: Path) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (identity == "alice" and action == "s3:GetObject")

    async with streaming_bed(tmp_path, authorize=authorize) as bed:
        handle = await create(bed, "a", ALICE, flags=os.O_WRONLY)
        data = await write_parts(bed, handle, 4)
        bed.clock.offset += 100
        await bed.fs.write(handle, 0, b"head")
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == b"head" + data[4:]
        shown = (await bed.walk("a")).attributes
        metadata = bed.store.stat(BUCKET, "a").metadata or {}
        assert float(metadata["mtime"]) == pytest.approx(shown.mtime_ns / 1e9, abs=1e-6)
        assert bed.s3_owner("a") == "alice"


async def test_unlink_ends_it_at_once_and_the_handle_goes_on(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path) as bed:
        handle = await create(bed, "a")
        data = await write_parts(bed, handle, 4)
        await bed.unlink("a")
        assert nothing_is_left(bed, tmp_path)
        await bed.fs.write(handle, len(data), bytes(3 * PART))
        assert bytes(await bed.fs.read(handle, 0, PART)) == data[:PART]
        await close(bed, handle)
        assert not stored(bed, "a")
        assert nothing_is_left(bed, tmp_path)


async def test_rename_while_streaming(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path) as bed:
        await bed.mkdir("d")
        handle = await create(bed, "a")
        data = await write_parts(bed, handle, 4)
        await bed.rename("a", "d/b")
        data += await write_parts(bed, handle, 3, at=len(data))
        await bed.rename("d", "e")
        data += await write_parts(bed, handle, 3, at=len(data))
        await close(bed, handle)
        assert bed.store.data(BUCKET, "e/b") == data
        assert not stored(bed, "a")
        assert nothing_is_left(bed, tmp_path)


async def test_who_wrote_last_signs_all_of_it(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path) as bed:
        first = await create(bed, "a", ALICE)
        data = await write_parts(bed, first, 4)
        inode = (await bed.walk("a", BOB)).inode
        await bed.fs.setattr(inode, AttributeChanges(mode=0o666), first, ALICE)
        second = (await bed.fs.open(inode, os.O_WRONLY, BOB)).handle
        await bed.fs.write(second, len(data), b"bob's")
        await close(bed, second)
        await close(bed, first)
        assert bed.store.data(BUCKET, "a") == data + b"bob's"
        assert nothing_is_left(bed, tmp_path)


async def test_fsync_stores_and_the_next_parts_build_on_it(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path) as bed:
        handle = await create(bed, "a", flags=os.O_RDWR | os.O_APPEND)
        data = b""
        for _ in range(3):
            data += await write_parts(bed, handle, 4, at=len(data))
            await bed.fs.fsync(handle, False)
            assert bed.store.data(BUCKET, "a") == data
        assert bed.store.requests["upload_part"] <= 3 * 5  # what was there was copied
        assert bed.store.requests["copy_part"] >= 2
        await close(bed, handle)
        assert nothing_is_left(bed, tmp_path)


@pytest.mark.parametrize(
    ("code", "status", "number"),
    [("AccessDenied", 403, errno.EACCES), ("QuotaExceeded", 403, errno.EDQUOT)],
)
async def test_a_refusal_is_told_to_the_next_write_and_to_close(
    tmp_path: Path, code: str, status: int, number: int
) -> None:
    async with streaming_bed(tmp_path, faulty=FaultyStore) as bed:
        bed.put("a", b"before")
        handle = await create(bed, "a", flags=os.O_RDWR | os.O_TRUNC)
        faulty = bed.signers.daemon().store
        assert isinstance(faulty, FaultyStore)
        faulty.fail("upload_part", S3Error(code, status=status), times=1000)
        offset = 0
        with has_errno(number), trio.fail_after(20):
            while True:
                offset += await bed.fs.write(handle, offset, bytes(16 * KIB))
        assert nothing_is_left(bed, tmp_path)
        for _ in range(2):  # and again as long as it is so
            with has_errno(number):
                await bed.fs.fsync(handle, False)
        assert bed.store.data(BUCKET, "a") == b"before"
        faulty.clear()
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == bytes(offset)
        assert nothing_is_left(bed, tmp_path)


async def test_what_a_refused_write_left_is_not_stored_after_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Part of a file must not take the place of the whole one that is there, once there is room
    again and everybody was told that there was none."""
    monkeypatch.setattr(saving, "RETRY_SECONDS", 0.01)
    async with streaming_bed(tmp_path, faulty=FaultyStore) as bed:
        bed.put("a", b"before")
        handle = await create(bed, "a", flags=os.O_RDWR | os.O_TRUNC)
        faulty = bed.signers.daemon().store
        assert isinstance(faulty, FaultyStore)
        for operation in ("upload_part", "put"):
            faulty.fail(operation, S3Error("StorageFull", status=507), times=1000)
        offset = 0
        with has_errno(errno.ENOSPC), trio.fail_after(20):
            while True:
                offset += await bed.fs.write(handle, offset, bytes(16 * KIB))
        with has_errno(errno.ENOSPC):
            await close(bed, handle)
        faulty.clear()
        await trio.sleep(0.2)
        assert bed.store.data(BUCKET, "a") == b"before"
        bed.pass_time()
        assert (await bed.walk("a")).attributes.size == len(b"before")
        # A file of which all was taken is another matter: it is whole, and may be stored yet.
        handle = await create(bed, "b")
        faulty.fail("put", S3Error("StorageFull", status=507), times=1000)
        await bed.fs.write(handle, 0, b"all of it")
        with has_errno(errno.ENOSPC):
            await close(bed, handle)
        faulty.clear()
        await until(lambda: stored(bed, "b"))
        assert bed.store.data(BUCKET, "b") == b"all of it"


async def test_trouble_that_passes_is_nobodys_error(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path, faulty=FaultyStore) as bed:
        handle = await create(bed, "a")
        faulty = bed.signers.daemon().store
        assert isinstance(faulty, FaultyStore)
        faulty.fail("upload_part", S3Error("InternalError", status=500), times=2)
        data = os.urandom(6 * PART)
        for offset in range(0, len(data), 16 * KIB):
            await bed.fs.write(handle, offset, data[offset : offset + 16 * KIB])
        await sent(bed, 3)
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == data
        assert nothing_is_left(bed, tmp_path)


async def test_an_upload_that_somebody_aborted_begins_anew(tmp_path: Path) -> None:
    async with streaming_bed(tmp_path) as bed:
        handle = await create(bed, "a")
        data = await write_parts(bed, handle, 4)
        bed.store.state.uploads.clear()
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == data
        assert nothing_is_left(bed, tmp_path)


async def test_the_next_mount_aborts_what_a_dead_one_left(tmp_path: Path) -> None:
    store = MemoryStore(BUCKET, min_part_bytes=PART // 2)
    async with streaming_bed(tmp_path, store=store) as bed:
        handle = await create(bed, "a", ALICE)
        await write_parts(bed, handle, 4)
        notes = list((tmp_path / "cache" / "uploads").iterdir())
        assert len(notes) == 1
        saved = notes[0].read_bytes()
        uploads = dict(store.state.uploads)
    assert store.state.uploads == {}  # an orderly end leaves nothing
    store.state.uploads.update(uploads)  # as if it had been kill -9
    notes[0].write_bytes(saved)
    (tmp_path / "cache" / "uploads" / "9.json").write_bytes(b'{"half')
    async with streaming_bed(tmp_path, store=store) as bed:
        await until(lambda: nothing_is_left(bed, tmp_path))
