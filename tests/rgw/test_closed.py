"""A bucket whose objects are closed to the daemon: RGW gives them to their writers alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.rgw.conftest import owners
from tests.rgw.gateway import Gateway, GatewayMount
from tests.rgw.test_owners import errno_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw]


@pytest.fixture(scope="module")
def bucket(gateway: Gateway) -> Iterator[str]:
    """The daemon owns the bucket and may list it, and is not in the policy of its objects."""
    with gateway.bucket(["alice", "bob"]) as name:
        yield name


def test_the_owner_works_and_the_daemon_sees_names_only(
    mount: GatewayMount, admin: S3Client, bob: S3Client, bucket: str, prefix: str
) -> None:
    bob.put_object(Bucket=bucket, Key=f"{prefix}/file", Body=b"one\n", Metadata={"color": "blue"})
    shown = mount.sh(f"stat -c '%u:%g %a %s' {prefix}/file")
    assert shown == "1002:1002 644 4\n"
    assert errno_of(mount, 0, f"open('{prefix}/file')") == "EACCES"
    for script in (
        "cat file",
        "echo two >> file",
        "chmod 640 file",
        "touch -d @1000000000 file",
        "mv file moved",
        "ln -s moved link && cat link",
        "mkdir folder && mv moved folder/ && mv folder other",
        "chmod 750 other",
        "printf X | dd of=other/moved bs=1 seek=1 conv=notrunc",
        "cat other/moved | grep oXe",
        "mv other/moved file && touch -d @1000000000 file && rm -r other link",
    ):
        mount.sh(f"cd {prefix} && {script}", uid=1002)
        assert set(owners(admin, bucket, f"{prefix}/").values()) == {"bob"}, script
    assert mount.sh(f"cd {prefix} && stat -c '%a %Y' file && cat file", uid=1002) == (
        "640 1000000000\noXe\ntwo\n"
    )
    assert bob.head_object(Bucket=bucket, Key=f"{prefix}/file")["Metadata"]["color"] == "blue"


def test_another_whom_the_policy_lets_in_reads(
    mount: GatewayMount, alice: S3Client, bucket: str, prefix: str
) -> None:
    mount.sh(f"mkdir {prefix} && echo mine > {prefix}/file && ln -s file {prefix}/link", uid=1002)
    assert mount.sh(f"ls {prefix} && cat {prefix}/link", uid=1001) == "file\nlink\nmine\n"
    assert errno_of(mount, 1001, f"open('{prefix}/file', 'a')") == "EACCES"


def test_root_reaches_what_the_owners_credentials_give(
    mount: GatewayMount, admin: S3Client, bucket: str, prefix: str
) -> None:
    mount.sh(f"mkdir {prefix} && echo mine > {prefix}/file", uid=1002)
    mount.sh(f"cd {prefix} && chmod 600 file && touch -d @5 file")
    assert owners(admin, bucket, f"{prefix}/") == {"": "bob", "file": "bob"}
    assert mount.sh(f"stat -c '%u %a %Y' {prefix}/file") == "1002 600 5\n"
    # Reading is S3's to allow, and it does not.
    assert errno_of(mount, 0, f"open('{prefix}/file')") == "EACCES"
