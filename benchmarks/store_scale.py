"""The embedded store with many keys: what a page of a listing costs, and what a worker takes.

    scripts/bench store-scale [--keys 1000 10000 100000 1000000] [--json FILE]

The keys are files that are made in the store's root by a local program: they are objects. For
each number of them there is a prefix with all in one folder and one with a hundred in each
folder. The first page after a start is told by itself: it reads the folder. The others are told
as the median of pages all over the listing. At the end a worker with the most keys serves
``--connections`` connections that each get objects and list pages, and its memory is told.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load import Maker, Request, Script, Work, drive
from benchmarks.stores import Store, embedded, end_in_order, make_user, memory_mib
from benchmarks.work import BUCKET, make_bucket, pages

IN_FOLDER = 100
PAGES = 40
TARGET_MIB = 200.0


@dataclass(frozen=True, slots=True)
class Row:
    """Pages of one listing, in milliseconds; ``cpu_ms`` is the store's CPU time for a page."""

    what: str
    keys: int
    first_ms: float
    page_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Found:
    """All that was measured. Memory is of the worker, in MiB; seconds are of a whole listing."""

    rows: tuple[Row, ...]
    memory_mib: float
    peak_mib: float
    connections: int
    listed: int
    quiet_seconds: float
    written_seconds: float
    puts: int


def make_keys(root: Path, count: int) -> None:
    """Empty files, ``one-COUNT/NUMBER`` and ``many-COUNT/FOLDER/NUMBER``."""
    one = root / f"one-{count}"
    one.mkdir()
    folder = os.open(one, os.O_RDONLY)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for number in range(count):
        os.close(os.open(f"object-{number:09}", flags, 0o644, dir_fd=folder))
    os.close(folder)
    for start in range(0, count, IN_FOLDER):
        path = root / f"many-{count}" / f"folder-{start // IN_FOLDER:06}"
        path.mkdir(parents=True)
        folder = os.open(path, os.O_RDONLY)
        for number in range(start, min(start + IN_FOLDER, count)):
            os.close(os.open(f"object-{number:09}", flags, 0o644, dir_fd=folder))
        os.close(folder)


def _one(request: Request) -> Script:
    yield request


