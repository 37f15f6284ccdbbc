"""Multipart uploads: what they make, what they refuse, and what they leave."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3posixfs.core.clock import OffsetClock
from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import CompletedPart, Condition
from s3posixfs.store.backend.upload_results import multipart_etag
from tests.store.backend_kit import ALICE, BUCKET, backend_at, facts_of, keys, md5, put, read

KEY = "folder/big"


@pytest.fixture(params=[True, False], ids=["xattr", "sidecar"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryBackend]:
    made = backend_at(tmp_path / "root", xattrs=request.param)
    yield made
    made.close()


def refused(code: str) -> pytest.RaisesExc[S3Error]:
    return pytest.RaisesExc(S3Error, check=lambda error: error.code == code)


def add(backend: DirectoryBackend, upload: str, number: int, data: bytes) -> CompletedPart:
    with backend.begin_part(BUCKET, KEY, upload, number, len(data)) as part:
        part.write(data)
        stored = part.commit(md5(data), {"crc32": f"sum{number}"})
    assert (stored.number, stored.etag, stored.size) == (number, md5(data), len(data))
    return CompletedPart(number, stored.etag)


def left_in(root: Path) -> list[str]:
    return [p.name for f in ("uploads", "tmp") for p in (root / ".s3posixfs" / f).rglob("*")]


def test_parts_become_an_object(backend: DirectoryBackend, tmp_path: Path) -> None:
    facts = facts_of(metadata={"m": "1"})
    upload = backend.create_upload(BUCKET, KEY, facts, checksum_algorithm="crc32")
    assert backend.upload(BUCKET, KEY, upload).facts == facts
    bodies = {7: b"seven" * 10, 1: b"one" * 10, 10_000: b"last"}
    add(backend, upload, 1, b"replaced later")
    parts = {number: add(backend, upload, number, body) for number, body in bodies.items()}
    assert keys(backend) == []
    page = backend.list_parts(BUCKET, KEY, upload, max_parts=2)
    assert [part.number for part in page.parts] == [1, 7]
    assert page.parts[0].checksums == {"crc32": "sum1"}
    assert (page.truncated, page.next_marker) == (True, 7)
    rest = backend.list_parts(BUCKET, KEY, upload, after=7)
    assert ([part.number for part in rest.parts], rest.truncated) == ([10_000], False)
    chosen = [parts[1], parts[7], parts[10_000]]
    made = backend.complete_upload(
        BUCKET, KEY, upload, chosen, checksums={"crc32": "whole"}, checksum_type="FULL_OBJECT"
    )
    whole = bodies[1] + bodies[7] + bodies[10_000]
    assert read(backend, KEY) == whole
    assert backend.head(BUCKET, KEY) == made
    assert made.part_sizes == (30, 50, 4)
    digests = b"".join(
        hashlib.md5(bodies[n], usedforsecurity=False).digest() for n in sorted(bodies)
    )
    assert made.etag == md5(digests) + "-3"
    assert (made.metadata, made.owner, made.checksums) == ({"m": "1"}, ALICE, {"crc32": "whole"})
    assert [n for n in left_in(tmp_path / "root") if n.startswith("p")] == []
    # Asked again, as a client does whose connection broke: the same answer.
    assert backend.complete_upload(BUCKET, KEY, upload, chosen) == made
    with refused("NoSuchUpload"):
        backend.abort_upload(BUCKET, KEY, upload)
    put(backend, KEY, b"newer")
    with refused("NoSuchUpload"):
        backend.complete_upload(BUCKET, KEY, upload, chosen)


def test_what_complete_refuses(backend: DirectoryBackend) -> None:
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    one, two, small = (
        add(backend, upload, n, b"x" * size) for n, size in ((1, 20), (2, 20), (3, 9))
    )
    four = add(backend, upload, 4, b"four")

    def complete(parts: list[CompletedPart], condition: Condition | None = None) -> None:
        backend.complete_upload(BUCKET, KEY, upload, parts, condition or Condition())

    with refused("InvalidPartOrder"):
        complete([two, one])
    with refused("InvalidPartOrder"):
        complete([one, one])
    with refused("InvalidPart"):
        complete([one, CompletedPart(2, md5(b"other"))])
    with refused("InvalidPart"):
        complete([one, CompletedPart(5, md5(b"x"))])
    with refused("InvalidPart"):
        complete([CompletedPart(1, one.etag, {"crc32": "other"})])
    with refused("EntityTooSmall"):
        complete([one, small, four])
    with refused("MalformedXML"):
        complete([])
    put(backend, KEY, b"there")
    with refused("PreconditionFailed"):
        complete([one], Condition(if_none_match=True))
    assert read(backend, KEY) == b"there"
    complete([one, two, small], Condition(if_match=md5(b"there")))  # the upload is still there
    assert read(backend, KEY) == b"x" * 49


def test_uploads_that_are_not_there(backend: DirectoryBackend) -> None:
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    for upload_id in ("", "..", "x", "0" * 32, upload.upper() + "x", "../" + upload):
        with refused("NoSuchUpload"):
            backend.begin_part(BUCKET, KEY, upload_id, 1)
        with refused("NoSuchUpload"):
            backend.complete_upload(BUCKET, KEY, upload_id, [CompletedPart(1, md5(b""))])
    with refused("NoSuchUpload"):
        backend.begin_part(BUCKET, "other key", upload, 1)
    with refused("NoSuchBucket"):
        backend.begin_part("none", KEY, upload, 1)
    for number in (0, 10_001, -1):
        with refused("InvalidArgument"):
            backend.begin_part(BUCKET, KEY, upload, number)
    with backend.begin_part(BUCKET, KEY, upload, 1) as late:
        late.write(b"x")
        backend.abort_upload(BUCKET, KEY, upload)
        with refused("NoSuchUpload"):
            late.commit(md5(b"x"))
    with refused("NoSuchUpload"):
        backend.list_parts(BUCKET, KEY, upload)


def test_abort_leaves_nothing(backend: DirectoryBackend, tmp_path: Path) -> None:
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    add(backend, upload, 1, b"x")
    backend.abort_upload(BUCKET, KEY, upload)
    assert upload not in left_in(tmp_path / "root")
    assert [n for n in left_in(tmp_path / "root") if n.startswith("p")] == []
    sidecars = (tmp_path / "root/.s3posixfs/sidecars").rglob("i*")
    assert len(list(sidecars)) <= 1  # the bucket's, without xattrs


def test_a_part_from_a_range_of_an_object(backend: DirectoryBackend) -> None:
    data = os.urandom(3_000_000)
    put(backend, "source", data)
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    piece = data[1_000_000:2_500_000]
    with (
        backend.open_object(BUCKET, "source") as source,
        backend.begin_part(BUCKET, KEY, upload, 1) as part,
    ):
        part.write(b"head")
        part.write_from(source.fd, 1_000_000, 1_500_000)
        part.write(b"tail")
        assert part.size == 1_500_008
        stored = part.commit(md5(b"head" + piece + b"tail"))
    backend.complete_upload(BUCKET, KEY, upload, [CompletedPart(1, stored.etag)])
    assert read(backend, KEY) == b"head" + piece + b"tail"


def test_listing_uploads(tmp_path: Path) -> None:
    clock = OffsetClock()
    backend = backend_at(tmp_path / "root", clock=clock)
    made = []
    for key in ("b", "a/2", "a/1", "a", "b"):
        clock.offset += 1
        made.append((key, backend.create_upload(BUCKET, key, facts_of())))
    wanted = [made[3], made[2], made[1], made[0], made[4]]
    assert [(u.key, u.upload_id) for u in backend.list_uploads(BUCKET).uploads] == wanted
    found = []
    key_marker = upload_id_marker = ""
    for _ in range(6):
        page = backend.list_uploads(
            BUCKET, key_marker=key_marker, upload_id_marker=upload_id_marker, max_uploads=1
        )
        found += [(u.key, u.upload_id) for u in page.uploads]
        key_marker, upload_id_marker = page.next_key_marker, page.next_upload_id_marker
        if not page.truncated:
            break
    assert found == wanted
    rolled = backend.list_uploads(BUCKET, delimiter="/")
    assert [u.key for u in rolled.uploads] == ["a", "b", "b"]
    assert rolled.prefixes == ("a/",)
    below = backend.list_uploads(BUCKET, prefix="a/")
    assert [u.key for u in below.uploads] == ["a/1", "a/2"]
    after = backend.list_uploads(BUCKET, key_marker="a/1")
    assert [u.key for u in after.uploads] == ["a/2", "b", "b"]
    backend.close()


def test_completing_at_once_makes_one_object(backend: DirectoryBackend) -> None:
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    parts = [add(backend, upload, n, bytes([n]) * 100_000) for n in range(1, 5)]
    answers: list[object] = []

    def complete() -> None:
        try:
            answers.append(backend.complete_upload(BUCKET, KEY, upload, parts))
        except BaseException as error:
            answers.append(error)

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [backend.head(BUCKET, KEY)] * 6


def test_ten_thousand_part_sizes_survive(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root", min_part_bytes=1)
    sizes = [*([8] * 9_998), 3, 5]
    put(backend, "k", b"x" * sum(sizes), replace(facts_of(), part_sizes=tuple(sizes)))
    assert backend.head(BUCKET, "k").part_sizes == tuple(sizes)
    backend.close()


def test_the_etag_of_parts() -> None:
    # aws s3api's own example of two parts: MD5 over the binary MD5s.
    etags = [md5(b"a"), md5(b"b")]
    joined = bytes.fromhex(etags[0]) + bytes.fromhex(etags[1])
    assert multipart_etag(etags) == md5(joined) + "-2"
