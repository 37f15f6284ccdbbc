"""PublicAccessBlock: put, get, delete. What it forbids is asked where policies are.

Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.public_access import KIND, parse_public_access_block
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service


def get_public_access_block(service: Service, request: Request) -> Response:
    text = service.backend.get_document(request.bucket, KIND)
    if text is None:
        raise S3Error(
            "NoSuchPublicAccessBlockConfiguration",
            "The public access block configuration was not found",
            status=404,
        )
    return Response(200, [xml.XML_HEADERS], text)


def put_public_access_block(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    block = parse_public_access_block(request.content)
    service.backend.put_document(request.bucket, KIND, block.document())
    return Response(200)


def delete_public_access_block(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    service.backend.delete_document(request.bucket, KIND)
    return Response(204)
