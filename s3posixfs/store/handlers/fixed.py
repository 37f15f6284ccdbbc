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
from s3posixfs.store.headers import asks_for_grants, no_acls
from s3posixfs.store.policy_status import is_public
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

ENFORCED = "BucketOwnerEnforced"


def put_bucket_acl(service: Service, request: Request) -> Response:
    _check_acl(request, service.backend.bucket(request.bucket).owner_id)
    return Response(200)


def put_object_acl(service: Service, request: Request) -> Response:
    opened = open_existing(service, request)
    opened.close()
    _check_acl(request, opened.record.owner_id)
    return Response(200)


def _check_acl(request: Request, owner: str) -> None:
    """Raise unless the request says what is so already: the owner may do everything.

    That much a bucket of enforced ownership accepts, so that tools can carry over what they read.
    """
    if asks_for_grants(request) or request.headers.get("x-amz-acl") == "bucket-owner-read":
        raise no_acls()
    if not request.content.strip():
        if "x-amz-acl" not in request.headers:
            raise S3Error(
                "MissingSecurityHeader",
                "Your request was missing a required header",
                status=400,
            )
        return
    try:
        policy = xml.parse(request.content, "AccessControlPolicy")
    except S3Error as error:
        raise S3Error("MalformedACLError", error.message, status=400) from None
    grants = [
        grant for child in policy if xml.local_name(child) == "AccessControlList" for grant in child
    ]
    if not grants or any(not _is_full_control(grant, owner) for grant in grants):
        raise no_acls()


def _is_full_control(grant: xml.Element, owner: str) -> bool:
    texts = {xml.local_name(part): part.text or "" for part in grant.iter()}
    return texts.get("ID") == owner and texts.get("Permission") == "FULL_CONTROL"


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
