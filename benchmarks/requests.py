"""What programs at work in the mount cost: S3 requests by kind, seconds, the daemon's CPU time.

    .venv/bin/python -m benchmarks.requests [--scale 1.0] [NAME …]

The store's audit log tells the requests. Needs root, /dev/fuse and git. Names: see ``WORK``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.mount.clients import OURS, mounted
from benchmarks.mount.sites import Site, embedded
from benchmarks.stores import cpu_seconds

PAUSE = 2.0  # seconds; longer than metadata_ttl

# name: whether what is known is to be old by then, and a shell script at the top of the mount
WORK = {
    "cp -a, files": (False, "cp -a {source}/files files"),
    "cp -a, folders": (False, "cp -a {source}/folders folders"),
    "cp -a, back": (True, "cp -a files {source}/back"),
    "find, folders": (True, "find folders"),
    "ls -lR": (True, "ls -lR ."),
    "ls -lR again": (False, "ls -lR ."),
    "git clone": (False, "git clone -q --no-hardlinks {source}/repository clone"),
    "git status": (True, "git -C clone status"),
    "tar x": (False, "mkdir untarred; tar -x -f {source}/tree.tar -C untarred"),
    "rm -r": (True, "rm -r untarred"),
    "append": (False, "for i in $(seq {small}); do echo $i >> log; done"),
    "write, chmod": (
        False,
        "mkdir m; for i in $(seq {small}); do echo $i > m/$i; chmod 600 m/$i; done",
    ),
}


def make_source(source: Path, scale: float) -> None:
    """What is copied: small files, folders of one file, a repository, an archive of its tree."""
    generator = random.Random(1)
    (source / "files").mkdir(parents=True)
    for number in range(int(1000 * scale)):
        (source / "files" / f"{number}").write_bytes(generator.randbytes(2000))
    for number in range(int(600 * scale)):
        folder = source / "folders" / f"{number % 20}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_text("x\n")
    repository = source / "repository"
    environment = {
        **os.environ,
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "nobody"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "nobody@localhost"),
    }

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", repository, *words], check=True, env=environment)

    repository.mkdir()
    git("init", "-q")
    for commit in range(max(1, int(20 * scale))):
        for number in range(30):
            path = repository / f"folder-{commit}" / f"{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{commit} {number} {generator.random()}\n" * 20)
        git("add", ".")
        git("commit", "-q", "-m", "more")
    subprocess.run(
        ["tar", "-c", "-f", source / "tree.tar", "--exclude=.git", "repository"],
        cwd=source,
        check=True,
    )


def requests_since(audit: Path, position: int) -> Counter[str]:
    """Requests by operation; a 404 to HEAD, which says that a name is free, by itself."""
    time.sleep(0.1)  # the store writes its log a little later
    found: Counter[str] = Counter()
    with audit.open() as file:
        file.seek(position)
        for line in file:
            entry = json.loads(line)
            missing = entry["operation"] == "HeadObject" and entry["status"] == 404
            found["HeadObject 404" if missing else entry["operation"]] += 1
    return found


def run(names: Sequence[str], scale: float, folder: Path, site: Site) -> None:
    """Print one row of a table for each name."""
    source = folder / "source"
    make_source(source, scale)
    audit = folder / "state" / "audit.log"
    with mounted(OURS, site, folder) as mount:
        print("| | requests | of these | s | daemon's CPU s |\n|---|---:|---|---:|---:|")
        for name in names:
            old, script = WORK[name]
            if old:
                time.sleep(PAUSE)
            position = audit.stat().st_size
            cpu, began = cpu_seconds(mount.pid), time.monotonic()
            text = script.format(source=source, small=int(100 * scale))
            subprocess.run(
                ["/bin/sh", "-euc", text], cwd=mount.top, check=True, stdout=subprocess.DEVNULL
            )
            took, used = time.monotonic() - began, cpu_seconds(mount.pid) - cpu
            found = requests_since(audit, position)
            kinds = ", ".join(f"{count} {kind}" for kind, count in found.most_common(6))
            print(f"| {name} | {found.total()} | {kinds} | {took:.1f} | {used:.1f} |", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.requests")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each (1.0)")
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(WORK))
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in WORK]
    if unknown:
        parser.error(f"no such work: {unknown[0]!r}; there are {', '.join(WORK)}")
    with (
        tempfile.TemporaryDirectory(prefix="s3posixfs-bench-") as name,
        embedded(Path(name)) as site,
    ):
        run(options.names, options.scale, Path(name), site)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
