"""Two mounts of one bucket, as two hosts have."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mount_process import setpriv
from tests.rgw.gateway import Gateway, GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw]
ROUNDS = 40


@pytest.fixture(scope="module")
def second(gateway: Gateway, bucket: str, module_folder: Path) -> Iterator[GatewayMount]:
    folder = module_folder / "second"
    folder.mkdir()
    with GatewayMount(gateway, folder, bucket) as mount:
        yield mount


RACER = """
import os, sys, time
me, began = sys.argv[1], float(sys.argv[2])
for number in range(%d):
    time.sleep(max(0.0, began + number * 0.1 - time.time()))
    try:
        file = os.open(f"race-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(file, me.encode())
        os.close(file)
    except FileExistsError:
        continue
    print(number, flush=True)
"""


@pytest.mark.timeout(90)
def test_o_excl_has_one_winner(
    mount: GatewayMount, second: GatewayMount, alice: S3Client, bucket: str
) -> None:
    began = str(time.time() + 1)
    racers = [
        subprocess.Popen(
            [*setpriv(uid), "/usr/bin/python3", "-c", RACER % ROUNDS, name, began],
            cwd=where.mountpoint,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for where, name, uid in ((mount, "alice", 1001), (second, "bob", 1002))
    ]
    said = [racer.communicate(timeout=80) for racer in racers]
    assert [error for _, error in said] == ["", ""]
    won = {
        name: {int(line) for line in out.split()}
        for name, (out, _) in zip(("alice", "bob"), said, strict=True)
    }
    assert won["alice"] & won["bob"] == set(), "both won"
    assert won["alice"] | won["bob"] == set(range(ROUNDS)), "nobody won"
    for number in range(ROUNDS):
        winner = "alice" if number in won["alice"] else "bob"
        body = alice.get_object(Bucket=bucket, Key=f"race-{number}")["Body"].read()
        assert body == winner.encode()


def test_what_one_host_closes_the_other_opens(
    mount: GatewayMount, second: GatewayMount, prefix: str
) -> None:
    mount.sh(f"mkdir {prefix} && echo one > {prefix}/file", uid=1001)
    time.sleep(0.3)
    assert second.sh(f"cat {prefix}/file", uid=1002) == "one\n"
    mount.sh(f"echo two > {prefix}/file && ln -s file {prefix}/link", uid=1001)
    time.sleep(0.3)
    assert second.sh(f"cat {prefix}/link", uid=1002) == "two\n"
    mount.sh(f"mv {prefix} {prefix}-moved", uid=1001)
    time.sleep(0.3)
    assert second.sh(f"cat {prefix}-moved/file && ls -d {prefix}*", uid=1002) == (
        f"two\n{prefix}-moved\n"
    )
