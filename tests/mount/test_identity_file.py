"""The identity file of a running mount: changes count at once, mistakes change nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount]

BUCKET = "people"


@pytest.fixture(scope="module")
def people(store: StoreProcess) -> dict[str, User]:
    people = {
        name: store.add_user(name, uid, policy="readwrite")
        for name, uid in (("ann", 1001), ("alice2", 1001), ("beth", 1002))
    }
    client = store.s3(people["ann"])
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return people


@pytest.fixture(scope="module")
def file(module_folder: Path) -> Path:
    return module_folder / "identities.toml"


@pytest.fixture(scope="module")
def mount(
    store: StoreProcess, people: dict[str, User], module_folder: Path, file: Path
) -> Iterator[MountProcess]:
    file.write_text("")
    options = {"metadata_ttl": "0.2", "identities": str(file), "uid": "4000", "gid": "4001"}
    with MountProcess(store, module_folder, BUCKET, options) as mount:
        yield mount


@pytest.fixture
def ann(store: StoreProcess, people: dict[str, User]) -> Iterator[S3Client]:
    client = store.s3(people["ann"])
    yield client
    client.close()


def identity(name: str, uid: int | str, *owner_ids: str) -> str:
    ids = ", ".join(f'"{owner_id}"' for owner_id in owner_ids)
    quoted = f'"{uid}"' if isinstance(uid, str) else str(uid)
    return f'[[identity]]\nname = "{name}"\nowner_ids = [{ids}]\nuid = {quoted}\ngid = 1\n'


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> None:
    """Until it holds; the mount looks at its file once a second."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def test_the_map_follows_its_file_and_a_mistake_changes_nothing(
    mount: MountProcess, file: Path, ann: S3Client
) -> None:
    ann.put_object(Bucket=BUCKET, Key="f", Body=b"x")
    path = mount.mountpoint / "f"
    wait_for(path.exists)
    assert (path.stat().st_uid, path.stat().st_gid) == (4000, 4001)
    file.write_text(identity("ann", 1001, "ann"))
    wait_for(lambda: path.stat().st_uid == 1001)
    for number, mistake in enumerate(("uid = [", identity("ann", 1005, "ann") * 2, "x = 1")):
        file.write_text(mistake)
        wait_for(lambda: mount.status()["identities_error"] is not None)
        said = mount.status()["identities_error"]
        assert said.startswith(str(file))
        assert f"the identities stay as they were: {said}" in mount.log_tail()
        time.sleep(0.3)
        assert path.stat().st_uid == 1001, number
        file.write_text(identity("ann", 1001, "ann"))
        wait_for(lambda: mount.status()["identities_error"] is None)
    file.unlink()
    wait_for(lambda: mount.status()["identities_error"] is not None)
    assert path.stat().st_uid == 1001
    file.write_text(identity("ann", 1007, "ann"))
    wait_for(lambda: path.stat().st_uid == 1007)


def test_a_mistake_is_logged_once(mount: MountProcess, file: Path) -> None:
    file.write_text("nobody = 5\n")
    wait_for(lambda: mount.status()["identities_error"] is not None)
    time.sleep(3)
    assert mount.log_tail(10**6).count("unknown key 'nobody'") == 1
    file.write_text("")
    wait_for(lambda: mount.status()["identities_error"] is None)


def test_several_owners_are_one_user_and_names_are_the_hosts(
    mount: MountProcess, store: StoreProcess, people: dict[str, User], file: Path, ann: S3Client
) -> None:
    ann.put_object(Bucket=BUCKET, Key="several/ann", Body=b"x")
    for name in ("alice2", "beth"):
        client = store.s3(people[name])
        client.put_object(Bucket=BUCKET, Key=f"several/{name}", Body=b"x")
        client.close()
    file.write_text(identity("both", 1001, "ann", "alice2") + identity("system", "daemon", "beth"))
    uid_of_daemon = int(mount.sh("id -u daemon"))

    def shown() -> dict[str, int]:
        rows = [line.split() for line in mount.sh("ls -ln several").splitlines()[1:]]
        return {row[-1]: int(row[2]) for row in rows}

    wait_for(lambda: shown() == {"ann": 1001, "alice2": 1001, "beth": uid_of_daemon})
