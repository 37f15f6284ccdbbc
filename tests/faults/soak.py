"""Processes of four users at work for longer than their credentials last, many times over.

    python -m tests.faults.soak --store rgw|embedded [--minutes 10] [--life 60] [--processes 8]
                                [--json FILE]

All credentials are temporary, the mount's own too. Every process creates, reads, verifies, appends,
renames, unlinks, lists, and keeps a file open all the time. Ends with status 1 when any operation
failed, a file was not what was written, an object has another S3 owner than who wrote it, or the
daemon's memory grew. Needs root; the gateway is brought up by scripts/rgw-up.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.short_lives import UIDS, ShortLives, embedded_lives, gateway_lives
from tests.mount.mount_process import DaemonProcess, setpriv
from tests.rgw.gateway import running_gateway

MIB = 1024 * 1024
WORKER = Path(__file__).with_name("soak_worker.py")
SAMPLE_SECONDS = 5.0
# Caches fill early, so that what grows later is no cache.
MEMORY_LIMIT = "32M"
# What counts as warm, as a share of the time, and how much more memory the rest of it may take;
# in less than five minutes caches are still filling, so only the whole is held to a bound.
WARM_SHARE = 0.3
GROWTH_BYTES = 24 * MIB
LONG_SECONDS = 300.0
MOST_BYTES = 192 * MIB
LATE_SECONDS = 120.0


@dataclass(slots=True)
class Report:
    """What came of a soak. Sizes in bytes, times in seconds."""

    seconds: float
    life: int
    processes: int
    operations: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    objects: int = 0
    wrong_owners: dict[str, str] = field(default_factory=dict)
    refreshes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    resident: list[int] = field(default_factory=list)

    @property
    def warm(self) -> int:
        """The daemon's memory once its caches are full: the most up to then."""
        until = max(1, int(len(self.resident) * WARM_SHARE))
        return max(self.resident[:until])

    @property
    def problems(self) -> list[str]:
        """Everything that should not be; empty when all is well."""
        found = list(self.failures)
        found += [f"{key} belongs to {owner}" for key, owner in self.wrong_owners.items()]
        found += [f"credentials of {name}: {error}" for name, error in self.errors.items()]
        expected = int(self.seconds / self.life)
        for name, count in self.refreshes.items():
            if count < expected:
                found.append(f"credentials of {name} were refreshed {count} times only")
        if max(self.resident) > MOST_BYTES:
            found.append(f"memory rose to {max(self.resident)} bytes")
        if self.seconds >= LONG_SECONDS and self.resident[-1] > self.warm + GROWTH_BYTES:
            found.append(f"memory grew from {self.warm} to {self.resident[-1]} bytes")
        return found


def soak(
    lives: ShortLives, folder: Path, *, seconds: float, life: int, processes: int = 8
) -> Report:
    """Run it on a mount in ``folder``, which every uid must be able to enter."""
    report = Report(seconds, life, processes)
    with lives.mount(folder, life, {"memory_limit": MEMORY_LIMIT}) as mount:
        mount.sh("chmod 1777 .")
        workers = [_worker(mount, number, seconds) for number in range(processes)]
        try:
            _sample(mount, workers, report, seconds)
            _collect(workers, report)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait(20)
                if worker.stdout is not None:
                    worker.stdout.close()
        _look_at_status(mount.status(), report)
        report.resident.append(mount.resident_bytes("VmRSS"))
    expected = {f"of-{number}": _user(number) for number in range(processes)}
    for key, owner in lives.owners().items():
        top = key.split("/", 1)[0]
        if top in expected:
            report.objects += 1
            if owner != expected[top]:
                report.wrong_owners[key] = owner
    return report


def _user(number: int) -> str:
    return list(UIDS)[number % len(UIDS)]


def _worker(mount: DaemonProcess, number: int, seconds: float) -> subprocess.Popen[str]:
    uid = UIDS[_user(number)]
    folder = mount.mountpoint / f"of-{number}"
    words = ["/usr/bin/python3", "-", str(folder), str(number), str(seconds)]
    with WORKER.open() as script:
        return subprocess.Popen(
            [*setpriv(uid), *words] if uid else words,
            stdin=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
        )


def _sample(
    mount: DaemonProcess,
    workers: Sequence[subprocess.Popen[str]],
    report: Report,
    seconds: float,
) -> None:
    deadline = time.monotonic() + seconds + LATE_SECONDS
    while any(worker.poll() is None for worker in workers):
        assert time.monotonic() < deadline, "an operation hangs"
        report.resident.append(mount.resident_bytes("VmRSS"))
        time.sleep(min(SAMPLE_SECONDS, seconds / 20))


def _collect(workers: Sequence[subprocess.Popen[str]], report: Report) -> None:
    operations: Counter[str] = Counter()
    for number, worker in enumerate(workers):
        text, _ = worker.communicate()
        assert worker.returncode == 0, f"process {number} of {_user(number)}: {text}"
        said = json.loads(text.splitlines()[-1])
        operations.update(said["done"])
        report.failed += said["failed"]
        report.failures += [f"{_user(number)}: {line}" for line in said["failures"]]
    report.operations = dict(operations)


def _look_at_status(status: dict[str, Any], report: Report) -> None:
    report.refreshes["admin"] = status["daemon_refreshes"]
    if status["daemon_last_error"]:
        report.errors["admin"] = status["daemon_last_error"]
    for row in status["identities"]:
        if row["used"] and row["name"] != "admin":
            report.refreshes[row["name"]] = row["refreshes"]
            if row["last_error"]:
                report.errors[row["name"]] = row["last_error"]


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[ShortLives]:
    if kind == "embedded":
        with embedded_lives(folder) as lives:
            yield lives
        return
    with running_gateway() as gateway, gateway_lives(gateway) as lives:
        yield lives


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--store", choices=("embedded", "rgw"), required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--life", type=int, default=60, metavar="SECONDS")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-soak-"))
    folder.chmod(0o755)
    try:
        with _store(options.store, folder) as lives:
            report = soak(
                lives,
                folder,
                seconds=options.minutes * 60,
                life=options.life,
                processes=options.processes,
            )
    finally:
        shutil.rmtree(folder)
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    print(
        f"{sum(report.operations.values())} operations of {report.processes} processes in "
        f"{report.seconds:.0f} s over credentials of {report.life} s, {report.failed} failed; "
        f"{report.objects} objects, {len(report.wrong_owners)} with a wrong owner; "
        f"refreshes {report.refreshes}; memory {report.warm / MIB:.0f} MiB warm, "
        f"{report.resident[-1] / MIB:.0f} MiB at the end, {max(report.resident) / MIB:.0f} at most"
    )
    for problem in report.problems:
        print(problem, file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
