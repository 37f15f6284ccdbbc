"""RenameObject, and the store's own extension of it to all that is below a prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from s3posixfs.core.errors import S3Error
from s3posixfs.store.errors import invalid_argument, not_implemented
from s3posixfs.store.handlers.objects import missing_key
from s3posixfs.store.headers import unquoted, write_condition
from s3posixfs.store.request import Request, decode_path
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

SOURCE = "x-amz-rename-source"
FOLDER = "s3posixfs-rename-folder"
_CONDITIONS = frozenset({"if-match", "if-none-match", "x-amz-rename-source-if-match"})
_FOLDER_CONDITIONS = frozenset({"if-none-match"})


def rename_object(service: Service, request: Request) -> Response:
    """RenameObject: one rename(2); owner, data and metadata stay as they are.

    Needs PutObject on the target (asked before), GetObject and DeleteObject on the source.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_RenameObject.html
    """
    key = _source(request)
    resource = f"arn:aws:s3:::{request.bucket}/{key}"
    for action in ("s3:GetObject", "s3:DeleteObject"):
        service.authoriser.require(request, action, resource, bucket=request.bucket)
    _refuse_conditions_but(_CONDITIONS, request)
    match = request.headers.get("x-amz-rename-source-if-match")
    condition = write_condition(request)
    try:
        service.backend.rename(
            request.bucket,
            key,
            request.key,
            no_replace=condition.if_none_match,
            if_match=condition.if_match,
            source_if_match=unquoted(match) if match is not None else None,
        )
    except S3Error as error:
        if error.code == "NoSuchKey":
            raise missing_key(service, request, key) from None
        raise
    return Response(200)


def rename_folder(service: Service, request: Request) -> Response:
    """``PUT /BUCKET/NEW/?s3posixfs-rename-folder`` with ``x-amz-rename-source: /BUCKET/OLD/``:
    RenameObject of every key that begins with OLD/, in one step.

    The caller needs for each of them what RenameObject of it would need.
    """
    source = _source(request)
    for key, name in ((source, SOURCE), (request.key, "key")):
        if not key.endswith("/"):
            raise invalid_argument("The name of a folder ends in a slash.", name, key)
    _refuse_conditions_but(_FOLDER_CONDITIONS, request)
    condition = write_condition(request)
    try:
        service.backend.rename_folder(
            request.bucket,
            source,
            request.key,
            no_replace=condition.if_none_match,
            permit=_permit(service, request, source),
        )
    except S3Error as error:
        if error.code == "NoSuchKey":
            raise missing_key(service, request, source) from None
        raise
    return Response(200)


def _source(request: Request) -> str:
    """The key that gets another name; noted in the request's audit trail."""
    source = decode_path(request.headers[SOURCE].encode())
    own = f"/{request.bucket}/"
    key = source[len(own) :] if source.startswith(own) else source.lstrip("/")
    if not key:
        raise invalid_argument("The rename source is not valid.", SOURCE, source)
    request.audit.resource = f"arn:aws:s3:::{request.bucket}/{key}"
    return key


def _refuse_conditions_but(known: frozenset[str], request: Request) -> None:
    for name in request.headers:
        if name.startswith(("if-", "x-amz-rename-source-if-")) and name not in known:
            raise not_implemented(f"{name} of {request.audit.operation}")


def _permit(
    service: Service, request: Request, source: str
) -> Callable[[Iterable[str]], None] | None:
    """Ask the policies; what is left to be asked of each key, given relative to the source."""
    bucket, authoriser = request.bucket, service.authoriser
    each = []
    for action, prefix in (
        ("s3:GetObject", source),
        ("s3:DeleteObject", source),
        ("s3:PutObject", request.key),
    ):
        beginning = f"arn:aws:s3:::{bucket}/{prefix}"
        judge = authoriser.judge(request, action, bucket=bucket)
        if judge.is_alike_below(beginning):
            authoriser.require_by(judge, request, beginning, bucket)
        else:
            each.append((judge, beginning))
    if not each:
        return None

    def permit(keys: Iterable[str]) -> None:
        for key in keys:
            for judge, beginning in each:
                authoriser.require_by(judge, request, beginning + key, bucket)

    return permit
