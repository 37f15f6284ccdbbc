"""What it costs to look at a folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw.gateway import Gateway, GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw]
OBJECTS = 2500


@pytest.fixture(scope="module")
def mount(gateway: Gateway, bucket: str, module_folder: Path) -> Iterator[GatewayMount]:
    """With the metadata_ttl that a mount has when nothing else is said."""
    with GatewayMount(gateway, module_folder, bucket, {"metadata_ttl": None}) as mount:
        yield mount


def cost(mount: GatewayMount, work: Callable[[], str]) -> tuple[str, Counter[str]]:
    """What ``work`` says, and the requests it took by their kind."""
    before = Counter(mount.status()["client"]["requests_by_kind"])
    said = work()
    after = Counter(mount.status()["client"]["requests_by_kind"])
    return said, after - before


def put_many(bucket: str, folder: str, count: int, people: Sequence[S3Client]) -> None:
    """Objects of each of the people in turn."""
    with ThreadPoolExecutor(12) as pool:
        for done in [
            pool.submit(
                people[number % len(people)].put_object,
                Bucket=bucket,
                Key=f"{folder}/{number:05}",
                Body=b"x",
            )
            for number in range(count)
        ]:
            done.result()


@pytest.mark.timeout(120)
def test_ls_l_of_2500_objects_of_three_owners(
    mount: GatewayMount, alice: S3Client, bob: S3Client, admin: S3Client, bucket: str
) -> None:
    people = ((alice, 1001), (bob, 1002), (admin, 65534))
    put_many(bucket, "many", OBJECTS, [client for client, _ in people])
    for kind, uid in (("new", 0), ("known", 0), ("known", 1001)):
        began = time.monotonic()
        said, requests = cost(mount, partial(mount.sh, "ls -ln many", uid=uid))
        print(f"ls -ln of {OBJECTS:,} {kind}: {time.monotonic() - began:.1f} s, {dict(requests)}")
        rows = [line.split() for line in said.splitlines()[1:]]
        shown = {row[-1]: int(row[2]) for row in rows}
        assert shown == {f"{number:05}": people[number % 3][1] for number in range(OBJECTS)}
        if kind == "new":
            # Its listings do not say what may be a link or has another mode.
            assert requests["HEAD object"] <= OBJECTS * 1.05
        else:
            # The folder and who may list it, then three pages, and no object is asked for.
            assert requests["GET bucket"] <= 3 + 2
            assert requests["HEAD object"] <= 1
        time.sleep(1.1)


@pytest.mark.timeout(120)
def test_rows_do_where_that_is_asked_for(
    gateway: Gateway, bucket: str, alice: S3Client, bob: S3Client, open_folder: Path
) -> None:
    """``attributes=listing``: a page for each 1,000 objects, and nothing else."""
    put_many(bucket, "rows", OBJECTS, (alice, bob))
    options = {"metadata_ttl": "30", "attributes": "listing"}
    with GatewayMount(gateway, open_folder, bucket, options) as mount:
        mount.sh("ls -d rows")
        began = time.monotonic()
        said, requests = cost(mount, lambda: mount.sh("ls -ln rows"))
        print(f"ls -ln of {OBJECTS:,} rows: {time.monotonic() - began:.1f} s, {dict(requests)}")
        rows = [line.split() for line in said.splitlines()[1:]]
        assert {row[-1]: int(row[2]) for row in rows} == {
            f"{number:05}": (1001, 1002)[number % 2] for number in range(OBJECTS)
        }
        assert requests == {"GET bucket": 3}
        # What a row leaves out keeps others out all the same.
        mount.sh("umask 077; echo secret > closed; chmod 600 closed", uid=1001)
    with GatewayMount(gateway, open_folder, bucket, options) as mount:
        assert mount.sh("ls -ln | grep closed").startswith("-rw-r--r--")
        assert mount.run("cat", "closed", uid=1002).returncode == 1
        assert mount.sh("cat closed; ls -ln closed", uid=1001).startswith("secret\n-rw-------")
