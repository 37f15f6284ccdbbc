"""A mount that the kernel's automount asks for, as systemd does for a line of fstab."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess
from tests.store_process import PROGRAM

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount

# linux/auto_fs.h: struct autofs_v5_packet and what ends the wait for its token.
_PACKET_BYTES = 304
_TOKEN_OFFSET = 8
_READY, _FAIL = 0x9360, 0x9361


class Automount:
    """This process serves it, and its process group sees what is below it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._requests, self._kernel = os.pipe()
        os.set_blocking(self._requests, False)
        given = f"fd={self._kernel},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
        words = ["mount", "-t", "autofs", "-o", given, "systemd-1", str(place)]
        subprocess.run(words, check=True, pass_fds=[self._kernel], timeout=30)
        self._root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        self._tokens: list[int] = []

    def asked(self, *, seconds: float = 30.0) -> None:
        """Wait until somebody looks into it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                packet = os.read(self._requests, _PACKET_BYTES)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "nobody asks for the mount"
                time.sleep(0.02)
        self._tokens.append(struct.unpack_from("=I", packet, _TOKEN_OFFSET)[0])

    def answer(self, request: int = _READY) -> None:
        """Let those go on who wait for the mount."""
        for token in self._tokens:
            fcntl.ioctl(self._root, request, token)
        self._tokens.clear()

    def end(self) -> None:
        self.answer(_FAIL)
        os.close(self._root)
        subprocess.run(["umount", "-l", str(self.place)], check=False, timeout=30)
        os.close(self._requests)
        os.close(self._kernel)


@pytest.fixture
def mount(bed: Bed, open_folder: Path) -> Iterator[DaemonProcess]:
    """What is to be mounted; nothing is, yet."""
    mount = bed.mount(open_folder)
    mount.mountpoint.mkdir()
    yield mount
    mount.free()


@pytest.fixture
def automount(mount: DaemonProcess) -> Iterator[Automount]:
    automount = Automount(mount.mountpoint)
    yield automount
    automount.end()


def test_the_first_look_mounts(
    automount: Automount, mount: DaemonProcess, alice: S3Client, bucket: str
) -> None:
    alice.put_object(Bucket=bucket, Key="looked-for")
    looking = subprocess.Popen(
        ["ls", str(mount.mountpoint / bucket)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    automount.asked()
    # Of this process group, as what systemd calls is of systemd's.
    mounting = subprocess.Popen(mount.command())
    try:
        assert mounting.wait(60) == 0, mount.log_tail()
    finally:
        if mounting.poll() is None:
            automount.answer(_FAIL)
            mounting.terminate()
            mounting.wait(30)
    automount.answer()
    assert "looked-for" in looking.communicate(timeout=30)[0].split()
    pid = mount.status()["pid"]
    assert os.getsid(pid) == pid, "it would end with the session of who mounted"
    subprocess.run([PROGRAM, "umount", str(mount.mountpoint)], check=True, timeout=60)
