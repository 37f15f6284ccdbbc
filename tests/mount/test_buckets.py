"""A mount of all buckets: each is a folder at the top, for those who may list it."""

from __future__ import annotations

import os
import secrets
import time

import pytest

from tests.mount.bed import Bed
from tests.mount.conftest import SECONDS
from tests.mount.mount_process import DaemonProcess
from tests.mount.posix.kit import User, attempt

pytestmark = pytest.mark.mount

ADMIN, ALICE, BOB, CAROL = User(0, 0), User(1001, 1001), User(1002, 1002), User(1003, 1003)


def test_who_sees_which_bucket(bed: Bed, mount: DaemonProcess, bucket: str) -> None:
    top = mount.mountpoint
    for person in (ADMIN, ALICE, BOB):
        assert bucket in person.does(lambda: os.listdir(top))
        assert person.does(lambda: attempt(os.listdir, top / bucket)) != "EACCES"
    # The gateway shows carol a list without it; the embedded store refuses to show one.
    seen = CAROL.does(lambda: attempt(os.listdir, top))
    assert seen == "EACCES" or bucket not in seen
    assert CAROL.does(lambda: attempt(os.listdir, top / bucket)) == "EACCES"
    assert attempt(os.stat, top / "no-such-bucket") == "ENOENT"


def test_a_bucket_made_and_removed_by_root(mount: DaemonProcess) -> None:
    made = mount.mountpoint / f"made-{secrets.token_hex(4)}"
    assert attempt(os.mkdir, made) == "ok"
    (made / "file").write_bytes(b"x")
    assert attempt(os.mkdir, made) == "EEXIST"
    time.sleep(SECONDS + 0.1)
    assert made.name in os.listdir(mount.mountpoint)
    assert attempt(os.rename, made, mount.mountpoint / "renamed") == "EXDEV"
    assert attempt(os.rmdir, made) == "ENOTEMPTY"
    (made / "file").unlink()
    assert attempt(os.rmdir, made) == "ok"
    assert made.name not in os.listdir(mount.mountpoint)


def test_a_bucket_made_by_a_user_is_of_use_or_is_not_made(bed: Bed, mount: DaemonProcess) -> None:
    """On the gateway the mount's identity could not look into it."""
    made = mount.mountpoint / f"made-{secrets.token_hex(4)}"
    outcome = ALICE.does(lambda: attempt(os.mkdir, made))
    assert outcome == ("ok" if bed.kind == "embedded" else "EACCES")
    client = bed.s3("alice")
    exists = made.name in [row["Name"] for row in client.list_buckets()["Buckets"]]
    client.close()
    assert exists is (outcome == "ok")
    if exists:
        ALICE.does(lambda: (made / "file").write_bytes(b"x") and None)
        assert ALICE.does(lambda: attempt(os.unlink, made / "file")) == "ok"
        assert ALICE.does(lambda: attempt(os.rmdir, made)) == "ok"
