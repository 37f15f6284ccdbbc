"""What is left of objects that local programs removed goes; what any file leads to stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.leftovers import Leftovers
from tests.store.backend_kit import BUCKET, backend_at, facts_of, put
from tests.store_process import StoreProcess

# More than fits into an xattr.
METADATA = {f"name-{number}": "x" * 400 for number in range(20)}


@pytest.fixture(params=[True, False], ids=["xattrs", "no xattrs"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryBackend]:
    backend = backend_at(tmp_path / "root", xattrs=request.param)
    yield backend
    backend.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def sidecars(root: Path) -> set[Path]:
    return {path for path in (root / ".s3posixfs/sidecars").rglob("*") if path.is_file()}


def put_big(backend: DirectoryBackend, *keys: str) -> None:
    for key in keys:
        body = key.encode()
        put(backend, key, body, facts_of(body, metadata=METADATA))


def whole(backend: DirectoryBackend, key: str) -> bool:
    return dict(backend.head(BUCKET, key).metadata) == METADATA


def test_what_local_programs_removed_goes(backend: DirectoryBackend, root: Path) -> None:
    before = sidecars(root)
    put_big(backend, "a/1", "a/2", "b/1", "kept")
    made = sidecars(root) - before
    assert len(made) >= 4
    (root / BUCKET / "a/1").unlink()
    (root / BUCKET / "b/1").rename(root / BUCKET / "moved")
    (root / BUCKET / "a/2").write_bytes(b"rewritten by a local program")
    assert backend.collect_leftovers(0.0) == 0, "the first search only marks"
    assert sidecars(root) == before | made
    assert backend.collect_leftovers(3600.0) == 0, "the mark is too young"
    assert backend.collect_leftovers(0.0) == 1
    assert len(sidecars(root)) == len(before | made) - 1
    assert backend.collect_leftovers(0.0) == 0
    assert whole(backend, "kept")
    assert whole(backend, "moved")
    assert list((root / ".s3posixfs/tmp").rglob(".leftover*")) == []


def test_uploads_markers_and_escaped_names_keep_theirs(
    backend: DirectoryBackend, root: Path
) -> None:
    put_big(backend, "a", "a/b", "folder/", "x/../y", "e" * 300)
    body = b"part"
    upload = backend.create_upload(BUCKET, "later", facts_of(body, metadata=METADATA))
    there = sidecars(root)
    for _ in range(3):
        assert backend.collect_leftovers(0.0) == 0
    assert sidecars(root) == there
    for key in ("a", "a/b", "folder/", "x/../y", "e" * 300):
        assert whole(backend, key)
    backend.abort_upload(BUCKET, "later", upload)


def test_a_mark_is_taken_off_what_was_missed(backend: DirectoryBackend, root: Path) -> None:
    put_big(backend, "a")
    away = root.parent / "away"
    (root / BUCKET / "a").rename(away)
    assert backend.collect_leftovers(0.0) == 0
    away.rename(root / BUCKET / "a")
    assert backend.collect_leftovers(0.0) == 0
    assert {path.stat().st_mode & 0o777 for path in sidecars(root)} == {0o600}
    assert whole(backend, "a")


class Moving(Leftovers):
    """A search during which a local program moves a file from where it is yet to look."""

    folder: Path
    moves = 0

    def _search_folder(self, path: str, left: Any, seen: dict[str, float], own: int) -> list[str]:
        found = super()._search_folder(path, left, seen, own)
        name = os.path.basename(path)
        if name in ("one", "two") and not self.moves:
            other = "two" if name == "one" else "one"
            for file in (self.folder / other).iterdir():
                file.rename(self.folder / name / file.name)
                self.moves += 1
        return found


def test_what_moves_during_the_search_is_found(backend: DirectoryBackend, root: Path) -> None:
    put_big(backend, "one/a", "two/b")
    found = backend._leftovers
    moving = Moving(found._root, found._sidecars, found._scratch, found._facts)
    moving.folder = root / BUCKET
    for _ in range(2):
        assert moving.collect(0.0) == 0
        assert moving.moves == 1
        assert {path.stat().st_mode & 0o777 for path in sidecars(root)} == {0o600}
    for path in (root / BUCKET).rglob("[ab]"):
        assert whole(backend, str(path.relative_to(root / BUCKET)))


def test_a_sidecar_of_a_file_that_took_the_place_stays(tmp_path: Path) -> None:
    """Without xattrs a sidecar is named after an inode, whose number another file may get."""
    backend = backend_at(tmp_path / "root", xattrs=False)
    put_big(backend, "a")
    found = backend._leftovers
    (name,) = (path.name for path in sidecars(tmp_path / "root") if _is_of(path, tmp_path))
    # As seen before another file took the number: the sidecar is not the one that was looked at.
    assert not found._remove(name, 1)
    assert whole(backend, "a")
    backend.close()


def test_the_store_collects_by_itself(tmp_path: Path) -> None:
    environment = {"S3POSIXFS_TEST_DAY": "1"}
    arguments = ["--workers", "2"]
    with StoreProcess(tmp_path, environment=environment, arguments=arguments) as store:
        client: Any = store.s3(store.admin())
        client.create_bucket(Bucket=BUCKET)
        data = os.urandom(5 * 1024 * 1024)
        for key in ("goes", "stays"):  # parts enough that their facts need a sidecar
            upload = client.create_multipart_upload(
                Bucket=BUCKET, Key=key, Metadata={f"m{n}": "x" * 190 for n in range(10)},
                Tagging="&".join(f"t{n}={'y' * 250}" for n in range(9)),
            )["UploadId"]  # fmt: skip
            part = client.upload_part(
                Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=data
            )
            client.complete_multipart_upload(
                Bucket=BUCKET, Key=key, UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
            )  # fmt: skip
        assert len(sidecars(store.root)) == 2
        (store.root / BUCKET / "goes").unlink()
        end = time.monotonic() + 30
        while len(sidecars(store.root)) > 1:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert len(client.head_object(Bucket=BUCKET, Key="stays")["Metadata"]) == 10
        client.close()
        assert store.stop() == 0
        assert "Traceback" not in store.log.read_text()


def _is_of(sidecar: Path, tmp_path: Path) -> bool:
    inode = (tmp_path / "root" / BUCKET / "a").stat().st_ino
    return sidecar.name == f"i{inode:016x}"
