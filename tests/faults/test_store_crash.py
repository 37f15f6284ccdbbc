"""The store is killed in the middle of its work: what it acknowledged is there, nothing else."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.store_process import StoreProcess, User

PUTS = 200
WRITERS = 4


class Writer(threading.Thread):
    """Puts its share of the objects, remembering which were answered and which only sent."""

    def __init__(self, store: StoreProcess, user: User, bodies: dict[str, bytes]) -> None:
        super().__init__()
        self.client = store.s3(user)
        self.bodies = bodies
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()

    def run(self) -> None:
        try:
            for key, body in self.bodies.items():
                self.sent.add(key)
                self.client.put_object(Bucket="crash", Key=key, Body=body)
                self.acknowledged.add(key)
        except (BotoCoreError, ClientError):
            pass  # the store is gone: what this test is for
        finally:
            self.client.close()


def bodies_of(generator: random.Random) -> dict[str, bytes]:
    """200 objects of 0 to 512 KiB, some of them in folders that do not exist yet."""
    return {
        f"folder-{number % 7}/{number:03}": generator.randbytes(generator.randrange(512 * 1024))
        for number in range(PUTS)
    }


@pytest.mark.parametrize("killed_after", [1, 40, 120])
def test_kill_in_the_middle_of_200_puts(module_folder: Path, killed_after: int) -> None:
    store = StoreProcess(module_folder / f"after-{killed_after}")
    store.start()
    try:
        alice = store.add_user("alice", 1001, policy="readwrite")
        client = store.s3(alice)
        client.create_bucket(Bucket="crash")
        client.close()
        bodies = bodies_of(random.Random(killed_after))
        keys = sorted(bodies)
        writers = [
            Writer(store, alice, {key: bodies[key] for key in keys[start::WRITERS]})
            for start in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        while sum(len(writer.acknowledged) for writer in writers) < killed_after:
            assert any(writer.is_alive() for writer in writers), store.log_tail()
            time.sleep(0.001)
        store.kill()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        acknowledged = set().union(*(writer.acknowledged for writer in writers))
        sent = set().union(*(writer.sent for writer in writers))
        assert killed_after <= len(acknowledged) < PUTS, "the kill came too late to show anything"

        store.start()
        client = store.s3(alice)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="crash")
        listed = {row["Key"]: row for page in pages for row in page.get("Contents", [])}
        assert acknowledged <= set(listed) <= sent
        for key, row in listed.items():
            body = client.get_object(Bucket="crash", Key=key)["Body"].read()
            assert body == bodies[key], f"{key} is not what was sent"
            assert row["Size"] == len(body)
            assert row["ETag"] == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        # Nothing of what was under way is left lying about, and the store goes on as before.
        left = [path for path in (store.root / ".s3posixfs" / "tmp").rglob("*") if path.is_file()]
        assert left == []
        client.put_object(Bucket="crash", Key=keys[-1], Body=b"again")
        assert client.get_object(Bucket="crash", Key=keys[-1])["Body"].read() == b"again"
        client.close()
    finally:
        store.stop()
