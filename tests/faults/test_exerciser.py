"""The exerciser, short: files round the sizes where uploads change their way, and some at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.exerciser import MIB, exercise
from tests.mount.conftest import bed, bed_folder, bucket, mount  # noqa: F401 - fixtures
from tests.mount.mount_process import DaemonProcess
from tests.mount.test_memory_mount import Mount

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


def test_files_of_many_small_parts(tmp_path: Path) -> None:
    """What is sent while it is written, edited by parts, and begun anew, over a store that takes
    parts of 20 KiB."""
    memory = Mount(tmp_path, "small")
    try:
        done = exercise(memory.root, operations=500, threads=2, seed=5, largest=1_500_000)
    finally:
        memory.stop(by_signal=False)
    assert all(sum(one.done.values()) == 500 for one in done)
