"""What it costs that requests are signed as the calling user: sign_as=caller beside sign_as=daemon.

    scripts/bench sign-as [--rounds N] [--quick] [--json FILE]

Two mounts of one embedded store, each with assumed identities; the same small jobs of the same
user run on one and on the other in turns, a fraction of a second each, so that what else the
machine does meets both. A ratio is the median, over the rounds, of what the caller's mount took by
what the daemon's took in the same round: of wall-clock time, and of CPU time of the mount's daemon.
Needs root and /dev/fuse.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mount.clients import PROGRAM, Client, mounted
from benchmarks.mount.sites import Site, embedded
from benchmarks.stores import cpu_seconds

UID = 1001
MODES = ("caller", "daemon")
ROUNDS = 100
COUNT = 20  # files of a round
MOST_PER_CENT = 2.0

# One process as the user; does the job that a line names, prints the seconds it took.
WORKER = """
import os, sys, time
count = int(sys.argv[2])
os.chdir(sys.argv[1])
small, block = os.urandom(4096), os.urandom(1 << 20)

def write(name, data):
    with open(name, "wb") as file:
        file.write(data)

def read(name):
    with open(name, "rb") as file:
        return file.read()

def create():
    for number in range(count):
        write(f"{mark}-{number}", small)

def stat():
    for number in range(count):
        os.stat(f"{mark}-{number}")

def reread():
    for number in range(count):
        assert len(read(f"{mark}-{number}")) == 4096

