"""Writes the table of mount options into docs/CONFIGURATION.md: ``options.py FILE``.

Run by a Python that has s3posixfs installed; ``tests/system/test_documentation.py`` sees when the
page was left behind.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from s3posixfs.cli.option_table import OPTIONS

_TABLE = re.compile(r"\| option \| default \| what it does \|\n\|---\|---\|---\|\n(?:\|.*\n)+")


def with_table(page: str) -> str:
    """The page with the table of options as the program has them."""
    rows = [f"| `{option.name}` | {option.said} | {option.does} |\n" for option in OPTIONS]
    table = "| option | default | what it does |\n|---|---|---|\n" + "".join(rows)
    changed, found = _TABLE.subn(lambda _: table, page, count=1)
    if not found:
        raise SystemExit("options.py: the page has no table of options; restore it")
    return changed


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
