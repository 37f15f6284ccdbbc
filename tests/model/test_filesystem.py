"""The same operations on the filesystem and on a folder of this host: errno, names, modes, sizes
and bytes must come out alike. Time passes (so that caches age), what is known is packed, and
another S3 client writes."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3posixfs.core.types import Capabilities
from s3posixfs.fs.attributes import NS, AttributeChanges
from tests.filesystem_bed import BUCKET, PLAIN, ROOT, Bed, filesystem_bed
from tests.memory_store import ALL_CAPABILITIES

NAMES = ("a", "b", "c")
# rename(2) onto an ancestor and a walk through a link are the kernel's to refuse.
SAME = {
    errno.ENOTDIR: errno.ENOENT,
    errno.ELOOP: errno.ENOENT,
    errno.EEXIST: errno.ENOTEMPTY,
    errno.EISDIR: errno.ENOTEMPTY,
}

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
offsets = st.integers(0, 300_000)
contents = st.binary(max_size=40) | st.integers(1, 200_000).map(
    lambda size: bytes([size % 251]) * size
)
slots = st.integers(0, 2)

operations = st.one_of(
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("mkdir"), st.sampled_from(NAMES)),
    st.tuples(st.just("store"), paths, contents),
    st.tuples(
        st.just("open"), paths, slots, st.sampled_from((0, os.O_TRUNC, os.O_EXCL, os.O_APPEND))
    ),
    st.tuples(st.just("write"), slots, offsets, contents),
    st.tuples(st.just("read"), slots, offsets, st.integers(1, 100_000)),
    st.tuples(st.just("resize"), slots, offsets),
    st.tuples(st.just("close"), slots),
    st.tuples(st.just("sync"), slots),
    st.tuples(st.just("truncate"), paths, offsets),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("symlink"), paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from((0o600, 0o644, 0o755, 0o4711))),
    st.tuples(st.just("utime"), paths, st.integers(0, 2_000_000_000)),
    st.tuples(st.just("foreign"), st.sampled_from(NAMES), contents),
    st.tuples(st.just("time")),
    st.tuples(st.just("pack")),
    st.tuples(st.just("compare")),
)


@dataclass
class Both:
    """The filesystem and the folder, with what is open in them."""

    bed: Bed
    folder: Path
    handles: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # ours, inode, local

    async def run(
        self, ours: Callable[[], Awaitable[object]], local: Callable[[], object]
    ) -> object:
        """Do it in both; the result, or the errno that both gave."""
        expected: object
        try:
            expected = local()
        except OSError as error:
            expected = OSError(SAME.get(error.errno or 0, error.errno))
        result: object
        try:
            result = await ours()
        except OSError as error:
            result = OSError(SAME.get(error.errno or 0, error.errno))
        assert repr(result) == repr(expected)
        return result

    def at(self, path: str) -> str:
        return str(self.folder / path)

    # Operations, by name.

    async def mkdir(self, path: str) -> None:
        async def ours() -> None:
            await self.bed.mkdir(path)

        await self.run(ours, lambda: os.mkdir(self.at(path), 0o755))

    async def store(self, path: str, data: bytes) -> None:
        async def ours() -> None:
            await self.bed.write(path, data)

        await self.run(ours, lambda: self._store(path, data))

    def _store(self, path: str, data: bytes) -> None:
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
        fd = os.open(self.at(path), flags, 0o644)
        os.write(fd, data)
        os.close(fd)

    async def open(self, path: str, slot: int, extra: int) -> None:
        await self.close(slot)
        flags = os.O_CREAT | os.O_RDWR | extra
        opened: list[int] = []

        async def ours() -> None:
            parent, name = await self.bed.split(path, ROOT)
            found, handle = await self.bed.fs.create(parent, name, 0o644, flags, ROOT)
            opened.extend((handle.handle, found.inode))

        def local() -> None:
            opened.append(os.open(self.at(path), flags | os.O_NOFOLLOW, 0o644))

        await self.run(ours, local)
        if len(opened) == 3:
            self.handles[slot] = (opened[1], opened[2], opened[0])

    async def close(self, slot: int) -> None:
        if slot in self.handles:
            ours, _, local = self.handles.pop(slot)
            os.close(local)
            await self.bed.fs.flush(ours)
            await self.bed.fs.release(ours)

    async def write(self, slot: int, offset: int, data: bytes) -> None:
        if slot in self.handles:
            ours, _, local = self.handles[slot]
            await self.run(
                lambda: self.bed.fs.write(ours, offset, data),
                lambda: os.pwrite(local, data, offset),
            )

    async def read(self, slot: int, offset: int, length: int) -> None:
        if slot in self.handles:
            ours, _, local = self.handles[slot]

            async def read() -> bytes:
                return bytes(await self.bed.fs.read(ours, offset, length))

            await self.run(read, lambda: os.pread(local, length, offset))

    async def resize(self, slot: int, size: int) -> None:
        if slot in self.handles:
            ours, inode, local = self.handles[slot]

            async def resize() -> None:
                await self.bed.fs.setattr(inode, AttributeChanges(size=size), ours, ROOT)

            await self.run(resize, lambda: os.ftruncate(local, size))

    async def sync(self, slot: int) -> None:
        if slot in self.handles:
            await self.bed.fs.fsync(self.handles[slot][0], False)

    async def truncate(self, path: str, size: int) -> None:
        if os.path.islink(self.at(path)):
            return

        async def ours() -> None:
            found = await self.bed.walk(path)
            if found.attributes.is_directory:
                raise OSError(errno.EISDIR, "")
            await self.bed.fs.setattr(found.inode, AttributeChanges(size=size), None, ROOT)

        await self.run(ours, lambda: os.truncate(self.at(path), size))

    async def unlink(self, path: str) -> None:
        await self.run(lambda: self.bed.unlink(path), lambda: os.unlink(self.at(path)))

    async def rmdir(self, path: str) -> None:
        await self.run(lambda: self.bed.rmdir(path), lambda: os.rmdir(self.at(path)))

    async def rename(self, old: str, new: str) -> None:
        await self.run(
            lambda: self.bed.rename(old, new), lambda: os.rename(self.at(old), self.at(new))
        )

    async def symlink(self, path: str) -> None:
        async def ours() -> None:
            parent, name = await self.bed.split(path, ROOT)
            await self.bed.fs.symlink(parent, name, b"nowhere", ROOT)

        await self.run(ours, lambda: os.symlink("nowhere", self.at(path)))

    async def chmod(self, path: str, mode: int) -> None:
        if os.path.islink(self.at(path)):
            return

        async def ours() -> None:
            await self.bed.chmod(path, mode)

        await self.run(ours, lambda: os.chmod(self.at(path), mode))

    async def utime(self, path: str, seconds: int) -> None:
        async def ours() -> None:
            changes = AttributeChanges(atime_ns=seconds * NS, mtime_ns=seconds * NS)
            await self.bed.setattr(path, changes)

        def local() -> None:
            os.utime(self.at(path), (seconds, seconds), follow_symlinks=False)
            assert os.lstat(self.at(path)).st_mtime == seconds

        await self.run(ours, local)
        if os.path.lexists(self.at(path)):
            assert (await self.bed.walk(path)).attributes.mtime_ns == seconds * NS

    async def foreign(self, name: str, data: bytes) -> None:
        """Another client replaces a file of the root that nobody here has open."""
        path = self.folder / name
        open_inodes = {os.fstat(local).st_ino for _, _, local in self.handles.values()}
        if path.is_dir() or path.is_symlink():
            return
        if path.exists() and path.stat().st_ino in open_inodes:
            return
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        os.chmod(path, 0o644)
        # The same bytes in the second of an own change would be taken for what that left.
        self.bed.pass_time()
        self.bed.put(name, data)
        self.bed.pass_time()

    async def time(self) -> None:
        self.bed.pass_time()

    async def pack(self) -> None:
        """What is known of all that is not in use is packed."""
        await self.bed.pack()

    async def compare(self) -> None:
        """The whole trees."""
        assert await self._ours("") == self._local("")

    async def _ours(self, path: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in await self.bed.list(path):
            below = f"{path}/{name}".lstrip("/")
            attributes = (await self.bed.walk(below)).attributes
            if attributes.is_directory:
                found[below] = stat.S_IMODE(attributes.mode) & 0o755
                found |= await self._ours(below)
            elif stat.S_ISLNK(attributes.mode):
                inode = (await self.bed.walk(below)).inode
                found[below] = (await self.bed.fs.readlink(inode, ROOT)).decode()
            else:
                found[below] = (attributes.mode, attributes.size, await self.bed.read(below))
        return found

    def _local(self, path: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for entry in os.scandir(self.at(path)):
            below = f"{path}/{entry.name}".lstrip("/")
            status = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                found[below] = stat.S_IMODE(status.st_mode) & 0o755
                found |= self._local(below)
            elif entry.is_symlink():
                found[below] = os.readlink(entry.path)
            else:
                data = Path(entry.path).read_bytes()
                found[below] = (status.st_mode, status.st_size, data)
        return found


async def replay(steps: list[tuple[object, ...]], capabilities: Capabilities) -> None:
    """Run the steps in both, then compare, age, compare, close, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "local")
        folder.mkdir()
        async with filesystem_bed(Path(scratch), capabilities=capabilities) as bed:
            both = Both(bed, folder)
            with trio.fail_after(60):
                for name, *arguments in steps:
                    await getattr(both, str(name))(*arguments)
                await both.compare()
                bed.pass_time()
                await both.compare()
                for slot in list(both.handles):
                    await both.close(slot)
                bed.pass_time()
                await both.compare()
                keys = bed.store.keys(BUCKET)
                assert {key.rstrip("/") for key in keys} == set(both._local(""))
                assert bed.fs.status()["open_files"] == bed.fs.status()["dirty_files"] == 0


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, PLAIN], ids=["all", "plain"])
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(operations, min_size=1, max_size=40))
def test_as_a_local_folder(capabilities: Capabilities, steps: list[tuple[object, ...]]) -> None:
    trio.run(replay, steps, capabilities)
