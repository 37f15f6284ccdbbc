"""Rounds of work, ``kill -9`` and looking: what was acknowledged is there, whole and unmixed.

::

    python -m tests.faults.kill_rounds --rounds 200 --writeback on [--gateway]

Each round four processes work on a mount of the embedded store; at a random moment the daemon is
killed, in half of the rounds the store as well, a little before or after. Both come back, the
mount's files are compared with what the processes were told, and with ``writeback`` once more
after everything was uploaded, then also with the store's own files. Prints its counts; the exit
status is 1 where anything was missing or mixed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.kill_worker import content_of
from tests.mount.bed import GatewayBed
from tests.mount.mount_process import DaemonProcess, MountProcess, is_mounted
from tests.rgw.gateway import running_gateway
from tests.store_process import StoreProcess

BUCKET = "rounds"
WORKERS = 4
ABSENT = ""
DRAIN_SECONDS = 120.0

State = dict[str, set[str]]  # name: the tags that it may have, ABSENT for no file


class Expected:
    """What one worker's folder may hold."""

    def __init__(self) -> None:
        self.names: State = {}
        self.operations = 0

    def read(self, log: Path) -> None:
        """Take in a log: all but the last operation were acknowledged."""
        begun: dict[str, str] | None = None
        for line in log.read_text().splitlines():
            said = json.loads(line)
            if said["op"] != "done":
                begun = said
            elif begun is not None:
                self._done(begun)
                self.operations += 1
                begun = None
        if begun is not None:
            self._perhaps(begun)

    def may_be(self, name: str) -> set[str]:
        return self.names.get(name, {ABSENT})

    def _done(self, said: dict[str, str]) -> None:
        name = said["name"]
        if said["op"] == "set":
            self.names[name] = {said["tag"]}
        elif said["op"] == "remove":
            self.names[name] = {ABSENT}
        else:
            self.names[said["to"]] = self.may_be(name)
            self.names[name] = {ABSENT}

    def _perhaps(self, said: dict[str, str]) -> None:
        name = said["name"]
        if said["op"] == "set":
            self.names[name] = self.may_be(name) | {said["tag"]}
        elif said["op"] == "remove":
            self.names[name] = self.may_be(name) | {ABSENT}
        else:
            self.names[said["to"]] = self.may_be(said["to"]) | self.may_be(name)
            self.names[name] = self.may_be(name) | {ABSENT}

    def look(self, folder: Path) -> list[str]:
        """What is wrong in a folder; what may have been several things is one from now on."""
        problems: list[str] = []
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for name in sorted(there | set(self.names)):
            found = (folder / name).read_bytes() if name in there else None
            right = {tag for tag in self.may_be(name) if _is(found, tag)}
            if right:
                self.names[name] = right
                continue
            shown = "nothing" if found is None else f"{len(found)} bytes, {found[:40]!r}"
            problems.append(f"{folder.name}/{name}: {shown} instead of {self.may_be(name)}")
        return problems


def _is(found: bytes | None, tag: str) -> bool:
    if tag == ABSENT:
        return found is None
    return found is not None and found == content_of(tag)


