"""This mount beside s3fs-fuse and rclone, a plain client and a local filesystem, in one run.

    scripts/bench mount [--quick] [--store embedded rgw https] [--rounds 3] [--only JOB …]

The mounts take turns; a figure is the median of the rounds with half of the range, a ratio is of
our writeback=off. "limit" is the plain client of the same work (requests signed beforehand, bare
sockets), or the local filesystem. The kernel's cache is dropped before what is to be cold, and what
is read was put by another client. Each job waits until what the one before left is done. rclone
and our writeback=on acknowledge before S3 has it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from benchmarks.mount import measuring, report, sites
from benchmarks.mount.clients import CLIENTS, present
from benchmarks.mount.delay import far
from benchmarks.mount.jobs import FULL, JOBS, QUICK, TINY, Job
from benchmarks.mount.programs import PROGRAMS
from benchmarks.stores import end_in_order

_STORES: dict[str, Callable[[Path], AbstractContextManager[sites.Site]]] = {
    "embedded": sites.embedded,
    "https": partial(sites.embedded, https=True),
    "rgw": sites.gateway,
}
ALL = (*JOBS, *PROGRAMS)
_BEGAN = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:4.0f} s] {text}", file=sys.stderr, flush=True)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench mount",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller, one round")
    size.add_argument("--tiny", action="store_true", help="only whether all of it runs")
    parser.add_argument("--store", nargs="+", choices=list(_STORES), default=["embedded", "rgw"])
    parser.add_argument("--delay", type=float, metavar="MS", help="as far away as this round trip")
    parser.add_argument("--rounds", type=int, help="default 3; 1 with --quick")
    parser.add_argument("--programs", action="store_true", help="cp, find, git, fio … instead")
    parser.add_argument("--only", nargs="+", choices=[job.name for job in ALL], default=[])
    parser.add_argument(
        "--without", nargs="+", choices=[client.name for client in CLIENTS], default=[]
    )
    parser.add_argument("--folder", type=Path, help="where everything goes (default: TMPDIR)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the last store's bars there")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    return parser.parse_args(words)


def _jobs(options: argparse.Namespace) -> list[Job]:
    if options.only:
        return [job for job in ALL if job.name in options.only]
    return list(PROGRAMS if options.programs else JOBS)


def main(words: Sequence[str]) -> int:
    """Run it; the exit status."""
    options = _arguments(words)
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("scripts/bench mount: needs root and /dev/fuse", file=sys.stderr)
        return 1
    end_in_order()
    quick = options.quick or options.tiny
    plan = measuring.Plan(
        _jobs(options),
        [client for client in CLIENTS if client.name not in options.without],
        TINY if options.tiny else QUICK if options.quick else FULL,
        options.rounds or (1 if quick else 3),
        _say,
    )
    for client in plan.clients:
        if not present(client):
            _say(f"{client.name}: {client.program} is not installed, left out")
    found: list[measuring.Results] = []
    for name in options.store:
        with (
            tempfile.TemporaryDirectory(prefix="s3posixfs-bench-", dir=options.folder) as folder,
            _STORES[name](Path(folder)) as near,
            far(near, options.delay) if options.delay else nullcontext(near) as site,
        ):
            found.append(measuring.measure(site, Path(folder), plan))
        report.show(plan.jobs, found[-1], markdown=options.markdown)
    if options.json is not None:
        report.write_json(options.json, found)
    if options.svg is not None:
        options.svg.write_text(report.draw(plan.jobs, found[-1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
