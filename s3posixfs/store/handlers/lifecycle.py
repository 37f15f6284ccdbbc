"""A bucket's lifecycle configuration: put, get, delete.

Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

from s3posixfs.store import xml
from s3posixfs.store.errors import invalid_argument, not_implemented
from s3posixfs.store.lifecycle import no_such_configuration, normalised
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

_KIND = "lifecycle"
# Which objects are too small to move to another class; S3 says its default in every answer.
_MINIMUM = "x-amz-transition-default-minimum-object-size"
_MINIMA = ("all_storage_classes_128K", "varies_by_storage_class")


def get_lifecycle(service: Service, request: Request) -> Response:
    text = service.backend.get_document(request.bucket, _KIND)
    if text is None:
        raise no_such_configuration()
    return Response(200, [xml.XML_HEADERS, (_MINIMUM, _MINIMA[0])], text)


def put_lifecycle(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    minimum = request.headers.get(_MINIMUM, _MINIMA[0])
    if minimum not in _MINIMA:
        raise invalid_argument("The value is none of S3's.", _MINIMUM, minimum)
    if minimum != _MINIMA[0]:
        raise not_implemented(f"{_MINIMUM}: there is one storage class")
    service.backend.put_document(request.bucket, _KIND, normalised(request.content))
    return Response(200, [(_MINIMUM, minimum)])


def delete_lifecycle(service: Service, request: Request) -> Response:
    service.backend.delete_document(request.bucket, _KIND)
    return Response(204)
