"""Many operations of the exerciser on a mount of the embedded store, by hand:

::

    python -m tests.faults.exerciser_rounds --writeback on --operations 100000

Of 100 operations 95 are of four threads with files of up to 300 KB, and five of two threads with
files of up to 24 MiB, which are sent in parts. After that the mount ends and every
file is compared with the store's own. Prints the counts; the exit status is 1 where a byte was
wrong.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.exerciser import MIB, Exerciser, Mismatch, exercise
from tests.mount.bed import BUCKET, add_people
from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess

SMALL_THREADS, SMALL_BYTES = 4, 300_000
LARGE_THREADS, LARGE_BYTES = 2, 24 * MIB


def run(folder: Path, *, writeback: bool, operations: int, seed: int) -> Counter[str]:
    """All operations and the last look; how many of each kind there were. Mismatch, OSError."""
    done: Counter[str] = Counter()
    with StoreProcess(folder / "store") as store:
        add_people(store)
        options = {"writeback": "on" if writeback else "off"}
        with MountProcess(store, folder / "m", BUCKET, options) as mount:
            exercised: list[Exerciser] = []
            for number, (share, threads, largest) in enumerate(
                [(0.95, SMALL_THREADS, SMALL_BYTES), (0.05, LARGE_THREADS, LARGE_BYTES)]
            ):
                exercised += exercise(
                    mount.mountpoint,
                    operations=-(-int(operations * share) // threads),
                    threads=threads,
                    seed=seed + 1000 * number,
                    largest=largest,
                )
            if mount.umount(seconds=600) != 0:
                raise Mismatch(f"the mount did not end well: {mount.log_tail()}")
        for one in exercised:
            done += one.done
            stored = (store.root / BUCKET / one.path.name).read_bytes()
            if stored != bytes(one.shadow):
                raise Mismatch(f"{one.path.name} is not in the store as it was written")
    return done


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--writeback", choices=("on", "off"), default="off")
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f"writeback={chosen.writeback} seed={chosen.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-exerciser-"))
    folder.chmod(0o755)
    began = time.monotonic()
    try:
        done = run(
            folder,
            writeback=chosen.writeback == "on",
            operations=chosen.operations,
            seed=chosen.seed,
        )
    except (Mismatch, OSError) as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n")
        return 1
    finally:
        shutil.rmtree(folder)
    counts = ", ".join(f"{name} {count}" for name, count in done.most_common())
    print(f"{done.total()} operations in {time.monotonic() - began:.0f} s, all right: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
