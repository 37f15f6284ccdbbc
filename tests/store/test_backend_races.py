"""Uploads that are changed from several sides at once; descriptors and leftovers of what fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import CompletedPart
from tests.store.backend_kit import ALICE, BOB, BUCKET, backend_at, facts_of, md5, put, read

KEY = "folder/big"
BODY = b"x" * 100
ROUNDS = 300


@pytest.fixture(params=[True, False], ids=["xattr", "sidecar"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryBackend]:
    made = backend_at(tmp_path / "root", xattrs=request.param)
    yield made
    made.close()


def sidecars_in(folder: Path) -> set[Path]:
    found = (folder / "root" / ".s3posixfs" / "sidecars").rglob("*")
    return {path for path in found if path.is_file()}


def at_once(*jobs: Callable[[], None]) -> None:
    """Run jobs in threads; what one raises is raised here."""
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def send(backend: DirectoryBackend, upload: str, number: int, body: bytes = BODY) -> CompletedPart:
    with backend.begin_part(BUCKET, KEY, upload, number, len(body)) as part:
        part.write(body)
        part.commit(md5(body))
    return CompletedPart(number, md5(body))


def test_parts_sent_again_keep_their_facts(backend: DirectoryBackend) -> None:
    """The number of a replaced part's inode is given to the next file: its facts are not that's."""
    upload = backend.create_upload(BUCKET, KEY, facts_of())

    def resend(number: int) -> None:
        for _ in range(ROUNDS):
            send(backend, upload, number)
            found = backend.list_parts(BUCKET, KEY, upload, after=number - 1, max_parts=1).parts
            assert [(part.number, part.size) for part in found] == [(number, len(BODY))]

    at_once(*(lambda number=number: resend(number) for number in range(1, 7)))


def test_a_listing_of_parts_is_of_all_or_none(backend: DirectoryBackend) -> None:
    for _ in range(30):
        upload = backend.create_upload(BUCKET, KEY, facts_of())
        for number in range(1, 9):
            send(backend, upload, number)

        def listing(upload: str = upload) -> None:
            try:
                while True:
                    page = backend.list_parts(BUCKET, KEY, upload)
                    assert len(page.parts) == 8
            except S3Error as error:
                if error.code != "NoSuchUpload":
                    raise

        at_once(listing, listing, lambda u=upload: backend.abort_upload(BUCKET, KEY, u))  # type: ignore[misc]


def test_completions_at_once_answer_alike(backend: DirectoryBackend) -> None:
    for _ in range(30):
        upload = backend.create_upload(BUCKET, KEY, facts_of())
        parts = [send(backend, upload, number) for number in (1, 2)]
        answers: list[str] = []

        def complete(
            upload: str = upload,
            parts: list[CompletedPart] = parts,
            answers: list[str] = answers,
        ) -> None:
            answers.append(backend.complete_upload(BUCKET, KEY, upload, parts).etag)

        at_once(complete, complete, complete)
        assert len(answers) == 3
        assert len(set(answers)) == 1
        assert read(backend, KEY) == BODY * 2


def test_a_repetition_with_other_parts_is_none(backend: DirectoryBackend) -> None:
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    parts = [send(backend, upload, number) for number in (1, 2)]
    backend.complete_upload(BUCKET, KEY, upload, parts)
    for other in ([parts[0]], [CompletedPart(1, "no MD5")]):
        with pytest.raises(S3Error) as refused:
            backend.complete_upload(BUCKET, KEY, upload, other)
        assert refused.value.code == "NoSuchUpload"


def test_uploads_that_begin_while_their_bucket_goes(
    backend: DirectoryBackend, tmp_path: Path
) -> None:
    backend.create_bucket("brief", "alice", ALICE)

    def begin() -> None:
        for _ in range(ROUNDS):
            try:
                backend.create_upload("brief", KEY, facts_of())
            except S3Error as error:
                if error.code != "NoSuchBucket":
                    raise

    def remove() -> None:
        for _ in range(ROUNDS // 5):
            backend.delete_bucket("brief")
            backend.create_bucket("brief", "alice", ALICE)

    at_once(begin, begin, remove)
    backend.delete_bucket("brief")
    internal = tmp_path / "root" / ".s3posixfs"
    (scratch,) = (internal / "tmp").iterdir()
    assert list(scratch.iterdir()) == []
    assert list((internal / "uploads").glob("brief/*")) == []


def test_objects_that_are_hard_links_of_each_other(
    backend: DirectoryBackend, tmp_path: Path
) -> None:
    """Made by a local program, as backups do: each is an object of its own, facts included."""
    folder = tmp_path / "root" / BUCKET
    before = sidecars_in(tmp_path)
    large = {f"key-{number}": "v" * 200 for number in range(30)}  # too much for ext4's xattrs
    for name, metadata in (("small", {"k": "v"}), ("large", large)):
        facts = facts_of(BODY, metadata=metadata)
        for change in ("replaced", "removed", "renamed"):
            key, copy = f"{name}-{change}", f"{name}-{change}-copy"
            put(backend, key, BODY, facts)
            os.link(folder / key, folder / copy)
            if change == "replaced":
                put(backend, key, b"new")
            elif change == "removed":
                backend.delete(BUCKET, key)
            else:
                backend.rename(BUCKET, key, copy)
                with pytest.raises(S3Error) as gone:
                    backend.head(BUCKET, key)
                assert gone.value.code == "NoSuchKey"
            found = backend.head(BUCKET, copy)
            assert (found.etag, found.metadata) == (md5(BODY), metadata)
            backend.delete(BUCKET, copy)
    backend.delete(BUCKET, "small-replaced")
    backend.delete(BUCKET, "large-replaced")
    assert sidecars_in(tmp_path) == before


def test_what_fails_for_want_of_room_leaves_nothing_open(tmp_path: Path) -> None:
    """A filesystem with no inode left: names can't be made, nor linked."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = "size=16m,nr_inodes=2k"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    subprocess.run(command, check=True, capture_output=True)
    backend = backend_at(disk / "root")
    try:
        put(backend, KEY)
        upload = backend.create_upload(BUCKET, KEY, facts_of())
        parts = [send(backend, upload, number) for number in (1, 2)]
        with suppress(OSError):
            for number in range(4096):
                (disk / f"filler-{number}").touch()
        jobs: list[Callable[[], object]] = [
            lambda: put(backend, "other/key"),
            lambda: put(backend, "marker/", b""),
            lambda: send(backend, upload, 3),
            lambda: backend.complete_upload(BUCKET, KEY, upload, parts),
            lambda: backend.create_upload(BUCKET, KEY, facts_of()),
            lambda: backend.rename(BUCKET, KEY, "new/folder/key"),
            lambda: backend.create_bucket("another", "alice", ALICE),
        ]
        for number, job in enumerate(jobs):
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(200):
                with pytest.raises(S3Error) as refused:
                    job()
                assert refused.value.code == "StorageFull"
            assert len(os.listdir("/proc/self/fd")) == before, f"job {number}"
        (scratch,) = (disk / "root" / ".s3posixfs" / "tmp").iterdir()
        assert list(scratch.iterdir()) == []
        for path in disk.glob("filler-*"):
            path.unlink()
        backend.complete_upload(BUCKET, KEY, upload, parts)
        assert read(backend, KEY) == BODY * 2
    finally:
        backend.close()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_marker_keeps_its_owner_while_others_make_its_folder(backend: DirectoryBackend) -> None:
    """Who only needs the folder, and is slow to give it an owner, does not take the marker's."""
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(ROUNDS // 2):
            folder = f"d{number}/"

            def mark(folder: str = folder) -> None:
                put(backend, folder, b"")

            def fill(name: str, folder: str = folder) -> None:
                put(backend, folder + name, b"x", facts_of(b"x", owner_id="bob", owner=BOB))

            at_once(mark, *(partial(fill, name) for name in "123"))
            found = backend.head(BUCKET, folder)
            assert (found.owner_id, found.owner) == ("alice", ALICE)
    finally:
        sys.setswitchinterval(switching)
