"""The embedded store beside moto and a real Ceph gateway, in one run, with the same client.

    scripts/bench store [--quick] [--rounds 3] [--only NAME …] [--json FILE] [--markdown]

The stores take turns; every figure is the median of the rounds, with half of the range in percent.
The client is a process of its own that sends requests signed beforehand over bare sockets. Beside
the speed stands the CPU time of all of a store's processes for one request, which other work on
the machine changes least. The embedded store and RGW have what they answer on the disk; moto
keeps it in memory. ``s3posixfs -1`` has one worker, ``-2`` two.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load import Work
from benchmarks.peers import all_stores
from benchmarks.stores import Store, end_in_order
from benchmarks.work import MIB, PART, Job, Sizes, make_bucket, serve

FULL = Sizes(2.0, 256 * MIB, 8, 8, 100_000, 1000, 1000)
QUICK = Sizes(0.4, 32 * MIB, 2, 4, 2000, 20, 300)
TINY = Sizes(0.1, 2 * MIB, 2, 2, 200, 4, 50)
RGW, MOTO = "Ceph RGW", "moto"
MOTO_TARGET = 20.0


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. ``rgw_target`` is how many times RGW's speed is to be reached."""

    kind: str
    what: str
    unit: str
    factor: float  # of units a second, to have the unit
    connections: tuple[int, ...]
    rgw_target: float | None


@dataclass(frozen=True, slots=True)
class Figure:
    """What one store did in all rounds of a case."""

    store: str
    rate: float
    spread: float  # half of the range, as a part of the median
    cpu_ms: float  # of the store, for one unit of work
    client_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """All stores' figures for a case with so many connections."""

    what: str
    unit: str
    connections: int
    figures: tuple[Figure, ...]
    ratios: dict[str, float]  # the faster of ours to the other store
    missed: tuple[str, ...]


def cases(sizes: Sizes) -> list[Case]:
    """What is measured, in order."""
    large = sizes.large // MIB
    parts = sizes.parts * PART // MIB
    keys, deleted = f"list {sizes.keys:,}", sizes.deleted
    many = (1, 8, 64)
    some = many if sizes == FULL else (1, 8)
    return [
        Case("get_small", "GET 1 KiB", "requests/s", 1, many, 2.0),
        Case("put_small", "PUT 1 KiB", "requests/s", 1, many, 2.0),
        Case("put_large", f"PUT {large} MiB", "MiB/s", large, (1, 8), 1.5),
        Case("get_large", f"GET {large} MiB", "MiB/s", large, (1, 8), 1.5),
        Case("multipart", f"multipart, {sizes.parts} × 8 MiB", "MiB/s", parts, (8,), 1.5),
        Case("list_flat", keys, "pages/s", 1, some, None),
        Case("list_folders", f"{keys}, delimiter", "pages/s", 1, some, None),
        Case("delete_many", f"DeleteObjects, {deleted:,}", "keys/s", deleted, some[:-1], None),
    ]


Ask = Callable[[Job], Work]


