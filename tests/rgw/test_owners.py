"""The S3 owner after each thing that a user or root does to a file, and what is refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.rgw.conftest import owners
from tests.rgw.gateway import IDS, METADATA_TTL, GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw]

# Each step: a shell script, and the keys that there are afterwards, all owned by who did it.
STEPS: tuple[tuple[str, set[str]], ...] = (
    ("echo one > file", {"file"}),
    ("echo two >> file && test $(wc -c < file) = 8", {"file"}),
    ("truncate -s 6 file && printf 'X' | dd of=file bs=1 seek=1 conv=notrunc", {"file"}),
    ("chmod 640 file && test $(stat -c %a file) = 640", {"file"}),
    (
        "touch -d @1000000000.123456789 file && stat -c %.9Y file | grep -x 1000000000.123456789",
        {"file"},
    ),
    ("mv file renamed && test $(stat -c %a renamed) = 640", {"renamed"}),
    ("cp renamed target && mv renamed target", {"target"}),
    ("ln -s target link && test $(readlink link) = target", {"target", "link"}),
    ("mv link moved && cat moved", {"target", "moved"}),
    ("mkdir folder && echo in > folder/inner", {"target", "moved", "folder/", "folder/inner"}),
    ("chmod 700 folder", {"target", "moved", "folder/", "folder/inner"}),
    ("mv folder other && cat other/inner", {"target", "moved", "other/", "other/inner"}),
    ("touch -d @5 other && chmod -R u+x other", {"target", "moved", "other/", "other/inner"}),
    ("rm -r other moved", {"target"}),
    (
        r"printf 'oXe\ntw' | cmp - target && test $(stat -c %Y-%a target) = 1000000000-640",
        {"target"},
    ),
    ("rm target", set()),
)


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_what_a_user_makes_and_changes_is_theirs(
    mount: GatewayMount, admin: S3Client, bucket: str, prefix: str, name: str
) -> None:
    uid = IDS[name]
    mount.sh(f"mkdir {prefix}", uid=uid)
    for script, keys in STEPS:
        mount.sh(f"cd {prefix} && {script}", uid=uid)
        found = owners(admin, bucket, f"{prefix}/")
        assert found == dict.fromkeys({"", *keys}, name), script
        shown = mount.sh(f"cd {prefix} && find . -mindepth 1 -printf '%U:%G %P\\n'")
        expected = {f"{uid}:{uid} {key.rstrip('/')}" for key in keys}
        assert set(shown.splitlines()) == expected, script


def test_root_changes_a_file_and_its_owner_stays(
    mount: GatewayMount, admin: S3Client, alice: S3Client, bucket: str, prefix: str
) -> None:
    alice.put_object(Bucket=bucket, Key=f"{prefix}/file", Body=b"hers", Metadata={"color": "red"})
    mount.sh(f"mkdir {prefix}/folder && echo x > {prefix}/folder/inner", uid=1001)
    for script in (
        "chmod 600 file",
        "touch -d @1000000000 file",
        "mv file moved",
        "chmod 755 folder",
        "mv folder other",
        "touch other/inner",
    ):
        mount.sh(f"cd {prefix} && {script}")
        found = owners(admin, bucket, f"{prefix}/")
        assert set(found.values()) == {"alice"}, script
    shown = mount.sh(f"stat -c '%u:%g %a %Y %s' {prefix}/moved")
    assert shown == "1001:1001 600 1000000000 4\n"
    assert alice.head_object(Bucket=bucket, Key=f"{prefix}/moved")["Metadata"]["color"] == "red"
    assert mount.sh(f"cat {prefix}/moved", uid=1001) == "hers"


def test_root_gives_a_file_away(
    mount: GatewayMount, admin: S3Client, alice: S3Client, bucket: str, prefix: str
) -> None:
    alice.put_object(Bucket=bucket, Key=f"{prefix}/file", Body=b"hers", Metadata={"color": "red"})
    mount.sh(f"mkdir {prefix}/folder", uid=1001)
    for uid, owner in ((1002, "bob"), (4242, "admin"), (1001, "alice")):
        mount.sh(f"cd {prefix} && chown {uid}:{uid} file folder")
        assert owners(admin, bucket, f"{prefix}/") == {"file": owner, "folder/": owner}
        shown = mount.sh(f"cd {prefix} && stat -c %u:%g file folder && cat file")
        assert shown == f"{uid}:{uid}\n{uid}:{uid}\nhers"
    assert admin.head_object(Bucket=bucket, Key=f"{prefix}/file")["Metadata"]["color"] == "red"


def errno_of(mount: GatewayMount, uid: int, expression: str) -> str:
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


def test_another_user_may_read_and_not_change(
    mount: GatewayMount, alice: S3Client, bucket: str, prefix: str
) -> None:
    file = f"{prefix}/hers"
    alice.put_object(Bucket=bucket, Key=file, Body=b"alice's")
    assert mount.sh(f"cat {file}", uid=1002) == "alice's"
    for expression in (
        f"open('{file}', 'w')",
        f"open('{file}', 'r+')",
        f"open('{file}', 'a')",
        f"os.truncate('{file}', 0)",
        f"os.utime('{file}')",
    ):
        assert errno_of(mount, 1002, expression) == "EACCES", expression
    for expression in (
        f"os.chmod('{file}', 0o666)",
        f"os.chown('{file}', 1002, 1002)",
        f"os.unlink('{file}')",
        f"os.rename('{file}', '{file}-2')",
    ):
        assert errno_of(mount, 1002, expression) == "EPERM", expression
    assert owners(alice, bucket, file) == {"": "alice"}
    assert alice.get_object(Bucket=bucket, Key=file)["Body"].read() == b"alice's"
    mount.sh(f"chmod 600 {file}", uid=1001)
    assert errno_of(mount, 1002, f"open('{file}')") == "EACCES"


def test_who_is_in_no_policy_is_refused_at_once(
    mount: GatewayMount, alice: S3Client, bucket: str, prefix: str
) -> None:
    file = f"{prefix}/file"
    alice.put_object(Bucket=bucket, Key=file, Body=b"no")
    refused = (
        f"open('{file}')",
        f"open('{file}', 'w')",
        "os.listdir('.')",
        f"os.listdir('{prefix}')",
        f"open('{prefix}/new', 'x')",
        f"os.mkdir('{prefix}/new')",
        f"os.symlink('x', '{prefix}/new')",
    )
    for _ in range(2):
        for expression in refused:
            assert errno_of(mount, 1003, expression) == "EACCES", expression
        assert errno_of(mount, 1003, f"os.unlink('{file}')") in ("EACCES", "EPERM")
        # Again when every cache is warm with what another may see.
        assert mount.sh(f"ls -l {prefix} > /dev/null && cat {file}", uid=1001) == "no"
    assert owners(alice, bucket, f"{prefix}/") == {"file": "alice"}


def test_a_folder_is_closed_and_opened_by_its_mode(
    mount: GatewayMount, admin: S3Client, bucket: str, prefix: str
) -> None:
    mount.sh(f"mkdir -m 700 {prefix} && echo x > {prefix}/file", uid=1001)
    assert errno_of(mount, 1002, f"open('{prefix}/file')") == "EACCES"
    assert errno_of(mount, 1002, f"os.listdir('{prefix}')") == "EACCES"
    assert errno_of(mount, 1002, f"open('{prefix}/new', 'x')") == "EACCES"
    mount.sh(f"chmod 777 {prefix} && chmod 666 {prefix}/file", uid=1001)
    mount.sh(f"echo bob >> {prefix}/file && echo y > {prefix}/new", uid=1002)
    assert owners(admin, bucket, f"{prefix}/") == {"": "alice", "file": "alice", "new": "bob"}
    time.sleep(METADATA_TTL + 0.1)
    shown = mount.sh(f"cd {prefix} && stat -c '%u %a' . file new && cat file")
    assert shown == "1001 777\n1001 666\n1002 644\nx\nbob\n"


def test_root_writes_into_a_users_file_and_it_stays_theirs(
    mount: GatewayMount, admin: S3Client, alice: S3Client, bucket: str, prefix: str
) -> None:
    alice.put_object(Bucket=bucket, Key=f"{prefix}/file", Body=b"hers\n")
    mount.sh(f"echo roots >> {prefix}/file")
    assert owners(admin, bucket, f"{prefix}/") == {"file": "alice"}
    time.sleep(METADATA_TTL + 0.1)
    assert mount.sh(f"stat -c '%u:%g' {prefix}/file") == "1001:1001\n"
    mount.sh(f"echo mine >> {prefix}/file && cat {prefix}/file", uid=1001)
    assert owners(admin, bucket, f"{prefix}/") == {"file": "alice"}
