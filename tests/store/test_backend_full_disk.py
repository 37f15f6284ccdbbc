"""A real full disk: a small tmpfs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.records import CompletedPart
from tests.store.backend_kit import BUCKET, backend_at, facts_of, keys, md5, put, read

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4608k", "tmpfs", str(disk)]
    subprocess.run(command, check=True, capture_output=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def refused(code: str) -> pytest.RaisesExc[S3Error]:
    return pytest.RaisesExc(S3Error, check=lambda error: (error.code, error.status) == (code, 507))


def test_a_full_disk_is_said_and_costs_nothing_stored(small_disk: Path) -> None:
    backend = backend_at(small_disk / "root")
    body = os.urandom(MIB)
    put(backend, "old", body, facts_of(body))
    for _ in range(3):  # what a refused put took is free again
        with backend.begin_put(BUCKET, "old") as pending:
            pending.write(bytes(MIB))
            with refused("StorageFull"):
                pending.write(bytes(4 * MIB))
    assert read(backend, "old") == body
    with backend.open_object(BUCKET, "old") as old, backend.begin_put(BUCKET, "x") as pending:
        for _ in range(3):
            pending.write_from(old.fd, 0, MIB)
        with refused("StorageFull"):
            pending.write_from(old.fd, 0, MIB)
    upload = backend.create_upload(BUCKET, "big", facts_of())
    with backend.begin_part(BUCKET, "big", upload, 1) as part:
        part.write(bytes(2 * MIB))
        part.commit(md5(bytes(2 * MIB)))
    with refused("StorageFull"):
        backend.complete_upload(BUCKET, "big", upload, [CompletedPart(1, md5(bytes(2 * MIB)))])
    backend.delete(BUCKET, "old")  # makes room
    backend.complete_upload(BUCKET, "big", upload, [CompletedPart(1, md5(bytes(2 * MIB)))])
    assert keys(backend) == ["big"]
    assert backend.head(BUCKET, "big").size == 2 * MIB
    backend.close()
