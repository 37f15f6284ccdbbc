"""What the gateway can do is found out, and a bucket's users are who they are on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rgw.conftest import owners
from tests.rgw.gateway import GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw]


def test_the_status_says_what_was_found_out(
    mount: GatewayMount, admin: S3Client, bucket: str
) -> None:
    status = mount.status()
    assert status["capabilities"] == {
        "conditional_put": True,
        "rename_object": False,  # answered with 200, and done wrong
        "rename_folder": False,
        "listing_metadata": False,
        "listing_owner": True,
    }
    assert status["client"]["conditions"] == {
        "put_if_none_match": True,
        "put_if_match": "bare",
        "complete": False,
        "copy": False,
    }
    assert status["client"]["body_checksum"] == "sha256"  # others it takes and does not look at
    assert {row["name"]: row["uid"] for row in status["identities"]} == {
        "alice": 1001,
        "bob": 1002,
        "carol": 1003,
    }
    assert owners(admin, bucket, ".s3posixfs") == {}, "the probe left something behind"


def test_objects_of_three_owners_show_their_uids(
    mount: GatewayMount, alice: S3Client, bob: S3Client, admin: S3Client, bucket: str, prefix: str
) -> None:
    for name, client in (("alice", alice), ("bob", bob), ("admin", admin)):
        client.put_object(Bucket=bucket, Key=f"{prefix}/of-{name}", Body=name.encode())
    claims = {"uid": "0", "gid": "0", "mode": str(0o104755)}
    bob.put_object(Bucket=bucket, Key=f"{prefix}/claims-root", Body=b"#!", Metadata=claims)
    shown = mount.sh(f"cd {prefix} && stat -c '%n %u:%g %a %s' *", uid=1001)
    assert shown.splitlines() == [
        "claims-root 1002:1002 755 2",
        "of-admin 65534:65534 644 5",
        "of-alice 1001:1001 644 5",
        "of-bob 1002:1002 644 3",
    ]
    assert mount.sh(f"cat {prefix}/of-bob", uid=1001) == "bob"
    assert mount.sh(f"cat {prefix}/of-*") == "adminalicebob"
