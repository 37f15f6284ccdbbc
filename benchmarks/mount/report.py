"""What was measured, as a table, as Markdown, as JSON and as bars."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.mount.clients import CLIENTS, OURS, WRITEBACK
from benchmarks.mount.jobs import WRITEBACK_TARGETS, Job, Target
from benchmarks.mount.measuring import LOCAL, PLAIN, Results

_BAR, _WIDE, _LINE = 14, 900, 22
_COLOURS = ("#1f6feb", "#54aeff", "#bf8700", "#8250df", "#8c959f")


def missed(job: Job, results: Results) -> list[str]:
    """What the job was to reach and did not, each as "found of wanted"."""
    found: list[str] = []
    if results.far:
        return found
    target = job.rgw if results.site == "Ceph RGW" else job.embedded
    rate = results.rate(job, OURS.name)
    if rate is not None:
        found += [text for text in _short(rate, target, job, results) if text]
    kept = results.rate(job, WRITEBACK.name)
    if kept is not None and job.name in WRITEBACK_TARGETS:
        wanted = WRITEBACK_TARGETS[job.name].least
        if kept < wanted:
            found.append(f"writeback {kept:,.0f} of {wanted:,.0f}")
    return found


def _short(rate: float, target: Target, job: Job, results: Results) -> list[str]:
    texts: list[str] = []
    if rate < target.least:
        texts.append(f"{rate:,.0f} of {target.least:,.0f}")
    limit = results.limit(job)
    if target.limit and limit and rate < target.limit * limit:
        texts.append(f"{rate / limit:.2f} of {target.limit} of the limit")
    best = best_other(job, results)
    if target.best and best and rate < target.best * best:
        texts.append(f"{rate / best:.2f} of {target.best} times the best other")
    return texts


def best_other(job: Job, results: Results) -> float | None:
    """The fastest other mount that acknowledges where this job is to end."""
    rates = [
        rate
        for client in CLIENTS
        if client not in (OURS, WRITEBACK)
        and not (job.stores and client.acknowledges != "S3")
        and (rate := results.rate(job, client.name)) is not None
    ]
    return max(rates, default=None)


def rows(jobs: Sequence[Job], results: Results) -> list[list[str]]:
    """The lines of the table, the titles first."""
    clients = [client.name for client in CLIENTS if client.name in results.mount_seconds]
    lines = [
        ["work", "unit", *clients, PLAIN, LOCAL, "/ best other", "/ limit", "CPU ms", "missed"]
    ]
    for job in jobs:
        ours, limit, best = (
            results.rate(job, OURS.name),
            results.limit(job),
            best_other(job, results),
        )
        plain = None if job.limit == LOCAL else limit
        lines.append(
            [
                *(job.title, job.unit),
                *(_cell(job, results, client) for client in clients),
                _number(plain),
                _number(results.rate(job, LOCAL)),
                f"{ours / best:.1f}" if ours and best else "–",
                f"{ours / limit:.2f}" if ours and limit else "–",
                _cpu(job, results),
                "; ".join(missed(job, results)),
            ]
        )
    return lines


def _cell(job: Job, results: Results, client: str) -> str:
    found = [sample.rate for sample in results.samples.get(job.name, {}).get(client, [])]
    if not found:
        return "–"
    middle = statistics.median(found)
    spread = f" ±{(max(found) - min(found)) / 2 / middle:.0%}" if len(found) > 1 else ""
    return _number(middle) + spread


def _cpu(job: Job, results: Results) -> str:
    found = results.samples.get(job.name, {}).get(OURS.name)
    if not found:
        return "–"
    daemon = statistics.median(sample.daemon_cpu_ms for sample in found)
    store = statistics.median(sample.store_cpu_ms for sample in found)
    return f"{daemon:.2g} + {store:.2g}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(jobs: Sequence[Job], results: Results, *, markdown: bool) -> None:
    """Print the table, what a mount took of time and memory, and what failed."""
    titles, *lines = rows(jobs, results)
    if markdown:
        for line in (titles, ["---", "---", *["---:"] * (len(titles) - 3), "---"], *lines):
            print("| " + " | ".join(line) + " |")
    else:
        table = Table(title=f"{results.site}: median ± half of the range, a second")
        for index, title in enumerate(titles):
            edge = index in (0, 1, len(titles) - 1)
            table.add_column(title, justify="left" if edge else "right")
        for line in lines:
            table.add_row(*line, style="red" if line[-1] else "")
        Console(width=220).print(table)
    print()
    for name, seconds in results.mount_seconds.items():
        memory = results.memory.get(name, 0.0)
        print(f"{name}: usable after {seconds:.2f} s, at most {memory:.0f} MiB of memory")
    for failure in results.failures:
        print(f"failed: {failure}")


def as_json(found: Sequence[Results]) -> list[dict[str, Any]]:
    """All samples."""
    return [asdict(results) for results in found]


def write_json(path: Path, found: Sequence[Results]) -> None:
    path.write_text(json.dumps(as_json(found), indent=2) + "\n")


def draw(jobs: Sequence[Job], results: Results) -> str:
    """Bars as SVG: of every job each client's speed, as a part of the fastest mount's."""
    clients = [client.name for client in CLIENTS if client.name in results.mount_seconds]
    shapes: list[str] = []
    y = 40
    for number, name in enumerate(clients):
        x = 20 + number * 200
        shapes.append(f'<rect x="{x}" y="10" width="12" height="12" fill="{_COLOURS[number]}"/>')
        shapes.append(f'<text x="{x + 18}" y="20">{escape(name)}</text>')
    for job in jobs:
        rates = {name: results.rate(job, name) or 0.0 for name in clients}
        most = max(rates.values(), default=0.0)
        if not most:
            continue
        shapes.append(f'<text x="20" y="{y + 12}" font-weight="bold">{escape(job.title)}</text>')
        y += _LINE
        for number, name in enumerate(clients):
            long = max(int(rates[name] / most * (_WIDE - 260)), 1)
            shapes.append(
                f'<rect x="20" y="{y}" width="{long}" height="{_BAR - 2}" '
                f'fill="{_COLOURS[number]}"/>'
                f'<text x="{long + 26}" y="{y + 10}">'
                f"{_number(rates[name])} {escape(job.unit)}</text>"
            )
            y += _BAR
        y += 8
    style = 'font-family="sans-serif" font-size="11" fill="#24292f"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{y}" '
        f'viewBox="0 0 {_WIDE} {y}"><rect width="100%" height="100%" fill="#ffffff"/>'
        f"<g {style}>" + "\n".join(shapes) + "</g></svg>\n"
    )