@contextmanager
def client_process() -> Iterator[Ask]:
    """The client; what it is asked to do is done in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()

    def ask(job: Job) -> Work:
        ours.send(job)
        answer = ours.recv()
        if isinstance(answer, Work):
            return answer
        raise SystemExit(f"benchmark: {answer}")

    try:
        yield ask
    finally:
        ours.send(None)
        process.join(20)


def measure(
    case: Case, connections: int, stores: Sequence[Store], ask: Ask, options: Options
) -> Row:
    """A case, the stores taking turns."""
    found: dict[str, list[tuple[Work, float]]] = {store.name: [] for store in stores}
    for number in range(options.rounds):
        # Another one first each time: what a round leaves to the disk falls on the next store.
        turn = number % len(stores)
        for store in [*stores[turn:], *stores[:turn]]:
            job = Job(case.kind, store.target, connections, options.sizes)
            if case.kind not in ("list_flat", "list_folders"):
                ask(Job(case.kind, store.target, connections, options.sizes, prepare=True))
            before = store.cpu_seconds()
            work = ask(job)
            found[store.name].append((work, store.cpu_seconds() - before))
    figures = tuple(_figure(name, case.factor, rounds) for name, rounds in found.items())
    best = max(figure.rate for figure in figures if figure.store not in (RGW, MOTO))
    ratios = {figure.store: best / figure.rate for figure in figures if figure.store in (RGW, MOTO)}
    targets = {RGW: case.rgw_target or 0.0, MOTO: MOTO_TARGET}
    missed = tuple(name for name, ratio in ratios.items() if ratio < targets[name])
    return Row(case.what, case.unit, connections, figures, ratios, missed)


def _figure(name: str, factor: float, rounds: Sequence[tuple[Work, float]]) -> Figure:
    rates = [work.units * factor / work.seconds for work, _ in rounds]
    middle = statistics.median(rates)
    units = sum(work.units for work, _ in rounds)
    return Figure(
        name,
        middle,
        (max(rates) - min(rates)) / 2 / middle,
        sum(cpu for _, cpu in rounds) / units * 1000,
        sum(work.client_cpu for work, _ in rounds) / units * 1000,
    )


def _titles(stores: Sequence[str], others: Sequence[str]) -> list[str]:
    return [
        *("what", "conn.", "unit"),
        *stores,
        *(f"/ {name}" for name in others),
        "CPU ms: " + ", ".join(stores),
        "missed",
    ]


def _cells(row: Row) -> list[str]:
    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    return [
        row.what,
        str(row.connections),
        row.unit,
        *(f"{number(figure.rate)} ±{figure.spread:.0%}" for figure in row.figures),
        *(f"{ratio:.1f}" for ratio in row.ratios.values()),
        ", ".join(number(figure.cpu_ms) for figure in row.figures),
        " ".join(f"✗ {name}" for name in row.missed),
    ]


def show(rows: Sequence[Row], *, markdown: bool) -> None:
    """Print the table."""
    if not rows:
        return
    titles = _titles([figure.store for figure in rows[0].figures], list(rows[0].ratios))
    cells = [_cells(row) for row in rows]
    if markdown:
        for line in (titles, ["---", *["---:"] * (len(titles) - 1)], *cells):
            print("| " + " | ".join(line) + " |")
        return
    table = Table(title="The embedded store beside others: median ± half of the range")
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index in (0, len(titles) - 1) else "right")
    for row, line in zip(rows, cells, strict=True):
        table.add_row(*line, style="red" if row.missed else "")
    Console(width=None if os.isatty(1) else 200).print(table)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    sizes: Sizes
    rounds: int
    only: tuple[str, ...]
    others: tuple[str, ...]
    connections: tuple[int, ...]


def run(options: Options, folder: Path) -> list[Row]:
    """All cases; progress is told line by line."""
    rows: list[Row] = []
    chosen = [
        case for case in cases(options.sizes) if not options.only or case.kind in options.only
    ]
    kinds = {case.kind for case in chosen}
    with client_process() as ask:

        def fill(store: Store) -> None:
            make_bucket(store.target)
            if kinds & {"list_flat", "list_folders"}:
                done = ask(Job("list_flat", store.target, 1, options.sizes, prepare=True))
                say(f"{store.name}: {options.sizes.keys:,} keys made in {done.seconds:.0f} s")
            if "get_large" in kinds and "put_large" not in kinds:
                ask(Job("put_large", store.target, 8, options.sizes))

        with all_stores(folder, fill, options.others) as stores:
            for case in chosen:
                for connections in case.connections:
                    if options.connections and connections not in options.connections:
                        continue
                    rows.append(measure(case, connections, stores, ask, options))
                    say("  ".join(_cells(rows[-1])))
    return rows


_BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:4.0f} s] {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a first look, in two minutes")
    size.add_argument("--tiny", action="store_true", help="only whether all of it runs")
    parser.add_argument("--rounds", type=int, help="default 3; 1 with --quick")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[case.kind for case in cases(FULL)]
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[], help="of 1, 8 and 64")
    parser.add_argument("--without", nargs="+", default=[], choices=["moto", "rgw"])
    parser.add_argument("--folder", type=Path, help="where the objects go (default: TMPDIR)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    arguments = parser.parse_args()
    end_in_order()
    quick = arguments.quick or arguments.tiny
    options = Options(
        TINY if arguments.tiny else QUICK if arguments.quick else FULL,
        arguments.rounds or (1 if quick else 3),
        tuple(arguments.only),
        tuple(name for name in ("rgw", "moto") if name not in arguments.without),
        tuple(arguments.connections),
    )
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-benchmark-", dir=arguments.folder))
    try:
        rows = run(options, folder)
    finally:
        shutil.rmtree(folder)
    show(rows, markdown=arguments.markdown)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
