"""An object that others change between a program's open and its close is never written over
unseen, whatever way the upload goes, on stores with conditional writes and without."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body
from s3posixfs.core.types import PutResult
from s3posixfs.fs.config import Conflict, FsConfig
from tests.faulty_store import FaultyStore, lost_answer
from tests.filesystem_bed import ALICE, BUCKET, ROOT, Bed, filesystem_bed
from tests.memory_store import ALL_CAPABILITIES, MemoryStore
from tests.unit.test_fs_saving import has_errno
from tests.unit.test_fs_streaming import PART, SIZES, close, create, stored, write_parts

CONFIG = FsConfig(bucket=BUCKET)
MODES: tuple[Conflict, ...] = ("keep-both", "fail", "last-writer")


def beside(bed: Bed) -> list[bytes]:
    """What was kept beside."""
    keys = sorted(bed.store.state.buckets[BUCKET])
    return [bed.store.data(BUCKET, key) for key in keys if key.startswith("a.conflict-")]


async def check(bed: Bed, handle: int, mode: Conflict, ours: bytes, theirs: bytes) -> None:
    """Close, and see who won."""
    if mode == "fail":
        with has_errno(errno.ESTALE):
            await bed.fs.fsync(handle, False)
        with has_errno(errno.ESTALE):  # and again as long as it is so
            await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == theirs
        assert beside(bed) == []
        bed.pass_time()
        assert await bed.read("a") == theirs
    else:
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == ours
        assert beside(bed) == ([theirs] if mode == "keep-both" else [])
        assert await bed.read("a") == ours
    assert bed.fs.status()["dirty_files"] == 0
    assert bed.store.state.uploads == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("parts", [0.1, 6.0])
@pytest.mark.parametrize("before", [b"before", None])
async def test_changed_while_open(
    tmp_path: Path, mode: Conflict, parts: float, before: bytes | None
) -> None:
    config = replace(CONFIG, conflict=mode)
    store = MemoryStore(BUCKET, min_part_bytes=PART // 2)
    async with filesystem_bed(tmp_path, config=config, store=store, sizes=SIZES) as bed:
        if before is not None:
            bed.put("a", before)
        handle = await create(bed, "a", flags=os.O_RDWR | os.O_TRUNC)
        ours = await write_parts(bed, handle, parts)
        bed.put("a", b"theirs")
        await check(bed, handle, mode, ours, b"theirs")


@pytest.mark.parametrize("mode", MODES)
async def test_removed_while_open(tmp_path: Path, mode: Conflict) -> None:
    async with filesystem_bed(tmp_path, config=replace(CONFIG, conflict=mode)) as bed:
        bed.put("a", b"before")
        handle = await create(bed, "a", flags=os.O_RDWR | os.O_TRUNC)
        await bed.fs.write(handle, 0, b"ours")
        await bed.store.delete(BUCKET, "a")
        if mode == "fail":
            with has_errno(errno.ESTALE):
                await close(bed, handle)
            assert not stored(bed, "a")
        else:
            await close(bed, handle)
            assert bed.store.data(BUCKET, "a") == b"ours"


@pytest.mark.parametrize("mode", MODES)
async def test_an_edit_of_what_is_gone_leaves_theirs(tmp_path: Path, mode: Conflict) -> None:
    """The bytes round an edit were in the object that others replaced."""
    store = MemoryStore(BUCKET, min_part_bytes=PART // 2)
    async with filesystem_bed(
        tmp_path, config=replace(CONFIG, conflict=mode), store=store, sizes=SIZES
    ) as bed:
        bed.put("a", os.urandom(5 * PART))
        handle = await create(bed, "a")
        await bed.fs.write(handle, PART + 5, b"edit")
        bed.put("a", b"theirs")
        await check(bed, handle, "fail", b"", b"theirs")


@pytest.mark.parametrize("mode", MODES)
async def test_an_edit_of_which_all_is_here(tmp_path: Path, mode: Conflict) -> None:
    """An earlier upload's bytes are still on this host: ours is whole though its base is gone."""
    store = MemoryStore(BUCKET, min_part_bytes=PART // 2)
    async with filesystem_bed(
        tmp_path, config=replace(CONFIG, conflict=mode), store=store, sizes=SIZES
    ) as bed:
        handle = await create(bed, "a")
        data = bytearray(await write_parts(bed, handle, 6))
        await bed.fs.fsync(handle, False)
        await bed.fs.write(handle, PART + 5, b"edit")
        data[PART + 5 : PART + 9] = b"edit"
        bed.put("a", b"theirs")
        await check(bed, handle, mode, bytes(data), b"theirs")


@pytest.mark.parametrize("parts", [0.1, 6.0])
@pytest.mark.parametrize("before", [b"before", None])
async def test_an_own_upload_whose_answer_was_lost_is_no_conflict(
    tmp_path: Path, parts: float, before: bytes | None
) -> None:
    store = MemoryStore(BUCKET, min_part_bytes=PART // 2)
    async with filesystem_bed(tmp_path, store=store, sizes=SIZES, wrap=FaultyStore) as bed:
        if before is not None:
            bed.put("a", before)
        handle = await create(bed, "a", flags=os.O_RDWR | os.O_TRUNC)
        ours = await write_parts(bed, handle, parts)
        faulty = bed.signers.daemon().store
        assert isinstance(faulty, FaultyStore)
        for operation in ("put", "complete_multipart"):
            faulty.fail(operation, lost_answer(), after_effect=True)
        faulty.fail("head", S3Error("InternalError", status=500), times=100)
        with contextlib.suppress(OSError):  # nobody knows whether it is there
            await bed.fs.fsync(handle, False)
        assert bed.store.data(BUCKET, "a") == ours
        faulty.clear()
        bed.clock.offset += 5
        await bed.fs.write(handle, len(ours), b"more")
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == ours + b"more"
        assert beside(bed) == []


async def test_who_may_write_and_not_look_is_answered_for(tmp_path: Path) -> None:
    """A store that knows no conditions is asked what is there, which not every writer may."""

    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (identity == "alice" and action == "s3:GetObject")

    class Conditionless(FaultyStore):
        """As the client of a store without conditional writes: it asks before, as who writes."""

        async def put(
            self,
            bucket: str,
            key: str,
            body: Body,
            *,
            metadata: Mapping[str, str] | None = None,
            content_type: str | None = None,
            headers: Mapping[str, str] | None = None,
            if_match: str | None = None,
            if_none_match: bool = False,
        ) -> PutResult:
            if if_match is not None or if_none_match:
                self.calls["asked"] += 1
                await self.head(bucket, key)
            return await super().put(bucket, key, body, metadata=metadata, headers=headers)

    plain = replace(ALL_CAPABILITIES, conditional_put=False)
    async with filesystem_bed(
        tmp_path, capabilities=plain, authorize=authorize, wrap=Conditionless
    ) as bed:
        handle = await create(bed, "a", ALICE, flags=os.O_WRONLY)
        await bed.fs.write(handle, 0, b"ours")
        await close(bed, handle)
        assert bed.store.data(BUCKET, "a") == b"ours"
        alice = bed.signers.for_name("alice")
        assert alice is not None
        assert isinstance(alice.store, FaultyStore)
        assert alice.store.calls["asked"] == 1


async def test_two_handles_of_one_mount_are_no_conflict(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        first, second = await create(bed, "a"), await create(bed, "a")
        await bed.fs.write(first, 0, b"one")
        await bed.fs.fsync(first, False)
        await bed.fs.write(second, 3, b"two")
        await close(bed, second)
        await bed.fs.write(first, 6, b"three")
        await close(bed, first)
        await bed.chmod("a", 0o600, ROOT)
        await bed.write("a", b"again")
        assert bed.store.data(BUCKET, "a") == b"again"
        assert beside(bed) == []
