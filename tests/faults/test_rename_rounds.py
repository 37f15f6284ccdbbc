"""A few of the rounds that ``python -m tests.faults.rename_rounds`` runs many of."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.faults.rename_rounds import Rounds
from tests.mount.bed import Bed, EmbeddedBed, GatewayBed
from tests.rgw.gateway import Gateway

pytestmark = pytest.mark.mount
FILES = 120


def check(bed: Bed, folder: Path, kind: str) -> None:
    seed = secrets.randbelow(2**32)
    rounds = Rounds(bed, folder, kind=kind, files=FILES, seed=seed)
    rounds.run(3)
    assert rounds.problems == [], f"seed {seed}"
    assert rounds.counts["rounds"] == 3
    assert rounds.counts["objects compared"] >= 60


@pytest.mark.parametrize("kind", ["copies", "folder"])
def test_a_folder_is_never_left_half_renamed(open_folder: Path, kind: str) -> None:
    with EmbeddedBed(open_folder) as bed:
        check(bed, open_folder, kind)


@pytest.mark.rgw
def test_a_folder_on_a_gateway_is_never_left_half_renamed(
    open_folder: Path, gateway: Gateway
) -> None:
    with GatewayBed(gateway) as bed:
        check(bed, open_folder, "rgw")
