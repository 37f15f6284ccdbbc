"""What is known of names that nobody asks for is kept packed, and nobody can tell."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3posixfs.core.types import ObjectStat, Owner
from s3posixfs.fs import sweeping
from s3posixfs.fs.attributes import NS, AttributeChanges, Attributes, Entry
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.inode import Inode
from s3posixfs.fs.inodes import InodeTable
from s3posixfs.fs.packing import Packer
from tests.filesystem_bed import ALICE, BUCKET, PLAIN, ROOT, Bed, filesystem_bed

texts = st.text(st.characters(), max_size=20)  # with halves of surrogate pairs
maybe = st.none() | texts
metadata = st.none() | st.dictionaries(texts, texts, max_size=3)
whole = st.integers(0, 2**32)
times = st.integers(-(2**62), 2**62)
attributes = st.builds(
    *(Attributes, st.sampled_from((0o100644, 0o40755, 0o120777)), whole, whole, whole),
    *(times, times, times, whole),
)
etags = st.binary(min_size=16, max_size=16).map(bytes.hex) | texts | st.just("AB" * 16)
stats = st.builds(
    *(ObjectStat, st.just("a/b") | st.just("a/b/") | texts, whole, etags),
    st.floats(-1e10, 1e10) | st.integers(0, 2**31).map(float),
    *(st.none() | st.builds(Owner, texts, texts), metadata, maybe, maybe, metadata),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any, and those as most are: with attributes that follow from the object."""
    found = draw(st.none() | stats)
    shown = draw(attributes)
    if found is not None and draw(st.booleans()):
        ns = round(found.last_modified * NS)
        shown = Attributes(shown.mode, shown.uid, shown.gid, found.size, ns, ns, ns)
    fetched_at = draw(st.floats(allow_nan=False))
    return Entry(shown, found, fetched_at, draw(st.booleans()), draw(maybe))


@given(
    entry=entries(),
    told=st.none() | st.just("same") | attributes,
    kept=st.none() | st.just("same") | etags,
    names_ns=st.just(0) | times,
    key=st.just("a/b") | st.none(),
    packer=st.sampled_from((Packer(), Packer())),
)
def test_any_entry_comes_out_as_it_went_in(
    entry: Entry,
    told: Attributes | str | None,
    kept: str | None,
    names_ns: int,
    key: str | None,
    packer: Packer,
) -> None:
    shown = entry.attributes if isinstance(told, str) else told
    etag = entry.stat.etag if kept == "same" and entry.stat is not None else kept
    held = (shown, etag, names_ns, 7)
    packed = packer.pack(entry, held, key, 1)
    assert packed is not None
    assert packer.unpack(packed, key) == (entry, held)


def test_what_does_not_fit_stays() -> None:
    huge = Attributes(0o100644, 0, 0, 0, 0, 0, 0)
    found = ObjectStat("a", 2**80, "", 0.0)
    held = (None, None, 0, 0)
    assert Packer().pack(Entry(huge, found, 0.0, exact=True), held, "a", 0) is None
    table = InodeTable("b", "", Entry(huge, None, 0.0, exact=True))
    entry = Entry(huge, found, 0.0, exact=True)
    inode = table.attach(table.root, b"a", entry)
    assert not table.pack(inode)
    assert inode.entry is entry
    assert table.packed == 0


def test_many_kinds_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3posixfs.fs.packing.MOST_KINDS", 3)
    packer = Packer()
    for number in range(10):
        shown = Attributes(0o100644, number, 0, 0, 0, 0, 0)
        found = ObjectStat("k", 0, "e", 0.0, Owner(f"owner-{number}", "name"))
        entry = Entry(shown, found, 1.0, exact=True)
        packed = packer.pack(entry, (None, None, 0, 0), "k", 0)
        assert packed is not None
        assert packer.unpack(packed, "k")[0] == entry


@pytest.fixture(params=["all", "plain"])
async def bed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bed]:
    config = FsConfig(bucket=BUCKET)
    if request.param == "all":
        async with filesystem_bed(tmp_path, config=config) as bed:
            yield bed
    else:
        async with filesystem_bed(tmp_path, config=config, capabilities=PLAIN) as bed:
            yield bed


def inode(bed: Bed, number: int) -> Inode:
    return bed.fs.sweeper.table.get(number)


async def tree(bed: Bed) -> dict[str, tuple[int, int, int, int, int]]:
    """Number, mode, size and times of all, by path."""
    found: dict[str, tuple[int, int, int, int, int]] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for name in await bed.list(folder):
            path = f"{folder}/{name}".lstrip("/")
            row = await bed.walk(path)
            shown = row.attributes
            found[path] = (row.inode, shown.mode, shown.size, shown.mtime_ns, shown.ctime_ns)
            if shown.is_directory:
                waiting.append(path)
    return found


