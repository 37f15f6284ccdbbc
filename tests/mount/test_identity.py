"""What alice writes through one door is hers at the other, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed, EmbeddedBed
from tests.mount.mount_process import DaemonProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount


def errno_of(mount: DaemonProcess, uid: int, expression: str) -> str:
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
    mount: DaemonProcess, alice: S3Client, bob: S3Client, bucket: str
) -> None:
    alice.put_object(Bucket=bucket, Key="door/of-alice", Body=b"alice's")
    bob.put_object(Bucket=bucket, Key="door/of-bob", Body=b"bob's")
    shown = mount.sh(f"stat -c '%u:%g %a %s %n' {bucket}/door/of-*")
    assert shown.splitlines() == [
        f"1001:1001 644 7 {bucket}/door/of-alice",
        f"1002:1002 644 5 {bucket}/door/of-bob",
    ]
    assert mount.sh(f"cat {bucket}/door/of-bob", uid=1001) == "bob's"


@pytest.mark.parametrize(("uid", "name"), [(1001, "alice"), (1002, "bob")])
def test_a_file_written_as_a_uid_is_that_users_object(
    bed: Bed, mount: DaemonProcess, alice: S3Client, uid: int, name: str, bucket: str
) -> None:
    mount.sh(f"echo hi > {bucket}/from-{name}", uid=uid)
    assert bed.owners(f"from-{name}")[""] == name
    assert alice.get_object(Bucket=bucket, Key=f"from-{name}")["Body"].read() == b"hi\n"
    assert mount.sh(f"stat -c '%u:%g' {bucket}/from-{name}") == f"{uid}:{uid}\n"
    if isinstance(bed, EmbeddedBed):
        backing = bed.store.root / bucket / f"from-{name}"
        assert (backing.stat().st_uid, backing.stat().st_gid) == (uid, uid)


def test_another_may_read_but_not_overwrite(
    bed: Bed, mount: DaemonProcess, alice: S3Client, bucket: str
) -> None:
    alice.put_object(Bucket=bucket, Key="mine", Body=b"alice's")
    assert mount.sh(f"cat {bucket}/mine", uid=1002) == "alice's"
    for expression in (
        f"open('{bucket}/mine', 'w')",
        f"open('{bucket}/mine', 'r+')",
        f"open('{bucket}/mine', 'a')",
        f"os.truncate('{bucket}/mine', 0)",
    ):
        assert errno_of(mount, 1002, expression) == "EACCES", expression
    assert errno_of(mount, 1002, f"os.chmod('{bucket}/mine', 0o666)") == "EPERM"
    assert errno_of(mount, 1002, f"os.chown('{bucket}/mine', 1002, 1002)") == "EPERM"
    assert alice.get_object(Bucket=bucket, Key="mine")["Body"].read() == b"alice's"
    assert bed.owners("mine")[""] == "alice"


def test_the_owner_changes_mode_and_time_and_stays_the_owner(
    bed: Bed, mount: DaemonProcess, alice: S3Client, bucket: str
) -> None:
    alice.put_object(Bucket=bucket, Key="kept", Body=b"kept", Metadata={"color": "red"})
    mount.sh(f"chmod 600 {bucket}/kept && touch -d @1000000000 {bucket}/kept", uid=1001)
    assert mount.sh(f"stat -c '%u %a %Y' {bucket}/kept") == "1001 600 1000000000\n"
    assert bed.owners("kept")[""] == "alice"
    assert alice.head_object(Bucket=bucket, Key="kept")["Metadata"]["color"] == "red"
    assert errno_of(mount, 1002, f"open('{bucket}/kept')") == "EACCES"
    mount.sh(f"mv {bucket}/kept {bucket}/kept-renamed", uid=1001)
    assert bed.owners("kept-renamed")[""] == "alice"


def test_root_edits_and_the_owner_stays(
    bed: Bed, mount: DaemonProcess, alice: S3Client, bucket: str
) -> None:
    alice.put_object(Bucket=bucket, Key="edited", Body=b"one\n")
    mount.sh(f"chmod 640 {bucket}/edited")
    assert mount.sh(f"stat -c '%u:%g %a' {bucket}/edited") == "1001:1001 640\n"
    assert bed.owners("edited")[""] == "alice"


def test_who_has_no_policy_is_refused(mount: DaemonProcess, alice: S3Client, bucket: str) -> None:
    alice.put_object(Bucket=bucket, Key="closed/to-carol", Body=b"no")
    assert errno_of(mount, 1003, f"open('{bucket}/closed/to-carol')") == "EACCES"
    assert errno_of(mount, 1003, f"os.listdir('{bucket}')") == "EACCES"
    assert errno_of(mount, 1003, f"open('{bucket}/by-carol', 'x')") == "EACCES"
    assert errno_of(mount, 1003, f"os.mkdir('{bucket}/by-carol')") == "EACCES"
    # … also right after someone who may has read it, when every cache is warm.
    assert mount.sh(f"cat {bucket}/closed/to-carol", uid=1001) == "no"
    assert errno_of(mount, 1003, f"open('{bucket}/closed/to-carol')") == "EACCES"
    assert "Contents" not in alice.list_objects_v2(Bucket=bucket, Prefix="by-carol")


def test_metadata_grants_nothing_to_who_may_not_say_so(
    mount: DaemonProcess, bob: S3Client, bucket: str
) -> None:
    claims = {"uid": "0", "gid": "0", "mode": str(0o104755)}
    bob.put_object(Bucket=bucket, Key="claims-root", Body=b"#!/bin/sh\nid\n", Metadata=claims)
    device = {"uid": "0", "mode": str(0o060666), "rdev": "2049"}
    bob.put_object(Bucket=bucket, Key="claims-device", Body=b"", Metadata=device)
    assert mount.sh(f"stat -c '%u:%g %a %F' {bucket}/claims-root") == (
        "1002:1002 755 regular file\n"
    )
    shown = mount.sh(f"stat -c '%u %F' {bucket}/claims-device")
    assert shown.startswith("1002 regular"), shown


def test_a_new_user_is_known_without_a_remount(bed: Bed, mount: DaemonProcess, bucket: str) -> None:
    dave = bed.newcomer(1004)
    client = bed.s3(dave.name)
    client.put_object(Bucket=bucket, Key="of-dave", Body=b"dave's")
    client.close()
    script = f"until [ $(stat -c %u {bucket}/of-dave) = 1004 ]; do sleep 0.1; done"
    done = mount.run("timeout", "30", "/bin/sh", "-c", script, seconds=60)
    assert done.returncode == 0, "the identity map was not read again within 30 s"
