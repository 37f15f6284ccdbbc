"""PostObject: an upload by a browser's form, signed by its policy.

Source: the S3 API reference, "POST Object" and "Browser-based uploads using POST".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from urllib.parse import urlencode, urlsplit

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES, MAX_PART_BYTES
from s3posixfs.store import xml
from s3posixfs.store.authenticate import authenticate_form
from s3posixfs.store.backend.directory import PendingObject
from s3posixfs.store.backend.records import KEPT_HEADERS, ObjectFacts, ObjectRecord
from s3posixfs.store.errors import DetailedError, invalid_argument, key_too_long
from s3posixfs.store.handlers.buckets import check_expected_owner
from s3posixfs.store.handlers.objects import checksum_headers, expiration, new_facts
from s3posixfs.store.handlers.tagging import tag_context
from s3posixfs.store.payload import Proven, claims_of
from s3posixfs.store.post_form import Fields, FormFile, boundary_of
from s3posixfs.store.post_policy import PostPolicy, parse_post_policy
from s3posixfs.store.request import Request
from s3posixfs.store.response import Headers, Response, is_header_name
from s3posixfs.store.service import Service
from s3posixfs.store.tags import MAX_OBJECT_TAGS, tags_of_document

# Headers of the request itself that still count; all others are the form's.
_OF_THE_REQUEST = ("host", "user-agent", "referer", "origin", "x-amz-expected-bucket-owner")
_OF_THE_SIGNATURE = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-signature",
    }
)
_FILE_NAME = "${filename}"


def is_form(request: Request) -> bool:
    """Whether this is a POST of a form to a bucket."""
    return (
        request.method == "POST" and request.bucket != "" and not request.key and not request.query
    )


async def post_object(service: Service, request: Request) -> Response:
    """PostObject: nothing of the file is read before the policy and the policies allow it."""
    request.audit.operation = "PostObject"
    file = FormFile(request.body, boundary_of(request.headers.get("content-type", "")))
    form = await file.fields()
    fields = {name.lower(): value for name, value in form.values.items()}
    request.key = _key_of(form, fields)
    upload = replace(request, body=file, headers=_headers_of(request, fields))
    policy, facts = await service.reading.run(_admitted, service, request, upload, form, fields)
    file.most = MAX_PART_BYTES if policy is None or policy.most is None else policy.most
    least = policy.least if policy is not None else 0
    claims = claims_of(upload)
    bucket, key = upload.bucket, upload.key

    def commit(pending: PendingObject, proven: Proven) -> tuple[ObjectRecord, Headers]:
        if proven.size < least:
            raise DetailedError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                status=400,
                details={"ProposedSize": str(proven.size), "MinSizeAllowed": str(least)},
            )
        complete = replace(
            facts,
            etag=proven.etag,
            checksums=proven.checksums,
            checksum_type=checksums.FULL_OBJECT,
        )
        record = pending.commit(complete)
        return record, expiration(service, bucket, record)

    record, expiring = await service.ingestor.receive(
        upload, claims, partial(service.backend.begin_put, bucket, key), commit
    )
    headers = [*checksum_headers(record), *expiring]
    return _answer(request, fields, record, headers)


def _key_of(form: Fields, fields: dict[str, str]) -> str:
    key = fields.get("key")
    if key is None:
        raise _missing("key")
    if form.file_name is not None:
        # Some browsers send the whole path.
        base = form.file_name.replace("\\", "/").rpartition("/")[2]
        key = key.replace(_FILE_NAME, base)
        for name in form.values:
            if name.lower() == "key":
                form.values[name] = key
    if not key:
        raise S3Error(
            "UserKeyMustBeSpecified",
            "The bucket POST must contain the specified field name. If it is specified, please "
            "check the order of the fields.",
            status=400,
        )
    if len(key.encode()) > MAX_KEY_BYTES:
        raise key_too_long(key)
    if "\0" in key:
        raise invalid_argument("The key is not valid.", "key")
    return key


def _headers_of(request: Request, fields: dict[str, str]) -> dict[str, str]:
    """The form's fields as the headers that PutObject would have brought them in."""
    headers = {name: request.headers[name] for name in _OF_THE_REQUEST if name in request.headers}
    for name, value in fields.items():
        if name in KEPT_HEADERS or name == "content-md5":
            headers[name] = value
        elif name == "acl":
            headers["x-amz-acl"] = value
        elif name.startswith("x-amz-") and name not in _OF_THE_SIGNATURE:
            if not is_header_name(name):
                raise invalid_argument("The field's name is not that of a header.", name)
            headers[name] = value
    return headers


def _admitted(
    service: Service, request: Request, upload: Request, form: Fields, fields: dict[str, str]
) -> tuple[PostPolicy | None, ObjectFacts]:
    """Everything that is asked before the first byte of the file is read."""
    request.caller = upload.caller = authenticate_form(
        request, fields, service.state, region=service.region, clock=service.clock
    )
    policy = None
    if request.who.user is not None:
        policy = parse_post_policy(fields["policy"])
        policy.check({**form.values, "bucket": request.bucket}, service.clock.time())
    tags = {}
    if fields.get("tagging"):
        tags = tags_of_document(fields["tagging"].encode(), MAX_OBJECT_TAGS)
    extra = tag_context(tags)
    actions = ["s3:PutObject", "s3:PutObjectTagging"] if tags else ["s3:PutObject"]
    for action in actions:
        service.authoriser.require(
            upload, action, upload.resource, bucket=upload.bucket, extra=extra
        )
    check_expected_owner(service, request)
    service.backend.bucket(request.bucket)
    return policy, replace(new_facts(upload), tags=tags)


def _answer(
    request: Request, fields: dict[str, str], record: ObjectRecord, headers: Headers
) -> Response:
    etag = f'"{record.etag}"'
    scheme = "https" if request.secure else "http"
    location = f"{scheme}://{request.headers['host']}{request.base_path}"
    location += xml.url_encoded(request.key)
    redirect = fields.get("success_action_redirect") or fields.get("redirect") or ""
    target = _redirection(redirect, request, etag)
    headers = [("ETag", etag), ("Location", target or location), *headers]
    if target:
        return Response(303, headers)
    status = fields.get("success_action_status", "")
    if status == "201":
        parts = [
            xml.leaf("Location", location),
            xml.leaf("Bucket", request.bucket),
            xml.leaf("Key", request.key),
            xml.leaf("ETag", etag),
        ]
        body = xml.document("PostResponse", parts, namespace="")
        return Response(201, [xml.XML_HEADERS, *headers], body)
    return Response(200 if status == "200" else 204, headers)


def _redirection(url: str, request: Request, etag: str) -> str:
    """Where the browser goes on; "" where the form names no such place."""
    try:
        pieces = urlsplit(url)
    except ValueError:
        return ""
    if pieces.scheme not in ("http", "https") or not pieces.netloc or not url.isprintable():
        return ""
    added = urlencode({"bucket": request.bucket, "key": request.key, "etag": etag})
    query = f"{pieces.query}&{added}" if pieces.query else added
    return pieces._replace(query=query).geturl()


def _missing(name: str) -> S3Error:
    return invalid_argument(
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the "
        "order of the fields.",
        name,
    )
