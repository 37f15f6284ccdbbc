"""Dependencies point one way; this walks every import of the package and holds it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "s3posixfs"

# What each layer may import of the others, besides itself.
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "waiting": set(),
    "sigv4": {"core"},
    "identity": {"core"},
    "credentials": {"core"},
    "s3": {"core", "sigv4", "credentials", "waiting"},
    "data": {"core", "s3", "waiting"},
    "fs": {"core", "credentials", "data", "identity", "s3", "waiting"},
    "fuse": {"core", "fs", "waiting"},
    "metrics": {"core", "waiting"},
    "store": {"core", "identity", "metrics", "sigv4", "waiting"},
    "cli": {
        *("core", "credentials", "data", "fs", "fuse", "identity", "metrics", "s3", "sigv4"),
        "store",
    },
}
ONLY_IN = {"pyfuse3": "fuse", "sqlite3": "store"}
NOT_IN = {"trio": {"core", "identity", "sigv4"}}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_folder_is_a_known_layer() -> None:
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    layer = parts[0] if len(parts) > 1 else "cli"
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "s3posixfs" and rest:
            target = rest.split(".")[0]
            if target in ALLOWED and target != layer:
                assert target in ALLOWED[layer], f"{layer} must not import {name}"
        if top in ONLY_IN:
            assert layer == ONLY_IN[top], f"only {ONLY_IN[top]} imports {top}"
        if top in NOT_IN:
            assert layer not in NOT_IN[top], f"{layer} must not import {top}"
