"""Whether a caller may do what it asks: the policies, and what they are asked about.

The context comes from a fixed table: what a client sends counts only under these names.
Source: AWS IAM User Guide, "AWS global condition context keys"; Service Authorization
Reference, "Actions, resources, and condition keys for Amazon S3".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.identity.policy import (
    ADMINISTRATOR_NAME,
    AccessRequest,
    Decision,
    PolicyDocument,
    PolicyError,
    decide,
    parse_policy,
)
from s3posixfs.store import public_access
from s3posixfs.store.authenticate import Caller
from s3posixfs.store.errors import access_denied
from s3posixfs.store.policy_status import is_public
from s3posixfs.store.request import Request
from s3posixfs.store.state import State
from s3posixfs.store.xml import iso_time

log = logging.getLogger(__name__)

Context = dict[str, str | Sequence[str]]

_NOTHING = parse_policy(
    '{"Version":"2012-10-17","Statement":[{"Sid":"UnreadableBucketPolicy","Effect":"Deny",'
    '"Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::*"]}]}',
    bucket_policy=True,
)
_REQUEST_HEADERS = (
    "x-amz-acl",
    "x-amz-copy-source",
    "x-amz-metadata-directive",
    "x-amz-storage-class",
)
_AUTH_TYPES = {"header": "REST-HEADER", "presigned": "REST-QUERY-STRING", "form": "POST"}
_LISTING_PARAMETERS = ("prefix", "delimiter", "max-keys")
_LISTING_ACTIONS = frozenset(
    {"s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions"}
)


_TAGGED_ACTIONS = frozenset(
    {
        "s3:DeleteObject",
        "s3:DeleteObjectTagging",
        "s3:GetObject",
        "s3:GetObjectAcl",
        "s3:GetObjectAttributes",
        "s3:GetObjectTagging",
        "s3:PutObjectAcl",
        "s3:PutObjectTagging",
    }
)
_TAG_KEY = "existingobjecttag/"
# What mends a bucket policy that denies too much: no such policy can keep the role admin from it.
# AWS says the same of the account's root user.
_REPAIRS = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})


class Tagged(Protocol):
    """What is asked of an object before its tags can decide."""

    @property
    def tags(self) -> Mapping[str, str]: ...


class Objects(Protocol):
    """Where bucket policies and the tags of objects are kept."""

    def peek_document(self, bucket: str, kind: str) -> bytes | None: ...

    def head(self, bucket: str, key: str) -> Tagged: ...


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides one action for one request on any number of resources of a bucket."""

    principal: str | None
    action: str
    context: Context
    identity: Sequence[tuple[str, PolicyDocument]]
    session: PolicyDocument | None
    bucket: PolicyDocument | None
    unlimited: bool

    @property
    def wants_tags(self) -> bool:
        """Whether a policy looks at the tags of the object that is asked for."""
        documents = [document for _, document in self.identity]
        documents += [document for document in (self.session, self.bucket) if document is not None]
        return any(_TAG_KEY in document.compact.lower() for document in documents)

    def is_alike_below(self, beginning: str) -> bool:
        """Whether all resources that begin with this ARN get the same decision.

        Never true where it is not so; false also where it is too hard to tell.
        """
        documents = [document for _, document in self.identity]
        documents += [document for document in (self.session, self.bucket) if document is not None]
        return self.unlimited or (
            not (self.action in _TAGGED_ACTIONS and self.wants_tags)
            and all(document.is_alike_below(self.action, beginning) for document in documents)
        )

    def decide(self, resource: str, tags: Mapping[str, str] | None = None) -> Decision:
        """The decision on ``resource``, an object with ``tags``."""
        if self.unlimited:
            return Decision(True, "role admin", None, ADMINISTRATOR_NAME)
        context = self.context
        if tags:
            extra = {f"s3:{_TAG_KEY}{name.lower()}": value for name, value in tags.items()}
            context = {**context, **extra}
        wanted = AccessRequest(self.action, resource, context, self.principal)
        return decide(wanted, identity=self.identity, session=self.session, bucket=self.bucket)


