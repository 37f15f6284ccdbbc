"""The jobs, done by every client in turn, round after round."""

from __future__ import annotations

import os
import secrets
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mount.clients import Client, Running, mounted, present
from benchmarks.mount.jobs import Job, Place, Sizes, make_folder
from benchmarks.mount.plain import Plain
from benchmarks.mount.programs import PROGRAMS, make_source
from benchmarks.mount.sites import Site
from benchmarks.stores import cpu_seconds, memory_mib

LOCAL = "local"  # the filesystem of the benchmark's folder
PLAIN = "plain client"
_PAUSE = 1.5  # seconds; longer than any of the mounts remembers attributes for
# A store is at rest that uses less than this share of one processor, seen over a while. Uploads
# after an early answer and garbage are work of the job that left them.
_REST_SHARE, _LOOK_SECONDS = 0.2, 0.3


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a job: units a second, and milliseconds of CPU time for one unit."""

    rate: float
    daemon_cpu_ms: float
    store_cpu_ms: float


@dataclass(slots=True)
class Results:
    """Of one site: samples by job and client, the plain client's limits by work, the seconds that
    mounts took, and the most memory of each daemon in MiB.
    """

    site: str
    far: bool
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    limits: dict[str, list[float]] = field(default_factory=dict)
    mount_seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def rate(self, job: Job, client: str) -> float | None:
        """The median, where the client did the job."""
        found = self.samples.get(job.name, {}).get(client)
        return statistics.median(sample.rate for sample in found) if found else None

    def limit(self, job: Job) -> float | None:
        """What bounds the job: the local filesystem or the plain client."""
        if job.limit == LOCAL:
            return self.rate(job, LOCAL)
        found = self.limits.get(job.limit)
        return statistics.median(found) if found else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    jobs: Sequence[Job]
    clients: Sequence[Client]
    sizes: Sizes
    rounds: int
    say: Callable[[str], None]


def measure(site: Site, folder: Path, plan: Plan) -> Results:
    """All jobs of the plan on the site; a client that fails a job is left out of it, and named."""
    results = Results(site.name, site.far)
    plain = Plain(site, plan.sizes)
    if any(job in PROGRAMS for job in plan.jobs):
        make_source(folder, plan.sizes.tree)
    with ExitStack() as stack:
        stack.callback(plain.close)
        running = [
            stack.enter_context(mounted(client, site, folder))
            for client in plan.clients
            if present(client)
        ]
        for mount in running:
            results.mount_seconds[mount.client.name] = mount.seconds
        for number in range(plan.rounds):
            given = f"given-{secrets.token_hex(4)}"
            plan.say(f"{site.name}, round {number + 1} of {plan.rounds}: putting what is read")
            plain.give(given)
            limits = plain.limits(given, f"plain-{secrets.token_hex(4)}")
            for name, rate in limits.items():
                results.limits.setdefault(name, []).append(rate)
            with _local(folder, given, plan.sizes) as local:
                turn = number % max(len(running), 1)
                for mount in [*running[turn:], *running[:turn]]:
                    plan.say(f"{site.name}, round {number + 1}: {mount.client.name}")
                    _round(site, mount, given, plan, results)
                _local_round(local, plan, results)
        for mount in running:
            results.memory[mount.client.name] = memory_mib(mount.pid)[1]
    return results


def _round(site: Site, mount: Running, given: str, plan: Plan, results: Results) -> None:
    own = mount.top / f"own-{secrets.token_hex(4)}"
    make_folder(own)
    place = Place(mount.top, own, mount.top / given, plan.sizes)
    name = mount.client.name

    def cpu() -> tuple[float, float]:
        return cpu_seconds(mount.pid), sum(cpu_seconds(pid) for pid in site.pids())

    for job in plan.jobs:
        try:
            _rest(lambda: sum(cpu()), plan.sizes.rest)
            sample = _sample(job, place, cpu)
        except (OSError, RuntimeError) as error:
            results.failures.append(f"{name}, {job.title}: {error}")
            continue
        results.samples.setdefault(job.name, {}).setdefault(name, []).append(sample)


def _local_round(place: Place, plan: Plan, results: Results) -> None:
    for job in plan.jobs:
        sample = _sample(job, place, lambda: (0.0, 0.0))
        results.samples.setdefault(job.name, {}).setdefault(LOCAL, []).append(sample)


def _sample(job: Job, place: Place, cpu: Callable[[], tuple[float, float]]) -> Sample:
    if job.before is not None:
        job.before(place)
        os.sync()
    if job.cold:
        drop_caches()
    before = cpu()
    began = time.perf_counter()
    units = job.work(place)
    seconds = time.perf_counter() - began
    daemon, store = (after - then for after, then in zip(cpu(), before, strict=True))
    if not units:
        raise RuntimeError("nothing was done in time")
    if job.by_itself:
        units *= seconds
    return Sample(units / seconds, daemon / units * 1000, store / units * 1000)


def _rest(cpu: Callable[[], float], seconds: float) -> None:
    """Return when daemon and store have nothing left to do, or have had long enough for it."""
    end = time.monotonic() + seconds
    before = cpu()
    while time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        now = cpu()
        if now - before < _REST_SHARE * _LOOK_SECONDS:
            return
        before = now


def drop_caches() -> None:
    """Let the kernel forget pages and names, and the clients what they know of the store."""
    time.sleep(_PAUSE)
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


@contextmanager
def _local(folder: Path, given: str, sizes: Sizes) -> Iterator[Place]:
    """The same files in a local folder."""
    top = folder / "local"
    own, read = top / f"own-{secrets.token_hex(4)}", top / given
    for path in (own, read / "small", read / "listed"):
        path.mkdir(parents=True)
    body = os.urandom(sizes.large)
    for name in ("large", "random-1", "random-8", "first"):
        (read / name).write_bytes(body)
    for number in range(sizes.small):
        (read / "small" / f"{number:05}").write_bytes(body[:4096])
    for number in range(sizes.listed):
        (read / "listed" / f"{number:05}").write_bytes(b"x")
    yield Place(top, own, read, sizes)
    shutil.rmtree(top)
