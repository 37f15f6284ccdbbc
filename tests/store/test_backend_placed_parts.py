"""Parts that are written where they belong in the object: nothing is copied, nothing is mixed."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import CompletedPart, Condition
from tests.store.backend_kit import BUCKET, backend_at, facts_of, md5, put, read

KEY = "folder/big"
STEP = 100


@pytest.fixture(params=[True, False], ids=["xattr", "sidecar"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryBackend]:
    made = backend_at(tmp_path / "root", xattrs=request.param)
    yield made
    made.close()


def refused(code: str) -> pytest.RaisesExc[S3Error]:
    return pytest.RaisesExc(S3Error, check=lambda error: error.code == code)


def begin(backend: DirectoryBackend) -> str:
    return backend.create_upload(BUCKET, KEY, facts_of())


def add(
    backend: DirectoryBackend, upload: str, number: int, data: bytes, *, announced: bool = True
) -> CompletedPart:
    length = len(data) if announced else None
    with backend.begin_part(BUCKET, KEY, upload, number, length) as part:
        part.write(data)
        part.commit(md5(data))
    return CompletedPart(number, md5(data))


def body(number: int, size: int = STEP) -> bytes:
    return random.Random(number).randbytes(size)


def complete_by_chance(
    backend: DirectoryBackend, upload: str, sent: dict[int, bytes], chance: random.Random
) -> None:
    """Complete an upload with some of its parts: the object is these, in their order."""
    if not sent:
        backend.abort_upload(BUCKET, KEY, upload)
        return
    chosen = sorted(chance.sample(sorted(sent), chance.randint(1, len(sent))))
    parts = [CompletedPart(number, md5(sent[number])) for number in chosen]
    record = backend.complete_upload(BUCKET, KEY, upload, parts)
    assert read(backend, KEY) == b"".join(sent[number] for number in chosen)
    assert record.part_sizes == tuple(len(sent[number]) for number in chosen)


def whole_of(root: Path) -> os.stat_result:
    (found,) = (root / ".s3posixfs" / "uploads").rglob("whole")
    return found.stat()


def test_the_shared_file_becomes_the_object(backend: DirectoryBackend, tmp_path: Path) -> None:
    upload = begin(backend)
    parts = [add(backend, upload, n, body(n)) for n in (2, 1, 3)] + [
        add(backend, upload, 4, body(4, 7))
    ]
    inode = whole_of(tmp_path / "root").st_ino
    record = backend.complete_upload(BUCKET, KEY, upload, sorted(parts, key=lambda p: p.number))
    assert read(backend, KEY) == body(1) + body(2) + body(3) + body(4, 7)
    assert record.part_sizes == (STEP, STEP, STEP, 7)
    made = (tmp_path / "root" / BUCKET / KEY).stat()
    assert (made.st_ino, made.st_nlink, made.st_mode & 0o7777) == (inode, 1, 0o644)
    assert not any((tmp_path / "root" / ".s3posixfs" / "uploads" / BUCKET).iterdir())


def test_a_part_sent_again_counts(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    add(backend, upload, 1, body(1))
    second = add(backend, upload, 2, body(2, 30))
    again = add(backend, upload, 1, body(9))
    once_more = add(backend, upload, 1, body(10))
    with refused("InvalidPart"):
        backend.complete_upload(BUCKET, KEY, upload, [again, second])
    backend.complete_upload(BUCKET, KEY, upload, [once_more, second])
    assert read(backend, KEY) == body(10) + body(2, 30)


def test_parts_that_are_left_out_are_not_in_the_object(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    parts = [add(backend, upload, n, body(n)) for n in (1, 2, 3)]
    taken = put(backend, KEY, b"somebody else's")
    with refused("PreconditionFailed"):
        backend.complete_upload(
            BUCKET, KEY, upload, parts[:2], condition=Condition(if_none_match=True)
        )
    assert read(backend, KEY) == b"somebody else's"
    # What failed took nothing away: all three are still there, and so is their order.
    backend.complete_upload(BUCKET, KEY, upload, parts, condition=Condition(if_match=taken.etag))
    assert read(backend, KEY) == body(1) + body(2) + body(3)


def test_a_refused_completion_leaves_the_shared_file(
    backend: DirectoryBackend, tmp_path: Path
) -> None:
    upload = begin(backend)
    parts = [add(backend, upload, n, body(n)) for n in (1, 2)]
    put(backend, KEY, b"there")
    for _ in range(2):
        with refused("PreconditionFailed"):
            backend.complete_upload(
                BUCKET, KEY, upload, parts, condition=Condition(if_none_match=True)
            )
    assert whole_of(tmp_path / "root").st_nlink == 1
    scratch = tmp_path / "root" / ".s3posixfs" / "tmp"
    assert [path for path in scratch.rglob("*") if path.is_file()] == []
    backend.complete_upload(BUCKET, KEY, upload, parts)
    assert read(backend, KEY) == body(1) + body(2)


def test_a_broken_part_gives_its_place_back(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    first = add(backend, upload, 1, body(1))
    with backend.begin_part(BUCKET, KEY, upload, 2, STEP) as part:
        part.write(b"half of i")
    second = add(backend, upload, 2, body(2))
    assert [part.number for part in backend.list_parts(BUCKET, KEY, upload).parts] == [1, 2]
    backend.complete_upload(BUCKET, KEY, upload, [first, second])
    assert read(backend, KEY) == body(1) + body(2)


def test_no_part_reaches_into_the_next(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    second = add(backend, upload, 2, body(2))
    with backend.begin_part(BUCKET, KEY, upload, 1, STEP) as part:
        part.write(body(1))
        with refused("IncompleteBody"):
            part.write(b"!")
    first = add(backend, upload, 1, body(1))
    backend.complete_upload(BUCKET, KEY, upload, [first, second])
    assert read(backend, KEY) == body(1) + body(2)


def test_two_that_send_the_same_part_at_once(backend: DirectoryBackend) -> None:
    """A client that gave up waiting sends the part again while the first is still coming."""
    upload = begin(backend)
    with backend.begin_part(BUCKET, KEY, upload, 1, STEP) as slow:
        slow.write(body(1)[:50])
        quick = add(backend, upload, 1, body(5))
        assert [p.etag for p in backend.list_parts(BUCKET, KEY, upload).parts] == [quick.etag]
        slow.write(body(1)[50:])
        slow.commit(md5(body(1)))
    second = add(backend, upload, 2, body(2, 10))
    with refused("InvalidPart"):
        backend.complete_upload(BUCKET, KEY, upload, [quick, second])
    backend.complete_upload(BUCKET, KEY, upload, [CompletedPart(1, md5(body(1))), second])
    assert read(backend, KEY) == body(1) + body(2, 10)


def test_who_is_still_writing_cannot_reach_the_object(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    parts = [add(backend, upload, n, body(n)) for n in (1, 2)]
    with backend.begin_part(BUCKET, KEY, upload, 3, STEP) as late:
        late.write(body(3)[:10])
        backend.complete_upload(BUCKET, KEY, upload, parts)
        late.write(body(3)[10:])
        with refused("NoSuchUpload"):
            late.commit(md5(body(3)))
    assert read(backend, KEY) == body(1) + body(2)


def test_what_a_crash_left_of_a_completion(backend: DirectoryBackend, tmp_path: Path) -> None:
    """The object has its name, the upload is not yet gone: nobody writes to it any more."""
    root = tmp_path / "root"
    upload = begin(backend)
    parts = [add(backend, upload, n, body(n)) for n in (1, 2)]
    (shared,) = (root / ".s3posixfs" / "uploads").rglob("whole")
    os.link(shared, root / BUCKET / "taken")
    third = add(backend, upload, 3, body(3))
    assert (root / BUCKET / "taken").read_bytes() == body(1) + body(2)
    backend.complete_upload(BUCKET, KEY, upload, [*parts, third])
    assert read(backend, KEY) == body(1) + body(2) + body(3)
    assert (root / BUCKET / "taken").read_bytes() == body(1) + body(2)


def test_a_claim_that_a_dead_process_left(backend: DirectoryBackend, tmp_path: Path) -> None:
    upload = begin(backend)
    first = add(backend, upload, 1, body(1))
    (shared,) = (tmp_path / "root" / ".s3posixfs" / "uploads").rglob("whole")
    (shared.parent / "c00002").touch()
    second = add(backend, upload, 2, body(2))
    backend.complete_upload(BUCKET, KEY, upload, [first, second])
    assert read(backend, KEY) == body(1) + body(2)


def test_parts_come_at_once(backend: DirectoryBackend, tmp_path: Path) -> None:
    upload = begin(backend)
    parts: dict[int, CompletedPart] = {}

    def send(number: int) -> None:
        parts[number] = add(backend, upload, number, body(number))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    inode = whole_of(tmp_path / "root").st_ino
    backend.complete_upload(BUCKET, KEY, upload, [parts[n] for n in sorted(parts)])
    assert read(backend, KEY) == b"".join(body(n) for n in range(1, 17))
    assert (tmp_path / "root" / BUCKET / KEY).stat().st_ino == inode


@pytest.mark.parametrize("seed", range(60))
def test_any_parts_in_any_order(backend: DirectoryBackend, seed: int) -> None:
    """Sizes, repetitions, broken and unannounced parts by chance: the object is what was chosen."""
    chance = random.Random(seed)
    upload = begin(backend)
    sent: dict[int, bytes] = {}
    for _ in range(chance.randint(1, 14)):
        number = chance.randint(1, 6)
        size = chance.choice([STEP, STEP, STEP, chance.randint(10, 150)])
        data = chance.randbytes(size)
        if chance.random() < 0.2:
            with backend.begin_part(BUCKET, KEY, upload, number, size) as part:
                part.write(data[: chance.randint(0, size)])
            continue
        add(backend, upload, number, data, announced=chance.random() < 0.8)
        sent[number] = data
    complete_by_chance(backend, upload, sent, chance)
