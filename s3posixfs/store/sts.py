"""STS on the store's own port: AssumeRole, GetSessionToken and GetCallerIdentity.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/ (the XML, the codes and the limits).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials
from s3posixfs.identity.policy import PolicyDocument, PolicyError, parse_policy, user_of_arn
from s3posixfs.store import xml
from s3posixfs.store.authenticate import Caller
from s3posixfs.store.errors import access_denied
from s3posixfs.store.request import Request, parse_query
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
ACCOUNT = "000000000000"
_VERSION = "2011-06-15"
_DEFAULT_SECONDS = 3600
_MOST_SECONDS = 604_800
_SESSION_TOKEN_SECONDS = 43_200
_MOST_SESSION_TOKEN_SECONDS = 129_600
# What a session may give another user's session: AWS's limit for role chaining.
_CHAINED_SECONDS = 3600
_MAX_POLICY_BYTES = 2048
_SESSION_NAME = re.compile(r"[\w+=,.@-]*", re.ASCII)
_SESSION_NAME_LENGTH = (2, 64)
_ARN = re.compile(r"[\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_ARN_LENGTH = (20, 2048)
# What each call takes. ExternalId is for the trust policies of roles, which are not here.
_PARAMETERS: Mapping[str, frozenset[str]] = {
    "AssumeRole": frozenset(
        {"RoleArn", "RoleSessionName", "Policy", "DurationSeconds", "ExternalId"}
    ),
    "GetCallerIdentity": frozenset(),
    "GetSessionToken": frozenset({"DurationSeconds"}),
}
ACTION_NAMES = tuple(_PARAMETERS)
# Of these an empty one, which clients write as an empty text, asks for nothing.
_LISTS = frozenset({"PolicyArns", "Tags", "TransitiveTagKeys", "ProvidedContexts"})


def handle(service: Service, request: Request) -> Response:
    """Answer an authenticated form; S3Error with STS's codes where it is refused."""
    form = parse_query(request.content.decode("utf-8", "replace"))
    action = form.get("Action", "")
    request.audit.operation = f"sts:{action}"
    if form.get("Version", _VERSION) != _VERSION or action not in _ACTIONS:
        raise S3Error(
            "InvalidAction",
            f"Could not find operation {action} for version {form.get('Version', '')}",
            status=400,
        )
    caller = request.who
    if caller.user is None:
        raise S3Error(
            "MissingAuthenticationToken", "Request is missing Authentication Token", status=403
        )
    given = {name for name, value in form.items() if value or name not in _LISTS}
    for name in sorted(given - _PARAMETERS[action] - {"Action", "Version"}):
        # Tags, MFA or further policies could ask for less than would be given without them.
        raise _invalid(f"{name[:100]} of {action} is not supported by this store")
    return _ACTIONS[action](service, request, form)


def _answer(action: str, result: str, request_id: str) -> Response:
    parts = [
        f"<{action}Result>{result}</{action}Result>",
        f"<ResponseMetadata>{xml.leaf('RequestId', request_id)}</ResponseMetadata>",
    ]
    body = xml.document(f"{action}Response", parts, namespace=NAMESPACE)
    return Response(200, [("Content-Type", "text/xml")], body)


def _get_caller_identity(service: Service, request: Request, form: Mapping[str, str]) -> Response:
    caller = request.who
    assert caller.user is not None  # noqa: S101  handle() has refused the anonymous
    request.audit.action, request.audit.decision = "sts:GetCallerIdentity", "allow"
    name = caller.user.name
    if caller.session is None or not caller.session.session_name:
        arn, user_id = f"arn:aws:iam::{ACCOUNT}:user/{name}", name
    else:
        session = caller.session.session_name
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}"
        user_id = f"{name}:{session}"
    result = xml.leaf("Arn", arn) + xml.leaf("UserId", user_id) + xml.leaf("Account", ACCOUNT)
    return _answer("GetCallerIdentity", result, request.id)


def _assume_role(service: Service, request: Request, form: Mapping[str, str]) -> Response:
    caller = request.who
    assert caller.user is not None  # noqa: S101  handle() has refused the anonymous
    arn = _validated(form, "RoleArn", _ARN, _ARN_LENGTH)
    session_name = _validated(form, "RoleSessionName", _SESSION_NAME, _SESSION_NAME_LENGTH)
    policy = _session_policy(form.get("Policy"))
    context = {"sts:rolesessionname": session_name}
    if "ExternalId" in form:
        context["sts:externalid"] = form["ExternalId"]
    target = _target(service, request, arn, context)
    seconds = _duration(
        service, caller, form.get("DurationSeconds"), other=target != caller.user.name
    )
    session = caller.session
    if session is not None and session.policy is not None and target == caller.user.name:
        # A session must not shed its own policy by making another of the same user.
        request.audit.decision = "deny"
        raise access_denied(
            "Credentials limited by a session policy cannot make a session of their own"
        )
    parent = session.parent_key if session is not None else caller.access_key
    assert parent is not None  # noqa: S101  a caller with a user has signed with a key
    made = service.state.create_session(
        target, parent, session_name, policy, seconds, service.clock.time()
    )
    assumed = xml.leaf("AssumedRoleId", f"{target}:{session_name}") + xml.leaf(
        "Arn", f"arn:aws:sts::{ACCOUNT}:assumed-role/{target}/{session_name}"
    )
    result = f"<AssumedRoleUser>{assumed}</AssumedRoleUser>{_credentials(made)}"
    if policy is not None:
        used = len(policy.compact.encode()) * 100 // _MAX_POLICY_BYTES
        result += xml.leaf("PackedPolicySize", used)
    return _answer("AssumeRole", result, request.id)


