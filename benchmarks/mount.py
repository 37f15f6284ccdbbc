"""This mount beside s3fs-fuse and rclone, in one run, on the same embedded store.

    .venv/bin/python -m benchmarks.mount [--quick] [--rounds 3] [--json FILE]

Needs root and /dev/fuse. A program that is not installed is left out, with a line that says so.
The mounts take turns; every figure is the median of the rounds. The kernel's cache is dropped
before what is to be cold, and each client's own is left to expire (``PAUSE``).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.serving import BUCKET, ServedStore, served_store

MIB = 1024 * 1024
PAUSE = 2.5  # seconds; longer than any of the mounts remembers attributes for
PROGRAM = str(Path(sys.executable).with_name("s3posixfs"))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each measurement does."""

    large: int
    listed: int
    small: int


FULL = Sizes(large=256 * MIB, listed=3000, small=200)
QUICK = Sizes(large=64 * MIB, listed=500, small=50)


@dataclass(frozen=True, slots=True)
class Client:
    """A program that mounts: its name, and the command line for a mountpoint."""

    name: str
    program: str
    command: Callable[[ServedStore, Path, Path], list[str]]


def _ours(store: ServedStore, mountpoint: Path, folder: Path) -> list[str]:
    options = (
        f"endpoint_url={store.url},credentials_file={store.credentials},profile=admin,"
        f"cache_dir={folder}/cache-ours"
    )
    return [PROGRAM, "mount", BUCKET, str(mountpoint), "-f", "-o", options]


def _s3fs(store: ServedStore, mountpoint: Path, folder: Path) -> list[str]:
    passwords = folder / "passwd-s3fs"
    passwords.touch(mode=0o600)
    passwords.write_text(f"{store.access_key}:{store.secret_key}\n")
    options = f"url={store.url},use_path_request_style,passwd_file={passwords},stat_cache_expire=1"
    return ["s3fs", BUCKET, str(mountpoint), "-f", "-o", options]


def _rclone(store: ServedStore, mountpoint: Path, folder: Path) -> list[str]:
    config = folder / "rclone.conf"
    config.touch(mode=0o600)
    config.write_text(
        "[it]\ntype = s3\nprovider = Other\n"
        f"endpoint = {store.url}\naccess_key_id = {store.access_key}\n"
        f"secret_access_key = {store.secret_key}\n"
    )
    # Without a cache of writes rclone cannot append or write at random; with it, close returns
    # before the upload ends, so its writes look faster than they are.
    return [
        *("rclone", "mount", f"it:{BUCKET}", str(mountpoint), "--config", str(config)),
        *("--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--dir-cache-time", "1s"),
        *("--attr-timeout", "1s", "--cache-dir", str(folder / "cache-rclone")),
    ]


OURS = Client("s3posixfs", PROGRAM, _ours)
CLIENTS = (
    OURS,
    Client("s3fs-fuse", "s3fs", _s3fs),
    Client("rclone", "rclone", _rclone),
)


def _mounted(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in lines)


