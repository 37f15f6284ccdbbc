"""A program at work on a mount that will be killed: ``python kill_worker.py FOLDER LOG SEED``.

It works on a few files of its own until a call fails. LOG gets a JSON line before each operation
(what may happen from now on) and one after it (what has been acknowledged). Run as a script: it
knows nothing of the package.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

NAMES = 8
SIZES = (0, 10, 5_000, 200_000, 1_500_000, 6_000_000)


def content_of(tag: str) -> bytes:
    """The bytes that a tag stands for; no part of one looks like a part of another."""
    chance = random.Random(tag)
    size = chance.choice(SIZES)
    if not size:
        return b""
    line = f"{tag} {chance.getrandbits(64):016x}\n".encode()
    return (line * (size // len(line) + 1))[:size]


class Worker:
    def __init__(self, folder: Path, log: Path, seed: int) -> None:
        self._folder = folder
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._chance = random.Random(seed)
        self._count = 0
        self._seed = seed

    def _say(self, **fields: Any) -> None:
        os.write(self._log, json.dumps(fields).encode() + b"\n")

    def _tag(self) -> str:
        self._count += 1
        return f"{self._folder.name}-{self._seed}-{self._count}"

    def _write(self, path: Path, tag: str, flags: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            view = memoryview(content_of(tag))
            while view:
                view = view[os.write(fd, view[:131072]) :]
            if self._chance.random() < 0.3:
                os.fsync(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)

    def step(self) -> None:
        """One operation, announced and acknowledged."""
        name = f"f{self._chance.randrange(NAMES)}"
        path = self._folder / name
        action = self._chance.random()
        if action < 0.45:
            tag = self._tag()
            self._say(op="set", name=name, tag=tag)
            self._write(path, tag, os.O_TRUNC)
        elif action < 0.75:
            tag, temporary = self._tag(), f"t{self._chance.randrange(NAMES)}"
            self._say(op="set", name=temporary, tag=tag)
            self._write(self._folder / temporary, tag, os.O_TRUNC)
            self._say(op="done")
            self._say(op="move", name=temporary, to=name)
            os.rename(self._folder / temporary, path)
        elif action < 0.85 and path.exists():
            other = f"f{self._chance.randrange(NAMES)}"
            if other == name:
                return
            self._say(op="move", name=name, to=other)
            os.rename(path, self._folder / other)
        elif path.exists():
            self._say(op="remove", name=name)
            path.unlink()
        else:
            return
        self._say(op="done")


def main() -> None:
    worker = Worker(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    try:
        while True:
            worker.step()
    except OSError:
        return


if __name__ == "__main__":
    main()
