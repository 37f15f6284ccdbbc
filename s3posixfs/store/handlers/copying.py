"""CopyObject, and the source that UploadPartCopy shares with it.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.backend.directory import OpenObject
from s3posixfs.store.backend.records import Condition, ObjectFacts, ObjectRecord
from s3posixfs.store.errors import access_denied, invalid_argument, invalid_request, no_such_key
from s3posixfs.store.handlers.buckets import require_owner
from s3posixfs.store.handlers.objects import expiration, new_facts, require_null_version
from s3posixfs.store.handlers.tagging import tag_context
from s3posixfs.store.headers import check_copy_conditions, write_condition
from s3posixfs.store.payload import requested_algorithm, too_large
from s3posixfs.store.request import Request, check_bucket_name, decode_path, parse_query
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

MAX_COPY_BYTES = 5 * 1024 * 1024 * 1024
_HASHED_BYTES = 1024 * 1024
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def open_source(service: Service, request: Request) -> tuple[str, str, OpenObject]:
    """Bucket, key and open object of ``x-amz-copy-source``, if the caller may read it.

    The conditions on the source have been checked. The caller closes it.
    """
    text = request.headers["x-amz-copy-source"]
    path, _, query = text.partition("?")
    if _BROKEN_ESCAPE.search(path):
        raise invalid_argument("Invalid copy source encoding", "x-amz-copy-source", text)
    version = parse_query(query).get("versionId", "null") if query else "null"
    try:
        source = decode_path(path.encode())
    except S3Error:
        message = "Invalid copy source encoding"
        raise invalid_argument(message, "x-amz-copy-source", text) from None
    bucket, slash, key = source.removeprefix("/").partition("/")
    if not slash or not key:
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            "x-amz-copy-source",
            text,
        )
    if not _is_bucket_name(bucket):
        raise invalid_argument("Invalid copy source bucket name", "x-amz-copy-source", text)
    resource = f"arn:aws:s3:::{bucket}/{key}"
    service.authoriser.require(request, "s3:GetObject", resource, bucket=bucket)
    require_owner(service, request, "x-amz-source-expected-bucket-owner", bucket)
    require_null_version(version)
    try:
        opened = service.backend.open_object(bucket, key)
    except S3Error as error:
        if error.code != "NoSuchKey":
            raise
        listing = service.authoriser.decide(
            request, "s3:ListBucket", f"arn:aws:s3:::{bucket}", bucket=bucket, noted=False
        )
        raise (no_such_key(key) if listing.allowed else access_denied()) from None
    try:
        check_copy_conditions(request.headers, opened.record)
    except BaseException:
        opened.close()
        raise
    return bucket, key, opened


def _is_bucket_name(name: str) -> bool:
    try:
        check_bucket_name(name)
    except S3Error:
        return False
    return True


def _directive(request: Request, name: str) -> str:
    value = request.headers.get(name, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        kind = name.removeprefix("x-amz-").removesuffix("-directive")
        raise invalid_argument(f"Unknown {kind} directive.", name, value)
    return value


def copy_object(service: Service, request: Request) -> Response:
    """CopyObject: the copy belongs to who makes it; onto itself only the facts change."""
    fresh = new_facts(request)
    replacing = _directive(request, "x-amz-metadata-directive") == "REPLACE"
    retagging = _directive(request, "x-amz-tagging-directive") == "REPLACE"
    algorithm = requested_algorithm(request)
    condition = write_condition(request)
    bucket, key, source = open_source(service, request)
    try:
        record = source.record
        onto_itself = (bucket, key) == (request.bucket, request.key)
        if onto_itself and not (replacing or retagging or algorithm):
            raise invalid_request(
                "This copy request is illegal because it is trying to copy an object to itself "
                "without changing the object's metadata, storage class, website redirect location "
                "or encryption attributes."
            )
        if record.size > MAX_COPY_BYTES:
            raise too_large(record.size)
        if record.tags and not retagging:
            _require_tags(service, request, (bucket, key), record.tags)
        facts = replace(
            fresh,
            metadata=fresh.metadata if replacing else record.metadata,
            headers=fresh.headers if replacing else record.headers,
            tags=fresh.tags if retagging else record.tags,
        )
        made = _store(
            service, request, source, facts, algorithm, onto_itself=onto_itself, condition=condition
        )
    finally:
        source.close()
    parts = [
        xml.leaf("LastModified", xml.iso_time(made.last_modified)),
        xml.leaf("ETag", f'"{made.etag}"'),
        *checksum_elements(made),
    ]
    headers = [xml.XML_HEADERS, *expiration(service, request.bucket, made)]
    return Response(200, headers, xml.document("CopyObjectResult", parts))


def _require_tags(
    service: Service, request: Request, source: tuple[str, str], tags: Mapping[str, str]
) -> None:
    """Copying tags is reading them there and writing them here."""
    bucket, key = source
    service.authoriser.require(
        request, "s3:GetObjectTagging", f"arn:aws:s3:::{bucket}/{key}", bucket=bucket
    )
    service.authoriser.require(
        request,
        "s3:PutObjectTagging",
        request.resource,
        bucket=request.bucket,
        extra=tag_context(tags),
    )


def _store(
    service: Service,
    request: Request,
    source: OpenObject,
    facts: ObjectFacts,
    algorithm: str | None,
    *,
    onto_itself: bool,
    condition: Condition,
) -> ObjectRecord:
    record = source.record
    known = record.checksums.get(algorithm or "")
    if algorithm is not None and (known is None or record.checksum_type == checksums.COMPOSITE):
        value = hash_range(source.fd, 0, record.size, algorithm)
        facts = replace(
            facts,
            etag=record.etag,
            part_sizes=record.part_sizes,
            checksums={algorithm: value},
            checksum_type=checksums.FULL_OBJECT,
        )
    elif onto_itself:
        return service.backend.set_metadata(request.bucket, request.key, facts, condition)
    return service.backend.copy(source, request.bucket, request.key, facts, condition)


def hash_range(fd: int, offset: int, length: int, algorithm: str) -> str:
    """The checksum (base64; hex for md5) of a range of an open file."""
    checksum = checksums.create(algorithm)
    end = offset + length
    while offset < end:
        data = os.pread(fd, min(_HASHED_BYTES, end - offset), offset)
        if not data:
            raise OSError("the file became shorter while it was read")
        checksum.update(data)
        offset += len(data)
    return checksum.digest().hex() if algorithm == "md5" else checksum.b64()


def checksum_elements(record: ObjectRecord) -> list[str]:
    """The stored checksums as XML elements."""
    parts = [
        xml.leaf(f"Checksum{algorithm.upper()}", value)
        for algorithm, value in record.checksums.items()
        if algorithm in checksums.HEADER_NAMES
    ]
    if parts:
        parts.append(xml.leaf("ChecksumType", record.checksum_type or checksums.FULL_OBJECT))
    return parts
