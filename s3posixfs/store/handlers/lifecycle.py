"""A bucket's lifecycle configuration: put, get, delete.

Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

from s3posixfs.store import xml
from s3posixfs.store.lifecycle import no_such_configuration, normalised
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

_KIND = "lifecycle"


def get_lifecycle(service: Service, request: Request) -> Response:
    text = service.backend.get_document(request.bucket, _KIND)
    if text is None:
        raise no_such_configuration()
    return Response(200, [xml.XML_HEADERS], text)


def put_lifecycle(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    service.backend.put_document(request.bucket, _KIND, normalised(request.content))
    return Response(200)


def delete_lifecycle(service: Service, request: Request) -> Response:
    service.backend.delete_document(request.bucket, _KIND)
    return Response(204)
