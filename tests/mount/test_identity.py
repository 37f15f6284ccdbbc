"""What alice writes through one door is hers at the other, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mount.conftest import BUCKET
from tests.mount.mount_process import MountProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount


def owner_of(client: S3Client, key: str) -> str:
    """The S3 owner that a listing names."""
    page = client.list_objects_v2(Bucket=BUCKET, Prefix=key, FetchOwner=True)
    return {row["Key"]: row["Owner"]["ID"] for row in page["Contents"]}[key]


def errno_of(mount: MountProcess, uid: int, expression: str) -> str:
    """Evaluate a Python expression as ``uid`` in the mount: the name of its errno, or ``ok``."""
    script = f"""
import errno, os
try:
    {expression}
except OSError as error:
    print(errno.errorcode[error.errno])
else:
    print("ok")
"""
    return mount.python(script, uid=uid).strip()


def test_objects_of_both_show_their_uids(
    mount: MountProcess, alice: S3Client, bob: S3Client
) -> None:
    alice.put_object(Bucket=BUCKET, Key="door/of-alice", Body=b"alice's")
    bob.put_object(Bucket=BUCKET, Key="door/of-bob", Body=b"bob's")
    shown = mount.sh(f"stat -c '%u:%g %a %s %n' {BUCKET}/door/of-*")
    assert shown.splitlines() == [
        f"1001:1001 644 7 {BUCKET}/door/of-alice",
        f"1002:1002 644 5 {BUCKET}/door/of-bob",
    ]
    assert mount.sh(f"cat {BUCKET}/door/of-bob", uid=1001) == "bob's"


@pytest.mark.parametrize(("uid", "name"), [(1001, "alice"), (1002, "bob")])
def test_a_file_written_as_a_uid_is_that_users_object(
    mount: MountProcess, alice: S3Client, uid: int, name: str
) -> None:
    mount.sh(f"echo hi > {BUCKET}/from-{name}", uid=uid)
    assert owner_of(alice, f"from-{name}") == name
    assert alice.get_object(Bucket=BUCKET, Key=f"from-{name}")["Body"].read() == b"hi\n"
    assert mount.sh(f"stat -c '%u:%g' {BUCKET}/from-{name}") == f"{uid}:{uid}\n"
    backing = mount.store.root / BUCKET / f"from-{name}"
    assert (backing.stat().st_uid, backing.stat().st_gid) == (uid, uid)


def test_another_may_read_but_not_overwrite(mount: MountProcess, alice: S3Client) -> None:
    alice.put_object(Bucket=BUCKET, Key="mine", Body=b"alice's")
    assert mount.sh(f"cat {BUCKET}/mine", uid=1002) == "alice's"
    for expression in (
        f"open('{BUCKET}/mine', 'w')",
        f"open('{BUCKET}/mine', 'r+')",
        f"open('{BUCKET}/mine', 'a')",
        f"os.truncate('{BUCKET}/mine', 0)",
    ):
        assert errno_of(mount, 1002, expression) == "EACCES", expression
    assert errno_of(mount, 1002, f"os.chmod('{BUCKET}/mine', 0o666)") == "EPERM"
    assert errno_of(mount, 1002, f"os.chown('{BUCKET}/mine', 1002, 1002)") == "EPERM"
    assert alice.get_object(Bucket=BUCKET, Key="mine")["Body"].read() == b"alice's"
    assert owner_of(alice, "mine") == "alice"


def test_the_owner_changes_mode_and_time_and_stays_the_owner(
    mount: MountProcess, alice: S3Client
) -> None:
    alice.put_object(Bucket=BUCKET, Key="kept", Body=b"kept", Metadata={"color": "red"})
    mount.sh(f"chmod 600 {BUCKET}/kept && touch -d @1000000000 {BUCKET}/kept", uid=1001)
    assert mount.sh(f"stat -c '%u %a %Y' {BUCKET}/kept") == "1001 600 1000000000\n"
    assert owner_of(alice, "kept") == "alice"
    assert alice.head_object(Bucket=BUCKET, Key="kept")["Metadata"]["color"] == "red"
    assert errno_of(mount, 1002, f"open('{BUCKET}/kept')") == "EACCES"
    mount.sh(f"mv {BUCKET}/kept {BUCKET}/kept-renamed", uid=1001)
    assert owner_of(alice, "kept-renamed") == "alice"


def test_root_edits_and_the_owner_stays(mount: MountProcess, alice: S3Client) -> None:
    alice.put_object(Bucket=BUCKET, Key="edited", Body=b"one\n")
    mount.sh(f"chmod 640 {BUCKET}/edited")
    assert mount.sh(f"stat -c '%u:%g %a' {BUCKET}/edited") == "1001:1001 640\n"
    assert owner_of(alice, "edited") == "alice"


def test_who_has_no_policy_is_refused(mount: MountProcess, alice: S3Client) -> None:
    alice.put_object(Bucket=BUCKET, Key="closed/to-carol", Body=b"no")
    assert errno_of(mount, 1003, f"open('{BUCKET}/closed/to-carol')") == "EACCES"
    assert errno_of(mount, 1003, f"os.listdir('{BUCKET}')") == "EACCES"
    assert errno_of(mount, 1003, f"open('{BUCKET}/by-carol', 'x')") == "EACCES"
    assert errno_of(mount, 1003, f"os.mkdir('{BUCKET}/by-carol')") == "EACCES"
    # … also right after someone who may has read it, when every cache is warm.
    assert mount.sh(f"cat {BUCKET}/closed/to-carol", uid=1001) == "no"
    assert errno_of(mount, 1003, f"open('{BUCKET}/closed/to-carol')") == "EACCES"
    assert "Contents" not in alice.list_objects_v2(Bucket=BUCKET, Prefix="by-carol")


def test_metadata_grants_nothing_to_who_may_not_say_so(mount: MountProcess, bob: S3Client) -> None:
    claims = {"uid": "0", "gid": "0", "mode": str(0o104755)}
    bob.put_object(Bucket=BUCKET, Key="claims-root", Body=b"#!/bin/sh\nid\n", Metadata=claims)
    device = {"uid": "0", "mode": str(0o060666), "rdev": "2049"}
    bob.put_object(Bucket=BUCKET, Key="claims-device", Body=b"", Metadata=device)
    assert mount.sh(f"stat -c '%u:%g %a %F' {BUCKET}/claims-root") == (
        "1002:1002 755 regular file\n"
    )
    shown = mount.sh(f"stat -c '%u %F' {BUCKET}/claims-device")
    assert shown.startswith("1002 regular"), shown


def test_a_new_user_is_known_without_a_remount(mount: MountProcess) -> None:
    dave = mount.store.add_user("dave", 1004, policy="readwrite")
    client = mount.store.s3(dave)
    client.put_object(Bucket=BUCKET, Key="of-dave", Body=b"dave's")
    client.close()
    script = f"for i in $(seq 100); do stat -c %u {BUCKET}/of-dave; sleep 0.3; done"
    done = mount.run("/bin/sh", "-c", f"({script}) | grep -m 1 -x 1004", seconds=60)
    assert done.stdout == "1004\n", "the identity map was not read again within 30 s"
