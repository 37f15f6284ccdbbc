"""The rows of docs/SYSTEM-CALLS.md, for the tests that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "SYSTEM-CALLS.md"


@dataclass(frozen=True, slots=True)
class Row:
    """A system call: what is said of it, what it costs on either store, and its test."""

    call: str
    does: str
    seen: str
    embedded: str
    rgw: str
    differs: str
    test: str


def _rows() -> tuple[Row, ...]:
    found: list[Row] = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "call":
            found.append(Row(*cells))
    return tuple(found)


ROWS = _rows()
