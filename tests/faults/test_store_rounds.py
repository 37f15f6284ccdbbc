"""A few of the rounds that ``python -m tests.faults.store_rounds`` runs many of."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.faults.cut_disk import CutDisk
from tests.faults.store_rounds import Rounds


def test_a_store_that_is_killed_loses_nothing_it_acknowledged(module_folder: Path) -> None:
    seed = secrets.randbelow(2**32)
    rounds = Rounds(module_folder / f"seed-{seed}", seed)
    rounds.run(4)
    assert rounds.problems == [], f"seed {seed}"
    assert rounds.counts["rounds"] == 4
    assert rounds.counts["objects compared"] > 20
    assert rounds.counts["parts"] > 0


def test_a_power_loss_takes_nothing_that_was_acknowledged(module_folder: Path) -> None:
    seed = secrets.randbelow(2**32)
    folder = module_folder / f"power-{seed}"
    folder.mkdir()
    disk = CutDisk(folder, "ext4")
    try:
        rounds = Rounds(folder, seed, disk)
        rounds.run(2)
    finally:
        disk.close()
    assert rounds.problems == [], f"seed {seed}"
    assert rounds.counts["power lost"] == 2
    assert rounds.counts["acknowledged"] > 0
