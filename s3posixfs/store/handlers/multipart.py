"""Multipart uploads: create, upload and copy parts, list, abort.

Source: the S3 API reference, the pages of these operations, and the user guide, "Checking
object integrity", for the checksums of the whole.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from functools import partial

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_PART_BYTES, MAX_PARTS
from s3posixfs.store import xml
from s3posixfs.store.backend.multipart import PendingPart, PlacedPart
from s3posixfs.store.backend.records import ObjectRecord, PartRecord, UploadRecord
from s3posixfs.store.errors import (
    invalid_argument,
    invalid_request,
    method_not_allowed,
)
from s3posixfs.store.handlers.copying import hash_range, open_source
from s3posixfs.store.handlers.listing import Encode, encoding_of, owner_element
from s3posixfs.store.handlers.objects import new_facts
from s3posixfs.store.headers import check_write_headers, whole_number
from s3posixfs.store.payload import (
    DEFAULT_ALGORITHM,
    Proven,
    claims_of,
    requested_algorithm,
    too_large,
)
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

_MAX_PAGE = 1000
_COPIED_BYTES = 256 * 1024  # at a time: what stays in the processor's cache until it is written
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_FULL_ONLY = frozenset({"crc64nvme"})
_COMPOSITE_ONLY = frozenset({"sha1", "sha256"})


def create_upload(service: Service, request: Request) -> Response:
    """CreateMultipartUpload; without an algorithm the whole gets a CRC64NVME, as in S3."""
    facts = new_facts(request)
    algorithm = requested_algorithm(request)
    kind = request.headers.get(checksums.HEADER_TYPE)
    if kind is not None:
        kind = kind.upper()
        if algorithm is None:
            raise invalid_request(
                "The x-amz-checksum-type header can only be used with the "
                "x-amz-checksum-algorithm header."
            )
        if kind not in (checksums.COMPOSITE, checksums.FULL_OBJECT):
            raise invalid_request("Value for x-amz-checksum-type header is invalid.")
        if (kind == checksums.COMPOSITE and algorithm in _FULL_ONLY) or (
            kind == checksums.FULL_OBJECT and algorithm in _COMPOSITE_ONLY
        ):
            raise invalid_request(
                f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
            )
    if algorithm is not None and kind is None:
        kind = checksums.DEFAULT_TYPE[algorithm]
    upload_id = service.backend.create_upload(
        request.bucket, request.key, facts, checksum_algorithm=algorithm, checksum_type=kind
    )
    headers = [xml.XML_HEADERS]
    if algorithm is not None and kind is not None:
        headers += [(checksums.HEADER_ALGORITHM, algorithm.upper()), (checksums.HEADER_TYPE, kind)]
    parts = [
        xml.leaf("Bucket", request.bucket),
        xml.leaf("Key", request.key),
        xml.leaf("UploadId", upload_id),
    ]
    return Response(200, headers, xml.document("InitiateMultipartUploadResult", parts))


def _part_number(request: Request) -> int:
    text = request.query.get("partNumber")
    if text is None:
        raise method_not_allowed("PUT", "UPLOAD", "DELETE, POST, GET")
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= MAX_PARTS:
        raise invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive", "partNumber", text
        )
    return int(text)


def upload_of(service: Service, request: Request) -> UploadRecord:
    return service.backend.upload(request.bucket, request.key, request.query["uploadId"])


async def upload_part(service: Service, request: Request) -> Response:
    """UploadPart: stored only if every claim about the body is true."""
    check_write_headers(request)
    number = _part_number(request)
    upload = await service.reading.run(upload_of, service, request)
    wanted = upload.checksum_algorithm
    # Where the upload names no algorithm, the whole gets the default one, whatever parts bring.
    further = DEFAULT_ALGORITHM if wanted is None else None
    claims = claims_of(request, default_algorithm=wanted, further=further)
    given = claims.algorithm if claims.checksum is not None or claims.in_trailer else None
    # Only that of a whole can be had from parts that say nothing.
    silent = given is None and upload.checksum_type == checksums.COMPOSITE
    if wanted is not None and (silent or claims.algorithm != wanted):
        raise invalid_request(
            f"Checksum Type mismatch occurred, expected checksum Type: {wanted}, actual checksum "
            f"Type: {given or 'null'}"
        )

    def commit(pending: PendingPart | PlacedPart, proven: Proven) -> PartRecord:
        return pending.commit(proven.etag, proven.checksums)

    begin = partial(
        service.backend.begin_part,
        request.bucket,
        request.key,
        upload.upload_id,
        number,
        claims.size,
    )
    part = await service.ingestor.receive(request, claims, begin, commit)
    headers = [("ETag", f'"{part.etag}"')]
    headers.append((checksums.HEADER_NAMES[claims.algorithm], part.checksums[claims.algorithm]))
    return Response(200, headers)


async def upload_part_copy(service: Service, request: Request) -> Response:
    """UploadPartCopy: a range of another object, copied without leaving the store."""
    return await service.ingestor.in_bulk(_upload_part_copy, service, request)


def _upload_part_copy(service: Service, request: Request) -> Response:
    check_write_headers(request)
    number = _part_number(request)
    upload = upload_of(service, request)
    _, _, source = open_source(service, request)
    try:
        start, length = _copy_range(request, source.record.size)
        if length > MAX_PART_BYTES:
            raise too_large(length)
        algorithm = upload.checksum_algorithm or DEFAULT_ALGORITHM
        with service.backend.begin_part(
            request.bucket,
            request.key,
            upload.upload_id,
            number,
            length,
            copied_from=start,
        ) as pending:
            value = _copy(source.fd, start, length, pending, algorithm)
            if pending.size != length:
                raise S3Error(
                    "PreconditionFailed", "The source changed while it was copied.", status=412
                )
            part = pending.commit(_copied_etag(source.record, start, length, value), value)
    finally:
        source.close()
    parts = [
        xml.leaf("LastModified", xml.iso_time(part.last_modified)),
        xml.leaf("ETag", f'"{part.etag}"'),
        *_part_checksums(part),
    ]
    return Response(200, [xml.XML_HEADERS], xml.document("CopyPartResult", parts))


def _copy(
    source: int, start: int, length: int, pending: PendingPart | PlacedPart, algorithm: str
) -> dict[str, str]:
    """Copy a range of an open file; the checksum of what is in the part now."""
    if not length:
        return {algorithm: checksums.create(algorithm).b64()}
    if pending.share_from(source, start, length):
        return {algorithm: hash_range(pending.fileno(), pending.start, length, algorithm)}
    # Hashed on the way: to read it again would take as long as to copy it.
    checksum = checksums.create(algorithm)
    end = start + length
    while start < end:
        data = os.pread(source, min(_COPIED_BYTES, end - start), start)
        if not data:
            break
        checksum.update(data)
        pending.write(data)
        start += len(data)
    return {algorithm: checksum.b64()}


def _copied_etag(source: ObjectRecord, start: int, length: int, found: Mapping[str, str]) -> str:
    """What a copied part is called: by where its bytes are from, and the checksum of these.

    An MD5 of the bytes would take longer than all the rest. AWS says that the ETag of what a part
    copy made is none ("Common Response Headers").
    """
    ((algorithm, value),) = found.items()
    name = f"{source.etag} {source.size} {start} {length} {algorithm} {value}"
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _copy_range(request: Request, size: int) -> tuple[int, int]:
    text = request.headers.get("x-amz-copy-source-range")
    if text is None:
        return 0, size
    first, dash, last = text.removeprefix("bytes=").partition("-")
    valid = text.startswith("bytes=") and dash and first.isascii() and last.isascii()
    if not (valid and first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            "x-amz-copy-source-range",
            text,
        )
    if int(last) >= size:
        raise invalid_argument(
            f"Range specified is not valid for source object of size: {size}",
            "x-amz-copy-source-range",
            text,
        )
    return int(first), int(last) - int(first) + 1


def _part_checksums(part: PartRecord) -> list[str]:
    return [xml.leaf(f"Checksum{name.upper()}", value) for name, value in part.checksums.items()]


def list_parts(service: Service, request: Request) -> Response:
    upload = upload_of(service, request)
    most = whole_number(request, "max-parts", _MAX_PAGE, _MAX_PAGE)
    after = whole_number(request, "part-number-marker", 0, MAX_PARTS)
    page = service.backend.list_parts(
        request.bucket, request.key, upload.upload_id, after=after, max_parts=most
    )
    owner = upload.facts.owner_id
    parts = [
        xml.leaf("Bucket", request.bucket),
        xml.leaf("Key", request.key),
        xml.leaf("UploadId", upload.upload_id),
        owner_element(owner, "Initiator"),
        owner_element(owner),
        xml.leaf("StorageClass", "STANDARD"),
        xml.leaf("PartNumberMarker", after),
        xml.leaf("NextPartNumberMarker", page.next_marker),
        xml.leaf("MaxParts", most),
        xml.leaf("IsTruncated", page.truncated),
    ]
    if upload.checksum_algorithm is not None:
        parts.append(xml.leaf("ChecksumAlgorithm", upload.checksum_algorithm.upper()))
        parts.append(xml.leaf("ChecksumType", upload.checksum_type or ""))
    for part in page.parts:
        fields = (
            xml.leaf("PartNumber", part.number),
            xml.leaf("LastModified", xml.iso_time(part.last_modified)),
            xml.leaf("ETag", f'"{part.etag}"'),
            xml.leaf("Size", part.size),
            *_part_checksums(part),
        )
        parts.append(f"<Part>{''.join(fields)}</Part>")
    return Response(200, [xml.XML_HEADERS], xml.document("ListPartsResult", parts))


def list_uploads(service: Service, request: Request) -> Response:
    query = request.query
    encode = encoding_of(request)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker = query.get("key-marker", "")
    # Without a key it marks nothing.
    id_marker = query.get("upload-id-marker", "") if key_marker else ""
    if id_marker and _UPLOAD_ID.fullmatch(id_marker) is None:
        raise invalid_argument("Invalid uploadId marker", "upload-id-marker", id_marker)
    most = whole_number(request, "max-uploads", _MAX_PAGE, _MAX_PAGE)
    page = service.backend.list_uploads(
        request.bucket,
        prefix=prefix,
        delimiter=delimiter,
        key_marker=key_marker,
        upload_id_marker=id_marker,
        max_uploads=most,
    )
    parts = [
        xml.leaf("Bucket", request.bucket),
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>",
        xml.leaf("UploadIdMarker", id_marker),
        f"<Prefix>{encode(prefix)}</Prefix>",
    ]
    if page.truncated:
        parts.append(f"<NextKeyMarker>{encode(page.next_key_marker)}</NextKeyMarker>")
        parts.append(xml.leaf("NextUploadIdMarker", page.next_upload_id_marker))
    if delimiter:
        parts.append(f"<Delimiter>{encode(delimiter)}</Delimiter>")
    if "encoding-type" in query:
        parts.append(xml.leaf("EncodingType", "url"))
    parts += [xml.leaf("MaxUploads", most), xml.leaf("IsTruncated", page.truncated)]
    parts += (_upload_row(upload, encode) for upload in page.uploads)
    parts += (
        f"<CommonPrefixes><Prefix>{encode(common)}</Prefix></CommonPrefixes>"
        for common in page.prefixes
    )
    return Response(200, [xml.XML_HEADERS], xml.document("ListMultipartUploadsResult", parts))


def _upload_row(upload: UploadRecord, encode: Encode) -> str:
    owner = upload.facts.owner_id
    return (
        f"<Upload><Key>{encode(upload.key)}</Key>{xml.leaf('UploadId', upload.upload_id)}"
        f"{owner_element(owner, 'Initiator')}{owner_element(owner)}"
        f"<StorageClass>STANDARD</StorageClass>"
        f"<Initiated>{xml.iso_time(upload.initiated)}</Initiated></Upload>"
    )


def abort_upload(service: Service, request: Request) -> Response:
    service.backend.abort_upload(request.bucket, request.key, request.query["uploadId"])
    return Response(204)
