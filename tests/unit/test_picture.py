"""The picture of the architecture is of this code, and drawn of its source."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tests.unit.test_layers import ALLOWED, MODULES, PACKAGE, imports_of

DOCS = PACKAGE.parent / "docs"
SOURCE = (DOCS / "architecture.dot").read_text()
EDGE = re.compile(r"^ +(\w+(?: -> \w+)+)", re.MULTILINE)


def drawn_packages() -> set[str]:
    """Nodes whose label begins with a package's name and says what is in it."""
    nodes = re.findall(r'^ +(\w+) \[label="(\w+)\\n', SOURCE, re.MULTILINE)
    return {node for node, label in nodes if node == label and node in ALLOWED}


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def test_every_layer_is_drawn() -> None:
    # The command line starts everything, and metrics are counted everywhere.
    assert drawn_packages() == ALLOWED.keys() - {"cli", "metrics"}


def test_every_arrow_between_packages_is_an_import() -> None:
    packages = drawn_packages()
    imports = {
        (package_of(path), name.split(".")[1])
        for path in MODULES
        for name in imports_of(path)
        if name.startswith("s3posixfs.")
    }
    arrows = {
        pair
        for chain in EDGE.findall(SOURCE)
        for pair in zip(chain.split(" -> "), chain.split(" -> ")[1:], strict=False)
        if set(pair) <= packages
    }
    # The mount and the store know each other by HTTP only.
    assert arrows - imports == {("s3", "store")}
    assert 's3 -> store [label="HTTP' in SOURCE
    assert len(arrows) > 10


def test_the_picture_is_of_this_source() -> None:
    drawn = (DOCS / "architecture.svg").read_text()
    assert hashlib.sha256(SOURCE.encode()).hexdigest() in drawn, "run scripts/draw"
    assert "architecture.svg" in (DOCS / "ARCHITECTURE.md").read_text()