async def test_a_packed_tree_is_the_same(bed: Bed) -> None:
    await bed.mkdir("d", ALICE)
    await bed.mkdir("d/e", ALICE)
    for name in ("d/a", "d/e/b", "c"):
        await bed.write(name, name.encode(), mode=0o600)
        await bed.read(name)
    await bed.rename("d/a", "d/f")
    bed.put("d/other", b"12345", owner="bob", metadata={"mode": str(0o100640), "k": "ü"})
    await bed.fs.symlink((await bed.walk("d")).inode, b"link", b"f", ROOT)
    bed.pass_time()
    before = await tree(bed)
    assert stat.S_ISLNK(before["d/link"][1])
    await bed.pack()
    # Folders may be at work: their times are stored a while later.
    files = [row[0] for row in before.values() if not stat.S_ISDIR(row[1])]
    assert all(inode(bed, number).packed is not None for number in files)
    assert await tree(bed) == before
    await bed.pack()
    assert await bed.read("d/f") == b"d/a"
    await bed.pack()
    await bed.rename("d", "g")
    moved = {path.replace("d", "g", 1): row[:3] for path, row in before.items()}
    now = {path: row[:3] for path, row in (await tree(bed)).items()}
    for rows in (moved, now):
        rows["g/link"] = (0, *rows["g/link"][1:])  # its row alone does not show that it is a link
    assert now == moved
    await bed.pack()
    assert (await bed.chmod("g/e/b", 0o640)).attributes.mode == stat.S_IFREG | 0o640
    await bed.pack()
    await bed.setattr("g/other", AttributeChanges(mtime_ns=5 * NS))
    assert bed.store.stat(BUCKET, "g/other").metadata is not None
    assert (bed.store.stat(BUCKET, "g/other").metadata or {})["k"] == "ü"
    await bed.pack()
    for path in sorted(now, reverse=True):
        await (bed.rmdir(path) if stat.S_ISDIR(now[path][1]) else bed.unlink(path))
    assert bed.store.keys(BUCKET) == []


async def test_what_is_in_use_is_not_packed(bed: Bed) -> None:
    for name in ("open", "dirty", "rest"):
        await bed.write(name, b"x")
    reading = await bed.fs.open((await bed.walk("open")).inode, os.O_RDONLY, ROOT)
    dirty = (await bed.walk("dirty")).inode
    writing = await bed.fs.open(dirty, os.O_WRONLY, ROOT)
    await bed.fs.write(writing.handle, 0, b"longer")
    assert await bed.pack() == 1
    assert inode(bed, (await bed.walk("open")).inode).packed is None
    assert inode(bed, dirty).packed is None
    for handle in (reading.handle, writing.handle):
        await bed.fs.flush(handle)
        await bed.fs.release(handle)
    assert await bed.pack() == 3
    assert inode(bed, dirty).packed is not None
    assert (await bed.fs.getattr(dirty, ROOT)).attributes.size == 6


async def test_the_kernels_pages_stay_those_of_their_version(bed: Bed) -> None:
    bed.put("a", b"first")
    await bed.read("a")
    await bed.pack()
    number = (await bed.walk("a")).inode
    again = await bed.fs.open(number, os.O_RDONLY, ROOT)
    assert again.keep_cache
    await bed.fs.release(again.handle)
    await bed.pack()
    bed.put("a", b"second")
    other = await bed.fs.open(number, os.O_RDONLY, ROOT)
    assert not other.keep_cache
    assert other.outdated
    await bed.fs.release(other.handle)


async def test_a_small_table_is_left_alone(bed: Bed) -> None:
    bed.put("a")
    await bed.walk("a")
    for _ in range(3):
        bed.pass_time()
        await bed.fs.sweeper.sweep()
    assert bed.fs.status()["packed_inodes"] == 0


async def test_a_forgotten_inode_leaves_nothing(bed: Bed) -> None:
    for number in range(100):
        bed.put(f"d/{number:02}")
    rows = await bed.list("d")
    assert await bed.pack() == 101
    for row in rows.values():
        bed.fs.forget(row.inode, 1)
    assert bed.fs.status()["packed_inodes"] == 1
    await bed.pack()
    assert not bed.fs.sweeper.table.recent


async def test_old_listings_go_unless_somebody_reads_from_them(bed: Bed) -> None:
    bed.put("d/a")
    bed.put("e/a")
    await bed.list("d")
    held = await bed.fs.opendir((await bed.walk("e")).inode, ROOT)
    await bed.fs.readdir(held, 0, lambda *_: True)
    folders = [inode(bed, (await bed.walk(name)).inode) for name in ("d", "e")]
    assert all(folder.listing is not None for folder in folders)
    bed.pass_time(sweeping.LISTING_SECONDS + 1)
    await bed.fs.sweeper.sweep()
    assert [folder.listing is not None for folder in folders] == [False, True]
    await bed.fs.releasedir(held)
    await bed.fs.sweeper.sweep()
    assert folders[1].listing is None


async def test_what_is_open_is_known_without_a_look_at_all_names(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        table = bed.fs._state.table

        def open_ones() -> set[bytes]:
            assert set(table.opened) == {inode for inode in table if inode.open_file is not None}
            return {inode.name for inode in table.opened}

        for name in ("a", "b", "c"):
            bed.put(name, b"old")
        handles = {}
        for name, flags in (("a", os.O_RDONLY), ("b", os.O_RDWR), ("c", os.O_RDWR)):
            found = await bed.walk(name)
            handles[name] = (await bed.fs.open(found.inode, flags, ROOT)).handle
        assert open_ones() == {b"a", b"b", b"c"}
        await bed.fs.write(handles["b"], 0, b"new")
        assert bed.fs.status()["dirty_files"] == 1
        await bed.unlink("c")
        for handle in handles.values():
            await bed.fs.flush(handle)
            await bed.fs.release(handle)
        assert open_ones() <= {b"b"}, "it may wait for its upload"
        await bed.fs.drain()
        assert open_ones() == set()
        assert bed.fs.status()["dirty_files"] == 0