def measure(store: Store, what: str, prefix: str, delimiter: str, keys: int) -> Row:
    """The first page, then pages that begin at keys all over the listing."""
    maker = Maker(store.target)

    def page(after: str) -> float:
        query = [("list-type", "2"), ("prefix", prefix)]
        if delimiter:
            query.append(("delimiter", delimiter))
        if after:
            query.append(("start-after", after))
        request = maker.request("GET", f"/{BUCKET}", query)
        return drive(store.target.port, [_one(request)]).seconds * 1000

    first = page("")
    generator = random.Random(1)
    times: list[float] = []
    before = store.cpu_seconds()
    # So that every page is a full one, also of a few keys.
    last = max(keys // (IN_FOLDER if delimiter else 1) - 1000, 0)
    for _ in range(PAGES):
        number = generator.randint(0, last)
        if prefix.startswith("one-"):
            times.append(page(f"{prefix}object-{number:09}"))
        elif delimiter:
            times.append(page(f"{prefix}folder-{number:06}/"))
        else:
            times.append(page(f"{prefix}folder-{number // IN_FOLDER:06}/"))
    cpu = (store.cpu_seconds() - before) / PAGES * 1000
    return Row(what, keys, first, statistics.median(times), cpu)


def serve_many(store: Store, keys: int, connections: int) -> None:
    """Connections that are open together and each get objects and list pages."""
    maker = Maker(store.target)

    def script(seed: int) -> Script:
        generator = random.Random(seed)
        for _ in range(10):
            number = generator.randrange(keys)
            name = f"one-{keys}/object-{number:09}"
            yield maker.request("GET", f"/{BUCKET}/{name}")
        # Fifty pages in all are enough to fill what is remembered.
        if seed % max(connections // 50, 1) == 0:
            query = [("list-type", "2"), ("prefix", f"one-{keys}/"), ("start-after", name)]
            yield maker.request("GET", f"/{BUCKET}", query)

    drive(store.target.port, [script(seed) for seed in range(connections)])


def list_all(store: Store, prefix: str) -> Work:
    """All pages of a listing."""
    return drive(store.target.port, [pages(Maker(store.target), prefix, "", once=True)])


@contextmanager
def writing(store: Store, prefix: str) -> Iterator[list[int]]:
    """Objects are put below a prefix while the block runs; yields the list of their count."""
    ended = threading.Event()
    count = [0]
    maker = Maker(store.target)

    def script() -> Script:
        while not ended.is_set():
            yield maker.request("PUT", f"/{BUCKET}/{prefix}written-{count[0]:09}", body=b"x")
            count[0] += 1

    thread = threading.Thread(target=lambda: drive(store.target.port, [script()]))
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join()


def run(numbers: Sequence[int], connections: int, folder: Path) -> Found:
    """All of it, on a store with one worker; a new one for each number of keys."""
    with embedded(folder, 1) as store:
        make_user(folder)
        make_bucket(store.target)
    rows: list[Row] = []
    memory = peak = quiet = written = 0.0
    listed, count = min(100_000, max(numbers)), [0]
    for number in numbers:
        began = time.monotonic()
        make_keys(folder / "objects" / BUCKET, number)
        print(f"{number:,} keys made twice in {time.monotonic() - began:.0f} s", flush=True)
        with embedded(folder, 1) as store:
            for what, place, delimiter in (
                ("one folder", "one", ""),
                ("one folder, delimiter", "one", "/"),
                ("many folders", "many", ""),
                ("many folders, delimiter", "many", "/"),
            ):
                rows.append(measure(store, what, f"{place}-{number}/", delimiter, number))
                print(rows[-1], flush=True)
        if number != listed:
            continue
        with embedded(folder, 1) as store:
            prefix = f"one-{number}/"
            list_all(store, prefix)
            quiet = list_all(store, prefix).seconds
            with writing(store, prefix) as count:
                written = list_all(store, prefix).seconds
    with embedded(folder, 1) as store:
        most = max(numbers)
        for place in ("one", "many"):
            measure(store, "", f"{place}-{most}/", "", most)
            measure(store, "", f"{place}-{most}/", "/", most)
        serve_many(store, most, connections)
        memory, peak = memory_mib(store.pids()[0])
    return Found(
        tuple(rows), memory, peak, connections, listed, quiet, written, count[0]
    )  # fmt: skip


def show(found: Found) -> None:
    """Print the table."""
    table = Table(title="A page of 1,000 of ListObjectsV2")
    for title in ("what", "keys", "first page, ms", "a page, ms", "CPU, ms"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for row in found.rows:
        table.add_row(
            row.what,
            f"{row.keys:,}",
            f"{row.first_ms:,.1f}",
            f"{row.page_ms:,.1f}",
            f"{row.cpu_ms:,.1f}",
        )
    console = Console(width=None if os.isatty(1) else 120)
    console.print(table)
    mark = "" if found.peak_mib < TARGET_MIB else "  ✗ above 200 MiB"
    console.print(
        f"a worker with {found.rows[-1].keys:,} keys and {found.connections} connections: "
        f"{found.memory_mib:.0f} MiB, at most {found.peak_mib:.0f} MiB{mark}"
    )
    console.print(
        f"{found.listed:,} keys of one folder, all pages: {found.quiet_seconds:.1f} s; while "
        f"{found.puts:,} objects are put in it: {found.written_seconds:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where the objects go (default: TMPDIR)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    end_in_order()
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-benchmark-", dir=options.folder))
    try:
        found = run(sorted(options.keys), options.connections, folder)
    finally:
        shutil.rmtree(folder)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=2))


if __name__ == "__main__":
    main()
