"""Rows of a listing cut out of its text, where that is as stores write it.

A page has a thousand rows of eight cells, and to visit each of them in the parsed document takes
most of the time of an ``ls -l``. So the parser proves that the document is whole, and the cells
come out of the text by regular expressions: where it has nothing that these do not know, like
attributes, comments or CDATA. Elsewhere the rows come out of the document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Row = tuple[dict[str, str], dict[str, str] | None]  # cells, UserMetadata

_LEAF = re.compile(r"<([A-Za-z0-9_.-]+)>([^<]*)</\1>")
# Declarations, comments and CDATA, line ends that XML changes, tags that end themselves, references
# by number.
_UNKNOWN = ("<!", "<?", "\r", "/>", "&#")
_NEEDED = frozenset({"Key", "Size", "LastModified"})


def cut(data: bytes, encoding: str, count: int) -> list[Row] | None:
    """The cells of each of ``count`` rows, by name, those of ``Owner`` among them; ``None`` where
    they have to be looked up in the document, which is well formed and declares ``encoding``."""
    if encoding.upper() not in ("UTF-8", "US-ASCII", "ASCII"):
        return None
    _, begin, text = data.decode().partition("<Contents>")
    # Between tags that have no attributes a quote is like any other character.
    text = text.replace("&quot;", '"').replace("&#34;", '"').replace("&#39;", "'")
    text = text.replace("<UserMetadata/>", "<UserMetadata></UserMetadata>")
    if any(sign in text for sign in _UNKNOWN):
        return None
    parts = text.split("<Contents>") if begin else []
    rows = [row for part in parts if (row := _row(part.partition("</Contents>")[0])) is not None]
    if len(rows) != count:
        return None
    if "&" in text:
        return [(_unescaped(cells), meta and _unescaped(meta)) for cells, meta in rows]
    return rows


def _row(text: str) -> Row | None:
    """``None`` where there are other tags than cells know: with attributes, prefixes, cells."""
    before, has_metadata, rest = text.partition("<UserMetadata>")
    inside, _, after = rest.partition("</UserMetadata>")
    cells = _cells(before + after)
    metadata = _cells(inside) if inside else {}
    if cells is None or metadata is None or not cells.keys() >= _NEEDED:
        return None
    return cells, metadata if has_metadata else None


def _cells(text: str) -> dict[str, str] | None:
    found = _LEAF.findall(text)
    around = 2 if "<Owner><" in text and "<Owner></" not in text else 0
    tags = 2 * len(found) + around
    return dict(found) if text.count("<") == tags else None


def _unescaped(cells: Mapping[str, str]) -> dict[str, str]:
    return {name: _plain(text) if "&" in text else text for name, text in cells.items()}


def _plain(text: str) -> str:
    text = text.replace("&apos;", "'").replace("&lt;", "<").replace("&gt;", ">")
    return text.replace("&amp;", "&")
