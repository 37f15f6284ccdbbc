"""What several operations have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3posixfs.store.handlers.tagging import tag_context
from s3posixfs.store.headers import tags_of
from s3posixfs.store.request import Request
from s3posixfs.store.router import Handler, Operation
from s3posixfs.store.service import Service

CONFIGURATION_BYTES = 64 * 1024  # of a body that configures a bucket or an object


def request_tags(service: Service, request: Request) -> Mapping[str, str | Sequence[str]]:
    """The tags that a write brings; they need an action of their own."""
    tags = tags_of(request)
    if not tags:
        return {}
    extra = tag_context(tags)
    service.authoriser.require(
        request, "s3:PutObjectTagging", request.resource, bucket=request.bucket, extra=extra
    )
    return extra


def question(name: str, selector: str, action: str, handler: Handler) -> Operation:
    """What is configured of a bucket, asked for by a sub-resource."""
    return Operation(name, "GET", "bucket", action, handler=handler, selector=selector)
