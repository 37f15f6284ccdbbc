"""Buckets, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3posixfs.store.handlers import (
    buckets,
    fixed,
    identities,
    listing,
    multipart,
    objects,
)
from s3posixfs.store.operations.common import CONFIGURATION_BYTES, question
from s3posixfs.store.request import Request
from s3posixfs.store.router import Operation
from s3posixfs.store.service import Service

MAX_DELETE_BYTES = 4 * 1024 * 1024
_PAGING = frozenset({"prefix", "delimiter", "encoding-type", "max-keys"})


def _location(service: Service, request: Request) -> Mapping[str, str | Sequence[str]]:
    # The body is read only after this; the store has one region, which is what it can ask for.
    return {"s3:locationconstraint": service.region}


BUCKETS: Sequence[Operation] = (
    # --- service
    Operation(
        "ListBuckets",
        "GET",
        "service",
        "s3:ListAllMyBuckets",
        handler=listing.list_buckets,
        parameters=listing.BUCKET_PARAMETERS,
    ),
    Operation(
        "ListIdentities",
        "GET",
        "service",
        "s3posixfs:ListIdentities",
        handler=identities.list_identities,
        selector=identities.PARAMETER,
    ),
    # --- buckets
    Operation(
        "CreateBucket",
        "PUT",
        "bucket",
        "s3:CreateBucket",
        handler=buckets.create_bucket,
        body_limit=CONFIGURATION_BYTES,
        context=_location,
    ),
    Operation("HeadBucket", "HEAD", "bucket", "s3:ListBucket", handler=buckets.head_bucket),
    Operation("DeleteBucket", "DELETE", "bucket", "s3:DeleteBucket", handler=buckets.delete_bucket),
    Operation(
        "ListObjects",
        "GET",
        "bucket",
        "s3:ListBucket",
        handler=listing.list_objects,
        parameters=_PAGING | {"marker"},
    ),
    Operation(
        "ListObjectsV2",
        "GET",
        "bucket",
        "s3:ListBucket",
        handler=listing.list_objects_v2,
        selector="list-type",
        value="2",
        parameters=_PAGING | {"continuation-token", "start-after", "fetch-owner", "metadata"},
    ),
    Operation(
        "ListObjectVersions",
        "GET",
        "bucket",
        "s3:ListBucketVersions",
        handler=listing.list_object_versions,
        selector="versions",
        parameters=_PAGING | {"key-marker", "version-id-marker"},
    ),
    Operation(
        "DeleteObjects",
        "POST",
        "bucket",
        None,  # each key by itself
        handler=objects.delete_objects,
        body_limit=MAX_DELETE_BYTES,
        digest=True,
        selector="delete",
    ),
    Operation(
        "ListMultipartUploads",
        "GET",
        "bucket",
        "s3:ListBucketMultipartUploads",
        handler=multipart.list_uploads,
        selector="uploads",
        parameters=frozenset(
            {
                "prefix",
                "delimiter",
                "encoding-type",
                "key-marker",
                "upload-id-marker",
                "max-uploads",
            }
        ),
    ),
    question("GetBucketLocation", "location", "s3:GetBucketLocation", buckets.get_location),
    question("GetBucketPolicy", "policy", "s3:GetBucketPolicy", buckets.get_policy),
    question(
        "GetBucketPolicyStatus",
        "policyStatus",
        "s3:GetBucketPolicyStatus",
        fixed.get_policy_status,
    ),
    Operation(
        "PutBucketPolicy",
        "PUT",
        "bucket",
        "s3:PutBucketPolicy",
        handler=buckets.put_policy,
        body_limit=buckets.MAX_POLICY_BODY,
        selector="policy",
    ),
    Operation(
        "DeleteBucketPolicy",
        "DELETE",
        "bucket",
        "s3:DeleteBucketPolicy",
        handler=buckets.delete_policy,
        selector="policy",
    ),
)
