"""System call by system call: the mount answers as the host's own filesystem does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mount.mount_process import DaemonProcess
from tests.mount.posix import cases
from tests.mount.posix.kit import Case, People, User, differences, run_case

pytestmark = pytest.mark.mount

# alice and bob have S3 identities; of the others S3 knows nothing, and the mount stands in.
PEOPLE = {
    "root": People(User(0, 0), User(2002, 2002)),
    "mapped": People(User(1001, 1001), User(1002, 1002)),
    "unmapped": People(User(2001, 2001), User(2002, 2002)),
}


@pytest.fixture(scope="module")
def local(bed_folder: Path) -> Path:
    folder = bed_folder / "local"
    folder.mkdir()
    return folder


def outcomes(case: Case, folder: Path, people: People, name: str) -> list[Any]:
    return list(run_case(case, folder, people, name))


@pytest.mark.parametrize("kind", PEOPLE)
@pytest.mark.parametrize("case", cases.ALL, ids=lambda case: case.__name__)
def test_as_a_local_filesystem(
    local: Path, mount: DaemonProcess, case: Case, kind: str, bucket: str
) -> None:
    name = f"{case.__name__}-{kind}"
    expected = outcomes(case, local, PEOPLE[kind], name)
    got = outcomes(case, mount.mountpoint / bucket, PEOPLE[kind], name)
    assert not differences(expected, got)


@pytest.mark.parametrize("case", cases.OF_NOBODY, ids=lambda case: case.__name__)
def test_nobody_is_a_user_like_others(
    local: Path, mount: DaemonProcess, case: Case, bucket: str
) -> None:
    """uid 65534, to whom a mount gives what has no owner."""
    people = People(User(65534, 65534), User(2002, 2002))
    name = f"{case.__name__}-nobody"
    expected = outcomes(case, local, people, name)
    assert not differences(expected, outcomes(case, mount.mountpoint / bucket, people, name))
