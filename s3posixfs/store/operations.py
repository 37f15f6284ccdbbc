"""Every S3 operation that is built: how it is asked for, what it needs, what answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3posixfs.store.handlers import (
    attributes,
    buckets,
    completing,
    copying,
    cors,
    fixed,
    identities,
    lifecycle,
    listing,
    multipart,
    objects,
    probes,
    public_access,
    tagging,
)
from s3posixfs.store.headers import tags_of
from s3posixfs.store.request import Request
from s3posixfs.store.router import Handler, Operation
from s3posixfs.store.service import Service

MAX_DELETE_BYTES = 4 * 1024 * 1024
_CONFIGURATION_BYTES = 64 * 1024
_LIFECYCLE_BYTES = 4 * 1024 * 1024  # a thousand rules with ten tags each

_READ = frozenset({"versionId", "partNumber", *objects.OVERRIDES})
_PAGING = frozenset({"prefix", "delimiter", "encoding-type", "max-keys"})


def _request_tags(service: Service, request: Request) -> Mapping[str, str | Sequence[str]]:
    """The tags that a write brings; they need an action of their own."""
    tags = tags_of(request)
    if not tags:
        return {}
    extra = tagging.tag_context(tags)
    service.authoriser.require(
        request, "s3:PutObjectTagging", request.resource, bucket=request.bucket, extra=extra
    )
    return extra


def _location(service: Service, request: Request) -> Mapping[str, str | Sequence[str]]:
    # The body is read only after this; the store has one region, which is what it can ask for.
    return {"s3:locationconstraint": service.region}


def _probe(name: str, selector: str, action: str, handler: Handler) -> Operation:
    return Operation(name, "GET", "bucket", action, handler=handler, selector=selector)


OPERATIONS: Sequence[Operation] = (
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
        body_limit=_CONFIGURATION_BYTES,
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
    _probe("GetBucketLocation", "location", "s3:GetBucketLocation", buckets.get_location),
    _probe("GetBucketPolicy", "policy", "s3:GetBucketPolicy", buckets.get_policy),
    _probe(
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
    # --- configuration of a bucket
    _probe("GetBucketTagging", "tagging", "s3:GetBucketTagging", tagging.get_bucket_tagging),
    Operation(
        "PutBucketTagging",
        "PUT",
        "bucket",
        "s3:PutBucketTagging",
        handler=tagging.put_bucket_tagging,
        body_limit=_CONFIGURATION_BYTES,
        digest=True,
        selector="tagging",
    ),
    Operation(
        "DeleteBucketTagging",
        "DELETE",
        "bucket",
        "s3:PutBucketTagging",
        handler=tagging.delete_bucket_tagging,
        selector="tagging",
    ),
    _probe("GetBucketCors", "cors", "s3:GetBucketCORS", cors.get_bucket_cors),
    Operation(
        "PutBucketCors",
        "PUT",
        "bucket",
        "s3:PutBucketCORS",
        handler=cors.put_bucket_cors,
        body_limit=_CONFIGURATION_BYTES,
        digest=True,
        selector="cors",
    ),
    Operation(
        "DeleteBucketCors",
        "DELETE",
        "bucket",
        "s3:PutBucketCORS",
        handler=cors.delete_bucket_cors,
        selector="cors",
    ),
    _probe(
        "GetBucketLifecycleConfiguration",
        "lifecycle",
        "s3:GetLifecycleConfiguration",
        lifecycle.get_lifecycle,
    ),
    Operation(
        "PutBucketLifecycleConfiguration",
        "PUT",
        "bucket",
        "s3:PutLifecycleConfiguration",
        handler=lifecycle.put_lifecycle,
        body_limit=_LIFECYCLE_BYTES,
        digest=True,
        selector="lifecycle",
    ),
    Operation(
        "DeleteBucketLifecycle",
        "DELETE",
        "bucket",
        "s3:PutLifecycleConfiguration",
        handler=lifecycle.delete_lifecycle,
        selector="lifecycle",
    ),
    _probe(
        "GetPublicAccessBlock",
        "publicAccessBlock",
        "s3:GetBucketPublicAccessBlock",
        public_access.get_public_access_block,
    ),
    Operation(
        "PutPublicAccessBlock",
        "PUT",
        "bucket",
        "s3:PutBucketPublicAccessBlock",
        handler=public_access.put_public_access_block,
        body_limit=_CONFIGURATION_BYTES,
        selector="publicAccessBlock",
    ),
    Operation(
        "DeletePublicAccessBlock",
        "DELETE",
        "bucket",
        "s3:PutBucketPublicAccessBlock",
        handler=public_access.delete_public_access_block,
        selector="publicAccessBlock",
    ),
    # --- what clients probe for
    _probe(
        "GetBucketVersioning",
        "versioning",
        "s3:GetBucketVersioning",
        probes.empty("VersioningConfiguration"),
    ),
    _probe("GetBucketAcl", "acl", "s3:GetBucketAcl", probes.bucket_acl),
    _probe(
        "GetBucketLogging", "logging", "s3:GetBucketLogging", probes.empty("BucketLoggingStatus")
    ),
    _probe(
        "GetBucketNotificationConfiguration",
        "notification",
        "s3:GetBucketNotification",
        probes.empty("NotificationConfiguration"),
    ),
    _probe(
        "GetBucketAccelerateConfiguration",
        "accelerate",
        "s3:GetAccelerateConfiguration",
        probes.empty("AccelerateConfiguration"),
    ),
    _probe(
        "GetBucketRequestPayment",
        "requestPayment",
        "s3:GetBucketRequestPayment",
        probes.request_payment,
    ),
    _probe(
        "GetBucketEncryption",
        "encryption",
        "s3:GetEncryptionConfiguration",
        probes.not_found(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        ),
    ),
    _probe(
        "GetObjectLockConfiguration",
        "object-lock",
        "s3:GetBucketObjectLockConfiguration",
        probes.not_found(
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
        ),
    ),
    _probe(
        "GetBucketReplication",
        "replication",
        "s3:GetReplicationConfiguration",
        probes.not_found(
            "ReplicationConfigurationNotFoundError",
            "The replication configuration was not found",
        ),
    ),
    _probe(
        "GetBucketWebsite",
        "website",
        "s3:GetBucketWebsite",
        probes.not_found(
            "NoSuchWebsiteConfiguration",
            "The specified bucket does not have a website configuration",
        ),
    ),
    _probe(
        "GetBucketOwnershipControls",
        "ownershipControls",
        "s3:GetBucketOwnershipControls",
        fixed.get_ownership,
    ),
    # --- what is always the same
    Operation(
        "PutBucketOwnershipControls",
        "PUT",
        "bucket",
        "s3:PutBucketOwnershipControls",
        handler=fixed.put_ownership,
        body_limit=_CONFIGURATION_BYTES,
        selector="ownershipControls",
    ),
    Operation(
        "PutBucketAcl",
        "PUT",
        "bucket",
        "s3:PutBucketAcl",
        handler=fixed.put_bucket_acl,
        body_limit=_CONFIGURATION_BYTES,
        selector="acl",
    ),
    Operation(
        "PutObjectAcl",
        "PUT",
        "object",
        "s3:PutObjectAcl",
        handler=fixed.put_object_acl,
        body_limit=_CONFIGURATION_BYTES,
        selector="acl",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "PutBucketVersioning",
        "PUT",
        "bucket",
        "s3:PutBucketVersioning",
        handler=fixed.put_versioning,
        body_limit=_CONFIGURATION_BYTES,
        selector="versioning",
    ),
    # --- objects
    Operation(
        "GetObject",
        "GET",
        "object",
        "s3:GetObject",
        handler=objects.get_object,
        parameters=_READ,
    ),
    Operation(
        "HeadObject",
        "HEAD",
        "object",
        "s3:GetObject",
        handler=objects.get_object,
        parameters=_READ,
    ),
    Operation(
        "GetObjectAttributes",
        "GET",
        "object",
        "s3:GetObjectAttributes",
        handler=attributes.get_object_attributes,
        selector="attributes",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "GetObjectAcl",
        "GET",
        "object",
        "s3:GetObjectAcl",
        handler=probes.object_acl,
        selector="acl",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "GetObjectTagging",
        "GET",
        "object",
        "s3:GetObjectTagging",
        handler=tagging.get_object_tagging,
        selector="tagging",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "PutObjectTagging",
        "PUT",
        "object",
        None,  # the tags can decide, so the handler asks
        handler=tagging.put_object_tagging,
        body_limit=_CONFIGURATION_BYTES,
        selector="tagging",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "DeleteObjectTagging",
        "DELETE",
        "object",
        "s3:DeleteObjectTagging",
        handler=tagging.delete_object_tagging,
        selector="tagging",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "PutObject",
        "PUT",
        "object",
        "s3:PutObject",
        streaming=objects.put_object,
        context=_request_tags,
    ),
    Operation(
        "CopyObject",
        "PUT",
        "object",
        "s3:PutObject",
        handler=copying.copy_object,
        context=_request_tags,
        header="x-amz-copy-source",
    ),
    Operation(
        "RenameObject",
        "PUT",
        "object",
        "s3:PutObject",
        handler=objects.rename_object,
        selector="renameObject",
        header="x-amz-rename-source",
    ),
    Operation(
        "DeleteObject",
        "DELETE",
        "object",
        "s3:DeleteObject",
        handler=objects.delete_object,
        parameters=frozenset({"versionId"}),
    ),
    # --- multipart uploads
    Operation(
        "CreateMultipartUpload",
        "POST",
        "object",
        "s3:PutObject",
        handler=multipart.create_upload,
        context=_request_tags,
        selector="uploads",
    ),
    Operation(
        "UploadPart",
        "PUT",
        "object",
        "s3:PutObject",
        streaming=multipart.upload_part,
        selector="uploadId",
        parameters=frozenset({"partNumber"}),
    ),
    Operation(
        "UploadPartCopy",
        "PUT",
        "object",
        "s3:PutObject",
        handler=multipart.upload_part_copy,
        selector="uploadId",
        header="x-amz-copy-source",
        parameters=frozenset({"partNumber"}),
    ),
    Operation(
        "ListParts",
        "GET",
        "object",
        "s3:ListMultipartUploadParts",
        handler=multipart.list_parts,
        selector="uploadId",
        parameters=frozenset({"max-parts", "part-number-marker"}),
    ),
    Operation(
        "CompleteMultipartUpload",
        "POST",
        "object",
        "s3:PutObject",
        handler=completing.complete_upload,
        body_limit=completing.MAX_COMPLETE_BYTES,
        checksum_of_body=False,
        selector="uploadId",
    ),
    Operation(
        "AbortMultipartUpload",
        "DELETE",
        "object",
        "s3:AbortMultipartUpload",
        handler=multipart.abort_upload,
        selector="uploadId",
    ),
)
