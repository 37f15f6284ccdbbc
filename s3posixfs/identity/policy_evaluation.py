"""Whether a request is allowed: explicit deny, then an allow, then the session's limits.

Source: AWS IAM User Guide, "Policy evaluation logic", for requests within one account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from s3posixfs.identity.policy_document import PolicyDocument, Statement
from s3posixfs.identity.policy_resources import split_resource

SESSION_POLICY = "session policy"
BUCKET_POLICY = "bucket policy"

ALLOWED = "allowed"
EXPLICIT_DENY = "explicit deny"
NO_POLICY = "no policy attached"
NO_ALLOW = "no statement allows"
SESSION_REFUSES = "session policy does not allow"
EVALUATION_FAILED = "evaluation failed"


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """What is asked for, by whom, and in which context.

    ``action`` is ``s3:GetObject`` (any case); ``resource`` the ARN of a bucket or object, or
    ``arn:aws:s3:::*`` where the action has none; ``context`` has keys in lower case;
    ``principal`` is ``arn:aws:iam:::user/NAME`` (also for that user's sessions), ``None`` for
    an anonymous caller.
    """

    action: str
    resource: str
    context: Mapping[str, str | Sequence[str]]
    principal: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and which statement of which policy made it.

    ``sid`` is ``None`` where the statement has none or no statement decided; ``statement`` is
    its number from 1, ``None`` where none decided.
    """

    allowed: bool
    reason: str
    sid: str | None = None
    policy: str | None = None
    statement: int | None = None


def decide(
    request: AccessRequest,
    *,
    identity: Sequence[tuple[str, PolicyDocument]],
    session: PolicyDocument | None = None,
    bucket: PolicyDocument | None = None,
) -> Decision:
    """Decide on ``request``; never raises: whatever goes wrong in evaluation denies.

    ``identity`` are the caller's own policies by name. A session policy can only take away,
    from what a bucket policy gives as well.
    """
    try:
        return _decide(request, identity, session, bucket)
    except Exception:  # an error of any kind must not open the door
        return Decision(False, EVALUATION_FAILED)


def _decide(
    request: AccessRequest,
    identity: Sequence[tuple[str, PolicyDocument]],
    session: PolicyDocument | None,
    bucket: PolicyDocument | None,
) -> Decision:
    action = request.action.lower()
    arn = split_resource(request.resource)
    context = request.context
    principal = request.principal

    def first(statements: tuple[Statement, ...]) -> Statement | None:
        for statement in statements:
            if statement.applies(action, arn, context, principal):
                return statement
        return None

    granting = list(identity)
    if bucket is not None:
        granting.append((BUCKET_POLICY, bucket))
    limiting = [(SESSION_POLICY, session)] if session is not None else []
    for name, document in (*granting, *limiting):
        denial = first(document.denials)
        if denial is not None:
            return Decision(False, EXPLICIT_DENY, denial.sid, name, denial.number)
    allowed = _first_allowance(granting, first)
    if allowed is None:
        return Decision(False, NO_ALLOW if granting else NO_POLICY)
    if session is not None and first(session.allowances) is None:
        return Decision(False, SESSION_REFUSES, None, SESSION_POLICY)
    return allowed


def _first_allowance(
    granting: Sequence[tuple[str, PolicyDocument]],
    first: Callable[[tuple[Statement, ...]], Statement | None],
) -> Decision | None:
    for name, document in granting:
        statement = first(document.allowances)
        if statement is not None:
            return Decision(True, ALLOWED, statement.sid, name, statement.number)
    return None
