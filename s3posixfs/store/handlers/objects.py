"""GetObject, HeadObject, PutObject, DeleteObject, DeleteObjects.

Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES
from s3posixfs.store import xml
from s3posixfs.store.backend.directory import OpenObject, PendingObject
from s3posixfs.store.backend.records import ALWAYS, Condition, ObjectFacts, ObjectRecord
from s3posixfs.store.errors import (
    access_denied,
    invalid_argument,
    invalid_request,
    key_too_long,
    no_such_key,
)
from s3posixfs.store.headers import (
    check_read_conditions,
    check_write_headers,
    delete_condition,
    kept_headers_of,
    metadata_of,
    object_headers,
    parse_range,
    range_still_meant,
    tags_of,
    write_condition,
)
from s3posixfs.store.lifecycle import expiration_headers
from s3posixfs.store.payload import Proven, claims_of
from s3posixfs.store.request import Request
from s3posixfs.store.response import FileBody, Headers, Response
from s3posixfs.store.service import Service

# Up to here an object is read by the thread that opened it and sent along with the head.
_INLINE_BYTES = 128 * 1024
_MAX_DELETED = 1000
# What stores with versions make up: 32 characters in AWS, a UUID in MinIO.
_VERSION_ID = re.compile(r"[A-Za-z0-9._-]{24,64}")

# Query parameters of GET and HEAD that set a header of the answer.
OVERRIDES: Mapping[str, str] = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}


def expiration(service: Service, bucket: str, record: ObjectRecord) -> Headers:
    """What the answer says of the lifecycle rule that will remove the object."""
    rules = service.configurations.lifecycle.of(bucket)
    return expiration_headers(rules, record, service.day_seconds) if rules else []


def missing_key(service: Service, request: Request, key: str) -> S3Error:
    """What to say of a key that is not there: who may not list the bucket may not know."""
    decision = service.authoriser.decide(
        request,
        "s3:ListBucket",
        f"arn:aws:s3:::{request.bucket}",
        bucket=request.bucket,
        noted=False,
    )
    return no_such_key(key) if decision.allowed else access_denied()


def open_existing(service: Service, request: Request) -> OpenObject:
    """The request's object, open; the caller closes it."""
    check_version(request)
    try:
        return service.backend.open_object(request.bucket, request.key)
    except S3Error as error:
        if error.code == "NoSuchKey":
            raise missing_key(service, request, request.key) from None
        raise


def check_version(request: Request) -> None:
    """Objects have no versions: the only version ID there is is ``null``."""
    require_null_version(request.query.get("versionId", "null"))


def require_null_version(version: str, argument: str = "versionId") -> None:
    """Raise NoSuchVersion for what may be a version's ID, InvalidArgument for what is none."""
    if version == "null":
        return
    if not version:
        raise invalid_argument("Version id cannot be the empty string", argument, version)
    if _VERSION_ID.fullmatch(version) is None:
        raise invalid_argument("Invalid version id specified", argument, version)
    raise S3Error("NoSuchVersion", "The specified version does not exist.", status=404)


def get_object(service: Service, request: Request) -> Response:
    """GetObject and HeadObject: ranges, parts, conditions, checksums, header overrides."""
    opened = open_existing(service, request)
    keep = False
    try:
        record = opened.record
        check_read_conditions(request.headers, record)
        headers = object_headers(record) + expiration(service, request.bucket, record)
        start, length, status = _wanted_range(request, record, headers)
        _override(request, headers)
        if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            if status == 200:
                headers += checksum_headers(record)
            elif "partNumber" in request.query:
                headers += _part_checksum(record, int(request.query["partNumber"]))
        if request.method == "HEAD":
            return Response(status, headers, length=length)
        if length <= _INLINE_BYTES:
            return Response(status, headers, _read(opened.fd, start, length))
        keep = True
        return Response(status, headers, file=FileBody(opened.fd, start, length, opened.close))
    finally:
        if not keep:
            opened.close()