def append():
    for number in range(count // 2):
        with open(f"{mark}-{number}", "ab") as file:
            file.write(b"a line")

def chmod():
    for number in range(count // 2):
        os.chmod(f"{mark}-{number}", 0o600)

def rename():
    for number in range(count // 2):
        os.rename(f"{mark}-{number}", f"{mark}-to-{number}")

def unlink():
    for number in range(count // 2):
        os.unlink(f"{mark}-to-{number}")
        os.unlink(f"{mark}-{number + count // 2}")

def listing():
    for _ in range(4):
        sum(entry.stat().st_size for entry in os.scandir("."))

def write_large():
    with open(f"{mark}-large", "wb", buffering=0) as file:
        for _ in range(8):
            file.write(block)

def read_large():
    with open(f"{mark}-large", "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass

for line in sys.stdin:
    job, mark = line.split()
    began = time.perf_counter()
    globals()[job]()
    print(time.perf_counter() - began, flush=True)
"""
JOBS = (
    *("create", "stat", "reread", "append", "chmod", "listing", "rename", "unlink"),
    *("write_large", "read_large"),
)
# With what the kernel holds of the mounts dropped before.
COLD = frozenset({"reread", "listing", "read_large"})


@dataclass(frozen=True, slots=True)
class Taken:
    """Of one job on one mount: seconds by the clock, CPU seconds of the daemon."""

    wall: float
    cpu: float


Figures = dict[str, dict[str, list[Taken]]]


def _client(mode: str) -> Client:
    def command(site: Site, mountpoint: Path, folder: Path) -> list[str]:
        options = (
            f"endpoint_url={site.url},credentials_file={site.credentials},profile=admin,"
            f"identities=auto,allow_other,sign_as={mode},cache_dir={folder}/cache-{mode},"
            "memory_limit=16M"
        )
        return [PROGRAM, "mount", site.bucket, str(mountpoint), "-f", "-o", options]

    return Client(f"as-{mode}", PROGRAM, command)


def _requests(mountpoint: Path) -> int:
    done = subprocess.run(
        [PROGRAM, "status", "--json", str(mountpoint)], capture_output=True, check=True, timeout=60
    )
    return int(json.loads(done.stdout)["client"]["requests"])


class Worker:
    """The user's process on one mount."""

    def __init__(self, top: Path, daemon: int, count: int) -> None:
        words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
        self._daemon = daemon
        self._process = subprocess.Popen(
            [*words, "/usr/bin/python3", "-c", WORKER, str(top), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def measure(self, job: str, mark: str) -> Taken:
        """Do one job."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("no pipes to the worker")
        used = cpu_seconds(self._daemon)
        self._process.stdin.write(f"{job} {mark}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError(f"{job} failed: see the message above")
        return Taken(float(said), cpu_seconds(self._daemon) - used)

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


def run(rounds: int, count: int, folder: Path) -> tuple[Figures, dict[str, int]]:
    """By job and mode a figure a round, and the S3 requests of each mode. Which mode goes first
    changes with the round."""
    taken: Figures = {job: {mode: [] for mode in MODES} for job in JOBS}
    with ExitStack() as stack:
        site = stack.enter_context(embedded(folder))
        state = ("--state", str(folder / "state"))
        for words in (
            ("user", "add", "user", "--posix-uid", str(UID), "--posix-gid", str(UID)),
            ("policy", "attach", "readwrite", "user"),
        ):
            subprocess.run([PROGRAM, *words, *state], check=True, capture_output=True, timeout=60)
        mounts: dict[str, Path] = {}
        workers: dict[str, Worker] = {}
        for mode in MODES:
            running = stack.enter_context(mounted(_client(mode), site, folder))
            mounts[mode] = running.top
            top = running.top / mode
            top.mkdir()
            os.chown(top, UID, UID)
            workers[mode] = Worker(top, running.pid, count)
            stack.callback(workers[mode].close)
        for number in range(-2, rounds):  # the first two are to warm up
            order = MODES if number % 2 else MODES[::-1]
            for job in JOBS:
                for mode in order:
                    if job in COLD:
                        Path("/proc/sys/vm/drop_caches").write_text("3")
                    # The large file is the same in all rounds: the folder stays small.
                    mark = "all" if job.endswith("large") else f"r{number}"
                    figure = workers[mode].measure(job, mark)
                    if number >= 0:
                        taken[job][mode].append(figure)
            if number == -1:
                before = {mode: _requests(mounts[mode]) for mode in MODES}
        return taken, {mode: _requests(mounts[mode]) - before[mode] for mode in MODES}


def ratios(caller: Sequence[float], daemon: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(caller, daemon, strict=True))


def table(taken: Figures) -> tuple[str, float, float]:
    """Markdown; and the ratio of wall-clock time and of CPU time of all jobs together."""
    lines = ["| job | wall | daemon's CPU |", "|---|---:|---:|"]
    for job, modes in taken.items():
        wall = ratios([one.wall for one in modes["caller"]], [one.wall for one in modes["daemon"]])
        cpu = ratios([one.cpu for one in modes["caller"]], [one.cpu for one in modes["daemon"]])
        lines.append(f"| {job} | {wall:.3f} | {cpu:.3f} |")
    rounds = range(len(taken[JOBS[0]]["caller"]))
    sums = {
        (mode, what): [
            sum(getattr(taken[job][mode][number], what) for job in JOBS) for number in rounds
        ]
        for mode in MODES
        for what in ("wall", "cpu")
    }
    wall = ratios(sums["caller", "wall"], sums["daemon", "wall"])
    cpu = ratios(sums["caller", "cpu"], sums["daemon", "cpu"])
    lines.append(f"| all | {wall:.3f} | {cpu:.3f} |")
    return "\n".join(lines), wall, cpu


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit status: 1 when signing as the caller costs more than it may."""
    parser = argparse.ArgumentParser(prog="benchmarks.sign_as")
    parser.add_argument("--quick", action="store_true", help="a few rounds: too few to tell 2 %%")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}; with --quick 5")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("benchmarks.sign_as: needs root and /dev/fuse", file=sys.stderr)
        return 1
    rounds = options.rounds or (5 if options.quick else ROUNDS)
    with tempfile.TemporaryDirectory(prefix="s3posixfs-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the user comes through
        taken, asked = run(rounds, COUNT, folder)
    text, wall, cpu = table(taken)
    print(f"sign_as=caller by sign_as=daemon, median of {rounds} rounds\n\n{text}\n")
    print(f"S3 requests: {asked['caller']} as the caller, {asked['daemon']} as the daemon")
    if options.json is not None:
        rows = {
            job: {mode: [[one.wall, one.cpu] for one in modes[mode]] for mode in MODES}
            for job, modes in taken.items()
        }
        options.json.write_text(json.dumps(rows) + "\n")
    most = 1 + MOST_PER_CENT / 100
    return 1 if not options.quick and (wall > most or cpu > most) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
