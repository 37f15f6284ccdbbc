"""CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation and the bucket's policy.

Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

import re

from s3posixfs.core.errors import S3Error
from s3posixfs.identity.policy import PolicyError, parse_policy
from s3posixfs.store import public_access, xml
from s3posixfs.store.errors import DetailedError, access_denied, invalid_argument, not_implemented
from s3posixfs.store.headers import asks_for_grants, check_write_headers
from s3posixfs.store.policy_status import is_public
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service
from s3posixfs.store.tags import MAX_BUCKET_TAGS, checked, tag_of, tagging_document

# The region whose location S3 writes as nothing, for reasons of history.
_CLASSIC = "us-east-1"
# What could be a region of S3; EU is the old name of one.
_REGION = re.compile(r"EU|[a-z]{2}(?:-[a-z]+)+-[0-9]")
MAX_POLICY_BODY = 64 * 1024


def wanted_of(content: bytes) -> tuple[str, dict[str, str]]:
    """LocationConstraint ("" where there is none) and tags of a CreateBucket body."""
    location = ""
    tags: dict[str, str] = {}
    if not content.strip():
        return location, tags
    for element in xml.parse(content, "CreateBucketConfiguration"):
        name = xml.local_name(element)
        if name == "LocationConstraint":
            location = (element.text or "").strip()
        elif name == "Tags":
            tags = checked([tag_of(child) for child in element], MAX_BUCKET_TAGS)
        else:
            raise not_implemented(f"{name} of CreateBucket")
    return location, tags


def _check_location(location: str, region: str) -> None:
    """Raise unless a bucket can be where the client wants it: in the store's one region."""
    if location in ("", region):
        return
    if _REGION.fullmatch(location) is None:
        raise DetailedError(
            "InvalidLocationConstraint",
            "The specified location-constraint is not valid",
            status=400,
            details={"LocationConstraint": location},
        )
    raise S3Error(
        "IllegalLocationConstraintException",
        f"The {location} location constraint is incompatible for the region specific "
        "endpoint this request was sent to.",
        status=400,
    )


def create_bucket(service: Service, request: Request) -> Response:
    """CreateBucket, owned by the caller.

    Again by its owner is BucketAlreadyOwnedByYou, but in S3's oldest region it succeeds.
    """
    if asks_for_grants(request):
        raise S3Error(
            "InvalidBucketAclWithObjectOwnership",
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
            status=400,
        )
    check_write_headers(request)
    for name in ("x-amz-bucket-object-lock-enabled", "x-amz-bucket-namespace"):
        if request.headers.get(name, "false").lower() != "false":
            raise not_implemented(f"the header {name}")
    ownership = request.headers.get("x-amz-object-ownership", "BucketOwnerEnforced")
    if ownership in ("ObjectWriter", "BucketOwnerPreferred"):
        raise not_implemented(f"object ownership {ownership}: ACLs do not exist here")
    if ownership != "BucketOwnerEnforced":
        raise invalid_argument(
            f"Invalid x-amz-object-ownership header: {ownership}", "x-amz-object-ownership"
        )
    location, tags = wanted_of(request.content)
    _check_location(location, service.region)
    caller = request.who
    try:
        service.backend.create_bucket(request.bucket, caller.owner_id, caller.owner)
    except S3Error as error:
        if error.code != "BucketAlreadyOwnedByYou" or service.region != _CLASSIC:
            raise
    else:
        if tags:
            service.backend.put_document(request.bucket, "tagging", tagging_document(tags))
    return Response(200, [("Location", f"/{request.bucket}")])


def head_bucket(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    headers = [
        ("x-amz-bucket-region", service.region),
        ("x-amz-access-point-alias", "false"),
        xml.XML_HEADERS,
    ]
    return Response(200, headers, length=0)


def delete_bucket(service: Service, request: Request) -> Response:
    service.backend.delete_bucket(request.bucket)
    return Response(204)


def get_location(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    region = "" if service.region == _CLASSIC else xml.escape(service.region)
    return Response(200, [xml.XML_HEADERS], xml.document("LocationConstraint", [region]))


def read_policy(service: Service, request: Request) -> bytes:
    """The bucket's policy; S3Error NoSuchBucketPolicy (404)."""
    text = service.backend.get_document(request.bucket, "policy")
    if text is None:
        raise S3Error("NoSuchBucketPolicy", "The bucket policy does not exist", status=404)
    return text


def get_policy(service: Service, request: Request) -> Response:
    text = read_policy(service, request)
    return Response(200, [("Content-Type", "application/json")], text)


def put_policy(service: Service, request: Request) -> Response:
    """PutBucketPolicy; what the evaluation would not honour to the letter is MalformedPolicy."""
    service.backend.bucket(request.bucket)
    if not request.content.lstrip().startswith(b"{"):
        message = "Policies must be valid JSON and the first byte must be '{'"
        raise S3Error("MalformedPolicy", message, status=400)
    try:
        document = parse_policy(request.content, bucket_policy=True)
    except PolicyError as error:
        raise S3Error("MalformedPolicy", str(error), status=400) from None
    outside = document.resource_outside(request.bucket)
    if outside is not None:
        raise DetailedError(
            "MalformedPolicy",
            "Policy has invalid resource",
            status=400,
            details={"Detail": f"{outside} is not of this bucket"},
        )
    block = service.backend.get_document(request.bucket, public_access.KIND)
    if (
        block is not None
        and public_access.parse_public_access_block(block).block_public_policy
        and is_public(document.compact)
    ):
        raise access_denied(
            "Access Denied: the policy is public, and the bucket's public access block forbids that"
        )
    service.backend.put_document(request.bucket, "policy", document.compact.encode())
    return Response(204)


def delete_policy(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    service.backend.delete_document(request.bucket, "policy")
    return Response(204)


def check_expected_owner(service: Service, request: Request) -> None:
    """``x-amz-expected-bucket-owner``: AccessDenied unless the bucket is that user's."""
    if request.bucket:
        require_owner(service, request, "x-amz-expected-bucket-owner", request.bucket)


def require_owner(service: Service, request: Request, header: str, bucket: str) -> None:
    """AccessDenied unless ``bucket`` is that user's whom ``header`` names, where it is there."""
    expected = request.headers.get(header)
    if expected is None:
        return
    if not expected:
        raise invalid_argument("The value is empty.", header)
    if service.backend.bucket(bucket).owner_id != expected:
        raise S3Error("AccessDenied", "Access Denied", status=403)
