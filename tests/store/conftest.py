"""A running store with two users, and ways to talk to it: boto3, and bytes on a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.store.raw import RawClient
from tests.store_process import StoreProcess, User, secret_of

BUCKET = "photos"
Refusal = Callable[..., tuple[str, int]]


@pytest.fixture(scope="module")
def running(module_folder: Path) -> Iterator[StoreProcess]:
    """A store with alice (readwrite), bob (no policy) and the bucket ``photos``."""
    environment = {"S3POSIXFS_TEST_MIN_SESSION": "1"}
    with StoreProcess(module_folder / "store", environment=environment) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        store.add_user("bob", 1002)
        client = store.s3(alice)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield store
        assert store.stop() == 0
        log = store.log.read_text()
        assert "Traceback" not in log, log
        assert secret_of("alice") not in log


@pytest.fixture(scope="module")
def alice() -> User:
    return User("alice", "alice", secret_of("alice"), 1001, 1001)


@pytest.fixture(scope="module")
def bob() -> User:
    return User("bob", "bob", secret_of("bob"), 1002, 1002)


@pytest.fixture(scope="module")
def client(running: StoreProcess, alice: User) -> Iterator[Any]:
    """boto3 as alice."""
    client = running.s3(alice)
    yield client
    client.close()


@pytest.fixture
def raw(running: StoreProcess, alice: User) -> Iterator[RawClient]:
    """A connection of bytes, signing as alice."""
    with RawClient(running.port, alice) as raw:
        yield raw


@pytest.fixture(scope="session")
def refusal() -> Refusal:
    """Calls boto3 and gives the error code and HTTP status that it is refused with."""

    def call(method: Any, **arguments: Any) -> tuple[str, int]:
        with pytest.raises(ClientError) as caught:
            method(**arguments)
        response = caught.value.response
        return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]

    return call
