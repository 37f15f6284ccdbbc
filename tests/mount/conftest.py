"""A store with the three users and the bucket ``shared``, and a mount of it, per test file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "shared"
SECONDS = 0.2  # metadata_ttl: how long the mount may not know of others' changes


def shown_in_time(client: S3Client) -> S3Client:
    """The client, each of whose changes returns when the mount is bound to show it."""

    def wait(**_: object) -> None:
        time.sleep(SECONDS)

    for operation in ("PutObject", "CopyObject", "DeleteObject", "CompleteMultipartUpload"):
        client.meta.events.register(f"after-call.s3.{operation}", wait)
    return client


def add_people(store: StoreProcess) -> dict[str, User]:
    """alice and bob with readwrite, carol with nothing, and the bucket that they share."""
    people = {
        "alice": store.add_user("alice", 1001, policy="readwrite"),
        "bob": store.add_user("bob", 1002, policy="readwrite"),
        "carol": store.add_user("carol", 1003),
    }
    client = store.s3(people["alice"])
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return people


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store") as store:
        yield store


@pytest.fixture(scope="module")
def people(store: StoreProcess) -> dict[str, User]:
    return add_people(store)


@pytest.fixture(scope="module")
def mount(
    store: StoreProcess, people: dict[str, User], module_folder: Path
) -> Iterator[MountProcess]:
    """All buckets, for all users; a short metadata_ttl so that tests need not wait."""
    with MountProcess(store, module_folder, options={"metadata_ttl": str(SECONDS)}) as mount:
        yield mount


@pytest.fixture
def alice(store: StoreProcess, people: dict[str, User]) -> Iterator[S3Client]:
    client = shown_in_time(store.s3(people["alice"]))
    yield client
    client.close()


@pytest.fixture
def bob(store: StoreProcess, people: dict[str, User]) -> Iterator[S3Client]:
    client = shown_in_time(store.s3(people["bob"]))
    yield client
    client.close()


@pytest.fixture
def folder(mount: MountProcess, request: pytest.FixtureRequest) -> Path:
    """An empty folder of uid 1001 in the mount, named after the test."""
    # A parameter may be of any characters and any length.
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:6]
    name = f"{request.function.__name__}-{digest}"
    mount.sh(f"mkdir {BUCKET}/{name}", uid=1001)
    return mount.mountpoint / BUCKET / name
