"""What it costs to look at a folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
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


@pytest.mark.timeout(120)
def test_ls_l_of_2500_objects_of_three_owners(
    mount: GatewayMount, alice: S3Client, bob: S3Client, admin: S3Client, bucket: str
) -> None:
    people = ((alice, 1001), (bob, 1002), (admin, 65534))
    with ThreadPoolExecutor(12) as pool:
        for done in [
            pool.submit(
                people[number % 3][0].put_object, Bucket=bucket, Key=f"many/{number:04}", Body=b"x"
            )
            for number in range(OBJECTS)
        ]:
            done.result()
    for kind, uid in (("new", 0), ("known", 0), ("known", 1001)):
        began = time.monotonic()
        said, requests = cost(mount, partial(mount.sh, "ls -ln many", uid=uid))
        print(f"ls -ln of {OBJECTS:,} {kind}: {time.monotonic() - began:.1f} s, {dict(requests)}")
        rows = [line.split() for line in said.splitlines()[1:]]
        shown = {row[-1]: int(row[2]) for row in rows}
        assert shown == {f"{number:04}": people[number % 3][1] for number in range(OBJECTS)}
        if kind == "new":
            # Its listings do not say what may be a link or has another mode.
            assert requests["HEAD object"] <= OBJECTS * 1.05
        else:
            # The folder and who may list it, then three pages, and no object is asked for.
            assert requests["GET bucket"] <= 3 + 2
            assert requests["HEAD object"] <= 1
        time.sleep(1.1)
