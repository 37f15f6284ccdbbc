"""Which names the kernel is asked to forget. The bed acts as the kernel."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio

from s3posixfs.fs import evicting
from s3posixfs.fs.config import FsConfig
from tests.filesystem_bed import BUCKET, ROOT, Bed, filesystem_bed

LIMIT = 10


class Kernel:
    """Forgets what it is asked to, unless it uses it."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.asked: list[bytes] = []
        self.keeps: set[bytes] = set()

    def forget(self, names: Sequence[tuple[int, bytes]]) -> None:
        """As from a thread of the mount."""
        for folder, name in names:
            self.asked.append(name)
            if name not in self.keeps:
                trio.from_thread.run_sync(self._forget, folder, name)

    def _forget(self, folder: int, name: bytes) -> None:
        child = self._bed.fs.sweeper.table.get(folder).children[name]
        self._bed.fs.forget(child.number, child.lookups)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    config = FsConfig(bucket=BUCKET, cached_entries=LIMIT)
    async with filesystem_bed(tmp_path, config=config) as bed:
        for number in range(40):
            bed.put(f"d/{number:02}")
        yield bed


@pytest.fixture
def kernel(bed: Bed) -> Kernel:
    kernel = Kernel(bed)
    bed.fs.evictor.forget = kernel.forget
    return kernel


async def evict(bed: Bed) -> None:
    bed.fs.evictor.next_round()
    await bed.fs.evictor.evict()


def known(bed: Bed) -> int:
    return len(bed.fs.sweeper.table)


async def test_those_used_longest_ago_go(bed: Bed, kernel: Kernel) -> None:
    rows = await bed.list("d")
    await bed.pack()
    for number in range(5):
        await bed.walk(f"d/{number:02}")
    await bed.pack()
    await evict(bed)
    assert known(bed) == LIMIT
    assert set(kernel.asked).isdisjoint(f"{number:02}".encode() for number in range(5))
    assert len(kernel.asked) == 42 - LIMIT  # the root and the folder
    again = await bed.list("d")
    assert {name: row.inode for name, row in again.items()} == {
        name: row.inode for name, row in rows.items()
    }


async def test_what_is_open_or_changed_or_a_folder_stays(bed: Bed, kernel: Kernel) -> None:
    for number in range(20):
        await bed.mkdir(f"folder-{number}")
    await bed.list("d")
    opened = await bed.fs.open((await bed.walk("d/01")).inode, os.O_RDONLY, ROOT)
    dirty = await bed.fs.open((await bed.walk("d/02")).inode, os.O_WRONLY, ROOT)
    await bed.fs.write(dirty.handle, 0, b"changed")
    await bed.pack()
    await evict(bed)
    assert set(kernel.asked) == {f"{n:02}".encode() for n in range(40)} - {b"01", b"02"}
    assert known(bed) == 1 + 1 + 20 + 2
    for handle in (opened.handle, dirty.handle):
        await bed.fs.flush(handle)
        await bed.fs.release(handle)
    assert await bed.read("d/02") == b"changed"


async def test_what_the_kernel_uses_stays_and_is_not_asked_for_again(
    bed: Bed, kernel: Kernel
) -> None:
    await bed.list("d")
    kernel.keeps = {f"{number:02}".encode() for number in range(20)}
    await bed.pack()
    await evict(bed)
    assert known(bed) == 2 + 20
    await evict(bed)
    assert len(kernel.asked) == 40
    assert bed.fs.status()["evicted_inodes"] == 20
    await bed.walk("d/03")
    await bed.pack()
    await evict(bed)
    assert kernel.asked[40:] == [b"03"]


async def test_what_is_mounted_on_stays(
    bed: Bed, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = frozenset({b"07"})
    monkeypatch.setattr(evicting, "mounted_names", lambda: mounted)
    await bed.list("d")
    await bed.pack()
    for _ in range(2):
        await evict(bed)
    assert b"07" not in kernel.asked


async def test_where_mounts_cannot_be_seen_the_kernel_is_asked_for_nothing(
    bed: Bed, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evicting, "mounted_names", lambda: None)
    await bed.list("d")
    await bed.pack()
    await evict(bed)
    await evict(bed)
    assert kernel.asked == []


async def test_a_new_name_and_its_time_are_remembered(bed: Bed, kernel: Kernel) -> None:
    await bed.list("d")
    await bed.rename("d/05", "d/new")
    bed.pass_time()
    before = await bed.walk("d/new")
    await bed.pack()
    await evict(bed)
    assert b"new" in kernel.asked or known(bed) == LIMIT
    after = await bed.walk("d/new")
    assert (after.inode, after.attributes) == (before.inode, before.attributes)


def test_mounts_are_found_in_every_namespace(tmp_path: Path) -> None:
    for process, namespace, place in (
        ("2", "one", r"/srv/a\040b"),
        ("7", "one", "/not/read/twice"),
        ("8", "two", "/data/conf//deleted"),
    ):
        folder = tmp_path / process
        (folder / "ns").mkdir(parents=True)
        (folder / "ns" / "mnt").symlink_to(namespace)
        (folder / "mountinfo").write_text(f"36 35 98:0 / {place} rw,noatime - ext3 /dev/root rw\n")
    (tmp_path / "9").mkdir()  # ended
    (tmp_path / "2" / "comm").write_text("kthreadd\n")
    assert evicting.mounted_names(str(tmp_path)) == frozenset({b"a b", b"conf"})
    (tmp_path / "2" / "comm").write_text("sh\n")
    assert evicting.mounted_names(str(tmp_path)) is None