class Rounds:
    """A store, a mount, and what is known of its files."""

    def __init__(self, folder: Path, *, writeback: bool, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._folder = folder
        self._chance = random.Random(seed)
        self._writeback = writeback
        self._store = StoreProcess(folder / "store")
        self._expected = [Expected() for _ in range(WORKERS)]

    def run_on_gateway(self, rounds: int) -> None:
        """On the Ceph gateway of the tests, which is not killed."""
        options = {"writeback": "on" if self._writeback else "off", "metadata_ttl": "0"}
        with running_gateway() as gateway, GatewayBed(gateway) as bed:
            folder = self._folder / "m"
            folder.mkdir()
            mount = bed.mount(folder, bed.bucket, options)
            for number in range(rounds):
                self._round(mount, 2 * number)
                if self.problems:
                    return

    def run(self, rounds: int) -> None:
        """All rounds, or as many as go well."""
        self._store.start()
        try:
            client = self._store.s3(self._store.add_user("maker", 1500, policy="readwrite"))
            client.create_bucket(Bucket=BUCKET)
            client.close()
            options = {"writeback": "on" if self._writeback else "off", "metadata_ttl": "0"}
            mount = MountProcess(self._store, self._folder / "m", BUCKET, options)
            for number in range(rounds):
                self._round(mount, number)
                if self.problems:
                    return
        finally:
            self._store.stop()

    def _round(self, mount: DaemonProcess, number: int) -> None:
        mount.start()
        logs = [self._folder / f"log-{number}-{worker}" for worker in range(WORKERS)]
        for worker in range(WORKERS):
            (mount.mountpoint / f"w{worker}").mkdir(exist_ok=True)
        workers = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).with_name("kill_worker.py")),
                    str(mount.mountpoint / f"w{worker}"),
                    str(logs[worker]),
                    str(self._chance.randrange(2**32)),
                ]
            )
            for worker in range(WORKERS)
        ]
        store_too = number % 2 == 1
        time.sleep(0.2 + self._chance.random() * 1.5)
        gap = self._chance.random() * 0.3
        if store_too and self._chance.random() < 0.5:
            self._store.kill()
            time.sleep(gap)
            mount.kill()
        else:
            mount.kill()
            if store_too:
                time.sleep(gap)
                self._store.kill()
        for process in workers:
            process.wait(60)
        if is_mounted(mount.mountpoint):
            subprocess.run(["umount", "--lazy", str(mount.mountpoint)], check=True, timeout=30)
        if store_too:
            self._store.start()
            self.counts["store killed"] += 1
        self.counts["rounds"] += 1
        for expected, log in zip(self._expected, logs, strict=True):
            if log.exists():
                expected.read(log)
                log.unlink()
        self._check(mount)
        self.counts["acknowledged"] = sum(one.operations for one in self._expected)

    def _check(self, mount: DaemonProcess) -> None:
        mount.start()
        if self._writeback:
            queued = mount.queued()
            self.counts["replayed"] += queued
            self.counts["rounds with replay"] += bool(queued)
        self._look(mount.mountpoint)
        if self._writeback:
            deadline = time.monotonic() + DRAIN_SECONDS
            while mount.queued():
                if time.monotonic() > deadline:
                    self.problems.append(f"not drained: {mount.status()['filesystem']}")
                    break
                time.sleep(0.05)
            self._look(mount.mountpoint)
        if mount.umount() != 0:
            self.problems.append("the daemon did not end well")
        if self._store.root.exists():  # the gateway's files are not to be looked at
            self._look(self._store.root / BUCKET)
        if self.problems:
            self.problems.append(mount.log_tail())

    def _look(self, top: Path) -> None:
        for worker, expected in enumerate(self._expected):
            self.problems += expected.look(top / f"w{worker}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--writeback", choices=("on", "off"), default="on")
    parser.add_argument("--gateway", action="store_true", help="on Ceph RGW, as the tests find it")
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-rounds-"))
    folder.chmod(0o755)
    rounds = Rounds(folder, writeback=chosen.writeback == "on", seed=seed)
    try:
        if chosen.gateway:
            rounds.run_on_gateway(chosen.rounds)
        else:
            rounds.run(chosen.rounds)
    finally:
        print(f"writeback={chosen.writeback} seed={seed}", flush=True)
        for name, count in rounds.counts.items():
            print(f"{name}: {count}")
        print(f"missing or mixed: {len(rounds.problems)}")
        for problem in rounds.problems:
            print(problem)
        if is_mounted(folder / "m/mnt"):
            subprocess.run(["umount", "--lazy", str(folder / "m/mnt")], check=False, timeout=30)
    if not rounds.problems:
        shutil.rmtree(folder)
    return 1 if rounds.problems else 0


if __name__ == "__main__":
    sys.exit(main())
