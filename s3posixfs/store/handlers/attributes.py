"""GetObjectAttributes: what is known of an object, chosen by name, with its parts by the page.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html
"""

from __future__ import annotations

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.backend.records import ObjectRecord
from s3posixfs.store.errors import invalid_argument, invalid_request
from s3posixfs.store.handlers.copying import checksum_elements
from s3posixfs.store.handlers.objects import open_existing, part_checksums
from s3posixfs.store.headers import http_date
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

_NAMES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
_HEADER = "x-amz-object-attributes"
_MAX_PARTS = 1000


def get_object_attributes(service: Service, request: Request) -> Response:
    """GetObjectAttributes; needs GetObject as well (its own action was asked before)."""
    service.authoriser.require(request, "s3:GetObject", request.resource, bucket=request.bucket)
    wanted = _wanted(request)
    opened = open_existing(service, request)
    opened.close()
    record = opened.record
    parts: list[str] = []
    if "ETag" in wanted:
        parts.append(xml.leaf("ETag", record.etag))
    if "Checksum" in wanted and (found := checksum_elements(record)):
        parts.append(f"<Checksum>{''.join(found)}</Checksum>")
    if "ObjectParts" in wanted and record.part_sizes is not None:
        parts.append(_object_parts(request, record, record.part_sizes))
    if "StorageClass" in wanted:
        parts.append(xml.leaf("StorageClass", "STANDARD"))
    if "ObjectSize" in wanted:
        parts.append(xml.leaf("ObjectSize", record.size))
    headers = [xml.XML_HEADERS, ("Last-Modified", http_date(record.last_modified))]
    return Response(200, headers, xml.document("GetObjectAttributesResponse", parts))


def _wanted(request: Request) -> frozenset[str]:
    text = request.headers.get(_HEADER, "")
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise invalid_request(
            "The x-amz-object-attributes header specifying the attributes to be retrieved is "
            "either missing or empty"
        )
    for name in names:
        if name not in _NAMES:
            raise invalid_argument("Invalid attribute name specified.", _HEADER, name)
    return frozenset(names)


def _number(request: Request, name: str, default: int) -> int:
    text = request.headers.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise _bad_number(name, text)
    return int(text)


def _bad_number(name: str, text: str) -> S3Error:
    message = f"Argument {name} must be an integer between 0 and 2147483647"
    return invalid_argument(message, name, text)


def _object_parts(request: Request, record: ObjectRecord, sizes: tuple[int, ...]) -> str:
    most = min(_number(request, "x-amz-max-parts", _MAX_PARTS), _MAX_PARTS)
    after = _number(request, "x-amz-part-number-marker", 0)
    known = part_checksums(record)
    page = range(after + 1, min(after + most, len(sizes)) + 1)
    rows = [
        xml.leaf("PartsCount", len(sizes)),
        xml.leaf("PartNumberMarker", after),
        xml.leaf("NextPartNumberMarker", page[-1] if page else 0),
        xml.leaf("MaxParts", most),
        xml.leaf("IsTruncated", bool(page) and page[-1] < len(sizes)),
    ]
    for number in page:
        checksum = ""
        if known is not None:
            checksum = xml.leaf(f"Checksum{known[0].upper()}", known[1][number - 1])
        fields = (
            xml.leaf("PartNumber", number),
            xml.leaf("Size", sizes[number - 1]),
            checksum,
        )
        rows.append(f"<Part>{''.join(fields)}</Part>")
    return f"<ObjectParts>{''.join(rows)}</ObjectParts>"
