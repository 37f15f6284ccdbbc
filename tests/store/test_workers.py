"""Workers that are killed come back; only where they keep ending does the store give up."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from tests.store_process import StoreProcess


def workers_of(store: StoreProcess) -> set[int]:
    path = Path(f"/proc/{store.pid}/task/{store.pid}/children")
    try:
        return {int(child) for child in path.read_text().split()}
    except FileNotFoundError:
        return set()  # the store has ended


def wait_for_workers(store: StoreProcess, old: set[int], count: int = 2) -> set[int]:
    """The workers, once there are ``count`` and none of ``old``."""
    end = time.monotonic() + 20
    while len(found := workers_of(store)) < count or found & old:
        assert time.monotonic() < end, store.log_tail()
        time.sleep(0.02)
    return found


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def answers(client: Any) -> bool:
    """Whether the store answers, some time after its workers were killed."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            return bool(client.get_object(Bucket="photos", Key="a")["Body"].read() == b"data")
        except (BotoCoreError, OSError):
            time.sleep(0.05)  # a connection of the worker that is gone
    return False


def test_killed_workers_come_back(tmp_path: Path) -> None:
    with StoreProcess(tmp_path, arguments=["--workers", "2"]) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        client = store.s3(alice)
        client.create_bucket(Bucket="photos")
        client.put_object(Bucket="photos", Key="a", Body=b"data")
        first = workers_of(store)
        kill(*first)
        second = wait_for_workers(store, first)
        assert answers(client)
        one = min(second)
        kill(one)
        assert answers(client)
        third = wait_for_workers(store, {one})
        assert len(third & second) == 1
        assert "another in 0.2 s" in store.log.read_text()
        client.close()
        assert store.stop() == 0
        for pid in first | second | third:
            assert not Path(f"/proc/{pid}").exists()


def test_workers_that_keep_ending_end_the_store(tmp_path: Path) -> None:
    with StoreProcess(tmp_path, arguments=["--workers", "2"]) as store:
        killed: set[int] = set()
        end = time.monotonic() + 60
        while (status := store.poll()) is None:
            assert time.monotonic() < end, store.log_tail()
            for pid in workers_of(store) - killed:
                with suppress(ProcessLookupError):
                    kill(pid)
                    killed.add(pid)
            time.sleep(0.01)
        assert status == 1
        # Five for each worker and one more; the other may be killed while it ends in order.
        assert len(killed) in (11, 12)
        log = store.log.read_text()
        assert "too many soon after their start: giving up" in log
        assert "Traceback" not in log


def test_the_store_ends_while_a_worker_is_due(tmp_path: Path) -> None:
    with StoreProcess(tmp_path, arguments=["--workers", "2"]) as store:
        killed: set[int] = set()
        while len(killed) < 8:
            for pid in workers_of(store) - killed:
                kill(pid)
                killed.add(pid)
            time.sleep(0.01)
        assert store.stop() == 0


def test_the_store_ends_as_a_worker_is_started(tmp_path: Path) -> None:
    # SIGTERM sent to a worker that still had its parent's handlers was lost, seven times of eight.
    for _ in range(6):
        with StoreProcess(tmp_path, arguments=["--workers", "2"]) as store:
            old = workers_of(store)
            kill(*old)
            end = time.monotonic() + 20
            while not workers_of(store) - old:
                assert time.monotonic() < end, store.log_tail()
            assert store.stop() == 0


def test_the_store_ends_as_a_worker_ends(tmp_path: Path) -> None:
    for _ in range(6):
        with StoreProcess(tmp_path, arguments=["--workers", "2"]) as store:
            seen = store.log.stat().st_size
            kill(*workers_of(store))
            end = time.monotonic() + 20
            while store.log.stat().st_size == seen:
                assert time.monotonic() < end, "no word of the worker's end"
            assert store.stop() == 0
