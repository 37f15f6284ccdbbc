"""The names of a directory that changes while it is looked at, against reading it anew."""

from __future__ import annotations

import os
import random
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3posixfs.store.backend import naming, snapshots
from s3posixfs.store.backend.names import MARK
from s3posixfs.store.backend.naming import read_names
from s3posixfs.store.backend.snapshots import SnapshotCache
from s3posixfs.store.backend.sorted_names import Cursor, SortedNames
from s3posixfs.store.backend.watching import DirectoryWatch


def all_of(names: SortedNames) -> list[bytes]:
    cursor = Cursor(names)
    return list(iter(cursor.next, None))


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def full(folder: Path, count: int = 3000) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"object-{number:06}").touch()
    return folder


@given(
    st.sets(st.integers(0, 9000), max_size=60),
    st.sets(st.integers(0, 9000), max_size=60),
    st.integers(1, 8000),
)
def test_changed_names_are_those_of_a_set(added: set[int], removed: set[int], count: int) -> None:
    def named(numbers: set[int]) -> set[bytes]:
        return {b"%d" % number for number in numbers}

    there = named(set(range(0, count, 3)))
    plus, minus = named(added - removed), named(removed)
    names = SortedNames.of(sorted(there)).changed(plus, minus)
    wanted = sorted((there | plus) - minus)
    assert all_of(names) == wanted
    assert all(name in names for name in plus)
    assert not any(name in names for name in minus)


def test_names_that_all_go_and_come_back() -> None:
    names = SortedNames.of([b"", b"a", b"b/"])
    assert Cursor(names).begins_empty
    empty = names.changed([], [b"", b"a", b"b/"])
    assert all_of(empty) == []
    assert all_of(empty.changed([b"z", b"y"], [])) == [b"y", b"z"]


@given(st.lists(st.integers(0, 2500), max_size=8), st.integers(0, 2200))
def test_a_cursor_is_at_the_first_name_not_less_and_never_moves_back(
    positions: list[int], count: int
) -> None:
    ordered = [b"%06d" % number for number in range(0, count, 2)]
    cursor = Cursor(SortedNames.of(ordered))
    at = 0
    for position in positions:
        name = b"%06d" % position
        cursor.seek(name)
        at = max(at, bisect_left(ordered, name))
        assert cursor.next() == (ordered[at] if at < len(ordered) else None)
        at = min(at + 1, len(ordered))


def _make(folder: Path, generator: random.Random) -> None:
    """One change of the kinds that the store and local programs make."""
    number = generator.randrange(60)
    kind = generator.randrange(9)
    plain = folder / f"object-{number:06}"
    beside = Path(os.fsdecode(os.fsencode(folder) + b"/" + MARK + b"o" + plain.name.encode()))
    escaped = Path(os.fsdecode(os.fsencode(folder) + b"/" + MARK + b"d.."))
    with suppress(OSError):
        match kind:
            case 0:
                plain.touch()
            case 1:
                plain.unlink()
            case 2:
                plain.mkdir()
            case 3:
                plain.rmdir()
            case 4:
                beside.touch()
            case 5:
                beside.unlink()
            case 6:
                plain.rename(folder / f"object-{generator.randrange(60):06}")
            case 7:
                plain.symlink_to("nowhere")
            case _:
                (escaped.rmdir if escaped.exists() else escaped.mkdir)()


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often a directory was read whole by the cache."""
    counted: list[int] = []
    read: Callable[[int], object] = naming.read_names

    def counting(fd: int) -> object:
        counted.append(fd)
        return read(fd)

    monkeypatch.setattr(snapshots, "read_names", counting)
    return counted


def test_a_large_directory_that_changes_is_followed(tmp_path: Path, readings: list[int]) -> None:
    folder = full(tmp_path / "folder")
    generator = random.Random(3)
    cache = SnapshotCache()
    with opened(folder) as fd:
        for _ in range(400):
            for _ in range(generator.randrange(4)):
                _make(folder, generator)
            assert all_of(cache.get(fd)) == all_of(read_names(fd)[0])
    cache.close()
    # Once as any directory, once to begin to follow it.
    assert len(readings) == 2


def test_the_rest_of_a_long_segment_is_seen_in_a_directory_that_was_followed(
    tmp_path: Path,
) -> None:
    folder = full(tmp_path / "folder")
    cache = SnapshotCache()
    with opened(folder) as fd:
        for number in range(3):
            (folder / f"new-{number}").touch()
            cache.get(fd)
        inner = Path(os.fsdecode(os.fsencode(folder) + b"/" + MARK + b"l" + b"x" * 249))
        inner.mkdir()
        assert all_of(cache.get(fd)) == all_of(read_names(fd)[0])
        Path(os.fsdecode(os.fsencode(inner) + b"/" + MARK + b"oend")).touch()
        found = all_of(cache.get(fd))
        assert b"x" * 249 + b"end" in found
        assert found == all_of(read_names(fd)[0])
    cache.close()


def test_more_changes_than_the_kernel_keeps_are_not_missed(tmp_path: Path) -> None:
    folder = full(tmp_path / "folder")
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    cache = SnapshotCache()
    with opened(folder) as fd:
        for number in range(3):
            (folder / f"new-{number}").touch()
            cache.get(fd)
        for number in range(most // 2 + 10):
            name = folder / f"passing-{number}"
            name.touch()
            name.unlink()
        (folder / "last").touch()
        assert b"last" in cache.get(fd)
        (folder / "after").touch()
        assert b"after" in cache.get(fd)
    cache.close()


def test_a_directory_that_was_replaced_is_another(tmp_path: Path) -> None:
    cache = SnapshotCache()
    for turn in range(4):
        folder = full(tmp_path / "folder", 1500)
        with opened(folder) as fd:
            for number in range(3):
                (folder / f"turn-{turn}-{number}").touch()
                assert all_of(cache.get(fd)) == all_of(read_names(fd)[0])
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    cache.close()


def test_threads_see_all_that_was_made_before_they_ask(tmp_path: Path) -> None:
    folder = full(tmp_path / "folder")
    cache = SnapshotCache()
    missed: list[str] = []

    def work(number: int) -> None:
        with opened(folder) as fd:
            for turn in range(60):
                name = f"by-{number}-{turn}"
                (folder / name).touch()
                if name.encode() not in cache.get(fd):
                    missed.append(name)
                (folder / name).unlink()
                if name.encode() in cache.get(fd):
                    missed.append(f"{name} stays")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    assert not missed


def test_without_watches_directories_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectoryWatch, "add", lambda *_: None)
    folder = full(tmp_path / "folder")
    cache = SnapshotCache()
    with opened(folder) as fd:
        for number in range(5):
            (folder / f"new-{number}").touch()
            assert all_of(cache.get(fd)) == all_of(naming.read_names(fd)[0])
    cache.close()


def test_little_is_kept_of_much(tmp_path: Path) -> None:
    folders = [full(tmp_path / f"folder-{number}", 1200) for number in range(24)]
    cache = SnapshotCache(max_bytes=100_000)
    for turn in range(4):
        for folder in folders:
            with opened(folder) as fd:
                (folder / f"new-{turn}").touch()
                assert f"new-{turn}".encode() in cache.get(fd)
    cache.close()
