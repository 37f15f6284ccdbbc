"""Credentials in trouble: revoked, STS away, a clock that jumps, a machine that slept. Each on the
embedded store and on a real gateway."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cuttable_proxy import CuttableProxy
from tests.faults.short_lives import UIDS, ShortLives, embedded_lives, gateway_lives
from tests.faults.soak import soak
from tests.mount.mount_process import DaemonProcess

pytestmark = [pytest.mark.mount, pytest.mark.slow]
DENIED = "Permission denied"
ALICE, BOB = UIDS["alice"], UIDS["bob"]


@pytest.fixture(scope="module", params=["embedded", pytest.param("rgw", marks=[pytest.mark.rgw])])
def lives(request: pytest.FixtureRequest, module_folder: Path) -> Iterator[ShortLives]:
    if request.param == "embedded":
        with embedded_lives(module_folder) as embedded:
            yield embedded
    else:
        with gateway_lives(request.getfixturevalue("gateway")) as rgw:
            yield rgw


class AtWork:
    """Programs of some users, one after the other, for as long as the block lasts."""

    def __init__(self, mount: DaemonProcess, *uids: int) -> None:
        self.problems: list[str] = []
        self.counts = dict.fromkeys(uids, 0)
        self._mount = mount
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(uid,)) for uid in uids]

    def _work(self, uid: int) -> None:
        script = (
            "echo $1 > work-$2 && test $(cat work-$2) = $1 && ls > /dev/null"
            " && mv work-$2 moved-$2 && rm moved-$2"
        )
        while not self._over.is_set():
            words = ("/bin/sh", "-euc", script, "sh", str(self.counts[uid]), str(uid))
            done = self._mount.run(*words, uid=uid)
            if done.returncode:
                self.problems.append(f"uid {uid}, step {self.counts[uid]}: {done.stderr.strip()}")
                return
            self.counts[uid] += 1

    def __enter__(self) -> AtWork:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(100)
        assert self.problems == [], self._mount.log_tail()
        assert all(count > 1 for count in self.counts.values()), self.counts


@contextmanager
def revoked(lives: ShortLives, name: str) -> Iterator[None]:
    lives.revoke(name)
    try:
        yield
    finally:
        lives.restore(name)


def identity(mount: DaemonProcess, name: str) -> dict[str, object]:
    rows: list[dict[str, object]] = mount.status()["identities"]
    return next(row for row in rows if row["name"] == name)


def refusal(mount: DaemonProcess, uid: int, script: str) -> str:
    """What a script that must fail says last."""
    done = mount.run("/bin/sh", "-c", script, uid=uid)
    assert done.returncode != 0, f"{script}: {mount.log_tail()}"
    return done.stderr.strip().rpartition(": ")[2]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["refuse", "hang"])
def test_one_is_revoked_while_sts_is_down(lives: ShortLives, open_folder: Path, how: str) -> None:
    life = 30
    with CuttableProxy(lives.port) as sts:
        options = {"sts_endpoint_url": sts.url, "access_ttl": "1"}
        with lives.mount(open_folder, life, options, by_key="bob") as mount:
            mount.sh("chmod 1777 .")
            mount.sh("echo alice > of-alice", uid=ALICE)
            mount.sh("echo bob > of-bob && chmod 600 of-bob", uid=BOB)
            with revoked(lives, "bob"):
                getattr(sts, how)()
                renewed_by = time.monotonic() + 0.75 * life
                with AtWork(mount, ALICE, 0):
                    time.sleep(1.5)  # S3's earlier word is kept for access_ttl
                    assert refusal(mount, BOB, "echo no > of-bob-2") == DENIED
                    assert refusal(mount, BOB, "echo no >> of-bob") == DENIED
                    # Past the moment of every renewal, short of the end.
                    time.sleep(max(0.0, renewed_by - time.monotonic()))
                    row = identity(mount, "alice")
                    assert isinstance(row["expires_at"], float)
                    assert row["expires_at"] > time.time()
                    # The failure of the renewal is told while its grace lasts.
                    assert row["last_error"] or how == "hang"
                if lives.ends_sessions:
                    assert identity(mount, "bob")["last_error"]
                sts.mend()
                # After the end of what alice held, with the renewal possible again.
                time.sleep(0.4 * life)
                mount.sh("echo again >> of-alice", uid=ALICE)
                assert refusal(mount, BOB, "echo no > of-bob-2") == DENIED
                assert identity(mount, "alice")["last_error"] is None
            mount.sh("echo again >> of-alice && cat of-alice", uid=ALICE)
            deadline = time.monotonic() + 60
            while mount.run("sh", "-c", "echo yes > of-bob-2", uid=BOB).returncode:
                assert time.monotonic() < deadline
                time.sleep(0.5)
            mount.sh("echo again >> of-bob && test $(wc -l < of-bob) = 2", uid=BOB)
            log = mount.log_tail(1_000_000)
        if lives.ends_sessions:
            assert "credentials of bob were not refreshed: AssumeRole: " in log
        assert log.count("credentials of alice were not refreshed") <= 1
    assert lives.owners()["of-alice"] == "alice"


@pytest.mark.timeout(120)
def test_a_machine_that_slept(lives: ShortLives, open_folder: Path) -> None:
    """Longer than all credentials last; what was asked just before waits and then succeeds."""
    life = 3
    with lives.mount(open_folder, life) as mount:
        mount.sh("chmod 1777 .")
        for uid in (ALICE, BOB, 0):
            mount.sh(f"echo before > slept-{uid}", uid=uid)
        with AtWork(mount, ALICE, BOB):
            for _ in range(2):
                time.sleep(1)
                os.kill(mount.pid, signal.SIGSTOP)
                try:
                    time.sleep(2 * life)
                finally:
                    os.kill(mount.pid, signal.SIGCONT)
        os.kill(mount.pid, signal.SIGSTOP)
        time.sleep(2 * life)
        os.kill(mount.pid, signal.SIGCONT)
        for uid in (ALICE, BOB, 0):
            mount.sh(f"cat slept-{uid} && echo after >> slept-{uid}", uid=uid)


@pytest.mark.timeout(180)
def test_the_clock_of_the_host_jumps(lives: ShortLives, open_folder: Path) -> None:
    """Into another day, back, and by less than a store minds, with programs at work."""
    life = 12
    clock = open_folder / "clock"
    clock.write_text("+0\n")
    mount = lives.mount(open_folder, life)
    library = subprocess.run(
        ["dpkg", "-L", "libfaketime"], capture_output=True, text=True, check=True
    ).stdout.split()
    mount.environment = {
        "LD_PRELOAD": next(path for path in library if path.endswith("libfaketime.so.1")),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    with mount:
        mount.sh("chmod 1777 .")
        with AtWork(mount, ALICE, BOB, 0):
            for jump in ("+7200", "+0", "-7200", "+90000", "-600", "+0"):
                clock.write_text(f"{jump}\n")
                time.sleep(4)
                offset = mount.status()["client"]["clock_offset_seconds"]
                assert abs(offset + float(jump)) < 700, "the program did not see another time"
        # Nothing under way when it happens: the very first request is the one that meets it.
        for jump in ("+7200", "-86400"):
            clock.write_text(f"{jump}\n")
            time.sleep(1)
            mount.sh("echo x > first && cat first && rm first", uid=ALICE)
    log = mount.log_tail(1_000_000)
    assert "differs from the store's" in log
    assert "were not refreshed" not in log


@pytest.mark.timeout(60)
def test_a_file_stays_of_whom_opened_it(lives: ShortLives, open_folder: Path) -> None:
    """bob's program writes by a descriptor that alice opened, past the end of her credentials."""
    life = 3
    script = (
        "import os, subprocess, sys\n"
        "os.setegid(1001); os.seteuid(1001)\n"
        "file = os.open('captured', os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)\n"
        "os.seteuid(0); os.setegid(0)\n"
        "words = ['setpriv', '--reuid=1002', '--regid=1002', '--clear-groups', 'sh', '-euc']\n"
        f"text = f'echo one >&{{file}}; sleep {2 * life}; echo two >&{{file}}'\n"
        "subprocess.run([*words, text], pass_fds=[file], check=True)\n"
        "os.fsync(file)\n"
        "os.close(file)\n"
    )
    with lives.mount(open_folder, life) as mount:
        mount.sh("chmod 1777 .")
        mount.python(script)
        assert mount.sh("cat captured", uid=ALICE) == "one\ntwo\n"
        assert refusal(mount, BOB, "cat captured") == DENIED
        assert lives.owners()["captured"] == "alice"
        mount.sh("rm captured", uid=ALICE)


@pytest.mark.timeout(400)
def test_soak(lives: ShortLives, open_folder: Path) -> None:
    """The short one; ``python -m tests.faults.soak`` is the long one."""
    report = soak(lives, open_folder, seconds=30, life=10)
    assert report.problems == []
    assert sum(report.operations.values()) > 200
    assert report.objects > 50
