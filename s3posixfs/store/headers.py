"""What request headers say of an object: metadata, kept headers, tags, conditions; and refusals.

Source: the S3 API reference, PutObject, CopyObject and "Conditional writes".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_USER_METADATA_BYTES
from s3posixfs.store.backend.records import KEPT_HEADERS, Condition, ObjectRecord
from s3posixfs.store.errors import DetailedError, invalid_argument, invalid_request, not_implemented
from s3posixfs.store.request import Request
from s3posixfs.store.response import Headers
from s3posixfs.store.tags import tags_of_header

_METADATA_PREFIX = "x-amz-meta-"
_NOT_BUILT = (
    "x-amz-bypass-governance-retention",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock",
    "x-amz-server-side-encryption",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
)
_HARMLESS_ACLS = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})
_CANNED_ACLS = _HARMLESS_ACLS | {
    "authenticated-read",
    "aws-exec-read",
    "log-delivery-write",
    "public-read",
    "public-read-write",
}
_DEFAULT_CONTENT_TYPE = "binary/octet-stream"


def check_write_headers(request: Request) -> None:
    """Refuse what a client asks of a write that this store would not do."""
    if asks_for_grants(request):
        raise no_acls()
    for name in request.headers:
        if not name.startswith("x-amz-"):
            continue
        if name.startswith(_NOT_BUILT):
            raise not_implemented(f"the header {name}")
    if request.headers.get("x-amz-storage-class", "STANDARD") != "STANDARD":
        raise S3Error(
            "InvalidStorageClass", "The storage class you specified is not valid.", status=400
        )


def no_acls() -> S3Error:
    return S3Error("AccessControlListNotSupported", "The bucket does not allow ACLs", status=400)


def asks_for_grants(request: Request) -> bool:
    """Whether a request wants a list of grants that is more than the owner's own.

    InvalidArgument for a canned one that S3 does not know, InvalidRequest for both kinds at once.
    """
    canned = request.headers.get("x-amz-acl")
    granting = any(name.startswith("x-amz-grant-") for name in request.headers)
    if canned is not None and canned not in _CANNED_ACLS:
        raise invalid_argument("", "x-amz-acl", canned)
    if canned is not None and granting:
        raise invalid_request("Specifying both Canned ACLs and Header Grants is not allowed")
    return granting or (canned is not None and canned not in _HARMLESS_ACLS)


def metadata_of(request: Request) -> dict[str, str]:
    """User metadata, keys in lower case without ``x-amz-meta-``; MetadataTooLarge over 2 KiB."""
    found: dict[str, str] = {}
    total = 0
    for name, value in request.headers.items():
        if name.startswith(_METADATA_PREFIX) and len(name) > len(_METADATA_PREFIX):
            key = name[len(_METADATA_PREFIX) :]
            found[key] = value
            total += len(key) + len(value.encode())
    if total > MAX_USER_METADATA_BYTES:
        raise DetailedError(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            status=400,
            details={"Size": str(total), "MaxSizeAllowed": str(MAX_USER_METADATA_BYTES)},
        )
    return found


def kept_headers_of(request: Request) -> dict[str, str]:
    """The headers that come back with the object."""
    kept = {name: value for name in KEPT_HEADERS if (value := request.headers.get(name))}
    encoding = kept.get("content-encoding")
    if encoding is not None:
        # aws-chunked describes the transfer, not the object.
        tokens = [token.strip() for token in encoding.split(",")]
        rest = ",".join(token for token in tokens if token and token.lower() != "aws-chunked")
        if rest:
            kept["content-encoding"] = rest
        else:
            del kept["content-encoding"]
    return kept


def tags_of(request: Request) -> dict[str, str]:
    """Tags of ``x-amz-tagging``; InvalidTag, InvalidArgument or BadRequest as S3 would say so."""
    return tags_of_header(request.headers.get("x-amz-tagging", ""))


def unquoted(etag: str) -> str:
    """An ETag of a condition as the backend has it; the quotes may be missing."""
    etag = etag.strip()
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else etag


def write_condition(request: Request) -> Condition:
    """The conditions of a write: If-None-Match takes only ``*``, as in S3."""
    none_match = request.headers.get("if-none-match")
    match = request.headers.get("if-match")
    if none_match is not None and none_match.strip() != "*":
        raise not_implemented("If-None-Match with a value other than * on a write")
    if none_match is not None and match is not None:
        raise invalid_request("If-Match and If-None-Match exclude each other.")
    return Condition(
        if_match=unquoted(match) if match is not None else None,
        if_none_match=none_match is not None,
    )


def delete_condition(etag: str | None, size: str | None, last_modified: str | None) -> Condition:
    """The conditions of a delete; InvalidArgument for a size or time that is none."""
    if size is not None and not (size.isascii() and size.isdigit() and len(size) < 16):
        raise invalid_argument("The size is not a whole number.", "x-amz-if-match-size", size)
    moment = parse_http_date(last_modified)
    if last_modified is not None and moment is None:
        name = "x-amz-if-match-last-modified-time"
        raise invalid_argument("The time is not an HTTP date.", name, last_modified)
    return Condition(
        if_match=unquoted(etag) if etag is not None else None,
        size=int(size) if size is not None else None,
        last_modified=moment,
    )


def http_date(seconds: float) -> str:
    """The date form of HTTP headers (RFC 9110, 5.6.7)."""
    return formatdate(int(seconds), usegmt=True)


def parse_http_date(text: str | None) -> float | None:
    """Seconds since the epoch; ``None`` where the date is missing or unreadable."""
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def check_read_conditions(headers: Mapping[str, str], record: ObjectRecord) -> None:
    """Raise PreconditionFailed (412) or NotModified (304) as RFC 9110, 13.2.2 orders them."""
    modified = float(int(record.last_modified))
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None:
        if not _matches(match, record.etag):
            raise precondition_failed("If-Match")
    else:
        limit = parse_http_date(headers.get("if-unmodified-since"))
        if limit is not None and modified > limit:
            raise precondition_failed("If-Unmodified-Since")
    if none_match is not None:
        if _matches(none_match, record.etag):
            raise _not_modified(record)
    else:
        since = parse_http_date(headers.get("if-modified-since"))
        if since is not None and since <= time.time() and modified <= since:
            raise _not_modified(record)


def check_copy_conditions(headers: Mapping[str, str], record: ObjectRecord) -> None:
    """The same for the source of a copy, where every failure is PreconditionFailed."""
    renamed = {
        name.removeprefix("x-amz-copy-source-"): value
        for name, value in headers.items()
        if name.startswith("x-amz-copy-source-if-")
    }
    if not renamed:
        return
    try:
        check_read_conditions(renamed, record)
    except S3Error as error:
        if error.status == 304:
            raise precondition_failed("x-amz-copy-source-If-None-Match") from None
        raise


def _matches(given: str, etag: str) -> bool:
    candidates = (part.strip().removeprefix("W/") for part in given.split(","))
    return given.strip() == "*" or any(unquoted(candidate) == etag for candidate in candidates)


def precondition_failed(condition: str) -> S3Error:
    """412, naming the condition that did not hold."""
    return DetailedError(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        status=412,
        details={"Condition": condition},
    )


def _not_modified(record: ObjectRecord) -> S3Error:
    return DetailedError(
        "NotModified",
        "Not Modified",
        status=304,
        headers=[
            ("ETag", f'"{record.etag}"'),
            ("Last-Modified", http_date(record.last_modified)),
        ],
    )


def object_headers(record: ObjectRecord) -> Headers:
    """What GET and HEAD say of an object besides its length."""
    headers: Headers = [
        ("ETag", f'"{record.etag}"'),
        ("Last-Modified", http_date(record.last_modified)),
        ("Accept-Ranges", "bytes"),
        ("x-s3posixfs-owner", record.owner_id),
    ]
    if "content-type" not in record.headers:
        headers.append(("Content-Type", _DEFAULT_CONTENT_TYPE))
    headers += record.headers.items()
    headers += ((_METADATA_PREFIX + name, value) for name, value in record.metadata.items())
    if record.tags:
        headers.append(("x-amz-tagging-count", str(len(record.tags))))
    return headers


def range_still_meant(headers: Mapping[str, str], record: ObjectRecord) -> bool:
    """Whether ``If-Range`` lets a Range count: only for the very same object (RFC 9110, 13.1.5)."""
    validator = headers.get("if-range", "").strip()
    if not validator:
        return True
    if validator.startswith('"'):
        return unquoted(validator) == record.etag
    return parse_http_date(validator) == float(int(record.last_modified))


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """First byte and length of a ``Range``; ``None`` where it is to be ignored (RFC 9110, 14.2).

    S3 serves one range; several are answered with the whole object. InvalidRange (416) where
    no byte of the object is in it.
    """
    unit, equals, spec = text.partition("=")
    if not equals or unit.strip().lower() != "bytes" or "," in spec:
        return None
    first_text, dash, last_text = spec.partition("-")
    if not dash or not (first_text or last_text):
        return None
    if any(part and not (part.isascii() and part.isdigit()) for part in (first_text, last_text)):
        return None
    if not first_text:
        length = min(int(last_text), size)
        if length == 0:
            raise _invalid_range(text, size)
        return size - length, length
    first = int(first_text)
    last = int(last_text) if last_text else size - 1
    if last_text and last < first:
        return None
    if first >= size:
        raise _invalid_range(text, size)
    return first, min(last, size - 1) - first + 1


def _invalid_range(text: str, size: int) -> S3Error:
    return DetailedError(
        "InvalidRange",
        "The requested range is not satisfiable",
        status=416,
        details={"RangeRequested": text, "ActualObjectSize": str(size)},
        headers=[("Content-Range", f"bytes */{size}")],
    )


def whole_number(request: Request, name: str, default: int, most: int) -> int:
    """A count among the query parameters, at most ``most``; InvalidArgument for anything else."""
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > 2**31 - 1:
        raise invalid_argument(
            f"Argument {name} must be an integer between 0 and 2147483647", name, text
        )
    return min(int(text), most)
