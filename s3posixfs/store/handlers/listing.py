"""ListBuckets, ListObjects and ListObjectsV2.

Source: the S3 API reference, the pages of these operations; ``metadata=true`` is MinIO's
extension of ListObjectsV2.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.backend.records import Listing, ObjectRecord
from s3posixfs.store.errors import invalid_argument
from s3posixfs.store.headers import whole_number
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

MAX_KEYS = 1000
MAX_BUCKETS = 10_000
BUCKET_PARAMETERS = frozenset({"prefix", "max-buckets", "continuation-token", "bucket-region"})
_TOKEN_MARK = b"1:"
_XML_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

Encode = Callable[[str], str]


def owner_element(name: str, tag: str = "Owner") -> str:
    """An ``<Owner>``: users are their own display name."""
    text = xml.escape(name)
    return f"<{tag}><ID>{text}</ID><DisplayName>{text}</DisplayName></{tag}>"


def list_buckets(service: Service, request: Request) -> Response:
    """ListBuckets: all of them, by name; ``prefix``, ``max-buckets`` and paging as in S3."""
    prefix = request.query.get("prefix", "")
    most = _max_buckets(request)
    after = _token(request)
    buckets = sorted(service.backend.list_buckets(), key=lambda bucket: bucket.name)
    buckets = [b for b in buckets if b.name.startswith(prefix) and b.name > after]
    if request.query.get("bucket-region", service.region) != service.region:
        buckets = []
    page = buckets[:most]
    asked = not BUCKET_PARAMETERS.isdisjoint(request.query)
    region = xml.leaf("BucketRegion", service.region) if asked else ""
    rows = [
        f"<Bucket><Name>{xml.escape(bucket.name)}</Name>"
        f"<CreationDate>{xml.iso_time(bucket.created)}</CreationDate>{region}</Bucket>"
        for bucket in page
    ]
    parts = [owner_element(request.who.owner_id), f"<Buckets>{''.join(rows)}</Buckets>"]
    if len(buckets) > len(page) and page:
        parts.append(xml.leaf("ContinuationToken", _make_token(page[-1].name)))
    if prefix:
        parts.append(xml.leaf("Prefix", prefix))
    return Response(200, [xml.XML_HEADERS], xml.document("ListAllMyBucketsResult", parts))


def _max_buckets(request: Request) -> int:
    text = request.query.get("max-buckets", str(MAX_BUCKETS))
    if text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_BUCKETS:
        return int(text)
    message = f"Argument max-buckets must be an integer between 1 and {MAX_BUCKETS}"
    raise invalid_argument(message, "max-buckets", text)


def encoding_of(request: Request) -> Encode:
    """How keys are written: ``encoding-type=url`` or plainly escaped."""
    encoding = request.query.get("encoding-type")
    if encoding is None:
        return xml.escape
    if encoding != "url":
        raise invalid_argument(
            "Invalid Encoding Method specified in Request", "encoding-type", encoding
        )
    return xml.url_encoded


def list_objects_v2(service: Service, request: Request) -> Response:
    """ListObjectsV2, with owners on ``fetch-owner=true`` and metadata on ``metadata=true``."""
    query = request.query
    encode = encoding_of(request)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = whole_number(request, "max-keys", MAX_KEYS, MAX_KEYS)
    start_after = query.get("start-after", "")
    token = query.get("continuation-token")
    after = _token(request) if token is not None else start_after
    with_metadata = query.get("metadata") == "true"
    with_owner = query.get("fetch-owner", "").lower() == "true" or query.get("metadata") == "true"
    page = _page(service, request, prefix, delimiter, after, most)
    parts = [
        xml.leaf("Name", request.bucket),
        f"<Prefix>{encode(prefix)}</Prefix>",
        xml.leaf("KeyCount", len(page.objects) + len(page.prefixes)),
        xml.leaf("MaxKeys", most),
        xml.leaf("IsTruncated", page.truncated),
    ]
    if delimiter:
        parts.append(f"<Delimiter>{encode(delimiter)}</Delimiter>")
    if start_after:
        parts.append(f"<StartAfter>{encode(start_after)}</StartAfter>")
    if token is not None:
        parts.append(xml.leaf("ContinuationToken", token))
    if page.truncated:
        parts.append(xml.leaf("NextContinuationToken", _make_token(page.next_after)))
    if "encoding-type" in query:
        parts.append(xml.leaf("EncodingType", "url"))
    readable = _readable(service, request, page, prefix) if with_metadata else frozenset()
    parts += _rows(page, encode, with_owner=with_owner, readable=readable)
    headers = [xml.XML_HEADERS, ("x-amz-bucket-region", service.region)]
    return Response(200, headers, xml.document("ListBucketResult", parts))


def list_objects(service: Service, request: Request) -> Response:
    """ListObjects (version 1): markers instead of tokens, always with owners."""
    query = request.query
    encode = encoding_of(request)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = whole_number(request, "max-keys", MAX_KEYS, MAX_KEYS)
    marker = query.get("marker", "")
    page = _page(service, request, prefix, delimiter, marker, most)
    parts = [
        xml.leaf("Name", request.bucket),
        f"<Prefix>{encode(prefix)}</Prefix>",
        f"<Marker>{encode(marker)}</Marker>",
        xml.leaf("MaxKeys", most),
        xml.leaf("IsTruncated", page.truncated),
    ]
    if delimiter:
        parts.append(f"<Delimiter>{encode(delimiter)}</Delimiter>")
        if page.truncated:
            parts.append(f"<NextMarker>{encode(page.next_after)}</NextMarker>")
    if "encoding-type" in query:
        parts.append(xml.leaf("EncodingType", "url"))
    parts += _rows(page, encode, with_owner=True, readable=frozenset())
    headers = [xml.XML_HEADERS, ("x-amz-bucket-region", service.region)]
    return Response(200, headers, xml.document("ListBucketResult", parts))


def list_object_versions(service: Service, request: Request) -> Response:
    """ListObjectVersions: of each object there is one version, ``null``, and it is the latest."""
    query = request.query
    encode = encoding_of(request)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most = whole_number(request, "max-keys", MAX_KEYS, MAX_KEYS)
    key_marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    if version_marker and not key_marker:
        raise invalid_argument(
            "A version-id marker cannot be specified without a key marker.",
            "version-id-marker",
            version_marker,
        )
    if version_marker not in ("", "null"):
        raise invalid_argument("Invalid version id specified", "version-id-marker", version_marker)
    page = _page(service, request, prefix, delimiter, key_marker, most)
    parts = [
        xml.leaf("Name", request.bucket),
        f"<Prefix>{encode(prefix)}</Prefix>",
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>",
        xml.leaf("VersionIdMarker", version_marker),
    ]
    if page.truncated:
        parts.append(f"<NextKeyMarker>{encode(page.next_after)}</NextKeyMarker>")
        if page.objects and page.objects[-1].key == page.next_after:
            parts.append(xml.leaf("NextVersionIdMarker", "null"))
    parts.append(xml.leaf("MaxKeys", most))
    if delimiter:
        parts.append(f"<Delimiter>{encode(delimiter)}</Delimiter>")
    if "encoding-type" in query:
        parts.append(xml.leaf("EncodingType", "url"))
    parts.append(xml.leaf("IsTruncated", page.truncated))
    parts += (
        f"<Version><Key>{encode(record.key)}</Key><VersionId>null</VersionId>"
        f"<IsLatest>true</IsLatest>"
        f"<LastModified>{xml.iso_time(record.last_modified)}</LastModified>"
        f"<ETag>&quot;{record.etag}&quot;</ETag>{_checksum(record)}<Size>{record.size}</Size>"
        f"{owner_element(record.owner_id)}<StorageClass>STANDARD</StorageClass></Version>"
        for record in page.objects
    )
    parts += _prefixes(page, encode)
    return Response(200, [xml.XML_HEADERS], xml.document("ListVersionsResult", parts))


def _prefixes(page: Listing, encode: Encode) -> list[str]:
    return [
        f"<CommonPrefixes><Prefix>{encode(prefix)}</Prefix></CommonPrefixes>"
        for prefix in page.prefixes
    ]


def _page(
    service: Service, request: Request, prefix: str, delimiter: str, after: str, most: int
) -> Listing:
    return service.backend.list(
        request.bucket, prefix=prefix, delimiter=delimiter, start_after=after, max_keys=most
    )


def _readable(
    service: Service, request: Request, page: Listing, prefix: str
) -> frozenset[str] | None:
    """The keys whose metadata the caller could have had from HeadObject; None: all of them."""
    judge = service.authoriser.judge(request, "s3:GetObject", bucket=request.bucket)
    start = f"arn:aws:s3:::{request.bucket}/"
    if judge.is_alike_below(start + prefix):
        return None if judge.decide(start + prefix).allowed else frozenset()
    return frozenset(
        record.key
        for record in page.objects
        if judge.decide(start + record.key, record.tags).allowed
    )


def _rows(
    page: Listing, encode: Encode, *, with_owner: bool, readable: frozenset[str] | None
) -> list[str]:
    kinds = [
        f"{encode.__name__} {with_owner:d} {with_metadata:d}" for with_metadata in (False, True)
    ]
    rows: list[str] = []
    for record in page.objects:
        with_metadata = readable is None or record.key in readable
        kind = kinds[with_metadata]
        row = record.rows.get(kind)
        if row is None:
            row = _row(record, encode, with_owner=with_owner, with_metadata=with_metadata)
            record.rows[kind] = row
        rows.append(row)
    return rows + _prefixes(page, encode)


def _row(record: ObjectRecord, encode: Encode, *, with_owner: bool, with_metadata: bool) -> str:
    owner = owner_element(record.owner_id) if with_owner else ""
    metadata = _metadata(record) if with_metadata else ""
    return (
        f"<Contents><Key>{encode(record.key)}</Key>"
        f"<LastModified>{xml.iso_time(record.last_modified)}</LastModified>"
        f"<ETag>&quot;{record.etag}&quot;</ETag>{_checksum(record)}<Size>{record.size}</Size>"
        f"{owner}<StorageClass>STANDARD</StorageClass>{metadata}</Contents>"
    )


def _checksum(record: ObjectRecord) -> str:
    algorithms = "".join(
        f"<ChecksumAlgorithm>{algorithm.upper()}</ChecksumAlgorithm>"
        for algorithm in record.checksums
    )
    if not algorithms:
        return ""
    return f"{algorithms}<ChecksumType>{record.checksum_type or 'FULL_OBJECT'}</ChecksumType>"


def _metadata(record: ObjectRecord) -> str:
    """MinIO's ``<UserMetadata>``; a name that can't be an XML name is left out."""
    parts = [
        f"<{name}>{xml.escape(value)}</{name}>"
        for name, value in (
            ("content-type", record.headers.get("content-type", "binary/octet-stream")),
            *((_title(f"x-amz-meta-{key}"), value) for key, value in record.metadata.items()),
        )
        if _XML_NAME.fullmatch(name) is not None
    ]
    return f"<UserMetadata>{''.join(parts)}</UserMetadata>"


def _title(name: str) -> str:
    return "-".join(part[:1].upper() + part[1:] for part in name.split("-"))


def _make_token(after: str) -> str:
    return base64.urlsafe_b64encode(_TOKEN_MARK + after.encode()).decode("ascii")


def _token(request: Request) -> str:
    text = request.query.get("continuation-token", "")
    if not text:
        return ""
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
        if not data.startswith(_TOKEN_MARK):
            raise ValueError
        return data[len(_TOKEN_MARK) :].decode("utf-8")
    except (binascii.Error, ValueError):
        raise _bad_token(text) from None


def _bad_token(text: str) -> S3Error:
    return invalid_argument(
        "The continuation token provided is incorrect", "continuation-token", text
    )
