"""A real mount beside a local folder, in a few examples that are always the same;
``python -m tests.model.mounted`` has more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.mounted import run_examples

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("writeback", [False, True], ids=["off", "on"])
def test_as_a_local_folder(module_folder: Path, writeback: bool) -> None:
    folder = module_folder / ("on" if writeback else "off")
    folder.mkdir()
    counts = run_examples(folder, writeback=writeback, examples=4, seed_number=None)
    assert counts.total() > 100
