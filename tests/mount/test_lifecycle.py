"""Starting, staying in the background, and ending with everything uploaded."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.conftest import BUCKET
from tests.mount.mount_process import MountProcess, is_mounted
from tests.store_process import PROGRAM, StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
MIB = 1024 * 1024


@pytest.fixture
def own_mount(
    store: StoreProcess, people: dict[str, User], open_folder: Path
) -> Iterator[MountProcess]:
    """A mount for one test to end as it likes."""
    with MountProcess(store, open_folder) as mount:
        yield mount


def write_without_closing(
    mount: MountProcess, name: str, content: bytes
) -> subprocess.Popen[bytes]:
    """A process that has written ``content`` to a file of the mount and keeps it open."""
    source = mount.folder / f"{name}.source"
    source.write_bytes(content)
    script = f"exec 3> {mount.mountpoint}/{BUCKET}/{name}; cat {source} >&3; echo; exec sleep 60"
    process = subprocess.Popen(
        ["/bin/sh", "-euc", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    process.stdout.close()
    return process


def test_umount_ends_the_daemon_with_everything_uploaded(
    own_mount: MountProcess, alice: S3Client
) -> None:
    content = random.Random(1).randbytes(20 * MIB)
    (own_mount.mountpoint / BUCKET / "umounted").write_bytes(content)
    assert own_mount.umount() == 0
    assert not is_mounted(own_mount.mountpoint)
    assert alice.get_object(Bucket=BUCKET, Key="umounted")["Body"].read() == content


def test_sigterm_ends_the_daemon_with_everything_uploaded(
    own_mount: MountProcess, alice: S3Client
) -> None:
    content = random.Random(2).randbytes(20 * MIB)
    (own_mount.mountpoint / BUCKET / "terminated").write_bytes(content)
    assert own_mount.terminate() == 0
    assert not is_mounted(own_mount.mountpoint)
    assert alice.get_object(Bucket=BUCKET, Key="terminated")["Body"].read() == content


def test_sigterm_uploads_what_is_still_open(own_mount: MountProcess, alice: S3Client) -> None:
    content = random.Random(3).randbytes(3 * MIB)
    writer = write_without_closing(own_mount, "still-open", content)
    try:
        assert own_mount.terminate() == 0
        assert alice.get_object(Bucket=BUCKET, Key="still-open")["Body"].read() == content
    finally:
        writer.kill()
        writer.wait(20)


def test_the_umount_command_waits_for_the_daemon(own_mount: MountProcess) -> None:
    (own_mount.mountpoint / BUCKET / "by-command").write_bytes(b"x" * MIB)
    done = subprocess.run(
        [PROGRAM, "umount", str(own_mount.mountpoint)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert own_mount.wait(seconds=2) == 0
    again = subprocess.run(
        [PROGRAM, "umount", str(own_mount.mountpoint)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1


def test_in_the_background_it_returns_when_the_mount_answers(
    store: StoreProcess, people: dict[str, User], open_folder: Path, alice: S3Client
) -> None:
    mount = MountProcess(store, open_folder, source=BUCKET)
    mount.mountpoint.mkdir()
    alice.put_object(Bucket=BUCKET, Key="background", Body=b"there")
    try:
        done = subprocess.run(
            mount.command(), capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (mount.mountpoint / "background").read_bytes() == b"there"
        status = subprocess.run(
            [PROGRAM, "status", str(mount.mountpoint), "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert status.returncode == 0, status.stderr
        json.loads(status.stdout)
        assert "secret" not in status.stdout.lower()
    finally:
        subprocess.run([PROGRAM, "umount", str(mount.mountpoint)], timeout=60, check=False)
        mount.free()
    assert not is_mounted(mount.mountpoint)


def test_a_prefix_is_mounted_and_nothing_beside_it(
    store: StoreProcess, people: dict[str, User], open_folder: Path, alice: S3Client
) -> None:
    alice.put_object(Bucket=BUCKET, Key="part/inside", Body=b"in")
    alice.put_object(Bucket=BUCKET, Key="partial", Body=b"out")
    with MountProcess(store, open_folder, source=f"{BUCKET}/part") as mount:
        assert os.listdir(mount.mountpoint) == ["inside"]
        (mount.mountpoint / "new").write_bytes(b"new")
    assert alice.get_object(Bucket=BUCKET, Key="part/new")["Body"].read() == b"new"


def test_read_only(
    store: StoreProcess, people: dict[str, User], open_folder: Path, alice: S3Client
) -> None:
    alice.put_object(Bucket=BUCKET, Key="ro", Body=b"as it is")
    requests = store.state / "audit.log"
    time.sleep(0.2)  # the log is written a moment after the answer
    before = requests.stat().st_size
    with MountProcess(store, open_folder, options={"ro": "on"}) as mount:
        assert (mount.mountpoint / BUCKET / "ro").read_bytes() == b"as it is"
        with pytest.raises(OSError, match="Read-only"):
            (mount.mountpoint / BUCKET / "ro").write_bytes(b"")
    # Also what the store can do is found out without writing.
    time.sleep(0.2)
    made = requests.read_bytes()[before:].decode().splitlines()
    operations = {json.loads(line)["operation"] for line in made}
    assert "GetObject" in operations
    assert operations <= {
        *("ListBuckets", "ListObjectsV2", "HeadBucket", "HeadObject", "GetObject"),
        "ListIdentities",
    }


def test_a_store_that_comes_back_is_found_again(
    people: dict[str, User], own_mount: MountProcess, store: StoreProcess
) -> None:
    path = own_mount.mountpoint / BUCKET / "before"
    path.write_bytes(b"before")
    store.kill()
    with pytest.raises(OSError, match=r".*"):
        (own_mount.mountpoint / BUCKET / "while-away").read_bytes()
    store.start()
    deadline = time.monotonic() + 30
    while True:
        try:
            (own_mount.mountpoint / BUCKET / "after").write_bytes(b"after")
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert path.read_bytes() == b"before"
    assert own_mount.umount() == 0
