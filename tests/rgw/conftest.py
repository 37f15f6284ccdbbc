"""A bucket of the gateway and a mount of it per test file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw.gateway import METADATA_TTL, Gateway, GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EVERYONE = ("admin", "alice", "bob")  # carol is in no policy


@pytest.fixture(scope="module")
def bucket(gateway: Gateway) -> Iterator[str]:
    with gateway.bucket(EVERYONE) as name:
        yield name


@pytest.fixture(scope="module")
def mount(gateway: Gateway, bucket: str, module_folder: Path) -> Iterator[GatewayMount]:
    with GatewayMount(gateway, module_folder, bucket) as mount:
        yield mount


@pytest.fixture(scope="module")
def admin(gateway: Gateway) -> Iterator[S3Client]:
    client = gateway.s3("admin")
    yield client
    client.close()


@pytest.fixture(scope="module")
def alice(gateway: Gateway) -> Iterator[S3Client]:
    client = gateway.s3("alice")
    yield client
    client.close()


@pytest.fixture(scope="module")
def bob(gateway: Gateway) -> Iterator[S3Client]:
    client = gateway.s3("bob")
    yield client
    client.close()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A name for what one test makes, so that tests do not meet.

    What the mount has listed before is too old by then, so that it shows what S3 clients put there.
    """
    time.sleep(METADATA_TTL + 0.1)
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:6]
    return f"{request.function.__name__.removeprefix('test_')[:40]}-{digest}"


def owners(client: S3Client, bucket: str, prefix: str) -> dict[str, str]:
    """The S3 owner of every object below ``prefix``, by the rest of its key."""
    found: dict[str, str] = {}
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, FetchOwner=True
    )
    for page in pages:
        for row in page.get("Contents", []):
            found[row["Key"].removeprefix(prefix)] = row["Owner"]["ID"]
    return found
