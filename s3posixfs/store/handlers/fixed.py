"""Bucket settings that are always the same here: owners are enforced, lists of grants do not exist.

What a client sets to what it is already succeeds; anything else is refused as S3 refuses it in
a bucket of the kind, or is NotImplemented.
Source: the S3 user guide, "Controlling ownership of objects and disabling ACLs for your bucket".
"""

from __future__ import annotations

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.errors import not_implemented
from s3posixfs.store.handlers.buckets import read_policy
from s3posixfs.store.handlers.objects import open_existing
from s3posixfs.store.policy_status import is_public
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

ENFORCED = "BucketOwnerEnforced"


def no_acls() -> S3Error:
    return S3Error("AccessControlListNotSupported", "The bucket does not allow ACLs", status=400)


def put_bucket_acl(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    raise no_acls()


def put_object_acl(service: Service, request: Request) -> Response:
    open_existing(service, request).close()
    raise no_acls()


def get_ownership(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    rule = f"<Rule>{xml.leaf('ObjectOwnership', ENFORCED)}</Rule>"
    return Response(200, [xml.XML_HEADERS], xml.document("OwnershipControls", [rule]))


def put_ownership(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    rules = list(xml.parse(request.content, "OwnershipControls"))
    if len(rules) != 1 or xml.local_name(rules[0]) != "Rule":
        raise xml.malformed()
    fields = xml.children(rules[0])
    if fields.keys() != {"ObjectOwnership"}:
        raise xml.malformed()
    check_ownership(fields["ObjectOwnership"].strip())
    return Response(200)


def check_ownership(wanted: str) -> None:
    """Raise unless ``wanted`` is how objects are owned here."""
    if wanted in ("ObjectWriter", "BucketOwnerPreferred"):
        raise not_implemented(f"object ownership {wanted}: ACLs do not exist here")
    if wanted != ENFORCED:
        raise xml.malformed()


def get_policy_status(service: Service, request: Request) -> Response:
    public = is_public(read_policy(service, request))
    body = xml.document("PolicyStatus", [xml.leaf("IsPublic", public)])
    return Response(200, [xml.XML_HEADERS], body)


def put_versioning(service: Service, request: Request) -> Response:
    """PutBucketVersioning: refused, and never a wrong success (docs/adr/0003)."""
    service.backend.bucket(request.bucket)
    fields = xml.children(xml.parse(request.content, "VersioningConfiguration"))
    if fields.keys() - {"Status", "MfaDelete"} or fields.get("Status", "").strip() not in (
        "Enabled",
        "Suspended",
    ):
        raise xml.malformed()
    raise not_implemented("versioning: an object is one plain file")
