"""Temporary credentials of the gateway's STS, for longer than they last."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw.conftest import owners
from tests.rgw.gateway import Gateway, GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw, pytest.mark.slow]
LIFE = 4
LIVES = 5


@pytest.mark.timeout(120)
def test_reads_and_writes_go_on_over_expiries(
    gateway: Gateway, admin: S3Client, bucket: str, open_folder: Path
) -> None:
    """The daemon and alice assume a role for 4 s at a time; bob has keys that stay."""
    options = {"role_arn": gateway.roles["full"], "session_duration": str(LIFE)}
    roles = {"alice": gateway.roles["full"]}
    with GatewayMount(gateway, open_folder, bucket, options, roles) as mount:
        problems: list[str] = []
        counts = {1001: 0, 1002: 0, 0: 0}
        until = time.monotonic() + LIFE * LIVES
        mount.sh("head -c 3000000 /dev/urandom > long && cp long /dev/null", uid=1001)

        def work(uid: int) -> None:
            # A new process for each step, as a user's programs are.
            script = (
                f"echo $1 > of-{uid} && test $(cat of-{uid}) = $1 && ls > /dev/null"
                f" && chmod 640 of-{uid} && mv of-{uid} moved-{uid} && mv moved-{uid} of-{uid}"
            )
            while time.monotonic() < until:
                done = mount.run("/bin/sh", "-euc", script, "sh", str(counts[uid]), uid=uid)
                if done.returncode:
                    problems.append(f"uid {uid}, step {counts[uid]}: {done.stderr.strip()}")
                    return
                counts[uid] += 1

        def write_slowly() -> None:
            # One file that is open all the time, by pieces, over several lives.
            script = (
                "import os, time\n"
                "file = os.open('slow', os.O_RDWR | os.O_CREAT)\n"
                f"for number in range({LIFE * LIVES * 2}):\n"
                "    os.write(file, b'piece\\n')\n"
                "    if number % 5 == 0: os.fsync(file)\n"
                "    time.sleep(0.5)\n"
                "os.close(file)\n"
            )
            done = mount.run("/usr/bin/python3", "-c", script, uid=1001)
            if done.returncode:
                problems.append(done.stderr)

        threads = [threading.Thread(target=work, args=(uid,)) for uid in counts]
        threads.append(threading.Thread(target=write_slowly))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIFE * LIVES + 60)
        assert problems == [], mount.log_tail()
        assert all(count > LIVES for count in counts.values()), counts
        status = mount.status()
        assert status["daemon_refreshes"] >= 3
        assert status["daemon_last_error"] is None
        row = next(row for row in status["identities"] if row["name"] == "alice")
        assert row["refreshes"] >= 3
        assert mount.sh("wc -c < slow", uid=1001).strip() == str(6 * LIFE * LIVES * 2)
    # RGW names who called AssumeRole as the owner, not the role.
    found = owners(admin, bucket, "")
    assert found == {
        "of-1001": "alice",
        "of-1002": "bob",
        "of-0": "admin",
        "slow": "alice",
        "long": "alice",
    }


@pytest.mark.timeout(60)
def test_a_role_that_may_only_read_only_reads(
    gateway: Gateway, alice: S3Client, open_folder: Path
) -> None:
    """alice's own policy would let her write: by the role she is held to the role's."""
    with gateway.bucket(["admin"]) as bucket:
        roles = {"alice": gateway.roles["read"]}
        with GatewayMount(gateway, open_folder, bucket, roles=roles) as mount:
            mount.sh("echo from root > file && chmod 666 file")
            assert mount.sh("cat file && ls", uid=1001) == "from root\nfile\n"
            for script in ("echo no > new", "echo no >> file", "mkdir folder", "ln -s x link"):
                done = mount.run("/bin/sh", "-c", script, uid=1001)
                assert done.returncode != 0
                assert "Permission denied" in done.stderr, script
            # bob has no role and is in no policy here.
            done = mount.run("cat", "file", uid=1002)
            assert "Permission denied" in done.stderr


@pytest.mark.timeout(60)
def test_credentials_of_one_that_do_not_work_stop_only_that_one(
    gateway: Gateway, bucket: str, open_folder: Path
) -> None:
    roles = {"bob": "arn:aws:iam:::role/there-is-no-such-role"}
    with GatewayMount(gateway, open_folder, bucket, roles=roles) as mount:
        done = mount.run("/bin/sh", "-c", "echo no > by-bob", uid=1002)
        assert "Permission denied" in done.stderr, done.stderr + mount.log_tail()
        mount.sh("echo yes > by-alice", uid=1001)
        rows = {row["name"]: row for row in mount.status()["identities"]}
        assert rows["bob"]["last_error"]
        assert rows["alice"]["last_error"] is None
        assert "bob" in mount.log_tail()
        for secret in (user.secret_key for user in gateway.users.values()):
            assert secret not in mount.log_tail(1_000_000)