def _read(fd: int, offset: int, length: int) -> bytes:
    data = os.pread(fd, length, offset) if length else b""
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise OSError("the file became shorter while it was read")
        data += more
    return data


def _wanted_range(request: Request, record: ObjectRecord, headers: Headers) -> tuple[int, int, int]:
    """Offset, length and status; adds the headers that say which part this is."""
    part = request.query.get("partNumber")
    text = request.headers.get("range")
    if not range_still_meant(request.headers, record):
        text = None
    if part is not None:
        if text is not None:
            raise invalid_request("Cannot specify both Range header and partNumber query parameter")
        found: tuple[int, int] | None = _part_range(record, part)
        if record.part_sizes is not None:
            headers.append(("x-amz-mp-parts-count", str(len(record.part_sizes))))
    else:
        found = parse_range(text, record.size) if text is not None else None
    if found is None:
        return 0, record.size, 200
    start, length = found
    if length:
        headers.append(("Content-Range", f"bytes {start}-{start + length - 1}/{record.size}"))
    return start, length, 206


def _part_range(record: ObjectRecord, text: str) -> tuple[int, int]:
    sizes = record.part_sizes or (record.size,)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= 10_000:
        raise invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive", "partNumber", text
        )
    number = int(text)
    if number > len(sizes):
        raise S3Error(
            "InvalidPartNumber", "The requested partnumber is not satisfiable", status=416
        )
    return sum(sizes[: number - 1]), sizes[number - 1]


def _override(request: Request, headers: Headers) -> None:
    for parameter, name in OVERRIDES.items():
        value = request.query.get(parameter)
        if value is None:
            continue
        if request.who.user is None:
            raise invalid_request(
                "Request specific response headers cannot be used for anonymous GET requests."
            )
        if not value.isprintable():
            raise invalid_argument("The value is not a header.", parameter)
        headers[:] = [pair for pair in headers if pair[0].lower() != name.lower()]
        headers.append((name, value))


def checksum_headers(record: ObjectRecord) -> Headers:
    """The stored checksums as headers."""
    headers: Headers = [
        (checksums.HEADER_NAMES[algorithm], value)
        for algorithm, value in record.checksums.items()
        if algorithm in checksums.HEADER_NAMES
    ]
    if headers:
        headers.append((checksums.HEADER_TYPE, record.checksum_type or checksums.FULL_OBJECT))
    return headers


def _part_checksum(record: ObjectRecord, number: int) -> Headers:
    """The checksum of one part of a composite one, as a header."""
    found = part_checksums(record)
    if found is None:
        return []
    algorithm, values = found
    return [
        (checksums.HEADER_NAMES[algorithm], values[number - 1]),
        (checksums.HEADER_TYPE, checksums.COMPOSITE),
    ]


def part_checksums(record: ObjectRecord) -> tuple[str, tuple[str, ...]] | None:
    """Algorithm and values (base64) of the parts' checksums, where they are known."""
    if not record.part_digests or len(record.checksums) != 1:
        return None
    (algorithm,) = record.checksums
    size = checksums.DIGEST_BYTES[algorithm]
    digests = record.part_digests
    values = tuple(
        base64.b64encode(digests[start : start + size]).decode("ascii")
        for start in range(0, len(digests), size)
    )
    return algorithm, values


def new_facts(request: Request) -> ObjectFacts:
    """The facts of an object that this request makes, as far as its head has them."""
    check_write_headers(request)
    caller = request.who
    return ObjectFacts(
        owner_id=caller.owner_id,
        owner=caller.owner,
        metadata=metadata_of(request),
        headers=kept_headers_of(request),
        tags=tags_of(request),
    )


