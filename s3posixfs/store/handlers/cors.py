"""CORS: a bucket's configuration, preflights, and what it adds to every other answer.

Source: the S3 API reference, PutBucketCors and "OPTIONS object".
"""

from __future__ import annotations

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.cors import answer_headers, cors_document, parse_cors
from s3posixfs.store.errors import DetailedError, bad_request
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

_KIND = "cors"


def get_bucket_cors(service: Service, request: Request) -> Response:
    text = service.backend.get_document(request.bucket, _KIND)
    if text is None:
        raise S3Error(
            "NoSuchCORSConfiguration", "The CORS configuration does not exist", status=404
        )
    return Response(200, [xml.XML_HEADERS], text)


def put_bucket_cors(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    rules = parse_cors(request.content)
    service.backend.put_document(request.bucket, _KIND, cors_document(rules))
    return Response(200)


def delete_bucket_cors(service: Service, request: Request) -> Response:
    service.backend.delete_document(request.bucket, _KIND)
    return Response(204)


def preflight(service: Service, request: Request) -> Response:
    """OPTIONS, which browsers send unsigned: what the bucket's rules let a page do."""
    headers = request.headers
    origin = headers.get("origin", "")
    if not origin:
        raise bad_request("Insufficient information. Origin request header needed.")
    method = headers.get("access-control-request-method", "")
    try:
        service.backend.bucket(request.bucket)
    except S3Error as error:
        if error.code not in ("NoSuchBucket", "InvalidBucketName"):
            raise
        raise _forbidden("Bucket not found", method, "BUCKET") from None
    rules = service.configurations.cors.of(request.bucket)
    if not rules:
        raise _forbidden("CORS is not enabled for this bucket.", method, "BUCKET")
    if not method:
        raise bad_request("Invalid Access-Control-Request-Method: null")
    added = answer_headers(rules, origin, method, _asked(request))
    if added is None:
        raise _forbidden(
            "This CORS request is not allowed. This is usually because the evalution of Origin, "
            "request method / Access-Control-Request-Method or Access-Control-Request-Headers "
            "are not whitelisted by the resource's CORS spec.",
            method,
            "OBJECT" if request.key else "BUCKET",
        )
    return Response(200, added)


def add_cors_headers(service: Service, request: Request, response: Response) -> None:
    """Let the page that asked read the answer, where the bucket's rules say so."""
    rules = service.configurations.cors.of(request.bucket)
    if not rules:
        return
    headers = request.headers
    method = headers.get("access-control-request-method", request.method)
    added = answer_headers(rules, headers["origin"], method, _asked(request))
    if added is not None:
        response.headers += added


def _asked(request: Request) -> list[str]:
    text = request.headers.get("access-control-request-headers", "")
    return [name.strip() for name in text.split(",") if name.strip()]


def _forbidden(reason: str, method: str, kind: str) -> S3Error:
    return DetailedError(
        "AccessForbidden",
        f"CORSResponse: {reason}",
        status=403,
        details={"Method": method or "OPTIONS", "ResourceType": kind},
    )
