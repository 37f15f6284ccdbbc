"""S3's XML: read with a parser that resolves nothing, written by hand.

No DTD, no entity but XML's own five, no network. Element names are matched without their
namespace, as stores differ in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from lxml import etree

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import BucketStat, ListPage, ObjectStat, Owner, PartResult
from s3posixfs.s3 import listing_rows

# 1,000 keys of 1 KiB percent-encoded, each with 2 KiB of metadata, fit.
MAX_XML_BYTES = 16 * 1024 * 1024

_META_PREFIX = "x-amz-meta-"
# What XML 1.0 cannot hold, not even as a character reference.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IMPOSSIBLE = re.compile(
    rb"&#(?:[xX]0*(?:[0-8bcefBCEF]|1[0-9a-fA-F])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));"
)


def parse(data: bytes | memoryview) -> Any:
    """The root element. Raises S3Error (InvalidResponse) for what is not plain, whole XML."""
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    # White space may come first: a store sends it while it is still at work.
    text = bytes(data).lstrip()
    # Before the parser sees it; after, for encodings in which this does not find it.
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise S3Error("InvalidResponse", "the store's XML has a document type")
    try:
        root = etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise S3Error("InvalidResponse", "the store's XML cannot be read") from None
    tree: Any = root.getroottree()
    if tree.docinfo.doctype:
        raise S3Error("InvalidResponse", "the store's XML has a document type")
    return root


def local_name(element: Any) -> str:
    """The element's name without its namespace."""
    tag = element.tag
    return tag[tag.rfind("}") + 1 :] if isinstance(tag, str) else ""


def fields(element: Any) -> dict[str, str]:
    """The text of each child by local name (the last of equal ones; empty is "")."""
    return {local_name(child): child.text or "" for child in element}


def children(element: Any, name: str) -> Iterator[Any]:
    """The children called ``name``."""
    return (child for child in element if local_name(child) == name)


def unquote_etag(text: str) -> str:
    """An ETag without its quotes, and without the mark of a weak one."""
    return text.removeprefix("W/").strip('"')


