"""What clients ask of a bucket or object before they use it, where the answer is always the same.

No configuration of these kinds can be stored, so each answer is S3's for one that was never set.
Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.handlers.listing import owner_element
from s3posixfs.store.handlers.objects import open_existing
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.router import Handler
from s3posixfs.store.service import Service

_INSTANCE = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def empty(root: str) -> Handler:
    """A handler that answers with an empty document, if the bucket exists."""

    def handler(service: Service, request: Request) -> Response:
        service.backend.bucket(request.bucket)
        return Response(200, [xml.XML_HEADERS], xml.document(root, []))

    return handler


def not_found(code: str, message: str) -> Handler:
    """A handler that says that there is no such configuration, if the bucket exists."""

    def handler(service: Service, request: Request) -> Response:
        service.backend.bucket(request.bucket)
        raise S3Error(code, message, status=404)

    return handler


def request_payment(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    body = xml.document("RequestPaymentConfiguration", [xml.leaf("Payer", "BucketOwner")])
    return Response(200, [xml.XML_HEADERS], body)


def _acl(owner: str) -> Response:
    text = xml.escape(owner)
    grantee = (
        f'<Grantee {_INSTANCE} xsi:type="CanonicalUser"><ID>{text}</ID>'
        f"<DisplayName>{text}</DisplayName></Grantee>"
    )
    grant = f"<Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"
    parts = [owner_element(owner), f"<AccessControlList>{grant}</AccessControlList>"]
    return Response(200, [xml.XML_HEADERS], xml.document("AccessControlPolicy", parts))


def bucket_acl(service: Service, request: Request) -> Response:
    """The owner and nobody else: policies say who may do what, lists of grants do not exist."""
    return _acl(service.backend.bucket(request.bucket).owner_id)


def object_acl(service: Service, request: Request) -> Response:
    opened = open_existing(service, request)
    try:
        return _acl(opened.record.owner_id)
    finally:
        opened.close()
