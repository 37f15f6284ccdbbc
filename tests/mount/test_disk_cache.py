"""What was read stays on the local disk: for the next mount, and for no other version."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
SIZE = 5 * 1024 * 1024 + 5
DEADLINE = 30.0


def fetched(mount: DaemonProcess) -> int:
    """How many GETs of objects the mount has sent."""
    apis = mount.status()["client"]["requests_by_api"]
    return int(apis["GetObject"]["count"]) if "GetObject" in apis else 0


def test_the_next_mount_reads_it_from_the_disk(
    bed: Bed, open_folder: Path, alice: S3Client, bucket: str
) -> None:
    body = os.urandom(SIZE)
    alice.put_object(Bucket=bucket, Key="large", Body=body)
    options = {"cache_dir": str(open_folder / "cache"), "disk_cache": "100M"}
    mount = bed.mount(open_folder, bucket, options)
    path = mount.mountpoint / "large"
    with mount:
        assert path.read_bytes() == body
        end = time.monotonic() + DEADLINE
        while mount.status()["cache"]["disk_used_bytes"] < SIZE:
            assert time.monotonic() < end, mount.status()["cache"]
            time.sleep(0.05)
    assert (open_folder / "cache" / "blocks").stat().st_mode & 0o777 == 0o700
    with mount:
        before = fetched(mount)  # of what the store can do
        assert path.read_bytes() == body
        assert mount.status()["cache"]["disk_hits"] > 0
        assert fetched(mount) == before
        body = os.urandom(SIZE)
        alice.put_object(Bucket=bucket, Key="large", Body=body)
        time.sleep(1.1)
        assert path.read_bytes() == body
    del mount.options["disk_cache"]
    with mount:
        assert path.read_bytes() == body
        assert not (open_folder / "cache" / "blocks").exists()


def test_a_folder_that_cannot_be_used_is_named(bed: Bed, open_folder: Path, bucket: str) -> None:
    (open_folder / "cache").mkdir()
    (open_folder / "cache" / "blocks").touch()
    options = {"cache_dir": str(open_folder / "cache"), "disk_cache": "1G"}
    mount = bed.mount(open_folder, bucket, options)
    with pytest.raises(AssertionError, match="blocks cannot be used"), mount:
        pass
