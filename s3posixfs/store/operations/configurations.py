"""How a bucket is configured, and what clients ask of that."""

from __future__ import annotations

from collections.abc import Sequence

from s3posixfs.store.handlers import cors, fixed, lifecycle, probes, public_access, tagging
from s3posixfs.store.operations.common import CONFIGURATION_BYTES, question
from s3posixfs.store.router import Operation

_LIFECYCLE_BYTES = 4 * 1024 * 1024  # a thousand rules with ten tags each


CONFIGURATIONS: Sequence[Operation] = (
    # --- configuration of a bucket
    question("GetBucketTagging", "tagging", "s3:GetBucketTagging", tagging.get_bucket_tagging),
    Operation(
        "PutBucketTagging",
        "PUT",
        "bucket",
        "s3:PutBucketTagging",
        handler=tagging.put_bucket_tagging,
        body_limit=CONFIGURATION_BYTES,
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
    question("GetBucketCors", "cors", "s3:GetBucketCORS", cors.get_bucket_cors),
    Operation(
        "PutBucketCors",
        "PUT",
        "bucket",
        "s3:PutBucketCORS",
        handler=cors.put_bucket_cors,
        body_limit=CONFIGURATION_BYTES,
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
    question(
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
    question(
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
        body_limit=CONFIGURATION_BYTES,
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
    question(
        "GetBucketVersioning",
        "versioning",
        "s3:GetBucketVersioning",
        probes.empty("VersioningConfiguration"),
    ),
    question("GetBucketAcl", "acl", "s3:GetBucketAcl", probes.bucket_acl),
    question(
        "GetBucketLogging", "logging", "s3:GetBucketLogging", probes.empty("BucketLoggingStatus")
    ),
    question(
        "GetBucketNotificationConfiguration",
        "notification",
        "s3:GetBucketNotification",
        probes.empty("NotificationConfiguration"),
    ),
    question(
        "GetBucketAccelerateConfiguration",
        "accelerate",
        "s3:GetAccelerateConfiguration",
        probes.empty("AccelerateConfiguration"),
    ),
    question(
        "GetBucketRequestPayment",
        "requestPayment",
        "s3:GetBucketRequestPayment",
        probes.request_payment,
    ),
    question(
        "GetBucketEncryption",
        "encryption",
        "s3:GetEncryptionConfiguration",
        probes.not_found(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        ),
    ),
    question(
        "GetObjectLockConfiguration",
        "object-lock",
        "s3:GetBucketObjectLockConfiguration",
        probes.not_found(
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
        ),
    ),
    question(
        "GetBucketReplication",
        "replication",
        "s3:GetReplicationConfiguration",
        probes.not_found(
            "ReplicationConfigurationNotFoundError",
            "The replication configuration was not found",
        ),
    ),
    question(
        "GetBucketWebsite",
        "website",
        "s3:GetBucketWebsite",
        probes.not_found(
            "NoSuchWebsiteConfiguration",
            "The specified bucket does not have a website configuration",
        ),
    ),
    question(
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
        body_limit=CONFIGURATION_BYTES,
        selector="ownershipControls",
    ),
    Operation(
        "PutBucketAcl",
        "PUT",
        "bucket",
        "s3:PutBucketAcl",
        handler=fixed.put_bucket_acl,
        body_limit=CONFIGURATION_BYTES,
        selector="acl",
    ),
    Operation(
        "PutObjectAcl",
        "PUT",
        "object",
        "s3:PutObjectAcl",
        handler=fixed.put_object_acl,
        body_limit=CONFIGURATION_BYTES,
        selector="acl",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "PutBucketVersioning",
        "PUT",
        "bucket",
        "s3:PutBucketVersioning",
        handler=fixed.put_versioning,
        body_limit=CONFIGURATION_BYTES,
        selector="versioning",
    ),
)