class Authoriser:
    """Decides requests from the state's policies and the buckets'."""

    def __init__(self, state: State, objects: Objects, clock: Clock) -> None:
        self._state = state
        self._objects = objects
        self._clock = clock
        self._compiled: dict[str, tuple[bytes, PolicyDocument]] = {}

    def judge(
        self,
        request: Request,
        action: str,
        *,
        bucket: str = "",
        extra: Mapping[str, str | Sequence[str]] | None = None,
    ) -> Judge:
        """What decides ``action`` for this request's caller.

        Reads the policy of ``bucket`` where one is named, so call it in a thread then.
        """
        caller = request.who
        session = caller.session.policy if caller.session is not None else None
        policy = None
        if bucket and not (caller.is_admin and action in _REPAIRS):
            policy = self._policy_for(caller, bucket)
        # What a bucket policy denies, it denies to the role admin too.
        unlimited = caller.is_admin and session is None and policy is None
        return Judge(
            principal=principal_arn(caller),
            action=action,
            context={} if unlimited else self._context(request, caller, action, extra or {}),
            identity=self._state.policies_for(caller.user) if caller.user is not None else (),
            session=session,
            bucket=policy,
            unlimited=unlimited,
        )

    def decide(
        self,
        request: Request,
        action: str,
        resource: str,
        *,
        bucket: str = "",
        extra: Mapping[str, str | Sequence[str]] | None = None,
        noted: bool = True,
    ) -> Decision:
        """The decision for ``action`` on ``resource``, ``noted`` in the request's audit trail.

        Reads the policy of ``bucket`` where one is named, and the object's tags where a policy
        asks for them, so call it in a thread then.
        """
        judge = self.judge(request, action, bucket=bucket, extra=extra)
        return self._decide_by(judge, request, resource, bucket, noted)

    def _decide_by(
        self, judge: Judge, request: Request, resource: str, bucket: str, noted: bool
    ) -> Decision:
        action = judge.action
        tags: Mapping[str, str] | None = None
        if action in _TAGGED_ACTIONS and not judge.unlimited and judge.wants_tags:
            tags = self._existing_tags(bucket, resource)
        decision = judge.decide(resource, tags)
        audit = request.audit
        # The first refusal is what decided; a later decision never hides it.
        if noted and audit.decision != "deny":
            audit.action = action
            audit.decision = "allow" if decision.allowed else "deny"
            audit.sid, audit.policy = decision.sid, decision.policy
        return decision

    def _existing_tags(self, bucket: str, resource: str) -> Mapping[str, str]:
        try:
            return self._objects.head(bucket, resource.partition("/")[2]).tags
        except S3Error as error:
            if error.status == 404 or error.code == "KeyTooLongError":
                return {}
            raise

    def require(
        self,
        request: Request,
        action: str,
        resource: str,
        *,
        bucket: str = "",
        extra: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        """Raise AccessDenied unless ``action`` on ``resource`` is allowed."""
        decision = self.decide(request, action, resource, bucket=bucket, extra=extra)
        if not decision.allowed:
            raise denied(request, action, resource, decision)

    def require_by(self, judge: Judge, request: Request, resource: str, bucket: str) -> None:
        """Raise AccessDenied unless the judge's action on ``resource`` of ``bucket`` is allowed."""
        decision = self._decide_by(judge, request, resource, bucket, True)
        if not decision.allowed:
            raise denied(request, judge.action, resource, decision)

    def may_be_allowed(self, request: Request) -> bool:
        """Whether any policy at all could allow this caller something in the bucket."""
        return request.who.user is not None or self.bucket_policy(request.bucket) is not None

    def _policy_for(self, caller: Caller, bucket: str) -> PolicyDocument | None:
        """The bucket's policy as it counts for ``caller``: a restricted public one lets only
        users of the store in."""
        policy = self.bucket_policy(bucket)
        if policy is None or caller.user is not None:
            return policy
        block = self._objects.peek_document(bucket, public_access.KIND)
        if block is None:
            return policy
        try:
            restricted = public_access.parse_public_access_block(block).restrict_public_buckets
        except S3Error as error:
            log.error("the block of bucket %s is unreadable and holds: %s", bucket, error.message)
            restricted = True
        return None if restricted and is_public(policy.compact) else policy

    def bucket_policy(self, bucket: str) -> PolicyDocument | None:
        """The bucket's policy, compiled once; one that can't be read denies everything."""
        text = self._objects.peek_document(bucket, "policy")
        if text is None:
            self._compiled.pop(bucket, None)
            return None
        known = self._compiled.get(bucket)
        if known is not None and known[0] == text:
            return known[1]
        try:
            compiled = parse_policy(text, bucket_policy=True)
        except PolicyError as error:
            log.error("the policy of bucket %s is unreadable and denies all: %s", bucket, error)
            compiled = _NOTHING
        self._compiled[bucket] = (text, compiled)
        return compiled

    def _context(
        self,
        request: Request,
        caller: Caller,
        action: str,
        extra: Mapping[str, str | Sequence[str]],
    ) -> Context:
        now = self._clock.time()
        context: Context = {
            "aws:sourceip": request.peer,
            "aws:securetransport": "true" if request.secure else "false",
            "aws:currenttime": iso_time(now),
            "aws:epochtime": str(int(now)),
            "aws:principaltype": "Anonymous",
        }
        headers, query = request.headers, request.query
        if "user-agent" in headers:
            context["aws:useragent"] = headers["user-agent"]
        if "referer" in headers:
            context["aws:referer"] = headers["referer"]
        if caller.user is not None:
            context["aws:username"] = caller.user.name
            context["aws:userid"] = caller.user.name
            context["aws:principaltype"] = "User"
            arn = principal_arn(caller)
            if arn is not None:
                context["aws:principalarn"] = arn
        if caller.session is not None:
            if caller.session.session_name:  # one of GetSessionToken has none
                context["aws:principaltype"] = "AssumedRole"
            context["aws:tokenissuetime"] = iso_time(caller.session.created)
        if caller.signed is not None:
            context["s3:signatureversion"] = "AWS4-HMAC-SHA256"
            context["s3:authtype"] = _AUTH_TYPES[caller.signed.kind]
            context["s3:signatureage"] = str(max(0, int((now - caller.signed.signed_at) * 1000)))
            if caller.payload.value:
                context["s3:x-amz-content-sha256"] = caller.payload.value
        for name in _REQUEST_HEADERS:
            if name in headers:
                context[f"s3:{name}"] = headers[name]
        if action in _LISTING_ACTIONS:
            for name in _LISTING_PARAMETERS:
                if name in query:
                    context[f"s3:{name}"] = query[name]
        if "versionId" in query:
            context["s3:versionid"] = query["versionId"]
        for name in ("if-match", "if-none-match"):
            if name in headers and action == "s3:PutObject":
                context[f"s3:{name}"] = headers[name]
        context.update(extra)
        return context


def principal_arn(caller: Caller) -> str | None:
    """How policies name the caller: always its user, also in a session."""
    return caller.user.arn if caller.user is not None else None


def denied(request: Request, action: str, resource: str, decision: Decision) -> S3Error:
    """AccessDenied in AWS's words, with the reason but not with the policy's text."""
    arn = principal_arn(request.who)
    if arn is None:
        return access_denied()
    return access_denied(
        f"User: {arn} is not authorized to perform: {action} on resource: {resource} "
        f"because {decision.reason}"
    )
