"""Starting, staying in the background, and ending with everything uploaded."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess, is_mounted
from tests.store_process import PROGRAM

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
MIB = 1024 * 1024


@pytest.fixture
def own_mount(bed: Bed, open_folder: Path) -> Iterator[DaemonProcess]:
    """A mount for one test to end as it likes."""
    with bed.mount(open_folder) as mount:
        yield mount


def write_without_closing(
    mount: DaemonProcess, name: str, content: bytes
) -> subprocess.Popen[bytes]:
    """A process that has written ``content`` to a file of the mount and keeps it open."""
    source = mount.folder / "source"
    source.write_bytes(content)
    script = f"exec 3> {mount.mountpoint}/{name}; cat {source} >&3; echo; exec sleep 60"
    process = subprocess.Popen(
        ["/bin/sh", "-euc", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    process.stdout.close()
    return process


def test_umount_ends_the_daemon_with_everything_uploaded(
    own_mount: DaemonProcess, alice: S3Client, bucket: str
) -> None:
    content = random.Random(1).randbytes(20 * MIB)
    (own_mount.mountpoint / bucket / "umounted").write_bytes(content)
    assert own_mount.umount() == 0
    assert not is_mounted(own_mount.mountpoint)
    assert alice.get_object(Bucket=bucket, Key="umounted")["Body"].read() == content


def test_sigterm_ends_the_daemon_with_everything_uploaded(
    own_mount: DaemonProcess, alice: S3Client, bucket: str
) -> None:
    content = random.Random(2).randbytes(20 * MIB)
    (own_mount.mountpoint / bucket / "terminated").write_bytes(content)
    assert own_mount.terminate() == 0
    assert not is_mounted(own_mount.mountpoint)
    assert alice.get_object(Bucket=bucket, Key="terminated")["Body"].read() == content


def test_sigterm_uploads_what_is_still_open(
    own_mount: DaemonProcess, alice: S3Client, bucket: str
) -> None:
    content = random.Random(3).randbytes(3 * MIB)
    writer = write_without_closing(own_mount, f"{bucket}/still-open", content)
    try:
        assert own_mount.terminate() == 0
        assert alice.get_object(Bucket=bucket, Key="still-open")["Body"].read() == content
    finally:
        writer.kill()
        writer.wait(20)


def test_the_umount_command_waits_for_the_daemon(own_mount: DaemonProcess, bucket: str) -> None:
    (own_mount.mountpoint / bucket / "by-command").write_bytes(b"x" * MIB)
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
    bed: Bed, open_folder: Path, alice: S3Client, bucket: str
) -> None:
    mount = bed.mount(open_folder, source=bucket)
    mount.mountpoint.mkdir()
    alice.put_object(Bucket=bucket, Key="background", Body=b"there")
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


def test_who_interrupts_it_leaves_no_daemon_behind(bed: Bed, open_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        mount = bed.mount(open_folder, options=options)
        mount.mountpoint.mkdir()
        mounting = subprocess.Popen(
            # Whoever runs tests in the background has it ignored.
            ["env", "--default-signal=INT", *mount.command()],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()  # the daemon's: it waits for an answer from here on
        with connection:
            os.killpg(mounting.pid, signal.SIGINT)  # as a terminal does
            said = mounting.communicate(timeout=30)[1]
            assert mounting.returncode == 130
            assert "Traceback" not in said
            connection.settimeout(15)  # sooner than a daemon gives up by itself
            while connection.recv(65536):
                pass  # until it has ended
        assert not is_mounted(mount.mountpoint)


def test_a_prefix_is_mounted_and_nothing_beside_it(
    bed: Bed, open_folder: Path, alice: S3Client, bucket: str
) -> None:
    alice.put_object(Bucket=bucket, Key="part/inside", Body=b"in")
    alice.put_object(Bucket=bucket, Key="partial", Body=b"out")
    with bed.mount(open_folder, source=f"{bucket}/part") as mount:
        assert os.listdir(mount.mountpoint) == ["inside"]
        (mount.mountpoint / "new").write_bytes(b"new")
    assert alice.get_object(Bucket=bucket, Key="part/new")["Body"].read() == b"new"


def test_read_only(bed: Bed, open_folder: Path, alice: S3Client, bucket: str) -> None:
    alice.put_object(Bucket=bucket, Key="ro", Body=b"as it is")
    with bed.mount(open_folder, options={"ro": "on"}) as mount:
        assert (mount.mountpoint / bucket / "ro").read_bytes() == b"as it is"
        with pytest.raises(OSError, match="Read-only"):
            (mount.mountpoint / bucket / "ro").write_bytes(b"")
        kinds = mount.status()["client"]["requests_by_kind"]
    # Also what the store can do is found out without writing.
    assert kinds["GET object"] >= 1
    assert not [kind for kind in kinds if not kind.startswith(("GET ", "HEAD "))], kinds


def test_a_store_that_comes_back_is_found_again(
    bed: Bed, own_mount: DaemonProcess, bucket: str
) -> None:
    path = own_mount.mountpoint / bucket / "before"
    path.write_bytes(b"before")
    bed.kill()
    with pytest.raises(OSError, match=r".*"):
        (own_mount.mountpoint / bucket / "while-away").read_bytes()
    bed.start()
    deadline = time.monotonic() + 30
    while True:
        try:
            (own_mount.mountpoint / bucket / "after").write_bytes(b"after")
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert path.read_bytes() == b"before"
    assert own_mount.umount() == 0