def parse_time(text: str) -> float:
    """Whole seconds since the epoch of an ISO 8601 time; 0.0 where there is none to be read.

    Whole, because HEAD and GET say no more: an object's time must not change with the question.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return float((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1)


def _int(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise S3Error("InvalidResponse", f"{what} is {text[:40]!r}")
    return int(text)


def _decoded(text: str) -> str:
    if "%" in text or "+" in text:
        return unquote_plus(text, errors="surrogateescape")
    return text


def parse_listing(data: bytes | memoryview) -> ListPage:
    """One ListObjectsV2 answer.

    Ceph RGW repeats the prefix that was asked for as it was, with references to control characters
    that XML 1.0 knows no spelling of. Keys and common prefixes come URL-encoded and have none.
    """
    text = bytes(data)
    legal = _IMPOSSIBLE.sub(b"?", text)
    root, rows = _rows(legal)
    encoded = False
    truncated = False
    token: str | None = None
    prefixes: list[str] = []
    namespace = root.tag[: root.tag.rfind("}") + 1]
    common = f"{namespace}CommonPrefixes"
    for child in root:
        if child.tag == common:
            prefixes.append(fields(child).get("Prefix", ""))
            continue
        name = child.tag[len(namespace) :]
        if name == "IsTruncated":
            truncated = (child.text or "").strip() == "true"
        elif name == "NextContinuationToken":
            token = child.text or None
        elif name == "EncodingType":
            encoded = (child.text or "") == "url"
    if legal != text and not encoded:
        raise S3Error("InvalidResponse", "the store's XML has control characters in keys")
    if truncated and token is None:
        raise S3Error("InvalidResponse", "a listing that goes on has no continuation token")
    objects = _objects(rows, encoded)
    if encoded:
        prefixes = [_decoded(prefix) for prefix in prefixes]
    return ListPage(objects, tuple(prefixes), token if truncated else None)


_Stated = tuple[dict[str, str], str | None]  # user metadata, content type


def _rows(data: bytes) -> tuple[Any, list[tuple[listing_rows.Cells, _Stated | None]]]:
    """The root of a listing, and of each of its rows the cells and the metadata."""
    found = listing_rows.cut(data)
    if found is not None:
        rows, rest = found
        root = parse(rest)
        encoding = root.getroottree().docinfo.encoding or "UTF-8"
        # Rows of which something was around are none: a comment, another element.
        if len(_listed(root)) == 1 and encoding.upper() in ("UTF-8", "US-ASCII", "ASCII"):
            stated: dict[str, _Stated | None] = {"": None}
            for row in rows:
                if row[8] not in stated:
                    stated[row[8]] = _stated(listing_rows.pairs(row[8]))
            return root, [(row, stated[row[8]]) for row in rows]
    root = parse(data)
    return root, [_row(element) for element in _listed(root)]


def _listed(root: Any) -> list[Any]:
    if local_name(root) != "ListBucketResult":
        raise S3Error("InvalidResponse", f"a listing was asked for, not {local_name(root)!r}")
    namespace = root.tag[: root.tag.rfind("}") + 1]
    return list(root.iterchildren(f"{namespace}Contents"))


def _row(contents: Any) -> tuple[listing_rows.Cells, _Stated | None]:
    """A row of the document, with the cells that ``listing_rows.cut`` has."""
    cells: dict[str, str] = {}
    stated: _Stated | None = None
    for cell in contents:
        name = local_name(cell)
        if name == "Owner":
            cells.update(fields(cell))
        elif name == "UserMetadata":
            stated = _stated(fields(cell).items())
        else:
            cells[name] = cell.text or ""
    for name in ("Key", "LastModified", "Size"):
        if name not in cells:
            raise S3Error("InvalidResponse", f"a listed object has no {name}")
    row = (cells["Key"], cells["LastModified"], cells.get("ETag", ""), cells["Size"])
    owner = (cells.get("ID", ""), cells.get("DisplayName", ""))
    return (*row, cells.get("StorageClass", ""), *owner, "", ""), stated


def _stated(pairs: Iterable[tuple[str, str]]) -> _Stated:
    metadata: dict[str, str] = {}
    content_type: str | None = None
    for name, text in pairs:
        name = name.lower()
        if name.startswith(_META_PREFIX):
            metadata[name[len(_META_PREFIX) :]] = text
        elif name == "content-type":
            content_type = text or None
    return metadata, content_type


def _objects(
    rows: Iterable[tuple[listing_rows.Cells, _Stated | None]], encoded: bool
) -> tuple[ObjectStat, ...]:
    owners: dict[tuple[str, str], Owner] = {}
    objects: list[ObjectStat] = []
    for cells, stated in rows:
        key, modified, etag, size, storage, identifier, display, storage_after, _, *_ = cells
        owner: Owner | None = None
        if identifier:
            owner = owners.get((identifier, display))
            if owner is None:
                owner = owners[identifier, display] = Owner(identifier, display)
        metadata, content_type = stated if stated is not None else (None, None)
        objects.append(
            ObjectStat(
                _decoded(key) if encoded else key,
                _int(size, "a listed object's size"),
                unquote_etag(etag),
                parse_time(modified),
                owner,
                metadata,
                content_type,
                storage or storage_after or None,
            )
        )
    return tuple(objects)


def parse_buckets(data: bytes | memoryview) -> tuple[BucketStat, ...]:
    """A ListBuckets answer."""
    found = []
    for holder in children(parse(data), "Buckets"):
        for bucket in children(holder, "Bucket"):
            values = fields(bucket)
            found.append(
                BucketStat(values.get("Name", ""), parse_time(values.get("CreationDate", "")))
            )
    return tuple(found)


def parse_fields(data: bytes | memoryview, expected: str) -> dict[str, str]:
    """The fields of an answer whose root is ``expected``.

    Raises S3Error for an ``<Error>`` document, which S3 may send with status 200, too.
    """
    root = parse(data)
    values = fields(root)
    name = local_name(root)
    if name == "Error":
        raise error_of(values, 200)
    if name != expected:
        raise S3Error("InvalidResponse", f"{expected} was asked for, not {name!r}")
    return values


def error_of(values: Mapping[str, str], status: int) -> S3Error:
    """The S3Error that an ``<Error>`` element describes."""
    return S3Error(
        values.get("Code", "") or "InvalidResponse",
        values.get("Message", ""),
        status=status,
        request_id=values.get("RequestId", ""),
        resource=values.get("Key", "") or values.get("Resource", ""),
    )


def parse_error(data: bytes | memoryview) -> dict[str, str]:
    """The fields of an ``<Error>`` answer, also within STS's ``<ErrorResponse>``; else empty."""
    try:
        root = parse(data)
    except S3Error:
        return {}
    if local_name(root) == "ErrorResponse":
        root = next(children(root, "Error"), root)
    return fields(root) if local_name(root) == "Error" else {}


def parse_deleted(data: bytes | memoryview) -> dict[str, S3Error]:
    """What a DeleteObjects answer says was refused, by key."""
    root = parse(data)
    if local_name(root) == "Error":
        raise error_of(fields(root), 200)
    if local_name(root) != "DeleteResult":
        raise S3Error("InvalidResponse", f"DeleteResult was asked for, not {local_name(root)!r}")
    refused = {}
    for element in children(root, "Error"):
        values = fields(element)
        status = 403 if values.get("Code") == "AccessDenied" else 200
        refused[values.get("Key", "")] = error_of(values, status)
    return refused


def fits_xml(key: str) -> bool:
    """Whether XML 1.0 can carry the key at all."""
    return _NOT_XML.search(key) is None


def delete_document(keys: Sequence[str]) -> bytes:
    """The body of DeleteObjects, asking to be told of failures only."""
    rows = "".join([f"<Object><Key>{_text(key)}</Key></Object>" for key in keys])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{rows}<Quiet>true</Quiet></Delete>"
    ).encode()


def complete_document(parts: Sequence[PartResult]) -> bytes:
    """The body of CompleteMultipartUpload."""
    rows = "".join(
        [
            f"<Part><PartNumber>{part.number}</PartNumber>"
            f"<ETag>&quot;{escape(part.etag)}&quot;</ETag></Part>"
            for part in parts
        ]
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{rows}</CompleteMultipartUpload>"
    ).encode()


def location_document(region: str) -> bytes:
    """The body of CreateBucket in a region that is not the default one."""
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{escape(region)}</LocationConstraint>"
        "</CreateBucketConfiguration>"
    ).encode()


def _text(key: str) -> str:
    # A bare carriage return would be read back as a line feed.
    return escape(key, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})
