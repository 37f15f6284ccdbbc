"""The exerciser, short: files round the sizes where uploads change their way, and some at once."""

from __future__ import annotations

import pytest

from tests.faults.exerciser import MIB, exercise
from tests.mount.conftest import bed, bed_folder, bucket, mount  # noqa: F401 - fixtures
from tests.mount.mount_process import DaemonProcess

pytestmark = pytest.mark.mount


@pytest.mark.parametrize(
    ("operations", "threads", "largest"), [(600, 3, 300_000), (120, 1, 20 * MIB)]
)
def test_a_file_is_its_shadow(
    mount: DaemonProcess,  # noqa: F811
    bucket: str,  # noqa: F811
    operations: int,
    threads: int,
    largest: int,
) -> None:
    done = exercise(
        mount.mountpoint / bucket, operations=operations, threads=threads, seed=5, largest=largest
    )
    assert all(sum(one.done.values()) == operations for one in done)
