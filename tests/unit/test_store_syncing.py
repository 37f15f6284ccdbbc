"""One fsync of a folder for all who come while another runs."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from s3posixfs.store.backend.syncing import SharedSync


class SlowDisk:
    """os.fsync, held up until it is let go; counts what it was asked."""

    def __init__(self) -> None:
        self.begun = 0
        self.fails = False
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def fsync(self, fd: int) -> None:
        self.begun += 1
        self.entered.release()
        assert self.go.acquire(timeout=20)
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    disk = SlowDisk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk


def _start(call: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def _crowd(
    sync: SharedSync, folder: Path, count: int, disk: SlowDisk | None = None
) -> list[OSError | None]:
    """Sync ``folder`` in so many threads at once; what became of each.

    A ``disk`` is let go when all have had the time to come.
    """
    results: list[OSError | None] = []
    inside = threading.Barrier(count + 1)

    def call() -> None:
        fd = os.open(folder, os.O_RDONLY)
        inside.wait()
        try:
            sync(fd)
            results.append(None)
        except OSError as error:
            results.append(error)
        finally:
            os.close(fd)

    threads = [_start(call) for _ in range(count)]
    inside.wait()
    if disk is not None:
        threading.Timer(0.5, disk.go.release, [20]).start()
    for thread in threads:
        thread.join(20)
    return results


def _hold(sync: SharedSync, folder: Path, disk: SlowDisk) -> threading.Thread:
    """An fsync that is under way and goes on until the disk is let go."""

    def call() -> None:
        fd = os.open(folder, os.O_RDONLY)
        try:
            sync(fd)
        finally:
            os.close(fd)

    thread = _start(call)
    assert disk.entered.acquire(timeout=20)
    return thread


def test_who_comes_while_one_runs_shares_the_next(disk: SlowDisk, tmp_path: Path) -> None:
    sync = SharedSync()
    first = _hold(sync, tmp_path, disk)
    assert _crowd(sync, tmp_path, 12, disk) == [None] * 12
    first.join(20)
    # All came while the first ran, but for what the scheduler held back: never one each.
    assert 2 <= disk.begun <= 4


def test_it_never_shares_one_that_has_begun(disk: SlowDisk, tmp_path: Path) -> None:
    sync = SharedSync()
    first = _hold(sync, tmp_path, disk)
    second = threading.Thread(target=_crowd, args=(sync, tmp_path, 1))
    second.start()
    disk.go.release()
    first.join(20)
    assert disk.entered.acquire(timeout=20), "the second has an fsync of its own"
    assert second.is_alive(), "and waits for it"
    disk.go.release()
    second.join(20)
    assert disk.begun == 2


def test_a_failure_is_everybodys(disk: SlowDisk, tmp_path: Path) -> None:
    sync = SharedSync()
    disk.fails = True
    disk.go.release(20)
    results = _crowd(sync, tmp_path, 5)
    assert [error.errno for error in results if error is not None] == [errno.EIO] * 5


def test_folders_do_not_wait_for_each_other(disk: SlowDisk, tmp_path: Path) -> None:
    sync = SharedSync()
    other = tmp_path / "other"
    other.mkdir()
    first = _hold(sync, tmp_path, disk)
    second = _hold(sync, other, disk)
    disk.go.release(2)
    first.join(20)
    second.join(20)
    assert disk.begun == 2
