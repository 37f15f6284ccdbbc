"""The audit log of a mount: who did what as whom, and what came of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess

pytestmark = [pytest.mark.mount]


@pytest.fixture(scope="module")
def log(bed_folder: Path) -> Path:
    return bed_folder / "audit.log"


@pytest.fixture(scope="module")
def mount(bed: Bed, bed_folder: Path, log: Path) -> Iterator[DaemonProcess]:
    options = {"metadata_ttl": "0.2", "audit_log": str(log), "access": "s3", "access_ttl": "0"}
    with bed.mount(bed_folder, bed.bucket, options) as mount:
        yield mount


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_bytes().splitlines()]


@pytest.fixture
def made(log: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The lines about one path that came since the test began, once the last is written."""
    before = len(lines(log)) if log.exists() else 0

    def since(path: str) -> list[dict[str, Any]]:
        time.sleep(0.3)
        return [line for line in lines(log)[before:] if line.get("path") == path]

    return since


def test_what_a_user_does_is_there_in_order(
    mount: DaemonProcess, made: Callable[[str], list[dict[str, Any]]]
) -> None:
    began = time.time()
    mount.python("with open('a', 'w') as file: file.write('x')", uid=1001)
    mount.sh("cat a; chmod 600 a; mv a b; rm b", uid=1001)
    found = made("/a")
    assert [(line["operation"], line.get("access")) for line in found] == [
        ("create", "write"),
        ("flush", None),
        ("open", "read"),
        ("setattr", None),
        ("rename", None),
    ]
    assert found[-1]["to"] == "/b"
    assert [line["operation"] for line in made("/b")] == ["unlink"]
    for line in found:
        assert (line["uid"], line["identity"], line["result"]) == (1001, "alice", "ok")
        assert line["pid"] > 0
        assert began - 1 < line["time"] < time.time()
    for number in (1, 2, 4):  # of the upload, the read and the rename: S3's own names for them
        assert found[number]["requests"]
        assert all(isinstance(name, str) and name for name in found[number]["requests"])


def test_root_acts_as_the_mount(
    mount: DaemonProcess, made: Callable[[str], list[dict[str, Any]]]
) -> None:
    mount.sh("mkdir of-root; rmdir of-root")
    assert {(line["uid"], line["identity"]) for line in made("/of-root")} == {(0, "daemon")}


def test_a_refusal_is_in_both_logs(
    bed: Bed, mount: DaemonProcess, made: Callable[[str], list[dict[str, Any]]]
) -> None:
    mount.sh("mkdir closed; echo secret > closed/f", uid=1001)
    with bed.denied("bob", "closed/"):
        time.sleep(0.3)
        assert mount.run("cat", "closed/f", uid=1002).returncode == 1
    refused = [line for line in made("/closed/f") if line["result"] != "ok"]
    assert [(line["uid"], line["identity"], line["result"]) for line in refused] == [
        (1002, "bob", "EACCES")
    ]
    assert 'as bob: "/closed/f": EACCES' in mount.log_tail()
    assert "open refused to uid 1002 (process " in mount.log_tail()
    assert mount.status()["filesystem"]["refusals"] >= 1


def test_names_of_any_kind_are_one_line_each(mount: DaemonProcess, log: Path) -> None:
    names = ["line\nbreak", 'quo"te', "esc\x1b[31m", "\u2028sep", "tab\t"]
    for name in names:
        path = mount.mountpoint / name
        path.write_text("x")
        path.unlink()
    time.sleep(0.3)
    raw = log.read_bytes()
    assert raw.isascii()
    assert all(byte >= 0x20 or byte == 0x0A for byte in raw)
    paths = {line.get("path") for line in lines(log)}
    assert {f"/{name}" for name in names} <= paths


def test_no_secret_is_in_it(bed: Bed, mount: DaemonProcess, log: Path) -> None:
    mount.sh("echo x > s; cat s", uid=1001)
    time.sleep(0.3)
    text = log.read_text() + mount.log_tail(10**7)
    for user in bed.users.values():
        assert user.secret_key not in text
    assert log.stat().st_mode & 0o777 == 0o600


def test_it_is_set_aside_by_size_and_whole_at_the_end(bed: Bed, open_folder: Path) -> None:
    log = open_folder / "audit.log"
    options = {"audit_log": str(log), "audit_size": "20k", "audit_keep": "3"}
    with bed.mount(open_folder, bed.bucket, options) as mount:
        mount.sh("mkdir -p many; i=0; while [ $i -lt 60 ]; do : > many/$i; i=$((i+1)); done")
        mount.sh("touch many/last")
        assert mount.umount() == 0
    files = sorted(open_folder.glob("audit.log*"))
    kept = [path for path in files if path.suffix != ".lock"]
    assert 1 < len(kept) <= 4
    assert all(path.stat().st_size < 40_000 for path in kept)
    paths = [line["path"] for path in kept for line in lines(path) if line["operation"] == "create"]
    assert "/many/last" in paths


def test_a_log_that_cannot_be_written_is_said_at_the_start(bed: Bed, open_folder: Path) -> None:
    for target, said in (
        (open_folder / "no-folder" / "log", "No such file or directory"),
        (open_folder / "mnt" / "log", "is inside the mount"),
    ):
        mount = bed.mount(open_folder, bed.bucket, {"audit_log": str(target)})
        with pytest.raises(AssertionError, match=said):
            mount.start()
    assert not os.path.ismount(open_folder / "mnt")
