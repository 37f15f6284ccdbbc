"""Each row of docs/SYSTEM-CALLS.md names a test that there is, and no call has two rows."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.mount.posix import cases
from tests.system_calls import ROWS, Row

FOLDER = Path(__file__).parent.parent / "mount"


@pytest.mark.parametrize("row", ROWS, ids=[row.call for row in ROWS])
def test_a_row_has_its_test(row: Row) -> None:
    file, _, function = row.test.partition("::")
    tree = ast.parse((FOLDER / file).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if file.startswith("posix/"):
        assert function in {case.__name__ for case in cases.ALL}, "it is run"
    assert all((row.does, row.seen, row.embedded, row.rgw, row.differs))


def test_a_call_has_one_row() -> None:
    assert set(Counter(row.call for row in ROWS).values()) == {1}
