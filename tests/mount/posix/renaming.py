"""rename(2) and renameat2(2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    People,
    attempt,
    mode_of,
    put,
    renameat2,
)


def rename_calls(d: Path, who: People) -> list[Any]:
    def fresh() -> Path:
        fresh.number += 1  # type: ignore[attr-defined]
        sub = d / str(fresh.number)  # type: ignore[attr-defined]
        sub.mkdir()
        put(sub / "f", b"f")
        put(sub / "g", b"g")
        (sub / "empty").mkdir()
        (sub / "full").mkdir()
        put(sub / "full" / "x")
        (sub / "l").symlink_to("f")
        os.mkfifo(sub / "p")
        return sub

    fresh.number = 0  # type: ignore[attr-defined]
    pairs = [
        ("f", "new"), ("f", "g"), ("f", "f"), ("f", "empty"), ("f", "full"), ("f", "l"),
        ("f", "p"), ("f", "missing/x"), ("f", "g/x"), ("f", "n" * 256), ("missing", "new"),
        ("empty", "new"), ("empty", "full"), ("full", "empty"), ("empty", "f"), ("full", "f"),
        ("full", "l"), ("full", "full/in"), ("full", "full/in/deeper"), ("full", "full"),
        ("full/x", "full"), ("full", "new/"), ("f", "new/"), ("l", "new"), ("l", "f"), ("l", "g"),
        ("p", "f"), ("p", "new"), ("full/x", "x"), ("f", "full/x"), (".", "new"), ("f", "."),
        ("full/.", "new"), ("full", "empty/."), ("full/x", "empty/x"), ("empty", "l"),
        ("full", "full/x"), ("f/", "new"), ("l/", "new"), ("full/", "new"), ("full", "empty/"),
    ]  # fmt: skip
    seen: list[Any] = []
    for old, new in pairs:
        sub = fresh()
        outcome = attempt(os.rename, f"{sub}/{old}", f"{sub}/{new}")
        found = sorted(
            (str(p.relative_to(sub)), mode_of(p)) for p in sub.rglob("*") if p.name != "n" * 256
        )
        contents = [(p.name, p.read_bytes()) for p in sorted(sub.rglob("*")) if p.is_file()]
        seen.append(((old[:20], new[:20]), outcome, found, contents))
    for flags in (RENAME_NOREPLACE, RENAME_NOREPLACE | RENAME_EXCHANGE, 64):
        for old, new in (("f", "new"), ("f", "g"), ("full", "empty"), ("f", "f"), ("no", "f")):
            sub = fresh()
            outcome = renameat2(sub / old, sub / new, flags)
            seen.append((flags, old, new, outcome, sorted(os.listdir(sub))))
    return seen


def rename_open_files(d: Path, who: People) -> list[Any]:
    source, target = put(d / "source", b"source"), put(d / "target", b"target")
    with source.open("r+b") as held_source, target.open("r+b") as held_target:
        held_source.write(b"S")
        held_source.flush()
        os.rename(source, target)
        held_source.seek(0, os.SEEK_END)
        held_source.write(b"+")
        held_source.flush()
        held_target.write(b"T")
        held_target.flush()
        held_target.seek(0)
        seen: list[Any] = [
            held_target.read(),
            os.fstat(held_target.fileno()).st_nlink,
            os.fstat(held_source.fileno()).st_nlink,
            target.stat().st_ino == os.fstat(held_source.fileno()).st_ino,
        ]
    seen += [target.read_bytes(), sorted(os.listdir(d))]
    (d / "dir").mkdir()
    with put(d / "dir" / "inside", b"inside").open("r+b") as held:
        held.write(b"IN")
        held.flush()
        os.rename(d / "dir", d / "moved")
        held.seek(0, os.SEEK_END)
        held.write(b"!")
    seen.append((d / "moved" / "inside").read_bytes())
    return seen
