"""Mounts of the gateway with other options, and a policy that changes under them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw.conftest import owners
from tests.rgw.gateway import Gateway, GatewayMount
from tests.rgw.test_owners import errno_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw]
ACCESS_TTL = 0.5


@pytest.mark.timeout(60)
def test_a_dropped_policy_is_felt_within_access_ttl(
    gateway: Gateway, admin: S3Client, open_folder: Path
) -> None:
    with (
        gateway.bucket(["admin", "alice", "bob"]) as bucket,
        GatewayMount(gateway, open_folder, bucket, {"access_ttl": str(ACCESS_TTL)}) as mount,
    ):
        mount.sh("mkdir -m 777 open && echo hers > open/file && chmod 666 open/file", uid=1001)
        mount.sh("cat open/file && ls open && echo his > open/his", uid=1002)
        gateway.let_in(admin, bucket, ["admin", "alice"])
        time.sleep(ACCESS_TTL + 0.5)
        for expression in (
            "open('open/file')",
            "open('open/file', 'a')",
            "open('open/new', 'x')",
            "os.listdir('open')",
            "os.mkdir('open/new')",
        ):
            # Every cache is warm with it: alice has just read and listed.
            mount.sh("cat open/file && ls -l open", uid=1001)
            assert errno_of(mount, 1002, expression) == "EACCES", expression
        gateway.let_in(admin, bucket, ["admin", "alice", "bob"])
        time.sleep(ACCESS_TTL + 0.5)
        assert mount.sh("cat open/file", uid=1002) == "hers\n"


@pytest.mark.timeout(60)
def test_one_identity_signs_for_all(
    gateway: Gateway, bucket: str, admin: S3Client, open_folder: Path, prefix: str
) -> None:
    with GatewayMount(gateway, open_folder, bucket, {"sign_as": "daemon"}) as mount:
        mount.sh(f"mkdir -m 755 {prefix} && echo hers > {prefix}/file", uid=1001)
        mount.sh(f"cd {prefix} && chmod 640 file && mv file moved && ln -s moved link", uid=1001)
        assert set(owners(admin, bucket, prefix).values()) == {"admin"}
        shown = mount.sh(f"cd {prefix} && stat -c '%u:%g %a %F' . moved link")
        assert shown.splitlines() == [
            "1001:1001 755 directory",
            "1001:1001 640 regular file",
            "1001:1001 777 symbolic link",
        ]
        assert errno_of(mount, 1002, f"open('{prefix}/moved')") == "EACCES"
        assert errno_of(mount, 1002, f"open('{prefix}/new', 'x')") == "EACCES"


@pytest.mark.timeout(60)
def test_a_prefix_mounted_read_only(
    gateway: Gateway, bucket: str, alice: S3Client, admin: S3Client, open_folder: Path, prefix: str
) -> None:
    alice.put_object(Bucket=bucket, Key=f"{prefix}/a/file", Body=b"x")
    alice.put_object(Bucket=bucket, Key="elsewhere", Body=b"x")
    before = owners(admin, bucket, "")
    with GatewayMount(gateway, open_folder, f"{bucket}/{prefix}", {"ro": "on"}) as mount:
        assert mount.sh("find . -type f -exec cat {} + && ls", uid=1001) == "xa\n"
        assert errno_of(mount, 0, "open('new', 'x')") == "EROFS"
        assert errno_of(mount, 1001, "os.chmod('a/file', 0o600)") == "EROFS"
        assert owners(admin, bucket, "") == before
