"""IAM policies: what the rest of the package uses of the ``policy_*`` modules."""

from s3posixfs.identity.policy_actions import KNOWN_ACTIONS, canonical_action
from s3posixfs.identity.policy_document import (
    MAX_BUCKET_POLICY_BYTES,
    MAX_POLICY_BYTES,
    PolicyDocument,
    Statement,
    parse_policy,
)
from s3posixfs.identity.policy_errors import EvaluationError, PolicyError
from s3posixfs.identity.policy_evaluation import AccessRequest, Decision, decide
from s3posixfs.identity.policy_keys import is_known_key
from s3posixfs.identity.policy_predefined import ADMINISTRATOR, ADMINISTRATOR_NAME, PREDEFINED
from s3posixfs.identity.policy_resources import S3_ARN_PREFIX, user_of_arn

__all__ = [
    "ADMINISTRATOR",
    "ADMINISTRATOR_NAME",
    "KNOWN_ACTIONS",
    "MAX_BUCKET_POLICY_BYTES",
    "MAX_POLICY_BYTES",
    "PREDEFINED",
    "S3_ARN_PREFIX",
    "AccessRequest",
    "Decision",
    "EvaluationError",
    "PolicyDocument",
    "PolicyError",
    "Statement",
    "canonical_action",
    "decide",
    "is_known_key",
    "parse_policy",
    "user_of_arn",
]
