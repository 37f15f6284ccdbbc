"""A large file on the gateway, changed in place: what stayed is copied inside the store."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.rgw.conftest import owners
from tests.rgw.gateway import GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw, pytest.mark.slow]
MIB = 1024 * 1024


def sent(mount: GatewayMount) -> int:
    """Bytes of bodies that the mount has sent so far."""
    client: dict[str, Any] = mount.status()["client"]
    return int(client["bytes_sent"])


@pytest.mark.timeout(240)
def test_a_large_file_in_edited_appended_and_out(
    mount: GatewayMount, admin: S3Client, bucket: str, open_folder: Path
) -> None:
    source = open_folder / "source"
    size = 200 * MIB
    block = os.urandom(MIB)
    with source.open("wb") as file:
        for number in range(size // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    open_folder.chmod(0o777)
    source.chmod(0o666)

    def check(copy: str) -> None:
        with (mount.mountpoint / "large").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mount.sh(f"cp large {open_folder}/{copy}", uid=1001, seconds=120)
        digests = []
        for path in (source, open_folder / copy):
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        assert digests[0] == digests[1]
        assert owners(admin, bucket, "large") == {"": "alice"}

    mount.sh(f"cp {source} large", uid=1001, seconds=120)
    assert admin.head_object(Bucket=bucket, Key="large")["ETag"].count("-") == 1, "one PUT"
    check("first")

    before = sent(mount)
    edit = (
        "printf 'changed in the middle' | "
        f"dd of=%s bs=1 seek={100 * MIB + 12345} conv=notrunc status=none"
    )
    mount.sh(edit % "large", uid=1001, seconds=120)
    subprocess.run(["/bin/sh", "-ec", edit % source], check=True)
    check("edited")

    mount.sh("printf 'one more line\\n' >> large", uid=1001, seconds=120)
    with source.open("ab") as file:
        file.write(b"one more line\n")
    check("appended")
    # Both changes were uploads of the parts that they touched; the store copied the others.
    assert sent(mount) - before < 100 * MIB
    assert mount.resident_bytes() < 300 * MIB
    mount.sh("rm large", uid=1001)
