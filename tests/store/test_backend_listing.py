"""Listings against a plain reference: sorted UTF-8, prefixes rolled up, pages that join."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend import xattr
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import Listing, ObjectRecord
from tests.store.backend_kit import BUCKET, NASTY, backend_at, facts_of, keys, put

KEYS = [
    *NASTY,
    "photos/2025/1.jpg",
    "photos/2025/2.jpg",
    "photos/2025-x",
    "photos/2026/1.jpg",
    "photos.txt",
    "photos0",
    "z/z/z/z/z",
]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryBackend]:
    made = backend_at(tmp_path_factory.mktemp("listing") / "root")
    for key in KEYS:
        put(made, key, b"" if key.endswith("b/") else b"x")
    yield made
    made.close()


def reference(
    prefix: str, delimiter: str, start_after: str, max_keys: int
) -> tuple[list[str], list[str], bool]:
    """ListObjectsV2 of KEYS as S3 describes it."""
    rows: list[tuple[bytes, str, bool]] = []
    for key in sorted(KEYS, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= start_after.encode():
            continue
        head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        rolled = prefix + head + cut if cut else ""
        if rolled and (rolled == start_after or (rolled.encode(), rolled, True) in rows):
            continue
        rows.append((rolled.encode(), rolled, True) if rolled else (key.encode(), key, False))
    page = rows[:max_keys]
    return (
        [name for _, name, is_prefix in page if not is_prefix],
        [name for _, name, is_prefix in page if is_prefix],
        len(rows) > max_keys > 0,
    )


def told(page: Listing) -> tuple[list[str], list[str], bool]:
    return [record.key for record in page.objects], list(page.prefixes), page.truncated


@pytest.mark.parametrize("delimiter", ["", "/", "a", "//", "b/", ".jpg", "é"])
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "a",
        "a/",
        "a//",
        "/",
        "photos",
        "photos/",
        "photos/2025",
        "photos/2025/",
        "photos.txt/",
        "z/z/",
        "é",
        "none",
        "none/",
        ".",
        "../",
        ".~s3~",
        "x" * 251,
        "é" * 130 + "/",
        "\0",
    ],
    ids=lambda text: repr(text)[:12],
)
def test_every_page_is_what_s3_would_say(
    backend: DirectoryBackend, prefix: str, delimiter: str
) -> None:
    starts = [
        "",
        "a",
        "a/",
        "a/b",
        "photos/2025/1.jpg",
        "photos/",
        "photos/2025",
        "\U0010ffff",
        "!",
    ]
    for start_after in starts:
        for max_keys in (0, 1, 2, 1000):
            page = backend.list(BUCKET, prefix, delimiter, start_after, max_keys)
            assert told(page) == reference(prefix, delimiter, start_after, max_keys)


@pytest.mark.parametrize("delimiter", ["", "/", "a"])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_pages_join(backend: DirectoryBackend, delimiter: str, size: int) -> None:
    objects: list[str] = []
    prefixes: list[str] = []
    after = ""
    for _ in range(len(KEYS) + 1):
        page = backend.list(BUCKET, "", delimiter, after, size)
        objects += [record.key for record in page.objects]
        prefixes += page.prefixes
        if not page.truncated:
            break
        assert len(page.objects) + len(page.prefixes) == size
        after = page.next_after
    assert (objects, prefixes) == reference("", delimiter, "", 10_000)[:2]


def test_records_are_those_of_head(backend: DirectoryBackend) -> None:
    for record in backend.list(BUCKET).objects:
        assert backend.head(BUCKET, record.key) == record


def test_a_listing_sees_what_was_just_written(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root")
    folder = tmp_path / "root" / BUCKET
    for number in range(40):
        put(backend, f"d/{number:02d}")
        assert len(backend.list(BUCKET, "d/").objects) == 2 * number + 1
        # A local program in the same tick of the clock, behind the cache's back.
        (folder / "d" / f"local-{number:02d}").write_bytes(b"")
        assert len(backend.list(BUCKET, "d/local").objects) == number + 1
    for number in range(40):
        backend.delete(BUCKET, f"d/{number:02d}")
        assert len(backend.list(BUCKET, "d/", max_keys=50).objects) == min(79 - number, 50)
    backend.close()


def test_a_snapshot_that_is_kept_is_dropped_when_the_directory_changes(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root")
    folder = tmp_path / "root" / BUCKET
    long = "x" * 300
    put(backend, f"d/{long}")
    old = 1_700_000_000_000_000_000
    for directory in [folder / "d", *(folder / "d").iterdir()]:
        os.utime(directory, ns=(old, old))  # at rest: what is read now is kept
    assert keys(backend) == [f"d/{long}"]
    put(backend, f"d/{long}y")  # changes only the directory inside
    os.utime(folder / "d", ns=(old, old))
    assert keys(backend) == [f"d/{long}", f"d/{long}y"]
    backend.close()


def test_a_record_that_is_kept_is_dropped_when_its_file_changes(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root")
    file = tmp_path / "root" / BUCKET / "k"
    put(backend, "k", b"body")
    time.sleep(0.25)  # at rest: what is read now is kept

    def listed() -> ObjectRecord:
        backend.list(BUCKET)
        (record,) = backend.list(BUCKET).objects
        assert record == backend.head(BUCKET, "k")
        return record

    first = listed()
    backend.set_tags(BUCKET, "k", {"a": "1"})
    assert listed().tags == {"a": "1"}
    time.sleep(0.25)
    listed()
    file.write_bytes(b"BODY")
    assert listed().etag != first.etag
    time.sleep(0.25)
    listed()
    os.chown(file, 1002, 1002)
    assert listed().owner_id == "bob"
    time.sleep(0.25)
    listed()
    put(backend, "k", b"newer")
    assert listed().size == 5
    time.sleep(0.25)
    listed()
    os.link(file, file.with_name("l"))
    assert [record.key for record in backend.list(BUCKET).objects] == ["k", "l"]
    backend.close()


def test_what_is_new_and_what_is_kept_in_one_page(tmp_path: Path) -> None:
    """After some names that are new, the next is opened at once; it may be one that is kept."""
    backend = backend_at(tmp_path / "root")
    for number in range(20, 30):
        put(backend, f"d/{number}", b"kept")
    time.sleep(0.2)  # a file at rest is kept
    backend.list(BUCKET, "d/")
    for number in (*range(10), 25, *range(40, 50)):
        put(backend, f"d/{number:02}", b"new")
    path = tmp_path / "root" / BUCKET / "d" / "29"
    path.write_bytes(b"by hand")
    for _ in range(2):
        page = backend.list(BUCKET, "d/")
        assert list(page.objects) == [backend.head(BUCKET, key.key) for key in page.objects]
        time.sleep(0.2)
    sizes = {record.key: record.size for record in page.objects}
    assert len(sizes) == 30
    assert (sizes["d/24"], sizes["d/25"], sizes["d/29"], sizes["d/45"]) == (4, 3, 7, 3)
    backend.close()


def test_an_attribute_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as file:
        with pytest.raises(OSError, match="No data available"):
            xattr.read_xattr(file.fileno(), b"user.s3posixfs")
        for value in (b"", b"\0" * 200, os.urandom(3000)):
            os.setxattr(path, b"user.s3posixfs", value)
            assert xattr.read_xattr(file.fileno(), b"user.s3posixfs") == value
        monkeypatch.setattr(xattr, "_ROOM", 100)
        assert xattr.read_xattr(file.fileno(), b"user.s3posixfs") == value
    with pytest.raises(OSError, match="Bad file descriptor"):
        xattr.read_xattr(-1, b"user.s3posixfs")


def test_deep_local_folders_do_not_exhaust_anything(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root")
    fd = os.open(tmp_path / "root" / BUCKET, os.O_RDONLY)
    for _ in range(700):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    assert keys(backend) == []  # the key would be over 1,024 bytes
    assert backend.list(BUCKET, delimiter="/").prefixes == ()
    with pytest.raises(S3Error, match="BucketNotEmpty"):
        backend.delete_bucket(BUCKET)
    put(backend, "d/" * 500 + "deep")
    assert keys(backend) == ["d/" * 500 + "deep"]
    backend.close()


def test_listing_while_others_write(tmp_path: Path) -> None:
    """What stays is in every listing, in order and once, whatever comes and goes beside it."""
    backend = backend_at(tmp_path / "root")
    staying = [f"s/{number:03d}/k" for number in range(30)] + ["a", "s/010"]
    for key in staying:
        put(backend, key)
    stop = threading.Event()
    problems: list[BaseException] = []

    def disturb(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not stop.is_set():
                key = chance.choice(["a/b", "s/005", "s/010/x", "t/u/v", "s/", "s/011/k/l"])
                if chance.random() < 0.5:
                    put(backend, key, b"" if key.endswith("/") else b"x", facts_of())
                else:
                    backend.delete(BUCKET, key)
                put(backend, chance.choice(staying), b"again")
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=disturb, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            found = keys(backend)
            assert found == sorted(set(found), key=str.encode)
            assert set(staying) <= set(found)
            for key in staying:
                backend.head(BUCKET, key)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == []
    backend.close()
