"""Folders are renamed: by who may, with what is open in them, and as one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.bed import Bed
from tests.mount.conftest import SECONDS
from tests.mount.mount_process import DaemonProcess
from tests.mount.posix.kit import User, attempt

pytestmark = pytest.mark.mount

ALICE = User(1001, 1001)
ACCESS_TTL = 0.2


@pytest.fixture(scope="module")
def own(bed: Bed, bed_folder: Path) -> Iterator[DaemonProcess]:
    folder = bed_folder / "own"
    folder.mkdir()
    options = {"metadata_ttl": str(SECONDS), "access_ttl": str(ACCESS_TTL)}
    with bed.mount(folder, bed.bucket, options) as mount:
        yield mount


def fill(top: Path, files: int = 30) -> None:
    (top / "deep").mkdir(parents=True)
    for number in range(files):
        folder = top / "deep" if number % 2 else top
        (folder / f"{number:02d}").write_text(f"{top.name} {number}")


def test_a_key_that_is_denied_holds_the_folder(bed: Bed, own: DaemonProcess) -> None:
    old, new = own.mountpoint / "denied", own.mountpoint / "denied-too"
    ALICE.does(lambda: fill(old))
    before = bed.owners("denied/")
    with bed.denied("alice", "denied/deep/2"):
        time.sleep(ACCESS_TTL + SECONDS)
        if bed.kind == "rgw":
            time.sleep(1)  # its policies take a moment
        assert ALICE.does(lambda: attempt(lambda: old.rename(new))) == "EACCES"
        assert bed.owners("denied-too/") == {}
        assert bed.owners("denied/") == before
        assert own.status()["filesystem"]["unfinished_renames"] == 0
    time.sleep(ACCESS_TTL + SECONDS + 1)
    ALICE.does(lambda: old.rename(new))
    assert bed.owners("denied/") == {}
    assert bed.owners("denied-too/") == before
    assert (new / "deep/29").read_text() == "denied 29"


def test_what_is_open_below_goes_on(bed: Bed, own: DaemonProcess) -> None:
    old, new = own.mountpoint / "open", own.mountpoint / "open-too"
    fill(old)
    with (old / "deep/01").open("rb") as read, (old / "deep/written").open("wb") as written:
        assert read.read(4) == b"open"
        written.write(b"before ")
        written.flush()
        old.rename(new)
        written.write(b"after")
        assert read.read() == b" 1"
    assert (new / "deep/written").read_bytes() == b"before after"
    assert not old.exists()
    assert bed.owners("open/") == {}
    assert len(bed.owners("open-too/deep/")) == 17  # 15 of them, one written, the folder itself


def test_it_is_one_request_where_the_store_can(bed: Bed, own: DaemonProcess) -> None:
    old, new = own.mountpoint / "counted", own.mountpoint / "counted-too"
    fill(old, 100)
    new.mkdir()
    time.sleep(SECONDS * 2)
    before = own.status()["client"]["requests"]
    os.rename(old, new)
    requests = own.status()["client"]["requests"] - before
    one = own.status()["capabilities"]["rename_folder"]
    assert one is (bed.kind == "embedded")
    assert (requests < 20) is one
    assert sum(path.is_file() for path in new.rglob("*")) == 100
