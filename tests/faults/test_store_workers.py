"""Workers and their parent are killed: the rest goes on or ends, and what was answered stays."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.store.raw import RawClient
from tests.store_process import StoreProcess, User

# A worker that ends sooner is not started again: it would end for ever.
LEAST_LIFE = 5.0


def workers_of(store: StoreProcess) -> list[int]:
    children = Path(f"/proc/{store.pid}/task/{store.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


class Writer(threading.Thread):
    """Puts objects until told to stop; a broken connection is tried again, as clients do."""

    def __init__(self, store: StoreProcess, user: User, name: str) -> None:
        super().__init__()
        self.client = store.s3(user)
        self.label = name
        self.acknowledged: list[str] = []
        self.failed = 0
        self.ending = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ending.is_set():
            key = f"{self.label}/{number}"
            try:
                self.client.put_object(Bucket="photos", Key=key, Body=key.encode())
            except (BotoCoreError, ClientError):
                self.failed += 1
                time.sleep(0.05)
            else:
                self.acknowledged.append(key)
                number += 1
        self.client.close()


@pytest.fixture
def two(module_folder: Path, request: pytest.FixtureRequest) -> StoreProcess:
    name = str(request.node.name).replace("test_", "")[:40]
    return StoreProcess(module_folder / name, arguments=["--workers", "2"])


def prepared(store: StoreProcess) -> User:
    alice = store.add_user("alice", 1001, policy="readwrite")
    client = store.s3(alice)
    client.create_bucket(Bucket="photos")
    client.close()
    return alice


def test_a_killed_worker_is_replaced_and_the_other_serves_on(two: StoreProcess) -> None:
    with two as store:
        began = time.monotonic()
        alice = prepared(store)
        time.sleep(max(0.0, LEAST_LIFE + 0.2 - (time.monotonic() - began)))
        writers = [Writer(store, alice, f"writer-{number}") for number in range(3)]
        for writer in writers:
            writer.start()
        until(lambda: all(len(writer.acknowledged) > 5 for writer in writers))
        before = workers_of(store)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(workers_of(store)) == 2 and before[0] not in workers_of(store))
        assert before[1] in workers_of(store)
        counts = [len(writer.acknowledged) for writer in writers]
        until(
            lambda: all(len(w.acknowledged) > n + 5 for w, n in zip(writers, counts, strict=True))
        )
        for writer in writers:
            writer.ending.set()
            writer.join(20)
            # Each writer has one connection: it can be broken but a few times.
            assert writer.failed <= 3
        client = store.s3(alice)
        for writer in writers:
            for key in writer.acknowledged:
                body = client.get_object(Bucket="photos", Key=key)["Body"].read()
                assert body == key.encode()
        client.close()
        assert "ended with status -9" in store.log.read_text()
        assert store.stop() == 0
        left = [path for path in (store.root / ".s3posixfs" / "tmp").rglob("*") if path.is_file()]
    store.start()
    left = [path for path in (store.root / ".s3posixfs" / "tmp").rglob("*") if path.is_file()]
    assert left == [], "what the killed worker had under way lies about after a new start"
    assert store.stop() == 0


def test_workers_end_with_a_parent_that_is_killed(two: StoreProcess) -> None:
    with two as store:
        alice = prepared(store)
        workers = workers_of(store)
        assert len(workers) == 2
        with RawClient(store.port, alice) as raw:
            # What is in flight is still answered.
            length = (("content-length", "4"),)
            raw.send(raw.head("PUT", "/photos/late", unsigned=length) + b"la")
            time.sleep(0.2)
            store.kill()
            time.sleep(0.2)
            raw.send(b"te")
            assert raw.answer().status == 200
        until(lambda: not any(map(alive, workers)))
        # The port is free again, so the store can be started as after any crash.
        store.start()
        client = store.s3(alice)
        assert client.get_object(Bucket="photos", Key="late")["Body"].read() == b"late"
        client.close()