@contextmanager
def mounted(client: Client, store: ServedStore, folder: Path) -> Iterator[tuple[Path, int]]:
    """The client's mount of the bucket, and its pid; its log is in ``folder``."""
    mountpoint = folder / f"mnt-{client.name}"
    mountpoint.mkdir()
    log = folder / f"{client.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            client.command(store, mountpoint, folder),
            stdout=output,
            stderr=output,
            # What is set for other stores is not for this one (rclone fails on AWS_CA_BUNDLE).
            env={name: value for name, value in os.environ.items() if name[:4] != "AWS_"},
        )
    try:
        deadline = time.monotonic() + 30
        while not _mounted(mountpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{client.name} does not mount: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield mountpoint, process.pid
    finally:
        if _mounted(mountpoint):
            subprocess.run(["umount", str(mountpoint)], check=False, timeout=120)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def drop_caches() -> None:
    """Let the kernel forget pages and names, and the clients what they know of the store."""
    time.sleep(PAUSE)
    Path("/proc/sys/vm/drop_caches").write_text("3")


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def write_large(path: Path, size: int) -> None:
    """``size`` bytes in pieces of 1 MiB; close waits for the upload where the client does."""
    block = os.urandom(MIB)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for _ in range(size // MIB):
            os.write(descriptor, block)
    finally:
        os.close(descriptor)


def read_large(path: Path) -> int:
    """Everything, in pieces of 1 MiB; the number of bytes."""
    total = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while piece := os.read(descriptor, MIB):
            total += len(piece)
    finally:
        os.close(descriptor)
    return total


def make_folder(path: Path) -> None:
    """A folder with a file in it: an empty one rclone forgets."""
    path.mkdir()
    (path / "keep").write_bytes(b"x")


def in_threads(threads: int, count: int, work: Callable[[int], object]) -> None:
    """Call ``work`` with every number below ``count``."""
    if threads == 1:
        for number in range(count):
            work(number)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass


def measure(top: Path, sizes: Sizes, listed: str) -> dict[str, float]:
    """Seconds of every measurement in a new folder of a mount; ``listed`` is the folder whose
    files another client has put."""
    folder = top / f"bench-{os.urandom(4).hex()}"
    make_folder(folder)
    small = os.urandom(4096)
    seconds: dict[str, float] = {}
    large = folder / "large"
    seconds["write, sequential"] = timed(lambda: write_large(large, sizes.large))
    drop_caches()
    seconds["read, sequential, cold"] = timed(lambda: read_large(large))
    large.unlink()
    drop_caches()
    seconds["ls -l, cold"] = timed(
        lambda: subprocess.run(["ls", "-l", top / listed], check=True, stdout=subprocess.DEVNULL)
    )
    for threads in (1, 8):
        names = folder / f"by-{threads}"
        make_folder(names)

        def create(number: int, names: Path = names) -> None:
            (names / f"{number}").write_bytes(small)

        name = f"create 4 KiB, {threads} thread{'s' if threads > 1 else ''}"
        seconds[name] = timed(lambda: in_threads(threads, sizes.small, create))  # noqa: B023
    drop_caches()
    names = folder / "by-8"
    seconds["read 4 KiB, 8 threads, cold"] = timed(
        lambda: in_threads(8, sizes.small, lambda number: (names / f"{number}").read_bytes())
    )
    few = sizes.small // 4

    def rename(number: int) -> None:
        os.rename(names / f"{number}", names / f"new-{number}")

    def append(number: int) -> None:
        with (names / f"new-{number}").open("ab") as file:
            file.write(b"a line\n")

    def unlink(number: int) -> None:
        os.unlink(names / f"new-{number}")

    for what, work in (("rename", rename), ("append", append), ("unlink", unlink)):
        seconds[what] = timed(lambda: in_threads(1, few, work))  # noqa: B023
    return seconds


def run(sizes: Sizes, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """Medians in seconds by client and measurement."""
    taken: dict[str, list[dict[str, float]]] = {}
    with served_store(folder) as store:
        listed = "listed"
        with mounted_present(store, folder) as tops:
            any_top = next(iter(tops.values()))
            (any_top / listed).mkdir()
            in_threads(
                8, sizes.listed, lambda n: (any_top / listed / f"file-{n:05}").write_bytes(b"x")
            )
            for number in range(rounds):
                for name, top in tops.items():
                    print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                    taken.setdefault(name, []).append(measure(top, sizes, listed))
    return {
        name: {what: statistics.median(each[what] for each in found) for what in found[0]}
        for name, found in taken.items()
    }


@contextmanager
def mounted_present(store: ServedStore, folder: Path) -> Iterator[dict[str, Path]]:
    """The mounts of all programs that are installed, by name."""
    with ExitStack() as stack:
        tops: dict[str, Path] = {}
        for client in CLIENTS:
            if shutil.which(client.program) is None:
                print(f"{client.name}: not installed, left out", file=sys.stderr)
                continue
            tops[client.name], _ = stack.enter_context(mounted(client, store, folder))
        yield tops


def table(medians: dict[str, dict[str, float]]) -> str:
    """Markdown: seconds of every client, and ours as a fraction of the best other's."""
    clients = list(medians)
    others = [name for name in clients if name != "s3posixfs"]
    lines = [
        "| | " + " | ".join([*(f"{name} s" for name in clients), "ours / best other"]) + " |",
        "|---|" + "---:|" * (len(clients) + 1),
    ]
    for what, ours in medians["s3posixfs"].items():
        best = min((medians[name][what] for name in others), default=0.0)
        ratio = f"{ours / best:.2f}" if best else "-"
        cells = [*(f"{medians[name][what]:.2f}" for name in clients), ratio]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.mount")
    parser.add_argument("--quick", action="store_true", help="a quarter of the work, one round")
    parser.add_argument("--rounds", type=int, help="3; with --quick 1")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("benchmarks.mount: needs root and /dev/fuse", file=sys.stderr)
        return 1
    sizes = QUICK if options.quick else FULL
    rounds = options.rounds or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory(prefix="s3posixfs-bench-") as folder:
        medians = run(sizes, rounds, Path(folder))
    print(
        f"{sizes.large // MIB} MiB, {sizes.listed} files listed, {sizes.small} small files; "
        f"rename, append, unlink: {sizes.small // 4}; median of {rounds}\n"
    )
    print(table(medians))
    if options.json is not None:
        document = {"sizes": asdict(sizes), "rounds": rounds, "seconds": medians}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
