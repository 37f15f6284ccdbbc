"""Staged files: what an upload sends, what a failed one leaves, full disks, the cache directory."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.types import MAX_OBJECT_BYTES, MIB, Capabilities
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagedFile, StagingArea, StagingSettings
from s3posixfs.data.version import ObjectVersion
from tests.faulty_store import FaultyStore, lost_answer
from tests.memory_store import MemoryStore

KIB = 1024
SETTINGS = StagingSettings(
    memory_file=64 * KIB,
    batch=256 * KIB,
    upload=UploadSettings(
        put_limit=1 * MIB, part_size=512 * KIB, copy_size=4 * MIB, min_part=256 * KIB
    ),
)


class Bench:
    """A store, a staging area, and an object to begin with."""

    def __init__(self, nursery: trio.Nursery, directory: Path, disk: int | None = None) -> None:
        self.directory = directory
        self.memory_store = MemoryStore("bucket", min_part_bytes=256 * KIB)
        self.store = FaultyStore(self.memory_store)
        self.readers = Readers(
            cache=BlockCache(8 * MIB), budget=MemoryBudget(8 * MIB), nursery=nursery
        )
        self.area = StagingArea(
            directory,
            memory_limit=4 * MIB,
            disk_limit=disk,
            clock=SystemClock(),
            readers=self.readers,
            settings=SETTINGS,
        )

    def over(self, data: bytes) -> StagedFile:
        stat = self.memory_store.put_now("bucket", "key", data)
        version = ObjectVersion("bucket", "key", stat.etag, len(data))
        return self.area.create(self.readers.open(self.store, version))

    async def upload(self, file: StagedFile) -> None:
        await file.upload(self.store, "bucket", "key", metadata={"mode": "33188"})

    @property
    def stored(self) -> bytes:
        return self.memory_store.data("bucket", "key")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        made = Bench(nursery, tmp_path / "cache")
        yield made
        assert made.memory_store.state.uploads == {}
        made.area.close()
        nursery.cancel_scope.cancel()


async def test_a_large_object_changed_in_part_is_copied_inside_the_store(bench: Bench) -> None:
    data = random.Random(2).randbytes(20 * MIB)
    file = bench.over(data)
    await file.write(10 * MIB, b"changed")
    await bench.upload(file)
    assert bench.stored == data[: 10 * MIB] + b"changed" + data[10 * MIB + 7 :]
    assert bench.store.calls["copy_part"] == 6
    assert bench.store.calls["upload_part"] == 1
    assert bench.memory_store.state.bytes_read < MIB
    assert bench.memory_store.stat("bucket", "key").metadata == {"mode": "33188"}
    # And once more: the base is now what was uploaded.
    await file.write(3, b"again")
    await bench.upload(file)
    assert bench.stored[:10] == data[:3] + b"again" + data[8:10]
    assert bench.store.calls["upload_part"] == 2
    assert not file.dirty
    await file.aclose()


async def test_a_base_replaced_while_it_was_copied_is_found_out(bench: Bench) -> None:
    data = random.Random(3).randbytes(6 * MIB)
    file = bench.over(data)
    start = random.Random(11).randbytes(512 * KIB)  # a whole part: nothing of the base is read
    await file.write(0, start)
    bench.memory_store.put_now("bucket", "key", bytes(6 * MIB))
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await bench.upload(file)
    assert bench.store.calls["complete_multipart"] == bench.store.calls["head"] == 0
    assert bench.stored == bytes(6 * MIB)
    assert file.dirty
    await file.aclose()


class IgnoresCopyConditions(MemoryStore):
    """Like Ceph RGW: copy-source-if-match is accepted and not looked at; no ETag on complete."""

    async def copy_part(self, *arguments, source_if_match=None, **named):  # type: ignore[no-untyped-def]
        return await super().copy_part(*arguments, **named)

    async def complete_multipart(self, *arguments, **named):  # type: ignore[no-untyped-def]
        result = await super().complete_multipart(*arguments, **named)
        return type(result)("", 0.0)


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_store_that_ignores_copy_conditions(bench: Bench, replaced: bool) -> None:
    data = random.Random(4).randbytes(6 * MIB)
    file = bench.over(data)
    start = random.Random(11).randbytes(512 * KIB)  # a whole part: nothing of the base is read
    await file.write(0, start)
    bench.store.store = IgnoresCopyConditions(state=bench.memory_store.state)
    if replaced:
        bench.memory_store.put_now("bucket", "key", bytes(6 * MIB))
        with pytest.raises(S3Error, match="PreconditionFailed"):
            await bench.upload(file)
        assert bench.stored == bytes(6 * MIB)
    else:
        await bench.upload(file)
        assert bench.stored == start + data[512 * KIB :]
        assert file.version is not None
        assert file.version.etag == bench.memory_store.stat("bucket", "key").etag
        assert await file.read(5 * MIB, 9) == data[5 * MIB :][:9]
    await file.aclose()


async def test_who_may_not_copy_sends_the_bytes(bench: Bench) -> None:
    data = random.Random(5).randbytes(3 * MIB)
    file = bench.over(data)
    await file.write(MIB, b"x")
    bench.store.fail("copy_part", S3Error("AccessDenied", status=403), times=99)
    await bench.upload(file)
    assert bench.stored == data[:MIB] + b"x" + data[MIB + 1 :]
    await file.aclose()


@pytest.mark.parametrize("operation", ["upload_part", "complete_multipart", "create_multipart"])
async def test_a_failed_upload_leaves_both_sides_as_they_were(bench: Bench, operation: str) -> None:
    file = bench.over(b"before")
    data = random.Random(6).randbytes(3 * MIB)
    await file.write(0, data)
    bench.store.fail(operation, S3Error("InternalError", status=500), skip=0)
    with pytest.raises(S3Error, match="InternalError"):
        await bench.upload(file)
    assert bench.stored == b"before"
    assert file.dirty
    assert bytes(await file.read(0, 4 * MIB)) == data
    await bench.upload(file)
    assert bench.stored == data
    await file.aclose()


async def test_a_lost_answer_to_complete_is_recognised(bench: Bench) -> None:
    file = bench.over(b"before")
    data = random.Random(7).randbytes(3 * MIB)
    await file.write(0, data)
    bench.store.fail("complete_multipart", lost_answer(), after_effect=True)
    await bench.upload(file)
    assert bench.stored == data
    assert not file.dirty
    await file.aclose()


async def test_an_equal_object_from_before_is_not_taken_for_this_upload(bench: Bench) -> None:
    file = bench.over(b"before")
    await file.write(0, b"after!")
    await bench.upload(file)
    bench.store.fail("put", S3Error("InternalError", status=500))
    with pytest.raises(S3Error, match="InternalError"):
        await file.upload(bench.store, "bucket", "key", metadata={"mode": "33152"})
    assert bench.memory_store.stat("bucket", "key").metadata == {"mode": "33188"}
    await file.aclose()


async def test_exclusive_creation_never_takes_anothers_object_for_its_own(bench: Bench) -> None:
    file = bench.area.create(None)
    assert file.dirty
    bench.memory_store.acting_as("bob").put_now("bucket", "key", b"")
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await file.upload(bench.store, "bucket", "key", metadata=None, if_none_match=True)
    assert file.dirty
    await file.aclose()


@pytest.mark.parametrize("operation", ["create_multipart", "upload_part", "complete_multipart"])
async def test_cancelled_upload_aborts_and_keeps_everything(bench: Bench, operation: str) -> None:
    file = bench.over(b"before")
    data = random.Random(8).randbytes(3 * MIB)
    await file.write(0, data)
    held = bench.store.hold(operation)
    finished = False

    async def uploads(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        nonlocal finished
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await bench.upload(file)
            finished = True

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(uploads)
        await trio.testing.wait_all_tasks_blocked(0.05)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        held.set()
    assert bench.memory_store.state.uploads == {}
    # A complete that was on its way is waited for: what is reported is what happened.
    assert finished == (operation == "complete_multipart")
    assert bench.stored == (data if finished else b"before")
    assert file.dirty != finished
    bench.store.clear()
    await bench.upload(file)
    assert bench.stored == data
    await file.aclose()


async def test_writers_wait_for_the_upload_and_readers_do_not(bench: Bench) -> None:
    file = bench.over(b"0123456789")
    await file.write(0, b"a")
    held = bench.store.hold("put")
    order: list[str] = []

    async def uploads() -> None:
        await bench.upload(file)
        order.append("uploaded")

    async def writes() -> None:
        await file.write(1, b"b")
        order.append("written")

    async def truncates() -> None:
        await file.truncate(4)
        order.append("truncated")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(uploads)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(writes)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(truncates)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await file.read(0, 10) == b"a123456789"
        assert order == []
        held.set()
    assert order == ["uploaded", "written", "truncated"]
    assert bench.stored == b"a123456789"
    assert file.dirty
    assert await file.read(0, 10) == b"ab23"
    await file.aclose()


async def test_reads_over_a_base_that_the_own_upload_replaces(bench: Bench) -> None:
    """A read that began on the old base goes on with the new one, instead of failing."""
    data = random.Random(9).randbytes(3 * MIB)
    file = bench.over(data)
    start = random.Random(10).randbytes(512 * KIB)
    await file.write(0, start)
    held = bench.store.hold("get")
    found: list[bytes] = []

    async def reads() -> None:
        found.append(bytes(await file.read(2 * MIB, 100)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked(0.01)
        free = FaultyStore(bench.memory_store)
        # Everything that was not written is copied inside the store: no get is needed.
        await file.upload(free, "bucket", "key", metadata=None)
        held.set()
    assert found == [data[2 * MIB : 2 * MIB + 100]]
    assert bench.store.calls["get"] == 1
    assert free.calls["get"] == 1
    assert bench.stored == start + data[512 * KIB :]
    await file.aclose()


async def test_a_disk_limit_is_enospc_to_the_writer_and_costs_nothing_written(
    tmp_path: Path,
) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, tmp_path / "cache", disk=1 * MIB)
        file = bench.area.create(None)
        written = 0
        for _ in range(MIB // 50_000):
            written += await file.write(written, bytes([written // 1000 % 256]) * 50_000)
        with pytest.raises(OSError, match="No space left") as caught:
            await file.write(written, bytes(50_000))
        assert caught.value.errno == errno.ENOSPC
        assert file.size == written
        await bench.upload(file)
        assert len(bench.stored) == written
        await file.truncate(0)
        assert bench.area.disk_used == 0
        assert await file.write(0, bytes(100_000)) == 100_000
        await file.aclose()
        assert (bench.area.disk_used, bench.area.memory_used) == (0, 0)
        bench.area.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"size=2m,mode=0700") == 0
    yield path
    assert libc.umount2(os.fsencode(path), 2) == 0


@pytest.mark.parametrize("block", [4096, 100_000, 600_000])
async def test_a_real_full_disk(small_disk: Path, block: int) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, small_disk)
        file, model = bench.area.create(None), bytearray()
        rng = random.Random(block)
        caught: OSError | None = None
        while caught is None:
            data = rng.randbytes(block)
            try:
                count = await file.write(len(model), data)
            except OSError as error:
                caught = error
            else:
                model += data[:count]
            assert len(model) < 4 * MIB
        assert caught.errno == errno.ENOSPC
        assert file.size == len(model) > MIB
        assert bytes(await file.read(0, 4 * MIB)) == model
        # The writer makes room; what stays is what was acknowledged.
        del model[MIB:]
        await file.truncate(MIB)
        await file.truncate(MIB + 5000)
        model += bytes(5000)
        assert bytes(await file.read(0, 4 * MIB)) == model
        await bench.upload(file)
        assert bench.stored == model
        await file.aclose()
        assert (bench.area.disk_used, bench.area.memory_used) == (0, 0)
        bench.area.close()


async def test_sparse_files_of_any_size(bench: Bench) -> None:
    file = bench.area.create(None)
    await file.truncate(5 * MIB)
    assert bench.area.disk_used == 0
    assert await file.read(3 * MIB, 10) == bytes(10)
    await file.write(4 * MIB, b"end")
    await bench.upload(file)
    assert bench.stored == bytes(4 * MIB) + b"end" + bytes(MIB - 3)
    with pytest.raises(OSError, match="too large") as caught:
        await file.write(MAX_OBJECT_BYTES, b"x")
    assert caught.value.errno == errno.EFBIG
    await file.aclose()


async def test_staged_data_is_private_and_gone_after_close(bench: Bench) -> None:
    file = bench.area.create(None)
    await file.write(0, bytes(MIB))
    (path,) = (bench.directory / "staged").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await file.aclose()
    await file.aclose()
    assert not path.exists()
    with pytest.raises(trio.ClosedResourceError):
        await file.read(0, 1)
    with pytest.raises(trio.ClosedResourceError):
        await file.write(0, b"x")


def area_in(directory: Path, readers: Readers) -> StagingArea:
    return StagingArea(
        directory, memory_limit=MIB, disk_limit=None, clock=SystemClock(), readers=readers
    )


async def test_one_daemon_per_cache_dir(bench: Bench) -> None:
    with pytest.raises(OperatorError, match=f"in use by another mount .pid {os.getpid()}."):
        area_in(bench.directory, bench.readers)
    program = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    lock = str(bench.directory / "lock")
    held = await trio.run_process(
        [sys.executable, "-c", program, lock], capture_stderr=True, check=False
    )
    assert held.returncode != 0
    bench.area.close()
    area_in(bench.directory, bench.readers).close()


async def test_left_overs_go_and_foreign_files_stay(bench: Bench) -> None:
    bench.area.close()
    staged = bench.directory / "staged"
    (staged / "17.data").write_bytes(b"left by a crash")
    (staged / "notes.txt").write_text("not ours")
    area_in(bench.directory, bench.readers).close()
    assert [path.name for path in staged.iterdir()] == ["notes.txt"]


async def test_unusable_cache_dirs_say_what_to_do(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="cannot be used"):
        area_in(tmp_path / "file", bench.readers)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o700)
    open_to_all.chmod(0o777)
    with pytest.raises(OperatorError, match="chmod 700"):
        area_in(open_to_all, bench.readers)


async def test_upload_tells_when_even_where_the_store_does_not(bench: Bench) -> None:
    assert isinstance(bench.store.capabilities, Capabilities)
    bench.store.store = IgnoresCopyConditions(state=bench.memory_store.state)
    file = bench.area.create(None)
    await file.write(0, bytes(2 * MIB))
    result = await file.upload(bench.store, "bucket", "key", metadata=None)
    assert result.last_modified > 0
    assert result.etag == bench.memory_store.stat("bucket", "key").etag
    await file.aclose()