def _get_session_token(service: Service, request: Request, form: Mapping[str, str]) -> Response:
    """A session of the caller itself, which needs no permission and has no name."""
    caller = request.who
    assert caller.user is not None  # noqa: S101  handle() has refused the anonymous
    request.audit.action = "sts:GetSessionToken"
    if caller.session is not None or caller.access_key is None:
        request.audit.decision = "deny"
        raise access_denied("Cannot call GetSessionToken with session credentials")
    seconds = _seconds(
        service, form.get("DurationSeconds"), _SESSION_TOKEN_SECONDS, _MOST_SESSION_TOKEN_SECONDS
    )
    request.audit.decision = "allow"
    made = service.state.create_session(
        caller.user.name, caller.access_key, "", None, seconds, service.clock.time()
    )
    return _answer("GetSessionToken", _credentials(made), request.id)


def _credentials(made: Credentials) -> str:
    assert made.session_token is not None  # noqa: S101  a session has both
    assert made.expires_at is not None  # noqa: S101
    expiration = xml.iso_time(float(int(made.expires_at))).replace(".000Z", "Z")
    fields = (
        xml.leaf("AccessKeyId", made.access_key)
        + xml.leaf("SecretAccessKey", made.secret_key)
        + xml.leaf("SessionToken", made.session_token)
        + xml.leaf("Expiration", expiration)
    )
    return f"<Credentials>{fields}</Credentials>"


def _target(service: Service, request: Request, arn: str, context: Mapping[str, str]) -> str:
    """Whom the session acts as: the caller, or the user an ARN names if the caller may.

    ``context`` has the condition keys that only this call knows.
    """
    caller = request.who
    assert caller.user is not None  # noqa: S101
    request.audit.action = "sts:AssumeRole"
    name = user_of_arn(arn)
    if name is None or name == caller.user.name:
        request.audit.decision = "allow"
        return caller.user.name
    request.audit.resource = resource = f"arn:aws:iam:::user/{name}"
    service.authoriser.require(request, "sts:AssumeRole", resource, extra=context)
    user = service.state.find_user(name)
    # The role admin is above all policies, so no policy can lend it.
    if user is None or not user.enabled or (user.is_admin and not caller.is_admin):
        request.audit.decision = "deny"
        raise _not_assumable(caller.user.arn, arn)
    return name


def _not_assumable(caller: str, arn: str) -> S3Error:
    return access_denied(
        f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {arn}"
    )


def _seconds(service: Service, text: str | None, default: int, most: int) -> int:
    least = service.least_session
    if text is None:
        return max(default, least)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _invalid("Value at 'durationSeconds' must be a whole number of seconds")
    seconds = int(text)
    if not least <= seconds <= most:
        bound = "greater than or equal to" if seconds < least else "less than or equal to"
        limit = least if seconds < least else most
        raise _invalid(
            f"1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to "
            f"satisfy constraint: Member must have value {bound} {limit}"
        )
    return seconds


def _duration(service: Service, caller: Caller, text: str | None, *, other: bool) -> float:
    seconds = _seconds(service, text, _DEFAULT_SECONDS, _MOST_SECONDS)
    if caller.session is None:
        return seconds
    if other:
        if seconds > _CHAINED_SECONDS:
            raise _invalid(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed "
                "by role chaining"
            )
        return seconds
    # Temporary credentials never prolong themselves.
    return min(float(seconds), caller.session.expires_at - service.clock.time())


def _session_policy(text: str | None) -> PolicyDocument | None:
    if not text:
        return None
    try:
        document = parse_policy(text)
    except PolicyError as error:
        message = str(error)
        if "at most" in message and "bytes" in message:
            raise S3Error("PackedPolicyTooLarge", message, status=400) from None
        raise S3Error("MalformedPolicyDocument", message, status=400) from None
    return document


def _validated(
    form: Mapping[str, str], name: str, pattern: re.Pattern[str], length: tuple[int, int]
) -> str:
    """A parameter that must be given, of a ``length`` from the least to the most characters."""
    value = form.get(name)
    least, most = length
    if value is None:
        wrong = "Member must not be null"
    elif len(value) < least:
        wrong = f"Member must have length greater than or equal to {least}"
    elif len(value) > most:
        wrong = f"Member must have length less than or equal to {most}"
    elif pattern.fullmatch(value) is None:
        wrong = f"Member must satisfy regular expression pattern: {pattern.pattern}"
    else:
        return value
    shown = "null" if value is None else f"'{value[:100]}'"
    raise _invalid(
        f"1 validation error detected: Value {shown} at '{name[0].lower()}{name[1:]}' failed to "
        f"satisfy constraint: {wrong}"
    )


def _invalid(message: str) -> S3Error:
    return S3Error("ValidationError", message, status=400)


_ACTIONS = {
    "AssumeRole": _assume_role,
    "GetCallerIdentity": _get_caller_identity,
    "GetSessionToken": _get_session_token,
}
