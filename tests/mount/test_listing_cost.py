"""What `ls -l` of a large folder costs in S3 requests on a store whose listings say it all."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess

pytestmark = [pytest.mark.mount]

OBJECTS = 10_000
PEOPLE = ("alice", 1001), ("bob", 1002), ("carol", 1003)
BUCKET = "crowd"


@pytest.fixture(scope="module")
def crowd(module_folder: Path) -> Iterator[StoreProcess]:
    """A store with 10,000 objects of three users in one folder."""
    with StoreProcess(module_folder / "store") as store:
        for name, uid in PEOPLE:
            store.add_user(name, uid, policy="readwrite")
        client = store.s3(store.admin())
        client.create_bucket(Bucket=BUCKET)
        client.close()
        # A file that a local program puts there is the object of the user with that uid.
        folder = store.root / BUCKET / "many"
        folder.mkdir()
        for number in range(OBJECTS):
            path = folder / f"{number:05}"
            path.write_bytes(b"x")
            os.chown(path, PEOPLE[number % 3][1], PEOPLE[number % 3][1])
        yield store


def test_ten_lists_and_no_head(crowd: StoreProcess, module_folder: Path) -> None:
    options = {"metadata_ttl": "30"}
    with MountProcess(crowd, module_folder, BUCKET, options=options) as mount:
        mount.sh("ls -d many")
        before = Counter(mount.status()["client"]["requests_by_kind"])
        began = time.monotonic()
        said = mount.sh("ls -ln many")
        seconds = time.monotonic() - began
        made = Counter(mount.status()["client"]["requests_by_kind"]) - before
    del made["GET service"]  # the map of identities is read every few seconds
    print(f"ls -ln of {OBJECTS:,}: {seconds:.1f} s, {dict(made)}")
    rows = [line.split() for line in said.splitlines()[1:]]
    assert {row[-1]: int(row[2]) for row in rows} == {
        f"{number:05}": PEOPLE[number % 3][1] for number in range(OBJECTS)
    }
    assert made == {"GET bucket": OBJECTS // 1000}
