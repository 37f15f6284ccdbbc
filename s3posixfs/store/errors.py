"""S3 errors with what AWS's answer to them carries besides code and message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES
from s3posixfs.sigv4.problems import SignatureProblem
from s3posixfs.store.response import Headers, Response
from s3posixfs.store.xml import XML_HEADERS, error_document

if TYPE_CHECKING:
    from s3posixfs.store.request import Request

# For errors that the layers below raise with no status of their own.
_STATUS = {
    "AccessDenied": 403,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "InvalidRange": 416,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "PreconditionFailed": 412,
    "SlowDown": 503,
    "StorageFull": 507,
}
# Errors about a bucket, which name it.
_OF_A_BUCKET = frozenset(
    {
        "BucketAlreadyExists",
        "BucketAlreadyOwnedByYou",
        "BucketNotEmpty",
        "InvalidBucketName",
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NoSuchCORSConfiguration",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchTagSet",
        "NoSuchWebsiteConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "ReplicationConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)


class DetailedError(S3Error):
    """An S3Error with further elements for its XML and further headers for its answer."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        details: Mapping[str, str] | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(code, message, status=status)
        self.details = dict(details or {})
        self.headers = list(headers or [])


def status_of(error: S3Error) -> int:
    """The HTTP status of ``error``'s answer."""
    return error.status or _STATUS.get(error.code, 400)


def error_response(error: S3Error, *, resource: str, request_id: str) -> Response:
    """AWS's XML for ``error`` of a request for ``resource``; a 304 has no body."""
    headers: Headers = []
    details = _subject(error, resource[1:].partition("/")[0])
    if isinstance(error, DetailedError):
        details.update(error.details)
        headers += error.headers
    elif isinstance(error, SignatureProblem):
        details.update(error.details)
    status = status_of(error)
    if status == 304:
        return Response(304, headers)
    body = error_document(
        error.code, error.message, resource=resource, request_id=request_id, details=details
    )
    return Response(status, [XML_HEADERS, *headers], body)


def _subject(error: S3Error, bucket: str) -> dict[str, str]:
    """What the error is about, where its code alone says what kind of thing that is."""
    if error.code in _OF_A_BUCKET and (error.resource or bucket):
        return {"BucketName": error.resource or bucket}
    if error.code == "NoSuchUpload":
        return {"UploadId": error.resource}
    if error.code == "PreconditionFailed" and error.resource:
        return {"Condition": error.resource}
    return {}


def internal_error() -> S3Error:
    """What a client is told of a fault of the server's own; the log has the rest."""
    return S3Error(
        "InternalError", "We encountered an internal error. Please try again.", status=500
    )


def access_denied(message: str = "Access Denied") -> S3Error:
    return S3Error("AccessDenied", message, status=403)


def invalid_argument(message: str, name: str = "", value: str = "") -> S3Error:
    """InvalidArgument that names the argument and what was given for it."""
    details = {"ArgumentName": name, "ArgumentValue": value} if name else {}
    return DetailedError("InvalidArgument", message, status=400, details=details)


def invalid_request(message: str) -> S3Error:
    return S3Error("InvalidRequest", message, status=400)


def bad_request(message: str) -> S3Error:
    return S3Error("BadRequest", message, status=400)


def not_implemented(what: str) -> S3Error:
    """NotImplemented: what a client asked for is not built, and it must not think it done."""
    return S3Error(
        "NotImplemented",
        f"A functionality that was requested is not implemented: {what}.",
        status=501,
    )


def no_such_key(key: str) -> S3Error:
    return DetailedError(
        "NoSuchKey", "The specified key does not exist.", status=404, details={"Key": key}
    )


def key_too_long(key: str) -> S3Error:
    return DetailedError(
        "KeyTooLongError",
        "Your key is too long",
        status=400,
        details={"Size": str(len(key.encode())), "MaxSizeAllowed": str(MAX_KEY_BYTES)},
    )


def method_not_allowed(method: str, kind: str, allowed: str = "") -> S3Error:
    """405 for a method that the ``kind`` of resource (SERVICE, OBJECT, …) does not take."""
    return DetailedError(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        status=405,
        details={"Method": method, "ResourceType": kind},
        headers=[("Allow", allowed)] if allowed else [],
    )


def resource_of(request: Request) -> str:
    """How an error names what the request was about."""
    if not request.bucket:
        return "/"
    return f"/{request.bucket}/{request.key}" if request.key else f"/{request.bucket}"
