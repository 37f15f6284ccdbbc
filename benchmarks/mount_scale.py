"""One mount with many objects, with large files, and with two users at work: does cost stay flat?

    scripts/bench mount-scale [--keys 10000 100000 1000000] [--gib 64] [--json FILE]

On the embedded store with one worker. The objects are empty files, and the large ones sparse files,
that a local program made in the store's root. Each number of keys and each size has a mount of its
own, so that its memory is told by itself. "a second user" lists a folder while another copies: how
long that takes, and how much longer than alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.mount.clients import FOR_ALL, Running, mounted
from benchmarks.mount.jobs import read_whole, write_whole
from benchmarks.mount.measuring import drop_caches
from benchmarks.mount.sites import Site, embedded
from benchmarks.store_scale import make_keys
from benchmarks.stores import cpu_seconds, end_in_order, memory_mib

MIB = 1024 * 1024
LISTED = 1000
LOOKS = 15
REST_SECONDS = 75.0  # what is not asked for is packed after some seconds, listings go after 60


@dataclass(frozen=True, slots=True)
class Walk:
    """A program that goes through a folder: entries a second, and what one costs."""

    what: str
    entries: int
    rate: float
    daemon_us: float
    store_us: float
    memory_mib: float
    memory_per_entry: float  # bytes, beyond what the daemon had before
    at_rest_mib: float  # once nobody has asked for anything for REST_SECONDS
    at_rest_per_entry: float  # bytes


@dataclass(frozen=True, slots=True)
class Large:
    """A sparse file read from its beginning to its end."""

    mib: int
    first_ms: float
    rate: float  # MB/s
    daemon_us: float  # for a megabyte
    memory_mib: float


@dataclass(frozen=True, slots=True)
class Beside:
    """How long ``ls -l`` of a folder takes beside another's work, in milliseconds."""

    what: str
    median_ms: float
    longest_ms: float
    ratio: float


@contextmanager
def fresh_mount(site: Site, folder: Path) -> Iterator[Running]:
    """A mount that knows nothing yet, with folders of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as own, mounted(FOR_ALL, site, Path(own)) as mount:
        yield mount


def walk(site: Site, folder: Path, what: str, words: Sequence[str], entries: int) -> Walk:
    """A program in a fresh mount, with the kernel's caches dropped."""
    with fresh_mount(site, folder) as mount:
        drop_caches()
        memory = memory_mib(mount.pid)[0]
        daemon, store = cpu_seconds(mount.pid), sum(map(cpu_seconds, site.pids()))
        began = time.perf_counter()
        with subprocess.Popen(words, cwd=mount.top, stdout=subprocess.PIPE) as program:
            shown = sum(block.count(b"\n") for block in iter(lambda: _block(program), b""))
        seconds = time.perf_counter() - began
        if program.returncode or shown < entries:
            raise RuntimeError(f"{' '.join(words)} shows {shown} of {entries} entries")
        daemon = cpu_seconds(mount.pid) - daemon
        store = sum(map(cpu_seconds, site.pids())) - store
        now = memory_mib(mount.pid)[0]
        time.sleep(REST_SECONDS)
        rest = memory_mib(mount.pid)[0]
        return Walk(
            what,
            entries,
            entries / seconds,
            daemon / entries * 1e6,
            store / entries * 1e6,
            now,
            (now - memory) * MIB / entries,
            rest,
            (rest - memory) * MIB / entries,
        )


def _block(program: subprocess.Popen[bytes]) -> bytes:
    return program.stdout.read(MIB) if program.stdout is not None else b""


def large(site: Site, folder: Path, mib: int) -> Large:
    """The first byte of a file, then all of it, in a fresh mount."""
    with fresh_mount(site, folder) as mount:
        path = mount.top / f"sparse-{mib}"
        drop_caches()
        began = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            file.read(1)
        first = time.perf_counter() - began
        daemon = cpu_seconds(mount.pid)
        began = time.perf_counter()
        megabytes = read_whole(path)
        seconds = time.perf_counter() - began
        daemon = cpu_seconds(mount.pid) - daemon
        peak = memory_mib(mount.pid)[1]
        return Large(mib, first * 1000, megabytes / seconds, daemon / megabytes * 1e6, peak)


