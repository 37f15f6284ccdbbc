"""A staged file against a bytearray: whatever is done to it, it reads and uploads the same.

The sizes are small (a part has at least 64 bytes here, a file leaves memory at 96), so that a
few hundred bytes go through every path: memory, disk, gathered writes, one PUT, parts, part
copies, and both kinds of budget running out.
"""

from __future__ import annotations

import errno
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import S3Error
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.readahead import ReadSettings
from s3posixfs.data.reader import ObjectReader, Readers
from s3posixfs.data.staging import StagedFile, StagingArea, StagingSettings
from s3posixfs.data.version import ObjectVersion
from tests.faulty_store import FaultyStore, lost_answer
from tests.memory_store import MemoryStore

MIN_PART = 64
READS = ReadSettings(
    random_range=32, first_range=48, largest_range=128, window=512, growth=4, tolerance=64
)
UPLOADS = UploadSettings(
    put_limit=200, part_size=80, copy_size=150, min_part=MIN_PART, max_parts=40, parallel=3
)
OFFSETS = st.one_of(st.integers(0, 1200), st.sampled_from([0, 95, 96, 97, 199, 200, 201, 640]))
LENGTHS = st.one_of(st.integers(1, 40), st.integers(1, 400))
T = TypeVar("T")


class StagedFileMachine(RuleBasedStateMachine):
    """Runs the file in one trio loop per step; the nursery of the readers lives in a guest task.

    Each rule is one ``trio.run``, so a reader's nursery is opened for the rule; fetches that are
    under way when it ends are waited for.
    """

    memory_limit = 4000
    disk_limit: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.memory_store = MemoryStore("bucket", min_part_bytes=MIN_PART)
        self.store = FaultyStore(self.memory_store)
        self.base: ObjectReader | None = None
        self.model = bytearray()
        self.counter = 0

    def run(self, body: Callable[[], Awaitable[T]]) -> T:
        async def main() -> T | Exception:
            async with trio.open_nursery() as nursery:
                # The readers outlive one run of the loop: each run lends them its nursery.
                self.readers._nursery = nursery
                for reader in {self.base, self.file.base}:
                    if reader is not None:
                        reader._nursery = nursery
                try:
                    return await body()
                except Exception as error:
                    return error

        result = trio.run(main)
        if isinstance(result, Exception):
            raise result
        return result

    @initialize(size=st.sampled_from([None, 0, 1, 50, 96, 150, 200, 330, 700, 1100]))
    def begin(self, size: int | None) -> None:
        async def make() -> None:
            async with trio.open_nursery() as nursery:
                self.readers = Readers(
                    cache=BlockCache(1000),
                    budget=MemoryBudget(600),
                    nursery=nursery,
                    settings=READS,
                )
                self.area = StagingArea(
                    Path(self.directory.name),
                    memory_limit=self.memory_limit,
                    disk_limit=self.disk_limit,
                    clock=SystemClock(),
                    readers=self.readers,
                    settings=StagingSettings(memory_file=96, batch=2000, upload=UPLOADS),
                )
                if size is not None:
                    data = bytes(index % 251 for index in range(size))
                    stat = self.memory_store.put_now("bucket", "key", data)
                    self.base = self.readers.open(
                        self.store, ObjectVersion("bucket", "key", stat.etag, size)
                    )
                    self.model = bytearray(data)
                self.file: StagedFile = self.area.create(self.base)

        trio.run(make)
        self.in_s3: bytes | None = None if size is None else bytes(self.model)
        self.changed = size is None

    @rule(offset=OFFSETS, length=LENGTHS)
    def write(self, offset: int, length: int) -> None:
        self.counter += 1
        data = bytes((self.counter * 7 + index) % 256 for index in range(length))
        generation = self.file.generation
        try:
            written = self.run(lambda: self.file.write(offset, data))
        except OSError as error:
            self.expect_full_disk(error)
            assert self.file.generation == generation
            return
        assert written == length
        self._extend(offset)
        self.model[offset : offset + length] = data
        self.changed = True
        assert self.file.generation > generation

    def _extend(self, size: int) -> None:
        if size > len(self.model):
            self.model.extend(bytes(size - len(self.model)))

    @rule(size=OFFSETS)
    def truncate(self, size: int) -> None:
        self.run(lambda: self.file.truncate(size))
        self.changed = self.changed or size != len(self.model)
        del self.model[size:]
        self._extend(size)

    @rule(offset=OFFSETS, length=LENGTHS)
    def read(self, offset: int, length: int) -> None:
        found = self.run(lambda: self.file.read(offset, length))
        assert bytes(found) == bytes(self.model[offset : offset + length])

    @rule()
    def read_all(self) -> None:
        assert bytes(self.run(lambda: self.file.read(0, 5000))) == bytes(self.model)

    async def _upload(self) -> None:
        version = self.file.version
        await self.file.upload(
            self.store,
            "bucket",
            "key",
            metadata={"mode": "33188"},
            if_match=None if version is None else version.etag,
        )

    def expect_full_disk(self, error: OSError) -> None:
        if error.errno != errno.ENOSPC or self.disk_limit is None:
            raise error

    @rule()
    def upload(self) -> None:
        try:
            self.run(self._upload)
        except OSError as error:  # a part of the base had to come to a full disk
            self.expect_full_disk(error)
            return
        self.in_s3 = bytes(self.model)
        self.changed = False
        assert self.file.version is not None
        assert self.file.version.etag == self.memory_store.stat("bucket", "key").etag

    @rule(
        operation=st.sampled_from(
            ["put", "create_multipart", "upload_part", "copy_part", "complete_multipart", "get"]
        ),
        skip=st.integers(0, 2),
    )
    def failing_upload(self, operation: str, skip: int) -> None:
        self.store.fail(operation, S3Error("SlowDown", status=503), times=50, skip=skip)
        try:
            self.run(self._upload)
        except S3Error:
            pass
        except OSError as error:
            self.expect_full_disk(error)
        else:
            self.in_s3 = bytes(self.model)
            self.changed = False
        finally:
            self.store.clear()

    @rule(operation=st.sampled_from(["put", "complete_multipart"]))
    def upload_whose_answer_is_lost(self, operation: str) -> None:
        self.store.fail(operation, lost_answer(), after_effect=True)
        try:
            self.run(self._upload)
        except OSError as error:
            self.expect_full_disk(error)
        except S3Error:  # not to be told from another's object: nothing was known before
            stored = self.memory_store.data("bucket", "key")
            assert stored in (self.in_s3, bytes(self.model))
            assert self.file.version is None or self.in_s3 == stored
            self.in_s3 = stored
        else:
            self.in_s3 = bytes(self.model)
            self.changed = False
        finally:
            self.store.clear()

    @rule(steps=st.integers(1, 30))
    def cancelled_upload(self, steps: int) -> None:
        before = self.in_s3

        async def cancel_midway() -> bool:
            done = False
            failure: Exception | None = None

            async def body() -> None:
                nonlocal done, failure
                try:
                    await self._upload()
                    done = True
                except Exception as error:
                    failure = error

            async with trio.open_nursery() as nursery:
                nursery.start_soon(body)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure
            return done

        try:
            done = self.run(cancel_midway)
        except OSError as error:
            self.expect_full_disk(error)
            return
        if done:
            self.in_s3 = bytes(self.model)
            self.changed = False
        else:
            assert self.changed == self.file.dirty
            now = self.memory_store.state.buckets["bucket"].get("key")
            assert (None if now is None else now.data) == before

    @precondition(lambda self: self.in_s3 is not None)
    @rule()
    def reopen(self) -> None:
        """Another daemon's view: a fresh staged file over what is in S3."""

        async def again() -> None:
            await self.file.aclose()
            if self.base is not None:
                await self.base.aclose()
            stat = self.memory_store.stat("bucket", "key")
            version = ObjectVersion("bucket", "key", stat.etag, stat.size)
            self.base = self.readers.open(self.store, version)
            self.file = self.area.create(self.base)

        self.run(again)
        assert self.area.memory_used == 0
        assert self.area.disk_used == 0
        self.model = bytearray(self.in_s3 or b"")
        self.changed = False

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "file"):
            return
        assert self.file.size == len(self.model)
        assert self.file.dirty == self.changed
        assert self.memory_store.state.uploads == {}
        stored = self.memory_store.state.buckets["bucket"].get("key")
        assert (None if stored is None else stored.data) == self.in_s3
        assert self.readers.budget.used == 0
        assert self.readers.cache.reserved == 0
        assert self.readers.cache.used <= 1000

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.run(self.file.aclose)
            assert self.area.memory_used == 0
            assert self.area.disk_used == 0
            assert not list((Path(self.directory.name) / "staged").iterdir())
            self.area.close()
        self.directory.cleanup()


