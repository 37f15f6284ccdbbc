"""Tags of objects and buckets: what S3 allows as one, as a header and as XML.

Source: the S3 user guide, "Categorizing your objects using tags", and the API reference, Tag.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_plus

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.errors import DetailedError, invalid_argument

MAX_OBJECT_TAGS = 10
MAX_BUCKET_TAGS = 50
# Lengths are counted in UTF-16, as S3 keeps tags.
_MAX_KEY_UNITS = 128
_MAX_VALUE_UNITS = 256
_ALLOWED_MARKS = frozenset("_.:/=+-@")
_ALLOWED_CATEGORIES = ("L", "N", "Z")  # letters, numbers, spaces
_RESERVED = "aws:"
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def tags_of_header(text: str) -> dict[str, str]:
    """The tags of ``x-amz-tagging``, which is written like a query."""
    pairs: list[tuple[str, str]] = []
    if _BROKEN_ESCAPE.search(text):
        raise _bad_header(text)
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        if not name:
            raise _bad_header(text)
        try:
            pair = (unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict"))
        except UnicodeDecodeError:
            raise _bad_header(text) from None
        pairs.append(pair)
    if len({name for name, _ in pairs}) != len(pairs):
        raise _bad_header(text)
    return checked(pairs, MAX_OBJECT_TAGS)


def tags_of_document(data: bytes, most: int) -> dict[str, str]:
    """The tags of a ``<Tagging>``; S3Error MalformedXML, InvalidTag or BadRequest."""
    sets = list(xml.parse(data, "Tagging"))
    if len(sets) != 1 or xml.local_name(sets[0]) != "TagSet":
        raise xml.malformed()
    return checked([tag_of(element) for element in sets[0]], most)


def tag_of(element: xml.Element) -> tuple[str, str]:
    """Key and value of a ``<Tag>``; MalformedXML for anything else."""
    fields = xml.children(element)
    if xml.local_name(element) != "Tag" or fields.keys() != {"Key", "Value"}:
        raise xml.malformed()
    return fields["Key"], fields["Value"]


def checked(pairs: Iterable[tuple[str, str]], most: int) -> dict[str, str]:
    """The tags by key, in order; S3Error where S3 refuses one, or so many."""
    tags: dict[str, str] = {}
    for name, value in pairs:
        if name in tags:
            raise invalid_tag("Cannot provide multiple Tags with the same key", name)
        if name.lower().startswith(_RESERVED):
            raise invalid_tag("System tags cannot be added/updated by requester", name)
        if not name or not _allowed(name, _MAX_KEY_UNITS):
            raise invalid_tag("The TagKey you have provided is invalid", name)
        if not _allowed(value, _MAX_VALUE_UNITS):
            raise invalid_tag("The TagValue you have provided is invalid", name, value)
        tags[name] = value
    if len(tags) > most:
        kind = "Object tags" if most == MAX_OBJECT_TAGS else "Bucket tag count"
        raise S3Error("BadRequest", f"{kind} cannot be greater than {most}", status=400)
    return tags


def tag_set(tags: Mapping[str, str]) -> str:
    """``<TagSet>`` with these tags."""
    rows = (
        f"<Tag>{xml.leaf('Key', name)}{xml.leaf('Value', value)}</Tag>"
        for name, value in tags.items()
    )
    return f"<TagSet>{''.join(rows)}</TagSet>"


def tagging_document(tags: Mapping[str, str]) -> bytes:
    """The ``<Tagging>`` that GetObjectTagging and GetBucketTagging answer with."""
    return xml.document("Tagging", [tag_set(tags)])


def invalid_tag(message: str, name: str, value: str | None = None) -> S3Error:
    details = {"TagKey": name}
    if value is not None:
        details["TagValue"] = value
    return DetailedError("InvalidTag", message, status=400, details=details)


def _allowed(text: str, most: int) -> bool:
    if len(text.encode("utf-16-le")) > 2 * most:
        return False
    return all(
        character in _ALLOWED_MARKS or unicodedata.category(character)[0] in _ALLOWED_CATEGORIES
        for character in text
    )


def _bad_header(text: str) -> S3Error:
    return invalid_argument(
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
        "parameters without tag name duplicates.",
        "x-amz-tagging",
        text,
    )
