"""Policies that are always there, and can be neither replaced nor removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from s3posixfs.identity.policy_document import PolicyDocument, parse_policy


def _allow(sid: str, resource: str, *actions: str) -> PolicyDocument:
    statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


PREDEFINED: Mapping[str, PolicyDocument] = MappingProxyType(
    {
        "readonly": _allow(
            "readonly",
            "arn:aws:s3:::*",
            "s3:ListAllMyBuckets",
            "s3:ListBucket",
            "s3:ListBucketMultipartUploads",
            "s3:ListMultipartUploadParts",
            "s3:GetBucketLocation",
            "s3:GetBucketPolicy",
            "s3:GetBucketTagging",
            "s3:GetObject",
        ),
        "writeonly": _allow("writeonly", "arn:aws:s3:::*", "s3:PutObject"),
        "readwrite": _allow("readwrite", "arn:aws:s3:::*", "s3:*"),
    }
)

# What the role admin may do, as a policy, so that one evaluation serves all: everything that a
# session's own policy does not take away. It can be attached to nobody.
ADMINISTRATOR_NAME = "role admin"
ADMINISTRATOR: PolicyDocument = _allow("administrator", "*", "*")
