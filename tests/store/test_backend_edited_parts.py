"""Copied parts keep the places of their source, and what was sent goes into the gaps between."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import CompletedPart, Condition
from tests.store.backend_kit import BUCKET, backend_at, facts_of, md5, put, read
from tests.store.test_backend_placed_parts import KEY, add, begin, body, complete_by_chance, refused

SIZE = 1000
SOURCE = body(77, SIZE)


@pytest.fixture(params=[True, False], ids=["xattr", "sidecar"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryBackend]:
    made = backend_at(tmp_path / "root", xattrs=request.param)
    put(made, KEY, SOURCE)
    yield made
    made.close()


def copy(
    backend: DirectoryBackend,
    upload: str,
    number: int,
    start: int,
    end: int,
    source: bytes = SOURCE,
) -> CompletedPart:
    """Part ``number`` as a copy of a range of ``source``."""
    data = source[start:end]
    with backend.begin_part(BUCKET, KEY, upload, number, end - start, copied_from=start) as part:
        part.write(data)
        part.commit(md5(data))
    return CompletedPart(number, md5(data))


def shared_of(root: Path) -> Path:
    (found,) = (root / ".s3posixfs" / "uploads").rglob("edited")
    return found


def test_an_edit_copies_only_what_was_sent(backend: DirectoryBackend, tmp_path: Path) -> None:
    upload = begin(backend)
    sent = add(backend, upload, 2, body(2, 120))
    last = copy(backend, upload, 3, 420, SIZE)
    first = copy(backend, upload, 1, 0, 300)
    inode = shared_of(tmp_path / "root").stat().st_ino
    record = backend.complete_upload(BUCKET, KEY, upload, [first, sent, last])
    assert read(backend, KEY) == SOURCE[:300] + body(2, 120) + SOURCE[420:]
    assert record.part_sizes == (300, 120, SIZE - 420)
    made = (tmp_path / "root" / BUCKET / KEY).stat()
    assert (made.st_ino, made.st_nlink, made.st_mode & 0o7777) == (inode, 1, 0o644)
    assert not any((tmp_path / "root" / ".s3posixfs" / "uploads" / BUCKET).iterdir())


def test_a_longer_end_is_added(backend: DirectoryBackend, tmp_path: Path) -> None:
    upload = begin(backend)
    parts = [copy(backend, upload, 1, 0, SIZE), add(backend, upload, 2, body(2, 50))]
    inode = shared_of(tmp_path / "root").stat().st_ino
    backend.complete_upload(BUCKET, KEY, upload, parts)
    assert read(backend, KEY) == SOURCE + body(2, 50)
    assert (tmp_path / "root" / BUCKET / KEY).stat().st_ino == inode


def test_a_copy_that_goes_elsewhere_is_moved(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    parts = [copy(backend, upload, 1, 500, 700), copy(backend, upload, 2, 0, 400)]
    backend.complete_upload(BUCKET, KEY, upload, parts)
    assert read(backend, KEY) == SOURCE[500:700] + SOURCE[:400]


def test_places_do_not_overlap(backend: DirectoryBackend) -> None:
    """Parts of several objects, as where these are joined."""
    upload = begin(backend)
    sources = {n: body(n, SIZE) for n in (1, 2, 3)}
    parts = [
        copy(backend, upload, n, 100 * n, 100 * n + 250, source) for n, source in sources.items()
    ]
    backend.complete_upload(BUCKET, KEY, upload, parts)
    assert read(backend, KEY) == b"".join(
        source[100 * n : 100 * n + 250] for n, source in sources.items()
    )


def test_a_refused_completion_takes_nothing_from_parts_left_out(
    backend: DirectoryBackend,
) -> None:
    upload = begin(backend)
    first, sent = copy(backend, upload, 1, 0, 300), add(backend, upload, 2, body(2, 120))
    third, last = copy(backend, upload, 3, 300, 420), copy(backend, upload, 4, 420, SIZE)
    with refused("PreconditionFailed"):
        backend.complete_upload(
            BUCKET, KEY, upload, [first, sent, last], condition=Condition(if_none_match=True)
        )
    assert read(backend, KEY) == SOURCE
    backend.complete_upload(BUCKET, KEY, upload, [first, third, last])
    assert read(backend, KEY) == SOURCE


def test_a_refused_completion_can_be_tried_again(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    parts = [copy(backend, upload, 1, 0, 300), add(backend, upload, 2, body(2, 120))]
    for _ in range(2):
        with refused("PreconditionFailed"):
            backend.complete_upload(
                BUCKET, KEY, upload, parts, condition=Condition(if_none_match=True)
            )
    again = add(backend, upload, 2, body(3, 90))
    backend.complete_upload(BUCKET, KEY, upload, [parts[0], again])
    assert read(backend, KEY) == SOURCE[:300] + body(3, 90)


def test_a_name_that_a_crash_left_is_not_written_through(
    backend: DirectoryBackend, tmp_path: Path
) -> None:
    """The file is an object already, and the upload not yet gone."""
    upload = begin(backend)
    first = copy(backend, upload, 1, 0, 300)
    os.link(shared_of(tmp_path / "root"), tmp_path / "root" / BUCKET / "taken")
    sent, last = add(backend, upload, 2, body(2, 120)), copy(backend, upload, 3, 420, SIZE)
    backend.complete_upload(BUCKET, KEY, upload, [first, sent, last])
    assert read(backend, KEY) == SOURCE[:300] + body(2, 120) + SOURCE[420:]
    assert (tmp_path / "root" / BUCKET / "taken").read_bytes() == SOURCE[:300]


@pytest.mark.parametrize("end", ["0 3", "0 300\n4", ""])
def test_a_list_of_places_cut_short_by_a_crash(
    backend: DirectoryBackend, tmp_path: Path, end: str
) -> None:
    upload = begin(backend)
    first = copy(backend, upload, 1, 0, 300)
    (shared_of(tmp_path / "root").parent / "ranges").write_text(end)
    second, last = copy(backend, upload, 2, 300, 420), copy(backend, upload, 3, 420, SIZE)
    backend.complete_upload(BUCKET, KEY, upload, [first, second, last])
    assert read(backend, KEY) == SOURCE


def test_a_crash_between_name_and_end_is_finished_at_the_start(tmp_path: Path) -> None:
    root = tmp_path / "root"
    backend = backend_at(root)
    put(backend, KEY, SOURCE)
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    parts = [copy(backend, upload, 1, 0, 300), add(backend, upload, 2, body(2, 120))]
    uploads = root / ".s3posixfs" / "uploads" / BUCKET
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in (uploads / upload).iterdir():
        if file.name != "edited":
            os.link(file, kept / file.name)
    backend.complete_upload(BUCKET, KEY, upload, parts)
    os.link(root / BUCKET / KEY, kept / "edited")
    kept.rename(uploads / upload)  # as if the completion had ended after the object's name
    backend.close()
    again = backend_at(root)
    assert not any(uploads.iterdir())
    assert read(again, KEY) == SOURCE[:300] + body(2, 120)
    again.close()


@pytest.mark.parametrize("seed", range(30))
def test_any_copies_and_parts_in_any_order(backend: DirectoryBackend, seed: int) -> None:
    """Ranges, repetitions, broken copies and parts by chance: the object is what was chosen."""
    chance = random.Random(seed)
    upload = begin(backend)
    sent: dict[int, bytes] = {}
    for _ in range(chance.randint(1, 12)):
        number = chance.randint(1, 6)
        if chance.random() < 0.3:
            data = chance.randbytes(chance.choice([100, 100, chance.randint(10, 150)]))
            add(backend, upload, number, data)
            sent[number] = data
            continue
        start = chance.choice([100 * (number - 1), chance.randrange(SIZE - 10)])
        end = min(SIZE, start + chance.choice([100, chance.randint(10, 300)]))
        if chance.random() < 0.2:
            with backend.begin_part(
                BUCKET, KEY, upload, number, end - start, copied_from=start
            ) as part:
                part.write(SOURCE[start : chance.randint(start, end)])
            continue
        source = SOURCE if chance.random() < 0.7 else chance.randbytes(SIZE)
        copy(backend, upload, number, start, end, source)
        sent[number] = source[start:end]
    for _ in range(2):
        if not sent:
            break
        chosen = sorted(chance.sample(sorted(sent), chance.randint(1, len(sent))))
        parts = [CompletedPart(number, md5(sent[number])) for number in chosen]
        with refused("PreconditionFailed"):
            backend.complete_upload(
                BUCKET, KEY, upload, parts, condition=Condition(if_none_match=True)
            )
    complete_by_chance(backend, upload, sent, chance)


def test_no_copy_reaches_into_the_next(backend: DirectoryBackend) -> None:
    upload = begin(backend)
    second = copy(backend, upload, 2, 300, SIZE)
    with backend.begin_part(BUCKET, KEY, upload, 1, 300, copied_from=0) as part:
        part.write(SOURCE[:300])
        with pytest.raises(S3Error):
            part.write(b"!")
    first = copy(backend, upload, 1, 0, 300)
    backend.complete_upload(BUCKET, KEY, upload, [first, second])
    assert read(backend, KEY) == SOURCE
