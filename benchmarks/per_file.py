"""What one file costs through the mount, by what is done to it: requests, and CPU time.

    .venv/bin/python -m benchmarks.per_file [embedded|rgw] [--files 300] [JOB …]

Files of 4 KiB. Requests are counted by the mount's own metrics; CPU time is the daemon's and that
of all of the store's processes. Unlike files a second these hardly depend on what else the machine
does. Needs root and /dev/fuse. Jobs: see ``JOBS``.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from benchmarks.mount import sites
from benchmarks.mount.clients import Client, Running, mounted, ours
from benchmarks.mount.sites import Site
from benchmarks.stores import cpu_seconds, end_in_order

SIZE = 4096  # bytes
OLD_SECONDS = 12.0  # after which what is known of a file has grown old
THREADS = 8
_COUNTED = re.compile(
    r'^s3posixfs_(?:mount_)?s3_requests_total\{[^}]*(?:api|operation)="(\w+)"[^}]*\} (\S+)', re.M
)
STORES: dict[str, Callable[[Path], AbstractContextManager[Site]]] = {
    "embedded": sites.embedded,
    "rgw": sites.gateway,
}


@dataclass(frozen=True, slots=True)
class Job:
    """``work`` is done to each number of the folder; ``filled`` says who puts the files before."""

    name: str
    work: Callable[[Path, int], object]
    filled: str = ""  # "mount", or "client": another S3 client, and the mount has not seen them
    threads: int = 1


def _write(flags: int) -> Callable[[Path, int], object]:
    def work(folder: Path, number: int) -> None:
        descriptor = os.open(folder / f"{number:05}", flags, 0o644)
        os.write(descriptor, b"x" * (100 if flags & os.O_APPEND else SIZE))
        os.close(descriptor)

    return work


def _read(folder: Path, number: int) -> None:
    if len((folder / f"{number:05}").read_bytes()) != SIZE:
        raise RuntimeError("a file is not whole")


NEW = os.O_WRONLY | os.O_CREAT
JOBS = (
    Job("create", _write(NEW | os.O_TRUNC)),
    Job("create, 8 threads", _write(NEW | os.O_TRUNC), threads=THREADS),
    Job("create with O_EXCL", _write(NEW | os.O_EXCL)),
    Job("rename", lambda f, n: os.rename(f / f"{n:05}", f / f"new-{n:05}"), "mount"),
    Job("append 100 B", _write(os.O_WRONLY | os.O_APPEND), "mount"),
    Job("chmod", lambda f, n: os.chmod(f / f"{n:05}", 0o600), "mount"),
    Job("unlink", lambda f, n: os.unlink(f / f"{n:05}"), "mount"),
    Job("stat, not seen before", lambda f, n: os.stat(f / f"{n:05}"), "client"),
    Job("read, not seen before", _read, "client"),
    Job("the same, 8 threads", _read, "client", THREADS),
)


def each(threads: int, count: int, work: Callable[[int], object]) -> None:
    """Call ``work`` with all numbers below ``count``, by so many threads in order."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass


def requests(path: Path) -> Counter[str]:
    """The mount's requests so far, by API."""
    with socket.socket(socket.AF_UNIX) as scrape:
        scrape.connect(str(path))
        scrape.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: scrape.recv(65536), b"")).decode()
    counted: Counter[str] = Counter()
    for name, count in _COUNTED.findall(text):
        counted[name] += int(float(count))
    return counted


def put_all(site: Site, folder: str, count: int) -> None:
    """What another client stores."""
    client = boto3.client(
        "s3",
        endpoint_url=site.url,
        region_name=site.region,
        aws_access_key_id=site.access_key,
        aws_secret_access_key=site.secret_key,
        config=Config(request_checksum_calculation="when_required"),  # RGW 16 knows no others
    )
    body = os.urandom(SIZE)
    each(
        THREADS,
        count,
        lambda n: client.put_object(Bucket=site.bucket, Key=f"{folder}/{n:05}", Body=body),
    )
    client.close()


def fill(job: Job, site: Site, folder: Path, count: int) -> None:
    """What is there before the job."""
    if job.filled == "client":
        put_all(site, folder.name, count)
        time.sleep(OLD_SECONDS)
        return
    folder.mkdir()
    (folder / "keep").write_bytes(b"x")
    if job.filled:
        each(THREADS, count, lambda n: _write(NEW | os.O_TRUNC)(folder, n))


def measure(job: Job, site: Site, mount: Running, metrics: Path, count: int) -> str:
    """One row of the table."""
    folder = mount.top / re.sub(r"\W+", "-", job.name)
    fill(job, site, folder, count)
    before, store = requests(metrics), sum(map(cpu_seconds, site.pids()))
    daemon, began = cpu_seconds(mount.pid), time.perf_counter()
    each(job.threads, count, lambda number: job.work(folder, number))
    took = time.perf_counter() - began
    daemon = cpu_seconds(mount.pid) - daemon
    store = sum(map(cpu_seconds, site.pids())) - store
    made = requests(metrics) - before
    kinds = ", ".join(f"{number / count:.2f} {name}" for name, number in made.most_common(4))
    return (
        f"| {job.name} | {made.total() / count:.2f} | {kinds} | {daemon / count * 1000:.2f} "
        f"| {store / count * 1000:.2f} | {count / took:,.0f} |"
    )


def main(words: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.per_file",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", nargs="?", choices=list(STORES), default="embedded")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=[job.name for job in JOBS], default=[])
    options = parser.parse_args(words)
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("benchmarks.per_file: needs root and /dev/fuse", file=sys.stderr)
        return 1
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="s3posixfs-per-file-") as name:
        folder = Path(name)
        metrics = folder / "metrics"

        def command(site: Site, mountpoint: Path, place: Path) -> list[str]:
            *first, options = ours(site, mountpoint, place)
            return [*first, f"{options},metrics={metrics}"]

        with (
            STORES[options.store](folder) as site,
            mounted(Client("s3posixfs", "s3posixfs", command), site, folder) as mount,
        ):
            print("| a file | requests | of these | daemon, CPU ms | store, CPU ms | files/s |")
            print("|---|---:|---|---:|---:|---:|")
            for job in JOBS:
                if not options.only or job.name in options.only:
                    print(measure(job, site, mount, metrics, options.files), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
