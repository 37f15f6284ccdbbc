"""Programs at work in a mount: what is measured is how much they do in a second, all in all."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.mount.jobs import MB, Job, Place, Work

_SOURCE = "source"  # beside the mounts: what is copied in
_TREE = Path(sysconfig.get_path("stdlib"))


def make_source(folder: Path, files: int) -> None:
    """Small files in 64 folders, an archive of some of the standard library, a repository of it."""
    source = folder / _SOURCE
    generator = random.Random(1)
    for number in range(files):
        parent = source / "small" / f"{number % 64:02}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"{number:05}").write_bytes(generator.randbytes(2048))
    names = sorted(path for path in _TREE.iterdir() if path.suffix == ".py")[: files // 16]
    tree = source / "tree"
    tree.mkdir()
    for path in [*names, _TREE / "asyncio", _TREE / "email", _TREE / "json"]:
        if path.is_dir():
            shutil.copytree(path, tree / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, tree)
    _run(["tar", "-c", "-f", "tree.tar", "tree"], source)
    for words in (["init", "-q"], ["add", "-A"], [*_AUTHOR, "commit", "-q", "-m", "all"]):
        _run(["git", *words], tree)


_AUTHOR = ["-c", "user.name=b", "-c", "user.email=b@example.org"]


def _run(words: Sequence[str], folder: Path) -> str:
    environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _source_of(place: Place) -> Path:
    return place.top.parent / _SOURCE


def _entries(path: Path) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(path))


def _copying(words: Callable[[Path], list[str]], measured: str) -> Work:
    def work(place: Place) -> float:
        source = _source_of(place)
        _run(words(source), place.own)
        return _entries(source / measured)

    return work


def _git_status(place: Place) -> float:
    if _run(["git", "-c", "safe.directory=*", "status", "--porcelain"], place.own / "clone"):
        raise RuntimeError("git status finds changes in a new clone")
    return _entries(_source_of(place) / "tree")


def _walking(words: list[str], lines_are_entries: bool) -> Work:
    def work(place: Place) -> float:
        shown = _run([*words, "small"], place.own)
        wanted = _entries(_source_of(place) / "small")
        if lines_are_entries and shown.count("\n") != wanted + 1:
            raise RuntimeError(f"{words[0]} shows {shown.count(chr(10))} of {wanted + 1} entries")
        return wanted

    return work


def _fio(pattern: str, jobs: int) -> Work:
    """fio's own pace: it lays out its file, which is not in the figure, and runs for a time."""

    def work(place: Place) -> float:
        sequential = pattern in ("read", "write")
        report = _run(
            [
                *("fio", "--name=it", f"--rw={pattern}", f"--bs={'1M' if sequential else '4k'}"),
                *(f"--size={place.sizes.large // 4}", f"--numjobs={jobs}", "--group_reporting"),
                *("--time_based", f"--runtime={max(int(place.sizes.seconds), 1)}"),
                *("--ioengine=psync", "--output-format=json", "--end_fsync=1", "--thread"),
                f"--filename_format=fio-{pattern}-$jobnum",
            ],
            place.own,
        )
        found = json.loads(report[report.index("{") :])["jobs"][0]
        side = found["write" if pattern.endswith("write") else "read"]
        return float(side["bw_bytes"] / MB if sequential else side["iops"])

    return work


PROGRAMS = (
    Job(
        *("cp", "cp -r of small files", "entries/s"),
        _copying(lambda source: ["cp", "-r", f"{source}/small", "."], "small"),
        stores=True,
    ),
    Job(*("find", "find, cold", "entries/s", _walking(["find"], True)), cold=True),
    Job(*("du", "du -s, cold", "entries/s", _walking(["du", "-s"], False)), cold=True),
    Job(
        *("tar", "tar x of a source tree", "entries/s"),
        _copying(lambda source: ["tar", "-x", "-f", f"{source}/tree.tar"], "tree"),
        stores=True,
    ),
    Job(
        *("clone", "git clone", "entries/s"),
        _copying(
            lambda source: ["git", "clone", "-q", "--no-hardlinks", f"{source}/tree", "clone"],
            "tree",
        ),
        stores=True,
    ),
    Job(*("status", "git status, cold", "entries/s", _git_status), cold=True),
    Job(
        *("rm", "rm -r of small files", "entries/s"),
        _copying(lambda _: ["rm", "-r", "small"], "small"),
        stores=True,
    ),
    *(
        Job(
            *(f"fio-{pattern}-{jobs}", f"fio {pattern}, {jobs}", unit, _fio(pattern, jobs)),
            by_itself=True,
            stores=pattern.endswith("write"),
        )
        for pattern, unit in (
            ("read", "MB/s"),
            ("write", "MB/s"),
            ("randread", "reads/s"),
            ("randwrite", "writes/s"),
        )
        for jobs in (1, 8)
    ),
)
