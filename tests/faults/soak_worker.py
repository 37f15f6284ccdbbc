"""What one process of the soak does: ``python3 - FOLDER SEED SECONDS < soak_worker.py``.

It runs as the uid of a user, who can read neither the checkout nor its virtual environment, so it
comes through standard input and imports nothing but the standard library. It works on files of its
own in FOLDER and knows what each of them holds; it prints one JSON object of what it did.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SMALL, LARGE = 40_000, 3_000_000  # bytes
MOST_FILES = 30
PAUSE = 0.01  # seconds between operations: the store is to be used, not to be measured
MOST_FAILURES = 20  # that are told


class Worker:
    """Files in a folder, and what they should hold."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.held: dict[str, bytes] = {}
        self.made = 0
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self, seconds: float) -> None:
        """Work for that long, then look at everything once more."""
        self.folder.mkdir()
        # Open all the time, through many lives of credentials.
        self.open = os.open(self.folder / "open", os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        self.held["open"] = b""
        end = time.monotonic() + seconds
        works = (
            (6, self.create),
            (8, self.read),
            (4, self.append),
            (2, self.write_open),
            (3, self.rename),
            (3, self.unlink),
            (4, self.list),
            (1, self.chmod),
            (1, self.make_folder),
        )
        weights = [weight for weight, _ in works]
        while time.monotonic() < end:
            (_, work) = self.random.choices(works, weights)[0]
            self.attempt(work)
            time.sleep(PAUSE)
        self.attempt(self.close)
        self.attempt(self.list)
        self.attempt(self.compare_all)

    def attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, AssertionError) as error:
            self.failures.append(f"{time.time():.1f} {work.__name__}: {error}")
        self.done[work.__name__] += 1

    def content(self) -> bytes:
        longest = LARGE if self.random.random() < 0.02 else SMALL
        return self.random.randbytes(self.random.randrange(longest))

    def any_name(self) -> str:
        return self.random.choice([name for name in self.held if name != "open"] or ["open"])

    def create(self) -> None:
        if len(self.held) >= MOST_FILES:
            self.unlink()
        name = f"file-{self.made}"
        self.made += 1
        data = self.content()
        self.held[name] = data  # known even if it fails: what is then there is looked at
        (self.folder / name).write_bytes(data)

    def read(self) -> None:
        self.compare(self.any_name())

    def compare(self, name: str) -> None:
        found = (self.folder / name).read_bytes()
        assert found == self.held[name], f"{name}: {len(found)} bytes, not what was written"

    def compare_all(self) -> None:
        for name in self.held:
            self.compare(name)

    def append(self) -> None:
        name = self.any_name()
        data = self.random.randbytes(self.random.randrange(2000))
        if name == "open":
            return
        with (self.folder / name).open("ab") as file:
            file.write(data)
        self.held[name] += data

    def write_open(self) -> None:
        data = self.random.randbytes(self.random.randrange(200))
        os.write(self.open, data)
        os.fsync(self.open)
        self.held["open"] += data

    def close(self) -> None:
        os.close(self.open)

    def rename(self) -> None:
        name = self.any_name()
        if name == "open":
            return
        target = f"moved-{self.made}"
        self.made += 1
        if self.random.random() < 0.3:
            target = self.any_name()  # over another, or itself
        (self.folder / name).rename(self.folder / target)
        self.held[target] = self.held.pop(name)

    def unlink(self) -> None:
        name = self.any_name()
        if name == "open":
            return
        (self.folder / name).unlink()
        del self.held[name]

    def list(self) -> None:
        names = set(os.listdir(self.folder))
        assert names == set(self.held), f"listed wrongly: {names ^ set(self.held)}"

    def chmod(self) -> None:
        (self.folder / self.any_name()).chmod(self.random.choice((0o600, 0o640, 0o644)))

    def make_folder(self) -> None:
        path = self.folder / "folder"
        path.mkdir()
        (path / "inner").write_bytes(b"inner")
        (path / "inner").unlink()
        path.rmdir()


def main() -> None:
    """Do it and say what was done."""
    folder, seed, seconds = sys.argv[1:]
    worker = Worker(Path(folder), int(seed))
    worker.run(float(seconds))
    print(
        json.dumps(
            {
                "done": worker.done,
                "failed": len(worker.failures),
                "failures": worker.failures[:MOST_FAILURES],
            }
        )
    )


if __name__ == "__main__":
    main()
