"""What an HTTP answer of a store says, as this program's values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from s3posixfs.core.types import KEPT_HEADERS, ObjectStat, Owner
from s3posixfs.s3.errors import Refused
from s3posixfs.s3.http import Response, parse_http_date
from s3posixfs.s3.xml import parse_error, unquote_etag

META = "x-amz-meta-"
_WRONG_REGION = frozenset({"AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})

# A HEAD has no body to name its error in.
_CODE_BY_STATUS = {
    301: "PermanentRedirect",
    307: "TemporaryRedirect",
    400: "BadRequest",
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    409: "OperationAborted",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    413: "EntityTooLarge",
    416: "InvalidRange",
    429: "SlowDown",
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
    507: "StorageFull",
}


def refusal(method: str, bucket: str, key: str, response: Response) -> Refused:
    """The error that an answer with a status from 300 up is."""
    values = parse_error(response.body) if response.body else {}
    status = response.status
    headers = response.headers
    code = values.get("Code", "")
    if not code:
        code = _CODE_BY_STATUS.get(status, "InternalError" if status >= 500 else "InvalidResponse")
        if status == 404 and not key:
            code = "NoSuchBucket" if bucket else "InvalidResponse"
    retry_after = headers.get("retry-after", "")
    return Refused(
        code,
        values.get("Message", ""),
        status=status,
        request_id=values.get("RequestId", "") or headers.get("x-amz-request-id", ""),
        resource=f"{bucket}/{key}" if key else bucket,
        region=_region(method, code, status, values, headers),
        date=response.date,
        retry_after=float(retry_after) if retry_after.isdecimal() else 0.0,
    )


def _region(
    method: str, code: str, status: int, values: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    """The bucket's region where the answer is about a wrong one. The HEAD of AWS says it in a
    header only, and 400 or 301 without a code."""
    if code == "AuthorizationHeaderMalformed" and values.get("Region"):
        return values["Region"]
    if status == 301 or (status == 400 and (method == "HEAD" or code in _WRONG_REGION)):
        return headers.get("x-amz-bucket-region", "")
    return ""


def stat_of(key: str, headers: dict[str, str], size: int) -> ObjectStat:
    """The stat that the headers of a HEAD or GET answer give."""
    owner = headers.get("x-s3posixfs-owner")
    return ObjectStat(
        key=key,
        size=size,
        etag=unquote_etag(headers.get("etag", "")),
        last_modified=parse_http_date(headers.get("last-modified", "")),
        owner=Owner(owner, owner) if owner else None,
        metadata={
            name[len(META) :]: value for name, value in headers.items() if name.startswith(META)
        },
        content_type=headers.get("content-type"),
        storage_class=headers.get("x-amz-storage-class"),
        headers=kept_headers(headers),
    )


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an answer that belong to the object."""
    return {
        name: headers[name]
        for name in KEPT_HEADERS
        # aws-chunked is how a body travelled, not what it is.
        if headers.get(name) and headers[name] != "aws-chunked"
    }
