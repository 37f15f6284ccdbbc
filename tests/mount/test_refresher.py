"""The daemon lives on temporary credentials for longer than they last.

These are of the embedded store alone: its STS lets a service become each of its users. What the
gateway's STS does instead is tested with the gateway."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.bed import BUCKET, add_people
from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess

pytestmark = [pytest.mark.mount, pytest.mark.slow]
LIFE = 5
LIVES = 4


@pytest.fixture(scope="module")
def short_store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(
        module_folder / "short", environment={"S3POSIXFS_TEST_MIN_SESSION": "2"}
    ) as store:
        add_people(store)
        yield store


@pytest.mark.timeout(180)
@pytest.mark.parametrize("daemon_too", [False, True], ids=["callers", "daemon-too"])
def test_reads_and_writes_go_on_over_expiries(
    short_store: StoreProcess, open_folder: Path, daemon_too: bool
) -> None:
    options: dict[str, str | None] = {"session_duration": str(LIFE), "metadata_ttl": "0"}
    if daemon_too:
        options["role_arn"] = "arn:aws:iam:::user/admin"
    with MountProcess(short_store, open_folder, options=options) as mount:
        problems: list[str] = []
        counts = {1001: 0, 1002: 0, 0: 0}
        until = time.monotonic() + LIFE * LIVES

        def work(uid: int) -> None:
            name = f"{BUCKET}/of-{uid}-{daemon_too}"
            # A new process for each step, as a user's programs are.
            script = f"echo $1 > {name} && test $(cat {name}) = $1 && ls {BUCKET} > /dev/null"
            while time.monotonic() < until:
                words = ("/bin/sh", "-euc", script, "sh", str(counts[uid]))
                done = mount.run(*words, uid=uid)
                if done.returncode:
                    problems.append(f"uid {uid}, step {counts[uid]}: {done.stderr.strip()}")
                    return
                counts[uid] += 1

        threads = [threading.Thread(target=work, args=(uid,)) for uid in counts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIFE * LIVES + 60)
        assert problems == [], mount.log_tail()
        assert all(count > LIVES for count in counts.values()), counts
        owners = {
            row["Key"]: row["Owner"]["ID"]
            for row in short_store.s3(short_store.admin()).list_objects_v2(
                Bucket=BUCKET, Prefix="of-", FetchOwner=True
            )["Contents"]
            if row["Key"].endswith(str(daemon_too))
        }
        assert owners == {
            f"of-1001-{daemon_too}": "alice",
            f"of-1002-{daemon_too}": "bob",
            f"of-0-{daemon_too}": "admin",
        }


@pytest.mark.timeout(120)
def test_a_removed_user_is_refused_and_the_others_go_on(
    short_store: StoreProcess, open_folder: Path
) -> None:
    short_store.add_user("erin", 1005, policy="readwrite")
    options: dict[str, str | None] = {"session_duration": str(LIFE), "access_ttl": "1"}
    with MountProcess(short_store, open_folder, options=options) as mount:
        mount.sh(f"echo hi > {BUCKET}/of-erin", uid=1005)
        short_store.command("user", "remove", "erin")
        time.sleep(1.5)
        refused = mount.run("/bin/sh", "-c", f"echo no > {BUCKET}/of-erin-2", uid=1005)
        assert refused.returncode != 0
        assert "Permission denied" in refused.stderr
        mount.sh(f"echo still > {BUCKET}/of-alice-then", uid=1001)
