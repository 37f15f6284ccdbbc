"""CompleteMultipartUpload: the list of parts, what the client says of the whole, and the joining.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html, and the
user guide, "Checking object integrity", for the checksums of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_PARTS
from s3posixfs.store import xml
from s3posixfs.store.backend.records import CompletedPart, PartRecord, UploadRecord
from s3posixfs.store.errors import DetailedError, invalid_argument, invalid_request
from s3posixfs.store.handlers.copying import checksum_elements
from s3posixfs.store.handlers.multipart import upload_of
from s3posixfs.store.handlers.objects import expiration
from s3posixfs.store.headers import unquoted, write_condition
from s3posixfs.store.payload import DEFAULT_ALGORITHM, check_checksum_value
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

MAX_COMPLETE_BYTES = 4 * 1024 * 1024
_NUMBER = re.compile(r"-?[0-9]{1,9}")


def complete_upload(service: Service, request: Request) -> Response:
    """CompleteMultipartUpload: validates the list, computes the whole's checksum, joins."""
    wanted = _completed_parts(request.content)
    claimed = _claimed(request)
    condition = write_condition(request)
    upload_id = request.query["uploadId"]
    try:
        upload = upload_of(service, request)
        whole = _whole_checksum(service, request, upload, wanted, claimed)
    except S3Error as error:
        if error.code != "NoSuchUpload":
            raise
        # Perhaps a repetition of one that succeeded, before or meanwhile: the backend knows.
        whole = {}, None
    record = service.backend.complete_upload(
        request.bucket,
        request.key,
        upload_id,
        wanted,
        condition,
        checksums=whole[0],
        checksum_type=whole[1],
    )
    scheme = "https" if request.secure else "http"
    location = (
        f"{scheme}://{request.headers['host']}{request.base_path}{xml.url_encoded(request.key)}"
    )
    parts = [
        xml.leaf("Location", location),
        xml.leaf("Bucket", request.bucket),
        xml.leaf("Key", request.key),
        xml.leaf("ETag", f'"{record.etag}"'),
        *checksum_elements(record),
    ]
    headers = [xml.XML_HEADERS, *expiration(service, request.bucket, record)]
    return Response(200, headers, xml.document("CompleteMultipartUploadResult", parts))


def _completed_parts(content: bytes) -> list[CompletedPart]:
    root = xml.parse(content, "CompleteMultipartUpload")
    wanted: list[CompletedPart] = []
    for element in root:
        if xml.local_name(element) != "Part":
            raise xml.malformed()
        fields = xml.children(element)
        text = fields.pop("PartNumber", "").strip()
        etag = fields.pop("ETag", "")
        if _NUMBER.fullmatch(text) is None:
            raise xml.malformed()
        if int(text) < 1:
            raise invalid_argument("PartNumber must be >= 1", "PartNumber", text)
        wanted.append(CompletedPart(int(text), unquoted(etag), _checksum_of(fields)))
    if not wanted or len(wanted) > MAX_PARTS:
        raise xml.malformed()
    return wanted


def _checksum_of(fields: Mapping[str, str]) -> dict[str, str]:
    """The one checksum that a listed part may have."""
    given: dict[str, str] = {}
    for name, value in fields.items():
        algorithm = name.removeprefix("Checksum").lower()
        if not name.startswith("Checksum") or algorithm not in checksums.HEADER_NAMES:
            raise xml.malformed()
        given[algorithm] = value.strip()
    try:
        for algorithm, value in given.items():
            checksums.decode(algorithm, value)
        if len(given) > 1:
            raise ValueError
    except ValueError:
        message = "Invalid Base64 or multiple checksums present in request"
        raise invalid_argument(message, "Checksum", ", ".join(given.values())) from None
    return given


def _claimed(request: Request) -> tuple[str, str] | None:
    """Algorithm and value of the checksum that the client expects of the whole."""
    found = [
        (algorithm, value)
        for name, value in request.headers.items()
        if (algorithm := checksums.algorithm_of_header(name)) is not None
    ]
    if len(found) > 1:
        raise invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    for algorithm, value in found:
        check_checksum_value(algorithm, value.partition("-")[0])
    return found[0] if found else None


