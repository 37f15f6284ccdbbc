"""Managed policies: those of this store, and the predefined ones as AWS's own."""

from __future__ import annotations

import re
from base64 import b32encode
from hashlib import blake2b
from urllib.parse import quote

from s3posixfs.core.errors import S3Error
from s3posixfs.identity.policy import (
    ADMINISTRATOR,
    PREDEFINED,
    PolicyDocument,
    PolicyError,
    parse_policy,
)
from s3posixfs.store import xml
from s3posixfs.store.errors import access_denied
from s3posixfs.store.iam.call import (
    ACCOUNT,
    Call,
    date,
    invalid,
    members_xml,
    no_such_entity,
)
from s3posixfs.store.response import Response
from s3posixfs.store.state import PolicyRecord, State

# The role admin as IAM shows it: whoever has this policy attached has the role.
ADMINISTRATOR_ACCESS = "AdministratorAccess"
ARN = re.compile(r"arn:aws:iam::(\d{12}|aws|):policy/([A-Za-z0-9_.@+=,-]{1,128})")
_DOCUMENT = re.compile(r"[\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_DESCRIPTION = re.compile(r"[\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd]{0,1000}")
# Versions are not kept: a policy has one.
_VERSION = "v1"


def create_policy(call: Call) -> Response:
    """CreatePolicy."""
    name = call.text("PolicyName")
    if call.form.get("Path", "/") != "/":
        raise invalid("This store has no paths of policies: leave Path out, or give /")
    description = call.text("Description", _DESCRIPTION) if "Description" in call.form else ""
    document = document_of(call)
    call.permit(policy_resource(name))
    call.may_change()
    state = call.service.state
    if name == ADMINISTRATOR_ACCESS or state.find_policy(name) is not None:
        raise S3Error("EntityAlreadyExists", f"A policy called {name} already exists.", status=409)
    state.add_policy(name, document, new=True, description=description)
    return call.answer(f"<Policy>{_describe(state.policy(name))}</Policy>")


def get_policy(call: Call) -> Response:
    """GetPolicy."""
    record = _permitted(call)
    described = _describe(record)
    if record.description:
        described += xml.leaf("Description", record.description)
    return call.answer(f"<Policy>{described}<Tags/></Policy>")


def get_policy_version(call: Call) -> Response:
    """GetPolicyVersion; there is the version v1 and no other."""
    record = _permitted(call)
    version = call.text("VersionId", re.compile(r"v[1-9]\d{0,9}(?:\.[A-Za-z0-9-]*)?"))
    if version != _VERSION:
        raise no_such_entity(
            f"Policy {arn_of(record.name)} version {version} does not exist or is not attachable."
        )
    fields = xml.leaf("Document", encoded(record.document)) + _version(record)
    return call.answer(f"<PolicyVersion>{fields}</PolicyVersion>")


def list_policy_versions(call: Call) -> Response:
    """ListPolicyVersions."""
    record = _permitted(call)
    shown, end = call.page([_version(record)], lambda version: _VERSION)
    return call.answer(members_xml("Versions", shown) + end)


def list_entities_for_policy(call: Call) -> Response:
    """ListEntitiesForPolicy: the users that have it; there are no groups and roles."""
    record = _permitted(call)
    users = record.users if call.form.get("EntityFilter", "User") == "User" else ()
    shown, end = call.page(sorted(users), str)
    listed = [xml.leaf("UserName", name) + xml.leaf("UserId", name) for name in shown]
    return call.answer("<PolicyGroups/><PolicyRoles/>" + members_xml("PolicyUsers", listed) + end)


def list_policies(call: Call) -> Response:
    """ListPolicies."""
    call.permit("arn:aws:iam:::*")
    scope = call.form.get("Scope", "All")
    if scope not in ("All", "AWS", "Local"):
        raise invalid(
            "1 validation error detected: Value at 'scope' failed to satisfy constraint: "
            "Member must satisfy enum value set: [All, AWS, Local]"
        )
    records = [
        record
        for record in _all(call.service.state)
        if (scope == "All" or record.predefined is (scope == "AWS"))
        and (call.form.get("OnlyAttached") != "true" or record.users)
        and call.form.get("PathPrefix", "/") == "/"
        and call.form.get("PolicyUsageFilter") in (None, "PermissionsPolicy")
    ]
    records.sort(key=lambda record: record.name)
    shown, end = call.page(records, lambda record: record.name)
    return call.answer(end + members_xml("Policies", [_describe(record) for record in shown]))


def delete_policy(call: Call) -> Response:
    """DeletePolicy: refused while it is attached to a user."""
    record = _permitted(call)
    call.may_change()
    if record.predefined:
        raise access_denied("A predefined policy can't be removed")
    if record.users:
        raise S3Error("DeleteConflict", "Cannot delete a policy attached to entities.", status=409)
    call.service.state.remove_policy(record.name)
    return call.answer()


def document_of(call: Call) -> PolicyDocument:
    """The parameter ``PolicyDocument``; MalformedPolicyDocument, LimitExceeded when too long."""
    text = call.text("PolicyDocument", _DOCUMENT)
    try:
        return parse_policy(text)
    except PolicyError as error:
        message = str(error)
        if "at most" in message and "bytes" in message:
            raise S3Error("LimitExceeded", message, status=409) from None
        raise S3Error("MalformedPolicyDocument", message, status=400) from None


def named_policy(call: Call) -> str:
    """The name in the parameter ``PolicyArn``; NoSuchEntity where it can be no policy's."""
    arn = call.text("PolicyArn", re.compile(r"[\x20-\x7e]{20,2048}"))
    match = ARN.fullmatch(arn)
    if match is None:
        raise invalid(f"ARN {arn} is not valid.")
    account, name = match.groups()
    predefined = name in PREDEFINED or name == ADMINISTRATOR_ACCESS
    if account and predefined is not (account == "aws"):
        raise no_such_entity(f"Policy {arn} does not exist or is not attachable.")
    return name


def find(state: State, name: str) -> PolicyRecord:
    """A policy by name, the role admin's among them; NoSuchEntity."""
    for record in _all(state):
        if record.name == name:
            return record
    raise no_such_entity(f"Policy {arn_of(name)} does not exist or is not attachable.")


def arn_of(name: str) -> str:
    """The ARN that IAM shows for a policy."""
    predefined = name in PREDEFINED or name == ADMINISTRATOR_ACCESS
    return f"arn:aws:iam::{'aws' if predefined else ACCOUNT}:policy/{name}"


def policy_resource(name: str) -> str:
    """A policy as policies name it."""
    return f"arn:aws:iam:::policy/{name}"


def encoded(document: PolicyDocument) -> str:
    """A document as IAM answers it: percent-encoded (RFC 3986)."""
    return quote(document.compact, safe="")


def _permitted(call: Call) -> PolicyRecord:
    name = named_policy(call)
    call.permit(policy_resource(name))
    return find(call.service.state, name)


def _all(state: State) -> list[PolicyRecord]:
    admins = tuple(user.name for user in state.users() if user.is_admin)
    return [PolicyRecord(ADMINISTRATOR_ACCESS, ADMINISTRATOR, True, admins), *state.policies()]


def _version(record: PolicyRecord) -> str:
    return (
        xml.leaf("VersionId", _VERSION)
        + xml.leaf("IsDefaultVersion", True)
        + xml.leaf("CreateDate", date(record.created))
    )


def _describe(record: PolicyRecord) -> str:
    digest = blake2b(record.name.encode(), digest_size=10).digest()
    return (
        xml.leaf("PolicyName", record.name)
        + xml.leaf("PolicyId", f"ANPA{b32encode(digest).decode()}")
        + xml.leaf("Arn", arn_of(record.name))
        + xml.leaf("Path", "/")
        + xml.leaf("DefaultVersionId", _VERSION)
        + xml.leaf("AttachmentCount", len(record.users))
        + xml.leaf("PermissionsBoundaryUsageCount", 0)
        + xml.leaf("IsAttachable", True)
        + xml.leaf("CreateDate", date(record.created))
        + xml.leaf("UpdateDate", date(record.created))
    )
