"""Random reads and writes of files on a mount, each checked against a shadow copy (like fsx).

    python -m tests.faults.exerciser FOLDER [--operations N] [--threads T] [--seed S]
                                     [--largest BYTES]

Each thread works on files of its own: read, write, append, runs of writes, truncate, extend, mmap
(private, shared), fsync, close and reopen, rename, read by another descriptor. The first byte that
is not what was written ends the program with status 1 and the operations that led to it.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

MIB = 1024 * 1024
# Where uploads change their way: one PUT up to 16 MiB, parts of 5 and 16 MiB; the small parts of
# tests.mount.memory_mount.
EDGES = (5 * MIB, 10 * MIB, 15 * MIB, 16 * MIB, 32 * MIB, 64 * 1024, 128 * 1024, 192 * 1024)
LONGEST = 200_000  # bytes of one read or write


class Mismatch(AssertionError):
    """The file is not its shadow."""


class Exerciser:
    """One file and what it should hold. ``largest``: bytes that it may grow to."""

    def __init__(self, path: Path, seed: int, largest: int) -> None:
        self.path = path
        self.largest = largest
        self.random = random.Random(seed)
        self.shadow = bytearray()
        self.done: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=40)
        self.descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)

    def run(self, operations: int, stop: threading.Event) -> None:
        """Do that many operations, then compare the whole file."""
        choices: Sequence[tuple[int, Callable[[], str]]] = (
            (30, self.write),
            (30, self.read),
            (8, self.append),
            (6, self.shrink),
            (6, self.extend),
            (5, self.map_read),
            (3, self.map_write),
            (3, self.sync),
            (4, self.reopen),
            (2, self.rename),
            (2, self.whole),
            (1, self.truncate_by_name),
            (1, self.rewrite),
            (3, self.sequence),
        )
        weights = [weight for weight, _ in choices]
        for _ in range(operations):
            if stop.is_set():
                return
            _, operation = self.random.choices(choices, weights)[0]
            self.recent.append(operation())
            self.done[operation.__name__] += 1
            if os.fstat(self.descriptor).st_size != len(self.shadow):
                self.fail("size")
        self.whole()

    def close(self) -> None:
        os.close(self.descriptor)

    def fail(self, what: str) -> None:
        raise Mismatch(f"{self.path}: {what}\n  " + "\n  ".join(self.recent))

    def compare(self, what: str, offset: int, found: bytes) -> None:
        expected = bytes(self.shadow[offset : offset + len(found)])
        if found != expected:
            at = next(i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b)
            self.fail(
                f"{what} at {offset}: byte {offset + at} is {found[at]}, not {expected[at]}; "
                f"size {len(self.shadow)}"
            )

    # Where and how much.

    def position(self) -> int:
        size = max(1, len(self.shadow))
        roll = self.random.random()
        if roll < 0.25:
            edge = self.random.choice(EDGES) + self.random.randrange(-3, 4)
            if edge < min(size, self.largest):
                return max(0, edge)
        if roll < 0.35:
            return self.random.randrange(size) // 4096 * 4096
        return self.random.randrange(size)

    def length(self) -> int:
        return self.random.choice((1, 10, 4096, 4097, self.random.randrange(1, LONGEST)))

    # Operations; each says what it did.

    def write(self) -> str:
        offset = min(self.position(), self.largest - 1)
        data = self.random.randbytes(min(self.length(), self.largest - offset))
        os.pwrite(self.descriptor, data, offset)
        self.put(offset, data)
        return f"write {offset} {len(data)}"

    def put(self, offset: int, data: bytes) -> None:
        if offset > len(self.shadow):
            self.shadow.extend(bytes(offset - len(self.shadow)))
        self.shadow[offset : offset + len(data)] = data

    def append(self) -> str:
        data = self.random.randbytes(min(self.length(), self.largest - len(self.shadow)))
        second = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(second, data)
        os.close(second)
        self.put(len(self.shadow), data)
        return f"append {len(data)}"

    def read(self) -> str:
        offset, length = self.position(), self.length()
        found = os.pread(self.descriptor, length, offset)
        if len(found) != max(0, min(length, len(self.shadow) - offset)):
            self.fail(f"read {offset} {length} gave {len(found)} of {len(self.shadow)}")
        self.compare("read", offset, found)
        return f"read {offset} {length}"

    def resize(self, size: int) -> None:
        if size < len(self.shadow):
            del self.shadow[size:]
        else:
            self.shadow.extend(bytes(size - len(self.shadow)))

    def shrink(self) -> str:
        size = self.position()
        if self.random.random() < 0.8:  # mostly by little, so that files get large
            size = max(0, len(self.shadow) - self.random.randrange(300_000))
        size = min(size, len(self.shadow))
        os.ftruncate(self.descriptor, size)
        self.resize(size)
        return f"shrink {size}"

    def extend(self) -> str:
        size = min(self.largest, len(self.shadow) + self.random.randrange(1 + self.largest // 8))
        os.ftruncate(self.descriptor, size)
        self.resize(size)
        return f"extend {size}"

    def truncate_by_name(self) -> str:
        size = max(0, min(self.largest, len(self.shadow) + self.random.randrange(-9999, 9999)))
        os.truncate(self.path, size)
        self.resize(size)
        return f"truncate {size}"

    def map_read(self) -> str:
        if self.shadow:
            with mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) as view:
                offset = self.position()
                self.compare("map", offset, view[offset : offset + self.length()])
        return "map_read"

    def map_write(self) -> str:
        if not self.shadow:
            return "map_write nothing"
        with mmap.mmap(self.descriptor, 0) as view:
            offset = min(self.position(), len(self.shadow) - 1)
            data = self.random.randbytes(min(self.length(), len(self.shadow) - offset))
            view[offset : offset + len(data)] = data
            self.put(offset, data)
            if self.random.random() < 0.5:
                view.flush()
        return f"map_write {offset} {len(data)}"

    def sequence(self) -> str:
        """A run of writes, one behind the other: what is sent while it is written."""
        start = self.random.choice((0, 0, len(self.shadow)))
        if not start and self.random.random() < 0.7:
            os.ftruncate(self.descriptor, 0)
            self.shadow.clear()
        length = min(self.largest - start, self.random.randrange(1, 1 + self.largest))
        while length > 0:
            data = self.random.randbytes(min(length, LONGEST))
            os.pwrite(self.descriptor, data, start)
            self.put(start, data)
            start += len(data)
            length -= len(data)
        return f"sequence to {start}"

    def sync(self) -> str:
        os.fsync(self.descriptor)
        return "fsync"

    def reopen(self) -> str:
        os.close(self.descriptor)
        self.descriptor = os.open(self.path, os.O_RDWR)
        return "reopen"

    def rename(self) -> str:
        name = self.path.with_name(self.path.name.split("~")[0] + f"~{self.random.randrange(3)}")
        os.rename(self.path, name)
        self.path = name
        return f"rename {name.name}"

    def rewrite(self) -> str:
        data = self.random.randbytes(self.random.randrange(1 + self.largest // 4))
        self.path.write_bytes(data)
        self.shadow[:] = data
        return f"rewrite {len(data)}"

    def whole(self) -> str:
        with self.path.open("rb") as stream:
            found = stream.read()
        if len(found) != len(self.shadow):
            self.fail(f"{len(found)} bytes, not {len(self.shadow)}")
        self.compare("whole", 0, found)
        return "whole"


def exercise(
    folder: Path, *, operations: int, threads: int, seed: int, largest: int
) -> list[Exerciser]:
    """Run ``operations`` in each thread; Mismatch or OSError of the first that fails."""
    stop = threading.Event()
    failures: list[BaseException] = []
    exercisers = [
        Exerciser(folder / f"exercised-{seed}-{number}", seed + number, largest)
        for number in range(threads)
    ]

    def work(exerciser: Exerciser) -> None:
        try:
            exerciser.run(operations, stop)
        except BaseException as error:
            error.add_note(
                "\n  ".join([f"after {sum(exerciser.done.values())}:", *exerciser.recent])
            )
            failures.append(error)
            stop.set()
        finally:
            exerciser.close()

    workers = [threading.Thread(target=work, args=(one,)) for one in exercisers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return exercisers


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--operations", type=int, default=1000, help="per thread")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--largest", type=int, default=2 * MIB, help="bytes of a file")
    chosen = parser.parse_args()
    began = time.monotonic()
    try:
        exercisers = exercise(
            chosen.folder,
            operations=chosen.operations,
            threads=chosen.threads,
            seed=chosen.seed,
            largest=chosen.largest,
        )
    except (Mismatch, OSError) as error:
        print(f"seed {chosen.seed}: {error}", *getattr(error, "__notes__", ()), sep="\n")
        return 1
    done: Counter[str] = Counter()
    for exerciser in exercisers:
        done += exerciser.done
    seconds = time.monotonic() - began
    counts = ", ".join(f"{name} {count}" for name, count in done.most_common())
    print(f"seed {chosen.seed}: {done.total()} operations in {seconds:.0f} s, all right: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