def _whole_checksum(
    service: Service,
    request: Request,
    upload: UploadRecord,
    wanted: Sequence[CompletedPart],
    claimed: tuple[str, str] | None,
) -> tuple[dict[str, str], str | None]:
    """The checksum of the whole from those of its parts, compared with what the client says."""
    algorithm = upload.checksum_algorithm or DEFAULT_ALGORITHM
    kind = upload.checksum_type or checksums.DEFAULT_TYPE[algorithm]
    _check_kind(request, kind)
    chosen = _chosen(service, request, upload, wanted)
    size = sum(part.size for part in chosen)
    _check_size(request, size)
    digests: list[tuple[bytes, int]] = []
    for part in chosen:
        value = part.checksums.get(algorithm)
        if value is None:
            if claimed is not None:
                raise _not_comparable(algorithm, claimed[0])
            return {}, None
        digests.append((checksums.decode(algorithm, value), part.size))
    if kind == checksums.COMPOSITE:
        whole = checksums.composite(algorithm, [digest for digest, _ in digests])
    else:
        whole = checksums.full_object(algorithm, digests)
    if claimed is not None and claimed[0] != algorithm:
        raise _not_comparable(algorithm, claimed[0])
    if claimed is not None and claimed[1] != whole:
        raise DetailedError(
            "BadDigest",
            f"The {algorithm} you specified did not match the calculated checksum.",
            status=400,
        )
    return {algorithm: whole}, kind


def _chosen(
    service: Service, request: Request, upload: UploadRecord, wanted: Sequence[CompletedPart]
) -> list[PartRecord]:
    """The parts that the list names; S3Error where one is not what the list says."""
    if any(one.number >= other.number for one, other in pairwise(wanted)):
        raise DetailedError(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
            status=400,
            details={"UploadId": upload.upload_id},
        )
    stored = {
        part.number: part
        for part in service.backend.list_parts(
            request.bucket, request.key, upload.upload_id, max_parts=MAX_PARTS
        ).parts
    }
    # A composite checksum that was asked for is made of those that the client has seen.
    strict = upload.checksum_algorithm if upload.checksum_type == checksums.COMPOSITE else None
    chosen: list[PartRecord] = []
    for part in wanted:
        found = stored.get(part.number)
        if found is None or found.etag != part.etag:
            raise _invalid_part(upload, part)
        for algorithm, value in part.checksums.items():
            if algorithm not in found.checksums:
                raise S3Error(
                    "BadDigest",
                    f"The {algorithm} you specified for part {part.number} did not match what we "
                    "received.",
                    status=400,
                )
            if found.checksums[algorithm] != value:
                raise _invalid_part(upload, part)
        if strict is not None and strict not in part.checksums:
            raise invalid_request(
                f"The upload was created using a {strict} checksum. The complete request must "
                f"include the checksum for each part. It was missing for part {part.number} in "
                "the request."
            )
        chosen.append(found)
    return chosen


def _invalid_part(upload: UploadRecord, part: CompletedPart) -> S3Error:
    return DetailedError(
        "InvalidPart",
        "One or more of the specified parts could not be found.  The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
        status=400,
        details={
            "UploadId": upload.upload_id,
            "PartNumber": str(part.number),
            "ETag": part.etag,
        },
    )


def _check_kind(request: Request, kind: str) -> None:
    claimed = request.headers.get(checksums.HEADER_TYPE)
    if claimed is None or claimed.upper() == kind:
        return
    if claimed.upper() not in (checksums.COMPOSITE, checksums.FULL_OBJECT):
        raise invalid_request("Value for x-amz-checksum-type header is invalid.")
    raise invalid_request(
        f"The upload was created using the {kind} checksum mode. The complete request must use "
        "the same checksum mode."
    )


def _check_size(request: Request, size: int) -> None:
    text = request.headers.get("x-amz-mp-object-size")
    if text is None:
        return
    if re.fullmatch(r"-?[0-9]{1,18}", text) is None:
        raise invalid_request(f"Value for x-amz-mp-object-size header is invalid: '{text}'")
    if int(text) < 0:
        raise invalid_request(f"Value for x-amz-mp-object-size header is less than zero: '{text}'")
    if int(text) != size:
        raise invalid_request(
            f"The provided 'x-amz-mp-object-size' header value {text} does not match what was "
            f"computed: {size}"
        )


def _not_comparable(algorithm: str, claimed: str) -> S3Error:
    """A checksum that can't be compared must not pass as compared."""
    return invalid_request(
        f"The upload was created for the checksum {algorithm}: {claimed} cannot be compared."
    )
