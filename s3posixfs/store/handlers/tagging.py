"""Tags of objects and buckets: put, get, delete.

Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.handlers.objects import check_version, missing_key, open_existing
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service
from s3posixfs.store.tags import (
    MAX_BUCKET_TAGS,
    MAX_OBJECT_TAGS,
    tagging_document,
    tags_of_document,
)

_KIND = "tagging"


def tag_context(tags: Mapping[str, str]) -> dict[str, str | Sequence[str]]:
    """The condition keys for tags that a request brings."""
    if not tags:
        return {}
    context: dict[str, str | Sequence[str]] = {
        f"s3:requestobjecttag/{name.lower()}": value for name, value in tags.items()
    }
    context["s3:requestobjecttagkeys"] = tuple(tags)
    return context


def get_object_tagging(service: Service, request: Request) -> Response:
    opened = open_existing(service, request)
    opened.close()
    return Response(200, [xml.XML_HEADERS], tagging_document(opened.record.tags))


def put_object_tagging(service: Service, request: Request) -> Response:
    """PutObjectTagging: asks for itself, because the tags themselves can decide."""

    def require(tags: Mapping[str, str]) -> None:
        service.authoriser.require(
            request,
            "s3:PutObjectTagging",
            request.resource,
            bucket=request.bucket,
            extra=tag_context(tags),
        )

    try:
        tags = tags_of_document(request.content, MAX_OBJECT_TAGS)
    except S3Error:
        require({})  # who may not do it learns nothing else
        raise
    require(tags)
    _set_tags(service, request, tags)
    return Response(200)


def delete_object_tagging(service: Service, request: Request) -> Response:
    _set_tags(service, request, {})
    return Response(204)


def _set_tags(service: Service, request: Request, tags: Mapping[str, str]) -> None:
    check_version(request)
    try:
        service.backend.set_tags(request.bucket, request.key, tags)
    except S3Error as error:
        if error.code == "NoSuchKey":
            raise missing_key(service, request, request.key) from None
        raise


def get_bucket_tagging(service: Service, request: Request) -> Response:
    text = service.backend.get_document(request.bucket, _KIND)
    if text is None:
        raise S3Error("NoSuchTagSet", "The TagSet does not exist", status=404)
    tags = tags_of_document(text, MAX_BUCKET_TAGS)
    return Response(200, [xml.XML_HEADERS], tagging_document(tags))


def put_bucket_tagging(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    tags = tags_of_document(request.content, MAX_BUCKET_TAGS)
    if tags:
        service.backend.put_document(request.bucket, _KIND, tagging_document(tags))
    else:
        service.backend.delete_document(request.bucket, _KIND)
    return Response(204)


def delete_bucket_tagging(service: Service, request: Request) -> Response:
    service.backend.delete_document(request.bucket, _KIND)
    return Response(204)