@pytest.mark.parametrize("seed", range(12))
async def test_everything_at_once(tmp_path: Path, seed: int) -> None:
    """One writer, four readers and an uploader with a store that fails: every byte that is read
    is one the file had while the read ran, and what is uploaded is the file at one moment."""
    rng = random.Random(seed)
    memory_store = MemoryStore("bucket", min_part_bytes=MIN_PART)
    store = FaultyStore(memory_store)
    first = rng.randbytes(rng.choice([0, 80, 300, 900]))
    states = [first]  # every content so far; the last one may still be on its way
    reached = 0  # the index of the content that is certainly there
    over = False

    async def writes(file: StagedFile) -> None:
        nonlocal reached, over
        for _ in range(120):
            model = bytearray(states[-1])
            offset = rng.randrange(1000)
            if rng.random() < 0.25:
                del model[offset:]
                model.extend(bytes(offset - len(model)))
                states.append(bytes(model))
                await file.truncate(offset)
            else:
                data = rng.randbytes(rng.randrange(1, 200))
                model.extend(bytes(max(0, offset + len(data) - len(model))))
                model[offset : offset + len(data)] = data
                states.append(bytes(model))
                await file.write(offset, data)
            reached = len(states) - 1
            await trio.lowlevel.checkpoint()
        over = True

    async def reads(file: StagedFile) -> None:
        while not over:
            before = reached
            offset, length = rng.randrange(1000), rng.randrange(1, 400)
            found = bytes(await file.read(offset, length))
            possible = [state[offset : offset + length] for state in states[before:]]
            assert len(found) in {len(state) for state in possible}
            for index, byte in enumerate(found):
                assert byte in {s[index] for s in possible if index < len(s)}, (offset, index)
            await trio.lowlevel.checkpoint()

    async def uploads(file: StagedFile) -> None:
        while not over or file.dirty:
            operation = rng.choice(["put", "upload_part", "copy_part", "complete_multipart"])
            if not over and rng.random() < 0.3:
                store.fail(operation, S3Error("SlowDown", status=503), after_effect=False)
            version = file.version
            try:
                await file.upload(
                    store,
                    "bucket",
                    "key",
                    metadata=None,
                    if_match=None if version is None else version.etag,
                )
            except S3Error as error:
                if error.code != "SlowDown":
                    raise
            else:
                assert memory_store.data("bucket", "key") == states[reached]
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        readers = Readers(
            cache=BlockCache(500), budget=MemoryBudget(300), nursery=nursery, settings=READS
        )
        area = StagingArea(
            tmp_path / "cache",
            memory_limit=rng.choice([0, 2000]),
            disk_limit=None,
            clock=SystemClock(),
            readers=readers,
            settings=StagingSettings(memory_file=96, batch=1500, upload=UPLOADS),
        )
        stat = memory_store.put_now("bucket", "key", first)
        base = readers.open(store, ObjectVersion("bucket", "key", stat.etag, len(first)))
        file = area.create(base)
        async with trio.open_nursery() as tasks:
            tasks.start_soon(writes, file)
            tasks.start_soon(uploads, file)
            for _ in range(4):
                tasks.start_soon(reads, file)
        assert bytes(await file.read(0, 5000)) == states[-1]
        assert memory_store.data("bucket", "key") == states[-1]
        assert memory_store.state.uploads == {}
        await file.aclose()
        await base.aclose()
        area.close()
        assert (area.memory_used, area.disk_used) == (0, 0)


class LittleMemoryMachine(StagedFileMachine):
    """So little memory that writes go straight to disk and small files leave it early."""

    memory_limit = 700


class LittleDiskMachine(StagedFileMachine):
    """A disk that becomes full."""

    disk_limit = 500


@pytest.mark.parametrize("machine", [StagedFileMachine, LittleMemoryMachine, LittleDiskMachine])
def test_staged_file_is_a_bytearray(machine: type[StagedFileMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
