"""Rows of a listing cut out of its text, where that is as stores write it.

A page has a thousand rows of eight cells, and to visit each of them in a parsed document takes most
of the time of an ``ls -l``. So where the rows stand one after the other, each with nothing in it
but the cells that AWS, Ceph RGW, MinIO and the embedded store write, a regular expression takes
them out, and the parser has the rest, with an empty row in their place. What that proves of the
rows is what the parser would: tags that fit, no references but XML's own, no characters that XML
has not. Elsewhere the parser has all of it.
"""

from __future__ import annotations

import re

# Key, LastModified, ETag, Size, StorageClass, ID, DisplayName, StorageClass, UserMetadata
Cells = tuple[str, ...]


def _leaf(name: str) -> str:
    return f"<{name}>([^<]*)</{name}>"


def _skipped(name: str) -> str:
    return f"(?:<{name}>[^<]*</{name}>)"


_ROW = re.compile(
    f"<Contents>{_leaf('Key')}{_leaf('LastModified')}{_leaf('ETag')}"
    f"{_skipped('ChecksumAlgorithm')}*{_skipped('ChecksumType')}?{_leaf('Size')}"
    # RGW has the class before the owner, the others after it.
    f"(?:{_leaf('StorageClass')})?"
    f"(?:<Owner>(?:{_leaf('ID')})?(?:{_leaf('DisplayName')})?</Owner>)?"
    f"(?:{_leaf('StorageClass')})?{_skipped('Type')}?"
    r"(<UserMetadata>(?:<([A-Za-z_][A-Za-z0-9_.-]*)>[^<]*</\10>)*</UserMetadata>|<UserMetadata/>)?"
    "</Contents>"
)
_PAIR = re.compile(r"<([^>/]+)>([^<]*)</")
_BEGIN, _END, _EMPTY = b"<Contents>", b"</Contents>", b"<Contents/>"
# Other references than these five, those by number among them, are for the parser.
_REFERENCE = re.compile(rb"&(?!quot;|amp;|lt;|gt;|apos;)")
# Not in XML at all, or not as they are: it reads a carriage return as a line feed.
_CONTROLS = bytes({*range(32)} - {9, 10})
_ILLEGAL = (b"]]>", b"\xef\xbf\xbe", b"\xef\xbf\xbf")


def cut(data: bytes) -> tuple[list[Cells], bytes] | None:
    """The rows of a listing in UTF-8 and what is left of it, with one empty row; ``None`` where
    they are not as above."""
    start, end = data.find(_BEGIN), data.rfind(_END) + len(_END)
    if start < 0 or end <= start:
        return None
    block = data[start:end]
    if len(block.translate(None, _CONTROLS)) != len(block) or _REFERENCE.search(block):
        return None
    if any(sign in block for sign in _ILLEGAL):
        return None
    try:
        text = block.decode().replace("&quot;", '"')
    except UnicodeDecodeError:
        return None
    rows: list[Cells] = _ROW.findall(text)
    count = len(rows)
    # All that begins and ends in the block are these rows, and none has anything before it.
    if not (block.count(_BEGIN) == block.count(_END) == count):
        return None
    if block.count(_END + _BEGIN) != count - 1:
        return None
    if "&" in text:
        rows = [(*(_plain(cell) for cell in row[:8]), row[8]) for row in rows]
    return rows, data[:start] + _EMPTY + data[end:]


def pairs(metadata: str) -> list[tuple[str, str]]:
    """Names and values in a ``<UserMetadata>`` that was cut out."""
    found: list[tuple[str, str]] = _PAIR.findall(metadata)
    if "&" in metadata:
        return [(name, _plain(text)) for name, text in found]
    return found


def _plain(text: str) -> str:
    if "&" not in text:
        return text
    text = text.replace("&apos;", "'").replace("&lt;", "<").replace("&gt;", ">")
    return text.replace("&amp;", "&")
