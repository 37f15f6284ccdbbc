"""A store that is measured: how to reach it, its processes, and what CPU time they have taken."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Target
from benchmarks.serving import PROGRAM, served_store

OURS = "s3posixfs"
WORKERS = 2
SECRET = "benchmark-secret-key-of-forty-characters"


@dataclass(frozen=True, slots=True)
class Store:
    """A running store: how to reach it, and the processes that it is made of."""

    target: Target
    pids: Callable[[], list[int]]

    @property
    def name(self) -> str:
        return self.target.name

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        return sum(cpu_seconds(pid) for pid in self.pids())


def end_in_order() -> None:
    """On SIGTERM end as on any error: the stores are stopped and their files removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("benchmark: ended by SIGTERM"))


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_mib(pid: int) -> tuple[float, float]:
    """Memory of a process that is in RAM now, and the most that ever was, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024


def family(pid: int) -> list[int]:
    """A process and the children that its main thread made."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


@contextmanager
def embedded(folder: Path, workers: int) -> Iterator[Store]:
    """The store of this project on what is below ``folder``; its user is no administrator."""
    with served_store(folder, workers) as served:
        target = Target(
            f"{OURS} -{workers}", int(served.url.rpartition(":")[2]), "us-east-1", "benchmark",
            SECRET,
        )  # fmt: skip
        yield Store(target, lambda: family(served.pid))


def make_user(folder: Path) -> None:
    """Give a store that runs below ``folder`` the user of :func:`embedded`."""
    for arguments in (
        ("user", "add", "benchmark", "--secret-key-file", "-"),
        ("policy", "attach", "readwrite", "benchmark"),
    ):
        subprocess.run(
            [PROGRAM, *arguments, "--state", str(folder / "state")],
            input=SECRET + "\n",
            text=True,
            check=True,
            capture_output=True,
            timeout=60,
        )
