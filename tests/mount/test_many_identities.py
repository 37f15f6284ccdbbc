"""Two hundred identities whose credentials last seconds: renewed one by one, spread, unnoticed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from s3posixfs.core.types import PosixOwner
from s3posixfs.store.state import State
from tests.mount.bed import BUCKET
from tests.mount.mount_process import MountProcess, setpriv
from tests.store_process import StoreProcess

pytestmark = [pytest.mark.mount, pytest.mark.slow]
COUNT = 200
FIRST_UID = 3001
LIFE = 20
SECONDS = 3 * LIFE
MIB = 1024 * 1024

# One program that is each of them in turn: reads what all may read, writes a file of its own.
ALL_OF_THEM = """
import os, sys
top, first, count, text = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
for uid in range(first, first + count):
    os.setegid(uid)
    os.seteuid(uid)
    with open(f"{top}/common") as file:
        assert file.read() == "common"
    with open(f"{top}/of-{uid}", "w") as file:
        file.write(text)
    os.seteuid(0)
    os.setegid(0)
"""

# Reads pieces of one file, past the page cache, until its time is over.
READER = """
import json, mmap, os, random, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
piece = mmap.mmap(-1, 65536)
file = os.open(path, os.O_RDONLY | os.O_DIRECT)
pieces = os.fstat(file).st_size // len(piece)
end = time.monotonic() + seconds
reads, longest = 0, 0.0
while time.monotonic() < end:
    number = random.randrange(pieces)
    began = time.monotonic()
    assert os.preadv(file, [piece], number * len(piece)) == len(piece)
    assert piece[:8] == number.to_bytes(8, "big")
    longest = max(longest, time.monotonic() - began)
    reads += 1
print(json.dumps({"reads": reads, "longest": longest}))
"""


@pytest.fixture
def many(open_folder: Path) -> Iterator[StoreProcess]:
    """A store with that many users."""
    environment = {"S3POSIXFS_TEST_MIN_SESSION": "1"}
    store = StoreProcess(open_folder / "store", environment=environment)
    store.folder.mkdir()
    state = State.open(store.state, create=True)
    for uid in range(FIRST_UID, FIRST_UID + COUNT):
        state.add_user(f"user-{uid}", owner=PosixOwner(uid, uid))
        state.attach("readwrite", f"user-{uid}")
    state.close()
    with store:
        yield store


def sessions(store: StoreProcess) -> dict[str, list[float]]:
    """When each user's sessions were made, in order, from the store's audit log."""
    found: dict[str, list[float]] = {}
    for line in (store.state / "audit.log").read_text().splitlines():
        row = json.loads(line)
        if row["operation"] == "sts:AssumeRole":
            assert row["status"] == 200, row
            name = row["resource"].rpartition("/")[2]
            found.setdefault(name, []).append(row["time"])
    return found


@pytest.mark.timeout(300)
def test_two_hundred_identities(many: StoreProcess, open_folder: Path) -> None:
    client = many.s3(many.admin())
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="common", Body=b"common")
    blocks = (number.to_bytes(8, "big").ljust(65536, b"\0") for number in range(512))
    client.put_object(Bucket=BUCKET, Key="large", Body=b"".join(blocks))
    client.close()
    # Small caches: the reader asks S3, as whoever it is.
    options: dict[str, str | None] = {"session_duration": str(LIFE), "memory_limit": "8M"}
    with MountProcess(many, open_folder, BUCKET, options) as mount:
        mount.sh("chmod 1777 .")

        def all_of_them(text: str) -> None:
            arguments = (str(mount.mountpoint), str(FIRST_UID), str(COUNT), text)
            done = mount.run(sys.executable, "-c", ALL_OF_THEM, *arguments, seconds=120)
            assert done.returncode == 0, done.stderr + mount.log_tail()

        all_of_them("first")
        words = ("/usr/bin/python3", "-c", READER, str(mount.mountpoint / "large"), str(SECONDS))
        reader = subprocess.Popen(
            [*setpriv(FIRST_UID), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with reader:
            time.sleep(SECONDS / 2)
            all_of_them("second")
            memory = mount.resident_bytes("VmRSS")
            said, _ = reader.communicate(timeout=SECONDS + 60)
        assert reader.returncode == 0, said
        all_of_them("third")
        rows = [row for row in mount.status()["identities"] if row["name"] != "admin"]
        assert len(rows) == COUNT
        assert [row for row in rows if row["last_error"] or row["refreshes"] < 3] == []
        grown = mount.resident_bytes("VmRSS") - memory
        assert "not refreshed" not in mount.log_tail(1_000_000)
    found = sessions(many)
    assert len(found) == COUNT
    gaps = [
        (later - earlier) / LIFE for times in found.values() for earlier, later in pairwise(times)
    ]
    # One at a time, none early, none so late that somebody had to wait for it.
    assert min(gaps) > 0.45
    assert max(gaps) < 0.9
    # The first asked one after the other; from the third on they are where chance has put them.
    per_second = Counter(int(times[number]) for times in found.values() for number in (2, 3))
    busiest = max(per_second.values())
    print(
        f"{len(gaps)} renewals at {min(gaps):.2f} to {max(gaps):.2f} of a life, at most {busiest} "
        f"in a second; {said.strip()}; memory {grown / MIB:+.1f} MiB"
    )
    assert busiest < COUNT / 2
    assert grown < 16 * MIB
    assert json.loads(said)["reads"] > COUNT
