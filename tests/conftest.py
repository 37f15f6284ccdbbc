"""What all tests share: no AWS settings of the host leak in, and folders that every uid reaches."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.devnull
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.path.exists("/dev/fuse"):
        reason = "needs /dev/fuse"
    elif os.geteuid() != 0:
        reason = "needs root, to mount for several users and to act as them"
    else:
        return
    for item in items:
        if item.get_closest_marker("mount") is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


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
