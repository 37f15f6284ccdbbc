"""The actions a policy may name; a name that matches none of them is refused.

Source: the Service Authorization Reference's lists for Amazon S3, AWS STS and IAM, and this
store's own ``s3posixfs:`` actions. Actions are compared without case.
"""

from __future__ import annotations

import difflib

from s3posixfs.identity.policy_errors import PolicyError
from s3posixfs.identity.policy_patterns import pattern

_S3 = """
AbortMultipartUpload AssociateAccessGrantsIdentityCenter BypassGovernanceRetention
CreateAccessGrant CreateAccessGrantsInstance CreateAccessGrantsLocation CreateAccessPoint
CreateAccessPointForObjectLambda CreateBucket CreateBucketMetadataTableConfiguration CreateJob
CreateMultiRegionAccessPoint CreateStorageLensGroup DeleteAccessGrant
DeleteAccessGrantsInstance DeleteAccessGrantsInstanceResourcePolicy DeleteAccessGrantsLocation
DeleteAccessPoint DeleteAccessPointForObjectLambda DeleteAccessPointPolicy
DeleteAccessPointPolicyForObjectLambda DeleteBucket DeleteBucketMetadataTableConfiguration
DeleteBucketOwnershipControls DeleteBucketPolicy DeleteBucketWebsite DeleteJobTagging
DeleteMultiRegionAccessPoint DeleteObject DeleteObjectTagging DeleteObjectVersion
DeleteObjectVersionTagging DeleteStorageLensConfiguration DeleteStorageLensConfigurationTagging
DeleteStorageLensGroup DescribeJob DescribeMultiRegionAccessPointOperation
DissociateAccessGrantsIdentityCenter GetAccelerateConfiguration GetAccessGrant
GetAccessGrantsInstance GetAccessGrantsInstanceForPrefix
GetAccessGrantsInstanceResourcePolicy GetAccessGrantsLocation GetAccessPoint
GetAccessPointConfigurationForObjectLambda GetAccessPointForObjectLambda GetAccessPointPolicy
GetAccessPointPolicyForObjectLambda GetAccessPointPolicyStatus
GetAccessPointPolicyStatusForObjectLambda GetAccountPublicAccessBlock
GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation
GetBucketLogging GetBucketMetadataTableConfiguration GetBucketNotification
GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy
GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging
GetBucketVersioning GetBucketWebsite GetDataAccess GetEncryptionConfiguration
GetIntelligentTieringConfiguration GetInventoryConfiguration GetJobTagging
GetLifecycleConfiguration GetMetricsConfiguration GetMultiRegionAccessPoint
GetMultiRegionAccessPointPolicy GetMultiRegionAccessPointPolicyStatus
GetMultiRegionAccessPointRoutes GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold
GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl
GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging
GetObjectVersionTorrent GetReplicationConfiguration GetStorageLensConfiguration
GetStorageLensConfigurationTagging GetStorageLensDashboard GetStorageLensGroup
InitiateReplication ListAccessGrants ListAccessGrantsInstances ListAccessGrantsLocations
ListAccessPoints ListAccessPointsForObjectLambda ListAllMyBuckets ListBucket
ListBucketMultipartUploads ListBucketVersions ListCallerAccessGrants ListJobs
ListMultiRegionAccessPoints ListMultipartUploadParts ListStorageLensConfigurations
ListStorageLensGroups ListTagsForResource ObjectOwnerOverrideToBucketOwner
PauseReplication PutAccelerateConfiguration PutAccessGrantsInstanceResourcePolicy
PutAccessPointConfigurationForObjectLambda PutAccessPointPolicy
PutAccessPointPolicyForObjectLambda PutAccessPointPublicAccessBlock
PutAccountPublicAccessBlock PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCORS
PutBucketLogging PutBucketNotification PutBucketObjectLockConfiguration
PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment
PutBucketTagging PutBucketVersioning PutBucketWebsite PutEncryptionConfiguration
PutIntelligentTieringConfiguration PutInventoryConfiguration PutJobTagging
PutLifecycleConfiguration PutMetricsConfiguration PutMultiRegionAccessPointPolicy PutObject
PutObjectAcl PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl
PutObjectVersionTagging PutReplicationConfiguration PutStorageLensConfiguration
PutStorageLensConfigurationTagging ReplicateDelete ReplicateObject ReplicateTags RestoreObject
SubmitMultiRegionAccessPointRoutes TagResource UntagResource UpdateAccessGrantsLocation
UpdateBucketMetadataInventoryTableConfiguration UpdateBucketMetadataJournalTableConfiguration
UpdateJobPriority UpdateJobStatus UpdateStorageLensGroup
"""
_STS = """
AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot DecodeAuthorizationMessage
GetAccessKeyInfo GetCallerIdentity GetFederationToken GetServiceBearerToken GetSessionToken
SetContext SetSourceIdentity TagSession
"""
_IAM = """
AttachGroupPolicy AttachRolePolicy AttachUserPolicy ChangePassword CreateAccessKey CreateGroup
CreatePolicy CreatePolicyVersion CreateRole CreateUser DeleteAccessKey DeleteGroup DeletePolicy
DeletePolicyVersion DeleteRole DeleteUser DeleteUserPermissionsBoundary DeleteUserPolicy
DetachGroupPolicy DetachRolePolicy DetachUserPolicy GenerateCredentialReport
GetAccessKeyLastUsed GetAccountSummary GetGroup GetPolicy GetPolicyVersion GetRole GetUser
GetUserPolicy ListAccessKeys ListAccountAliases ListAttachedUserPolicies ListEntitiesForPolicy
ListGroups ListGroupsForUser ListPolicies ListPolicyTags ListPolicyVersions ListRoles
ListUserPolicies ListUserTags ListUsers PassRole PutUserPermissionsBoundary PutUserPolicy
SetDefaultPolicyVersion SimulateCustomPolicy SimulatePrincipalPolicy TagPolicy TagUser
UntagPolicy UntagUser UpdateAccessKey UpdateUser
"""
_OWN = "ListIdentities"

_CANONICAL: dict[str, str] = {
    name.lower(): name
    for service, names in (("s3", _S3), ("sts", _STS), ("iam", _IAM), ("s3posixfs", _OWN))
    for name in (f"{service}:{action}" for action in names.split())
}

# In lower case, as requests are compared.
KNOWN_ACTIONS: frozenset[str] = frozenset(_CANONICAL)


def canonical_action(action: str) -> str | None:
    """The action's usual spelling (``s3:getobject`` → ``s3:GetObject``); None if unknown."""
    return _CANONICAL.get(action.lower())


def expand_action(text: str) -> frozenset[str]:
    """The known actions (lower case) that ``text`` matches; PolicyError when there are none."""
    lower = text.lower()
    if lower == "*":
        return KNOWN_ACTIONS
    if lower in KNOWN_ACTIONS:
        return frozenset((lower,))
    service, colon, _ = lower.partition(":")
    if not colon:
        raise PolicyError(f"'{text}' is no action: write SERVICE:ACTION, such as s3:GetObject")
    if "*" not in service and "?" not in service:
        glob = pattern(lower, variables=False)
        found = frozenset(action for action in KNOWN_ACTIONS if glob.matches(action, {}))
        if found:
            return found
    near = difflib.get_close_matches(lower, KNOWN_ACTIONS, n=1)
    hint = f"; did you mean {_CANONICAL[near[0]]}?" if near else ""
    raise PolicyError(f"unknown action '{text}'{hint}")
