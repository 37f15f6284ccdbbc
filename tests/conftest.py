"""What all tests share: no AWS settings of the host leak in, one gateway, and folders that every
uid reaches."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3posixfs.waiting import deadlines
from tests.rgw.gateway import Gateway, running_gateway


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.devnull
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What a test needs and does not find fails it, unless somebody asked for it to be left out."""
    if os.geteuid() != 0:
        raise pytest.UsageError(
            "the tests act as several users, which takes root: run scripts/test, or sudo pytest"
        )
    for item in items:
        of_gateway = item.get_closest_marker("rgw") is not None
        if of_gateway and os.environ.get("S3POSIXFS_TEST_NO_RGW"):
            item.add_marker(pytest.mark.skip(reason="S3POSIXFS_TEST_NO_RGW is set"))
        # Of several workers one has all tests of the gateway, which some of them stop, and the
        # tests of a file stay together, for they share a store.
        file = str(item.path.relative_to(config.rootpath))
        item.add_marker(pytest.mark.xdist_group("gateway" if of_gateway else file))
    mounted = [item for item in items if item.get_closest_marker("mount") is not None]
    if os.environ.get("S3POSIXFS_TEST_NO_MOUNT"):
        for item in mounted:
            item.add_marker(pytest.mark.skip(reason="S3POSIXFS_TEST_NO_MOUNT is set"))
    elif mounted and not os.path.exists("/dev/fuse"):
        raise pytest.UsageError(
            "/dev/fuse is missing: load the module (modprobe fuse), or leave the mounts out with "
            "S3POSIXFS_TEST_NO_MOUNT=1"
        )


@pytest.fixture(autouse=True)
def every_operation_has_its_deadline(request: pytest.FixtureRequest) -> Iterator[None]:
    """None opens a scope before it has said that it waits, save where that is tested."""
    before = deadlines.unbounded
    yield
    meant = request.node.get_closest_marker("unannounced_scope") is not None
    assert meant or deadlines.unbounded == before, "an operation opened a scope unannounced"


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A real Ceph gateway, one for all that need it."""
    with running_gateway() as gateway:
        yield gateway


def make_open_folder() -> Path:
    """A new folder outside pytest's own (mode 0700) that every uid can enter."""
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-test-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every uid can enter, for one test."""
    folder = make_open_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """A folder that every uid can enter, for the tests of one file."""
    folder = make_open_folder()
    yield folder
    shutil.rmtree(folder)