async def put_object(service: Service, request: Request) -> Response:
    """PutObject: in one step, durable, and only if every claim about the body is true."""
    facts = new_facts(request)
    condition = write_condition(request)
    claims = claims_of(request)
    bucket, key = request.bucket, request.key

    def commit(pending: PendingObject, proven: Proven) -> tuple[ObjectRecord, Headers]:
        complete = replace(
            facts,
            etag=proven.etag,
            checksums=proven.checksums,
            checksum_type=checksums.FULL_OBJECT,
        )
        record = pending.commit(complete, condition)
        return record, expiration(service, bucket, record)

    record, expiring = await service.ingestor.receive(
        request, claims, partial(service.backend.begin_put, bucket, key), commit
    )
    return Response(200, [("ETag", f'"{record.etag}"'), *checksum_headers(record), *expiring])


def delete_object(service: Service, request: Request) -> Response:
    """DeleteObject: 204 also where there was none; If-Match is honoured."""
    check_version(request)
    headers = request.headers
    condition = delete_condition(
        headers.get("if-match"),
        headers.get("x-amz-if-match-size"),
        headers.get("x-amz-if-match-last-modified-time"),
    )
    _require_to_match(service, request, request.key, condition)
    service.backend.delete(request.bucket, request.key, condition)
    return Response(204)


def _require_to_match(service: Service, request: Request, key: str, condition: Condition) -> None:
    """To compare an ETag is to learn it, so it needs GetObject ("Conditional deletes")."""
    if condition.if_match not in (None, "*"):
        resource = f"arn:aws:s3:::{request.bucket}/{key}"
        service.authoriser.require(request, "s3:GetObject", resource, bucket=request.bucket)


def delete_objects(service: Service, request: Request) -> Response:
    """DeleteObjects: each key is authorised by itself; what is refused is in the answer."""
    service.backend.bucket(request.bucket)
    root = xml.parse(request.content, "Delete")
    quiet = False
    wanted: list[tuple[str, str, Condition]] = []
    for element in root:
        name = xml.local_name(element)
        if name == "Quiet":
            quiet = (element.text or "").strip().lower() == "true"
        elif name == "Object":
            fields = xml.children(element)
            unknown = fields.keys() - {"Key", "VersionId", "ETag", "Size", "LastModifiedTime"}
            if unknown or not fields.get("Key"):
                raise xml.malformed()
            condition = delete_condition(
                fields.get("ETag") or None, fields.get("Size"), fields.get("LastModifiedTime")
            )
            wanted.append((fields["Key"], fields.get("VersionId", ""), condition))
        else:
            raise xml.malformed()
    if not wanted or len(wanted) > _MAX_DELETED:
        raise xml.malformed()
    refused = _delete_all(service, request, wanted)
    parts: list[str] = []
    for key, version, _ in wanted:
        error = refused.get(key)
        target = xml.leaf("Key", key) + (xml.leaf("VersionId", version) if version else "")
        if error is not None:
            reason = xml.leaf("Code", error.code) + xml.leaf("Message", error.message)
            parts.append(f"<Error>{target}{reason}</Error>")
        elif not quiet:
            parts.append(f"<Deleted>{target}</Deleted>")
    return Response(200, [xml.XML_HEADERS], xml.document("DeleteResult", parts))


def _delete_all(
    service: Service, request: Request, wanted: Sequence[tuple[str, str, Condition]]
) -> dict[str, S3Error]:
    """Remove what may be removed; what may not or failed, by key."""
    refused: dict[str, S3Error] = {}
    together: list[str] = []
    for key, version, condition in wanted:
        try:
            resource = f"arn:aws:s3:::{request.bucket}/{key}"
            service.authoriser.require(request, "s3:DeleteObject", resource, bucket=request.bucket)
            if len(key.encode()) > MAX_KEY_BYTES:
                raise key_too_long(key)
            if version not in ("", "null"):
                raise S3Error("NoSuchVersion", "The specified version does not exist.", status=404)
            if condition != ALWAYS:
                _require_to_match(service, request, key, condition)
                service.backend.delete(request.bucket, key, condition)
            else:
                together.append(key)
        except S3Error as error:
            refused[key] = error
    refused.update(service.backend.delete_many(request.bucket, together))
    return refused
