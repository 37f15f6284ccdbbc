"""The condition keys a policy may name; anything else is refused when the policy is added.

Context comes only from this table, never from what a client calls its headers. Keys that this
store never sets (an organisation, a VPC) are known all the same: they are missing from every
request, which is what AWS says of a request that does not have them.
Source: AWS IAM User Guide, "AWS global condition context keys"; Service Authorization
Reference, "Actions, resources, and condition keys for Amazon S3", "… AWS STS", "… IAM".
"""

from __future__ import annotations

KNOWN_KEYS: frozenset[str] = frozenset(
    (
        # properties of the principal
        "aws:username aws:userid aws:PrincipalType aws:PrincipalArn aws:PrincipalAccount "
        "aws:PrincipalOrgID aws:PrincipalOrgPaths aws:PrincipalIsAWSService "
        "aws:PrincipalServiceName aws:PrincipalServiceNamesList "
        # properties of the session
        "aws:TokenIssueTime aws:MultiFactorAuthAge aws:MultiFactorAuthPresent "
        "aws:FederatedProvider aws:SourceIdentity aws:ChatbotSourceArn "
        "aws:Ec2InstanceSourceVpc aws:Ec2InstanceSourcePrivateIPv4 aws:AssumedRoot "
        # properties of the network and the request
        "aws:SourceIp aws:VpcSourceIp aws:SourceVpc aws:SourceVpce aws:SourceVpcArn "
        "aws:SecureTransport aws:CurrentTime aws:EpochTime aws:UserAgent aws:Referer "
        "aws:RequestedRegion aws:SourceAccount aws:SourceArn aws:SourceOrgID "
        "aws:SourceOrgPaths aws:TagKeys aws:ViaAWSService aws:CalledVia aws:CalledViaFirst "
        "aws:CalledViaLast aws:ResourceAccount aws:ResourceOrgID aws:ResourceOrgPaths "
        "aws:VpceAccount aws:VpceOrgID aws:VpceOrgPaths aws:IsMcpServiceAction "
        # Amazon S3
        "s3:prefix s3:delimiter s3:max-keys s3:x-amz-acl s3:x-amz-copy-source "
        "s3:x-amz-metadata-directive s3:x-amz-storage-class s3:x-amz-content-sha256 "
        "s3:signatureversion s3:signatureAge s3:authType s3:VersionId s3:LocationConstraint "
        "s3:TlsVersion s3:ResourceAccount s3:RequestObjectTagKeys s3:x-amz-grant-read "
        "s3:x-amz-grant-read-acp s3:x-amz-grant-write s3:x-amz-grant-write-acp "
        "s3:x-amz-grant-full-control s3:x-amz-server-side-encryption "
        "s3:x-amz-server-side-encryption-aws-kms-key-id "
        "s3:x-amz-server-side-encryption-customer-algorithm s3:x-amz-website-redirect-location "
        "s3:x-amz-object-ownership s3:object-lock-mode s3:object-lock-retain-until-date "
        "s3:object-lock-remaining-retention-days s3:object-lock-legal-hold s3:if-match "
        "s3:if-none-match s3:DataAccessPointArn s3:DataAccessPointAccount "
        "s3:AccessPointNetworkOrigin s3:JobSuspendedCause s3:RequestJobOperation "
        "s3:RequestJobPriority s3:ExistingJobOperation s3:ExistingJobPriority "
        "s3:InventoryAccessibleOptionalFields s3:destinationRegion s3:ObjectCreationOperation "
        "s3:isReplicationPauseRequest s3:AccessGrantsInstanceArn s3:AccessGrantScope "
        # STS and IAM
        "sts:ExternalId sts:RoleSessionName sts:SourceIdentity sts:TransitiveTagKeys "
        "sts:DurationSeconds sts:TaskPolicyArn sts:AWSServiceName "
        "iam:PolicyARN iam:PassedToService iam:AssociatedResourceArn iam:AWSServiceName "
        "iam:OrganizationsPolicyId iam:PermissionsBoundary"
    )
    .lower()
    .split()
)

# Families named by a tag: the part after the slash is the tag's key.
KNOWN_KEY_PREFIXES: tuple[str, ...] = tuple(
    prefix.lower()
    for prefix in (
        "aws:PrincipalTag/",
        "aws:RequestTag/",
        "aws:ResourceTag/",
        "s3:ExistingObjectTag/",
        "s3:RequestObjectTag/",
        "s3:BucketTag/",
        "iam:ResourceTag/",
    )
)


def is_known_key(key: str) -> bool:
    """Whether ``key`` (any case) is in the table."""
    lower = key.lower()
    if lower in KNOWN_KEYS:
        return True
    return any(lower.startswith(p) and len(lower) > len(p) for p in KNOWN_KEY_PREFIXES)
