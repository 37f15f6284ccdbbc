"""Files that are sent while they are written, against a bytearray, with a store that keeps S3's
rules of parts and fails now and then.

Whatever a program does after its first parts are sent (seek back, cut, leave holes, fsync), the
object is the file at the moment of the upload, and no upload is left behind.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import S3Error
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagedFile, StagingArea, StagingSettings
from s3posixfs.data.upload_target import Target
from s3posixfs.data.version import ObjectVersion
from tests.faulty_store import FaultyStore, lost_answer
from tests.memory_store import MemoryStore

MIN_PART = 64
UPLOADS = UploadSettings(
    put_limit=200,
    part_size=80,
    copy_size=150,
    min_part=MIN_PART,
    max_parts=60,
    parallel=3,
    early_parts=2,
)
SIZES = st.sampled_from([None, 0, 1, 40, 63, 64, 65, 200, 700])


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens; ``amount`` is an offset, a length or a number of turns."""

    kind: str
    amount: int = 0
    length: int = 0
    operation: str = ""


STEPS = st.lists(
    st.one_of(
        st.builds(Step, st.just("append"), length=st.integers(1, 200)),
        st.builds(Step, st.just("append"), length=st.integers(100, 400)),
        st.builds(Step, st.just("append"), length=st.integers(100, 400)),
        st.builds(Step, st.just("write"), st.integers(0, 1500), st.integers(1, 90)),
        st.builds(Step, st.just("skip"), st.integers(1, 200), st.integers(1, 60)),
        st.builds(Step, st.just("truncate"), st.integers(0, 4000)),
        st.builds(Step, st.just("turns"), st.integers(1, 60)),
        st.builds(Step, st.just("turns"), st.integers(1, 60)),
        st.builds(Step, st.just("read"), st.integers(0, 1500), st.integers(1, 300)),
        st.builds(Step, st.sampled_from(["upload", "upload", "elsewhere"])),
        st.builds(
            Step,
            st.sampled_from(["fail", "refuse", "lose"]),
            st.integers(0, 3),
            operation=st.sampled_from(
                ["create_multipart", "upload_part", "copy_part", "complete_multipart", "put"]
            ),
        ),
    ),
    min_size=4,
    max_size=40,
)


class Run:
    """The file, what it should hold, and the store."""

    def __init__(self, folder: Path, nursery: trio.Nursery, size: int | None) -> None:
        self.nursery = nursery
        self.memory_store = MemoryStore("bucket", min_part_bytes=MIN_PART)
        self.store = FaultyStore(self.memory_store)
        self.readers = Readers(cache=BlockCache(1000), budget=MemoryBudget(1000), nursery=nursery)
        self.area = StagingArea(
            folder,
            memory_limit=4000,
            disk_limit=None,
            clock=SystemClock(),
            readers=self.readers,
            settings=StagingSettings(memory_file=96, batch=500, upload=UPLOADS),
        )
        self.base = None
        self.model = bytearray()
        if size is not None:
            self.model += bytes(index % 251 for index in range(size))
            stat = self.memory_store.put_now("bucket", "key", bytes(self.model))
            version = ObjectVersion("bucket", "key", stat.etag, size)
            self.base = self.readers.open(self.store, version)
        self.file: StagedFile = self.area.create(self.base)
        self.before = None if size is None else bytes(self.model)
        self.counter = 0

    async def put(self, offset: int, length: int) -> None:
        self.counter += 1
        data = bytes((self.counter * 7 + index) % 256 for index in range(length))
        await self.file.refused_early()
        assert await self.file.write(offset, data) == length
        self.model.extend(bytes(max(0, offset + length - len(self.model))))
        self.model[offset : offset + length] = data
        if self.file.wants_stream:
            target = Target("bucket", "key", {"ctime": "1"}, None, None, None, False)
            await self.file.stream(self.store, target, self.nursery)

    async def upload(self, key: str = "key") -> None:
        try:
            stored = await self.file.upload(
                self.store, "bucket", key, metadata={"ctime": str(self.counter)}
            )
        except S3Error:
            self.store.clear()
            stored = await self.file.upload(self.store, "bucket", key, metadata=None)
        assert self.memory_store.data("bucket", key) == bytes(self.model)
        assert self.memory_store.stat("bucket", key).etag == stored.etag
        assert dict(self.memory_store.stat("bucket", key).metadata or {}) == dict(
            stored.target.metadata or {}
        )
        assert self.memory_store.state.uploads == {}
        assert not self.file.dirty

    async def step(self, step: Step) -> None:
        match step.kind:
            case "append":
                await self.put(len(self.model), step.length)
            case "write":
                await self.put(step.amount, step.length)
            case "skip":
                await self.put(len(self.model) + step.amount, step.length)
            case "truncate":
                await self.file.truncate(step.amount)
                del self.model[step.amount :]
                self.model.extend(bytes(step.amount - len(self.model)))
            case "turns":
                stream = self.file._stream
                while stream is not None and not (stream.upload_id or stream.over):  # noqa: ASYNC110
                    await trio.sleep(0.001)  # its note is being written
                for _ in range(step.amount):
                    await trio.lowlevel.checkpoint()
            case "read":
                found = bytes(await self.file.read(step.amount, step.length))
                assert found == self.model[step.amount : step.amount + step.length]
            case "upload":
                await self.upload()
            case "elsewhere":
                if self.file.version is None:  # its base would be under another name
                    await self.upload("other")
                    await self.upload()
            case "fail":
                error = S3Error("SlowDown", status=503)
                self.store.fail(step.operation, error, skip=step.amount)
            case "refuse":
                error = S3Error("AccessDenied", status=403)
                self.store.fail(step.operation, error, skip=step.amount)
            case "lose" if step.operation in ("upload_part", "copy_part"):
                self.store.fail(step.operation, lost_answer(), after_effect=True)

    async def end(self) -> None:
        await self.upload()
        assert bytes(await self.file.read(0, 10_000)) == bytes(self.model)
        await self.file.aclose()
        if self.base is not None:
            await self.base.aclose()
        assert (self.area.memory_used, self.area.disk_used) == (0, 0)
        assert self.area.notes.left == {}
        self.area.close()


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(SIZES, st.sampled_from([0, 400, 900]), STEPS)
def test_what_is_sent_early_is_the_file_in_the_end(
    size: int | None, written: int, steps: list[Step]
) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with trio.open_nursery() as nursery:
                run = Run(Path(folder), nursery, size)
                if written:
                    await run.step(Step("append", length=written))
                for step in steps:
                    await run.step(step)
                await run.end()
                assert list(Path(folder, "staged").iterdir()) == []
                assert list(Path(folder, "uploads").iterdir()) == []
                nursery.cancel_scope.cancel()

    trio.run(main)
