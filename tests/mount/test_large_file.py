"""1 GiB in and out, with the bytes equal and the daemon's memory bounded."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mount_process import DaemonProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.slow]
MIB = 1024 * 1024
SIZE = 1024 * MIB
MEMORY = 300 * MIB


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.timeout(300)
def test_a_gib_in_and_out(
    mount: DaemonProcess, open_folder: Path, alice: S3Client, bucket: str
) -> None:
    source = open_folder / "source"
    with source.open("wb") as file:
        block = os.urandom(16 * MIB)
        for number in range(SIZE // len(block)):
            file.write(number.to_bytes(8, "big"))
            file.write(block[8:])
    expected = sha256(source)
    source.chmod(0o644)
    began = time.monotonic()
    mount.sh(f"cp {source} {bucket}/large", uid=1001, seconds=200)
    copied_in = time.monotonic() - began
    head = alice.head_object(Bucket=bucket, Key="large")
    assert head["ContentLength"] == SIZE
    peak_in = mount.resident_bytes()
    # Past every cache: the kernel's pages of the file are dropped before it is read.
    with (mount.mountpoint / bucket / "large").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    back = open_folder / "back"
    began = time.monotonic()
    shutil.copyfile(mount.mountpoint / bucket / "large", back)
    copied_out = time.monotonic() - began
    assert sha256(back) == expected
    peak = mount.resident_bytes()
    print(
        f"1 GiB: in {copied_in:.1f} s, out {copied_out:.1f} s; "
        f"peak memory {peak_in // MIB} MiB writing, {peak // MIB} MiB in all"
    )
    assert peak < MEMORY
    mount.sh(f"rm {bucket}/large", uid=1001)
