"""An S3 request as the handlers see it: bucket, key, query, headers, body, and its audit trail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus, unquote_to_bytes

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES
from s3posixfs.store.errors import key_too_long
from s3posixfs.store.http_body import Body
from s3posixfs.store.http_head import RequestHead

if TYPE_CHECKING:
    from s3posixfs.store.authenticate import Caller

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")


@dataclass(slots=True)
class AuditTrail:
    """What the audit log will say of a request, filled in as it becomes known."""

    operation: str = ""
    access_key: str | None = None  # as claimed: proven only where there is a user
    action: str = ""
    resource: str = ""  # what else the call is about, as an ARN: IAM's user, a rename's source
    decision: str = ""
    sid: str | None = None
    policy: str | None = None


@dataclass(slots=True)
class Request:
    """One request. ``key`` is "" unless an object is meant; header names are in lower case.

    ``raw_path`` and ``raw_query`` are as on the wire (the signature is over them). Times are
    seconds since the epoch.
    """

    id: str
    received_at: float
    method: str
    raw_path: str
    raw_query: str
    header_list: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    query: Mapping[str, str]
    bucket: str
    key: str
    body: Body
    peer: str
    secure: bool
    virtual: bool = False  # the bucket was named by the host, not by the path
    caller: Caller | None = None
    content: bytes = b""  # the whole body, for operations that take a small one
    audit: AuditTrail = field(default_factory=AuditTrail)

    @property
    def resource(self) -> str:
        """The ARN that a policy names this request's target by."""
        if self.key:
            return f"arn:aws:s3:::{self.bucket}/{self.key}"
        return f"arn:aws:s3:::{self.bucket}" if self.bucket else "arn:aws:s3:::*"

    @property
    def base_path(self) -> str:
        """The path before a key of the request's bucket, in the style the client uses."""
        return "/" if self.virtual else f"/{self.bucket}/"

    @property
    def who(self) -> Caller:
        """Who sent this; only after authentication."""
        assert self.caller is not None  # noqa: S101  every request is authenticated first
        return self.caller


def parse_request(
    head: RequestHead,
    body: Body,
    *,
    peer: str,
    secure: bool,
    domain: str | None,
    request_id: str,
    now: float,
) -> Request:
    """Read bucket, key and query out of ``head``; S3Error InvalidURI where they can't be.

    With ``domain`` D a request for host ``BUCKET.D`` is about that bucket (virtual-hosted
    style); every other request names the bucket in its path.
    """
    path, _, raw_query = head.target.partition(b"?")
    headers: dict[str, str] = {}
    for name, value in head.headers:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    segments = path[1:]
    bucket = _virtual_bucket(headers["host"], domain) if domain else ""
    virtual = bucket != ""
    if not virtual:
        raw_bucket, _, raw_key = segments.partition(b"/")
        bucket = decode_path(raw_bucket)
    else:
        raw_key = segments
    key = decode_path(raw_key)
    if bucket:
        check_bucket_name(bucket)
    if len(key.encode("utf-8")) > MAX_KEY_BYTES:
        raise key_too_long(key)
    if key and not bucket:
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.", status=400)
    query_text = raw_query.decode("ascii")
    return Request(
        id=request_id,
        received_at=now,
        method=head.method,
        raw_path=path.decode("ascii"),
        raw_query=query_text,
        header_list=head.headers,
        headers=headers,
        query=parse_query(query_text),
        bucket=bucket,
        key=key,
        body=body,
        peer=peer,
        secure=secure,
        virtual=virtual,
    )


def decode_path(raw: bytes) -> str:
    """Percent-decode a bucket or key; InvalidURI unless the result is UTF-8 without NUL."""
    try:
        text = (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI.", status=400) from None
    if "\0" in text:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI.", status=400)
    return text


def parse_query(raw: str) -> dict[str, str]:
    """Names and values of a query; a name given twice is refused, as it has two readings."""
    query: dict[str, str] = {}
    if not raw:
        return query
    for part in raw.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        try:
            name = unquote_plus(name, errors="strict")
            value = unquote_plus(value, errors="strict")
        except UnicodeDecodeError:
            raise S3Error("InvalidURI", "Couldn't parse the specified URI.", status=400) from None
        if name in query:
            raise S3Error(
                "InvalidArgument", f"The query parameter {name} is given twice.", status=400
            )
        query[name] = value
    return query


def _virtual_bucket(host: str, domain: str) -> str:
    suffix = f".{domain.lower()}"
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.lower()  # host names have no case, and buckets no capitals
    return name.removesuffix(suffix) if name.endswith(suffix) else ""


def check_bucket_name(name: str) -> None:
    """Raise InvalidBucketName unless S3 allows a bucket to be called so."""
    if (
        _BUCKET_NAME.fullmatch(name) is None
        or name.startswith(("xn--", "sthree-"))
        or name.endswith(("-s3alias", "--ol-s3", "--x-s3", "--table-s3", ".mrap"))
        or ".-" in name
        or "-." in name
    ):
        message = "The specified bucket is not valid."
        raise S3Error("InvalidBucketName", message, status=400, resource=name)