def beside(site: Site, folder: Path, source: Path) -> list[Beside]:
    """A second user's ``ls -l``, alone and beside copies."""
    found: list[Beside] = []
    with fresh_mount(site, folder) as mount:
        for path in (folder, mount.top.parent):
            path.chmod(0o755)  # for the second user to get in
        for what, words in (
            ("alone", None),
            ("cp of a large file into it", ["cp", str(source / "large"), "large"]),
            ("cp of a large file out of it", ["cp", "large", "/dev/null"]),
            ("cp -r of small files into it", ["cp", "-r", str(source / "small"), "small"]),
        ):
            times = _looks(mount.top, words)
            alone = found[0].median_ms if found else statistics.median(times)
            median = statistics.median(times)
            found.append(Beside(what, median, max(times), median / alone))
    return found


def _looks(top: Path, words: Sequence[str] | None) -> list[float]:
    """Milliseconds of each ``ls -l``, with nothing of the folder remembered."""
    times: list[float] = []
    busy = subprocess.Popen(_again(words), cwd=top) if words is not None else None
    try:
        for _ in range(LOOKS):
            time.sleep(1.2)  # longer than attributes are remembered for
            began = time.perf_counter()
            subprocess.run(
                ["ls", "-l", "listed"], cwd=top, check=True, stdout=subprocess.DEVNULL, user=65534
            )
            times.append((time.perf_counter() - began) * 1000)
    finally:
        if busy is not None:
            busy.terminate()
            busy.wait()
    return times


def _again(words: Sequence[str]) -> list[str]:
    """The program over and over, until it is ended."""
    script = 'trap "kill %1 2>/dev/null; exit" TERM; while :; do "$@" & wait $!; done'
    return ["bash", "-c", script, "again", *words]


def run(keys: Sequence[int], gib: int, folder: Path) -> dict[str, list[Walk | Large | Beside]]:
    """All of it, with a line for each thing measured."""
    walks: list[Walk | Large | Beside] = []
    files: list[Walk | Large | Beside] = []
    with embedded(folder) as site:
        root = folder / "objects" / site.bucket
        for count in keys:
            make_keys(root, count)
            for what, words in (
                ("find in one folder", ["find", f"one-{count}"]),
                ("ls -l of one folder", ["ls", "-l", f"one-{count}"]),
                ("find, 100 in a folder", ["find", f"many-{count}"]),
            ):
                walks.append(walk(site, folder, what, words, count))
                print(walks[-1], file=sys.stderr, flush=True)
        mib = 1
        while mib <= gib * 1024:
            with (root / f"sparse-{mib}").open("wb") as file:
                file.truncate(mib * MIB)
            files.append(large(site, folder, mib))
            print(files[-1], file=sys.stderr, flush=True)
            mib *= 8 if mib < 1024 else 4
        _make_listed(root, folder)
        others: list[Walk | Large | Beside] = [*beside(site, folder, folder / "source")]
    return {"walks": walks, "files": files, "beside": others}


def _make_listed(root: Path, folder: Path) -> None:
    (root / "listed").mkdir()
    for number in range(LISTED):
        (root / "listed" / f"{number:05}").touch()
    small = folder / "source" / "small"
    small.mkdir(parents=True)
    for number in range(LISTED):
        (small / f"{number:05}").write_bytes(os.urandom(4096))
    write_whole(folder / "source" / "large", 1024 * MIB)


def show(found: dict[str, list[Walk | Large | Beside]]) -> None:
    """A table for each kind."""
    console = Console(width=120)
    for title, rows in found.items():
        if not rows:
            continue
        table = Table(title=title)
        names = list(asdict(rows[0]))
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        for row in rows:
            values = asdict(row)
            table.add_row(
                *(f"{v:,.1f}" if isinstance(v, float) else str(v) for v in values.values())
            )
        console.print(table)


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench mount-scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--keys", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    add("--gib", type=int, default=64, help="the largest sparse file")
    add("--folder", type=Path, help="where everything goes (default: TMPDIR)")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("scripts/bench mount-scale: needs root and /dev/fuse", file=sys.stderr)
        return 1
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="s3posixfs-bench-", dir=options.folder) as folder:
        found = run(options.keys, options.gib, Path(folder))
    show(found)
    if options.json is not None:
        told = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        options.json.write_text(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
