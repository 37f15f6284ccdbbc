"""Write-back on a real mount: crashes, a store that is down, refusals, conflicts, a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kill_rounds import Rounds
from tests.mount.mount_process import MountProcess
from tests.store_process import PROGRAM, StoreProcess

pytestmark = pytest.mark.mount

BUCKET = "later"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store") as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        client = store.s3(alice)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield store


@pytest.fixture
def mount(store: StoreProcess, open_folder: Path) -> Iterator[MountProcess]:
    with MountProcess(store, open_folder, BUCKET, {"writeback": "on"}) as mount:
        yield mount


def stored(store: StoreProcess, name: str) -> Path:
    return store.root / BUCKET / name


@pytest.mark.parametrize("writeback", [True, False])
def test_rounds_of_kill_and_looking(open_folder: Path, writeback: bool) -> None:
    rounds = Rounds(open_folder, writeback=writeback, seed=5)
    rounds.run(4)
    assert rounds.problems == []
    assert rounds.counts["rounds"] == 4
    assert rounds.counts["acknowledged"] > 0


def test_a_store_that_is_down_and_comes_back(store: StoreProcess, mount: MountProcess) -> None:
    with (mount.mountpoint / "log").open("wb") as log:
        log.write(b"before\n")
        log.flush()
        os.fsync(log.fileno())
        mount.wait_until_stored()
        store.kill()
        try:
            log.write(b"while it was down\n")
            log.flush()
            os.fsync(log.fileno())
            assert mount.queued() == 1
        finally:
            store.start()
    mount.kill()  # before the uploader tried again, or after: it makes no difference
    mount.free()
    mount.start()
    assert (mount.mountpoint / "log").read_bytes() == b"before\nwhile it was down\n"
    mount.wait_until_stored()
    assert stored(store, "log").read_bytes() == b"before\nwhile it was down\n"


def test_what_waits_is_shown_as_it_will_be(store: StoreProcess, mount: MountProcess) -> None:
    """Also after a crash and before its upload, with owner, mode and times."""
    warm = mount.mountpoint / "warm"
    warm.mkdir(mode=0o777)
    warm.chmod(0o777)
    mount.sh("echo warm > warm/a", uid=1001)
    mount.wait_until_stored()
    mount.sh("umask 027; printf content > warm/b; touch -d @1000.5 warm/b", uid=1001)
    before = os.stat(warm / "b")
    mount.kill()
    mount.free()
    mount.start()
    after = os.stat(warm / "b")
    for name in ("st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns"):
        assert getattr(after, name) == getattr(before, name), name
    mount.wait_until_stored()
    assert stored(store, "warm/b").stat().st_uid == 1001


def test_a_refused_identity_waits_alone(store: StoreProcess, mount: MountProcess) -> None:
    alices = mount.mountpoint / "alices"
    alices.mkdir()
    os.chown(alices, 1001, 1001)
    mount.sh("echo 1 > alices/first", uid=1001)
    mount.wait_until_stored()
    store.command("policy", "detach", "alice")
    try:
        mount.sh("echo 2 > alices/first", uid=1001)
        (mount.mountpoint / "roots").write_text("mine")
        deadline = time.monotonic() + 60
        while not stored(store, "roots").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status = mount.status()["filesystem"]
        assert status["queued_files"] == 1
        done = subprocess.run(
            [PROGRAM, "umount", str(mount.mountpoint)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1
        assert str(mount.options["cache_dir"]) in done.stderr
        assert "1 files" in done.stderr
    finally:
        store.command("policy", "attach", "readwrite", "alice")
    done = subprocess.run(
        [PROGRAM, "umount", str(mount.mountpoint)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    mount.wait()
    assert stored(store, "alices/first").read_text() == "2\n"
    assert stored(store, "alices/first").stat().st_uid == 1001


def test_two_mounts_and_a_conflict(
    store: StoreProcess, mount: MountProcess, open_folder: Path
) -> None:
    (mount.mountpoint / "both").write_text("base")
    mount.wait_until_stored()
    with MountProcess(store, open_folder / "other", BUCKET) as other:
        store_path = stored(store, "both")
        fd = os.open(mount.mountpoint / "both", os.O_WRONLY)
        os.write(fd, b"ours")
        (other.mountpoint / "both").write_text("theirs")
        os.close(fd)
        mount.wait_until_stored()
        assert store_path.read_text() == "ours"
        kept = [path for path in store_path.parent.iterdir() if path.name.startswith("both.conf")]
        assert [path.read_text() for path in kept] == ["theirs"]


def test_two_daemons_never_share_a_cache(
    store: StoreProcess, mount: MountProcess, open_folder: Path
) -> None:
    other = MountProcess(store, open_folder / "other", BUCKET, mount.options)
    other.mountpoint.mkdir(parents=True)
    done = subprocess.run(other.command(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "is in use by another mount" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_end_that_is_not_waited_for_leaves_the_rest(
    store: StoreProcess, open_folder: Path
) -> None:
    options = {"writeback": "on", "drain_timeout": "0"}
    with MountProcess(store, open_folder, BUCKET, options) as mount:
        (mount.mountpoint / "end").mkdir()
        for number in range(50):
            (mount.mountpoint / f"end/{number}").write_text(str(number))
        assert mount.terminate() == 0
        assert "not in S3" in mount.log_tail()
        mount.start()
        for number in range(50):
            assert (mount.mountpoint / f"end/{number}").read_text() == str(number)
        mount.wait_until_stored()
        assert len(list(stored(store, "end").iterdir())) == 50


@pytest.fixture
def small_disk(open_folder: Path) -> Iterator[Path]:
    """A filesystem of 64 MiB."""
    disk = open_folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True, timeout=30)


def test_a_full_cache_refuses_and_loses_nothing(
    store: StoreProcess, open_folder: Path, small_disk: Path
) -> None:
    # So that new names need no word of a store that is down.
    options = {"writeback": "on", "cache_dir": str(small_disk / "cache"), "metadata_ttl": "600"}
    with MountProcess(store, open_folder / "m", BUCKET, options) as mount:
        (mount.mountpoint / "full").mkdir()
        (mount.mountpoint / "full/warm").write_text("x")
        mount.wait_until_stored()
        written: list[int] = []
        refused: list[int | None] = []
        store.kill()
        try:
            for number in range(400):
                try:
                    (mount.mountpoint / f"full/{number}").write_bytes(
                        number.to_bytes(2, "big") * (MIB // 8)
                    )
                    written.append(number)
                except OSError as error:
                    refused.append(error.errno)
                    break
        finally:
            store.start()
        assert refused == [errno.ENOSPC], (len(written), mount.log_tail())
        assert len(written) > 100  # of 256 KiB each
        mount.kill()
        mount.free()
        mount.start()
        for number in written:
            content = (mount.mountpoint / f"full/{number}").read_bytes()
            assert content == number.to_bytes(2, "big") * (MIB // 8)
        mount.wait_until_stored()
        (mount.mountpoint / "full/after").write_bytes(bytes(8 * MIB))
        mount.wait_until_stored()
        assert stored(store, "full/after").stat().st_size == 8 * MIB
