"""Each store in turn, with its people and the bucket that they share; a mount per test file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed, EmbeddedBed, GatewayBed
from tests.mount.mount_process import DaemonProcess
from tests.rgw.gateway import Gateway
from tests.store_process import StoreProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SECONDS = 0.2  # metadata_ttl: how long the mount may not know of others' changes


def shown_in_time(client: S3Client) -> S3Client:
    """The client, each of whose changes returns when the mount is bound to show it."""

    def wait(**_: object) -> None:
        time.sleep(SECONDS)

    for operation in ("PutObject", "CopyObject", "DeleteObject", "CompleteMultipartUpload"):
        client.meta.events.register(f"after-call.s3.{operation}", wait)
    return client


@pytest.fixture(scope="module", params=["embedded", pytest.param("rgw", marks=[pytest.mark.rgw])])
def bed(request: pytest.FixtureRequest, module_folder: Path) -> Iterator[Bed]:
    """Both stores, one after the other: ``-k embedded`` or ``-k rgw`` chooses one."""
    found: Bed
    if request.param == "embedded":
        found = EmbeddedBed(module_folder)
    else:
        gateway: Gateway = request.getfixturevalue("gateway")
        found = GatewayBed(gateway)
    with found:
        yield found


@pytest.fixture(scope="module")
def embedded(module_folder: Path) -> Iterator[EmbeddedBed]:
    """The embedded store alone, for what no other store has: beside the one of ``bed``."""
    folder = module_folder / "alone"
    folder.mkdir(mode=0o755)
    with EmbeddedBed(folder) as bed:
        yield bed


@pytest.fixture(scope="module")
def store(embedded: EmbeddedBed) -> StoreProcess:
    return embedded.store


@pytest.fixture(scope="module")
def bucket(bed: Bed) -> str:
    """The name of the bucket that admin, alice and bob share."""
    return bed.bucket


@pytest.fixture(scope="module")
def bed_folder(bed: Bed, module_folder: Path) -> Path:
    """A folder that every uid can enter, for the tests of one file on one store."""
    folder = module_folder / bed.kind
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def mount(bed: Bed, bed_folder: Path) -> Iterator[DaemonProcess]:
    """All buckets, for all users; a short metadata_ttl so that tests need not wait."""
    with bed.mount(bed_folder, options={"metadata_ttl": str(SECONDS)}) as mount:
        yield mount


@pytest.fixture
def alice(bed: Bed) -> Iterator[S3Client]:
    client = shown_in_time(bed.s3("alice"))
    yield client
    client.close()


@pytest.fixture
def bob(bed: Bed) -> Iterator[S3Client]:
    client = shown_in_time(bed.s3("bob"))
    yield client
    client.close()


@pytest.fixture
def folder(mount: DaemonProcess, bucket: str, request: pytest.FixtureRequest) -> Path:
    """An empty folder of uid 1001 in the mount, named after the test."""
    # A parameter may be of any characters and any length.
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:6]
    name = f"{request.function.__name__}-{digest}"
    mount.sh(f"mkdir {bucket}/{name}", uid=1001)
    return mount.mountpoint / bucket / name
