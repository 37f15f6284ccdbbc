"""CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation and the bucket's policy.

Source: the S3 API reference, the pages of these operations.
"""

from __future__ import annotations

from s3posixfs.core.errors import S3Error
from s3posixfs.identity.policy import PolicyError, parse_policy
from s3posixfs.store import xml
from s3posixfs.store.errors import invalid_argument, not_implemented
from s3posixfs.store.headers import check_write_headers
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

# The region whose location S3 writes as nothing, for reasons of history.
_CLASSIC = "us-east-1"
MAX_POLICY_BODY = 64 * 1024


def location_of(content: bytes) -> str:
    """The LocationConstraint of a CreateBucket body, "" where it has none."""
    if not content.strip():
        return ""
    for element in xml.parse(content, "CreateBucketConfiguration"):
        name = xml.local_name(element)
        if name == "LocationConstraint":
            return (element.text or "").strip()
        raise not_implemented(f"{name} of CreateBucket")
    return ""


def create_bucket(service: Service, request: Request) -> Response:
    """CreateBucket, owned by the caller; again by its owner is BucketAlreadyOwnedByYou."""
    check_write_headers(request)
    for name in ("x-amz-bucket-object-lock-enabled", "x-amz-bucket-namespace"):
        if request.headers.get(name, "false").lower() != "false":
            raise not_implemented(f"the header {name}")
    ownership = request.headers.get("x-amz-object-ownership", "BucketOwnerEnforced")
    if ownership != "BucketOwnerEnforced":
        raise not_implemented(f"object ownership {ownership}: ACLs do not exist here")
    location = location_of(request.content)
    if location and location != service.region:
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {location} location constraint is incompatible for the region specific "
            "endpoint this request was sent to.",
            status=400,
        )
    caller = request.who
    service.backend.create_bucket(request.bucket, caller.owner_id, caller.owner)
    return Response(200, [("Location", f"/{request.bucket}")])


def head_bucket(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    return Response(200, [("x-amz-bucket-region", service.region)], length=0)


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
    try:
        document = parse_policy(request.content, bucket_policy=True)
    except PolicyError as error:
        raise S3Error("MalformedPolicy", str(error), status=400) from None
    outside = document.resource_outside(request.bucket)
    if outside is not None:
        message = f"Policy has invalid resource: {outside} is not of this bucket"
        raise S3Error("MalformedPolicy", message, status=400)
    service.backend.put_document(request.bucket, "policy", document.compact.encode())
    return Response(204)


def delete_policy(service: Service, request: Request) -> Response:
    service.backend.bucket(request.bucket)
    service.backend.delete_document(request.bucket, "policy")
    return Response(204)


def check_expected_owner(service: Service, request: Request) -> None:
    """``x-amz-expected-bucket-owner``: AccessDenied unless the bucket is that user's."""
    expected = request.headers.get("x-amz-expected-bucket-owner")
    if expected is None or not request.bucket:
        return
    if not expected:
        raise invalid_argument("The value is empty.", "x-amz-expected-bucket-owner")
    if service.backend.bucket(request.bucket).owner_id != expected:
        raise S3Error("AccessDenied", "Access Denied", status=403)
