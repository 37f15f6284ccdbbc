"""Many steps of the machine that compares a real mount with a local folder, by hand:

::

    python -m tests.model.mounted --writeback on --steps 2000 [--seed N] [--shrink]

Prints its counts, and what went wrong with the steps that led to it; the same seed makes the same
steps (on the same version of Hypothesis). Exit status 1 where anything went wrong.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.mounted_bench import Bench
from tests.model.mounted_machine import MountedMachine

STEPS = 40  # of one example


def run_examples(
    folder: Path, *, writeback: bool, examples: int, seed_number: int | None, shrink: bool = False
) -> Counter[str]:
    """Run that many examples; the calls made, by name. Without a seed always the same ones."""
    counts: Counter[str] = Counter()
    with Bench(folder, writeback=writeback) as found:

        class Machine(MountedMachine):
            bench = found
            done = counts

        chosen = settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=seed_number is None,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        if seed_number is not None:
            seed(seed_number)(Machine)
        try:
            run_state_machine_as_test(Machine, settings=chosen)
        except BaseException as error:
            # Hypothesis repeats the steps, and says no more than that where they go well then.
            error.add_note("\n".join(found.failures[:1]))
            raise
    return counts


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--writeback", choices=("on", "off"), default="off")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--shrink", action="store_true", help="look for fewer steps (takes long)")
    chosen = parser.parse_args()
    print(f"writeback={chosen.writeback} seed={chosen.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-mounted-"))
    folder.chmod(0o755)
    try:
        counts = run_examples(
            folder,
            writeback=chosen.writeback == "on",
            examples=-(-chosen.steps // STEPS),
            seed_number=chosen.seed,
            shrink=chosen.shrink,
        )
    finally:
        shutil.rmtree(folder)
    print(f"{counts.total()} calls: {dict(counts.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
