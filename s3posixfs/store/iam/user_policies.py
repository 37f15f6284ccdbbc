"""Which policy a user has: one attached, or one of its own (inline), and never two."""

from __future__ import annotations

from s3posixfs.identity.policy import PolicyDocument
from s3posixfs.store import xml
from s3posixfs.store.iam.call import Call, members_xml, no_such_entity
from s3posixfs.store.iam.containment import within
from s3posixfs.store.iam.policies import (
    ADMINISTRATOR_ACCESS,
    arn_of,
    document_of,
    encoded,
    find,
    named_policy,
)
from s3posixfs.store.response import Response
from s3posixfs.store.state import UserRecord


def attach_user_policy(call: Call) -> Response:
    """AttachUserPolicy; LimitExceeded where the user has another policy."""
    name = named_policy(call)
    user = call.permitted_user(call.text("UserName"), policyarn=arn_of(name))
    call.may_change_policy_of(user)
    record = find(call.service.state, name)
    _may_give(call, record.document)
    if name == ADMINISTRATOR_ACCESS:
        call.service.state.update_user(user.name, role="admin")
    else:
        call.service.state.attach(
            name,
            user.name,
            replace=False,
            expected=None if record.predefined else record.document.compact,
        )
    return call.answer()


def detach_user_policy(call: Call) -> Response:
    """DetachUserPolicy: the user may do nothing then."""
    name = named_policy(call)
    user = call.permitted_user(call.text("UserName"), policyarn=arn_of(name))
    call.may_change_policy_of(user)
    if name != _attached(call, user):
        raise no_such_entity(f"Policy {arn_of(name)} was not found.")
    if name == ADMINISTRATOR_ACCESS:
        call.service.state.update_user(user.name, role="s3")
    else:
        call.service.state.detach(user.name, name)
    return call.answer()


def list_attached_user_policies(call: Call) -> Response:
    """ListAttachedUserPolicies."""
    user = call.permitted_user(call.text("UserName"))
    attached = _attached(call, user)
    names = [attached] if attached and call.form.get("PathPrefix", "/") == "/" else []
    shown, end = call.page(names, str)
    listed = [xml.leaf("PolicyName", name) + xml.leaf("PolicyArn", arn_of(name)) for name in shown]
    return call.answer(end + members_xml("AttachedPolicies", listed))


def put_user_policy(call: Call) -> Response:
    """PutUserPolicy; LimitExceeded where the user has a policy of another name."""
    name = call.text("PolicyName")
    document = document_of(call)
    user = call.permitted_user(call.text("UserName"))
    call.may_change_policy_of(user)
    _may_give(call, document)
    call.service.state.put_inline(user.name, name, document)
    return call.answer()


def get_user_policy(call: Call) -> Response:
    """GetUserPolicy."""
    name = call.text("PolicyName")
    user = call.permitted_user(call.text("UserName"))
    own = call.service.state.inline_policy(user.name)
    if own is None or own[0] != name:
        raise _no_such_policy(name)
    result = (
        xml.leaf("UserName", user.name)
        + xml.leaf("PolicyName", name)
        + xml.leaf("PolicyDocument", encoded(own[1]))
    )
    return call.answer(result)


def delete_user_policy(call: Call) -> Response:
    """DeleteUserPolicy: the user may do nothing then."""
    name = call.text("PolicyName")
    user = call.permitted_user(call.text("UserName"))
    call.may_change_policy_of(user)
    own = call.service.state.inline_policy(user.name)
    if own is None or own[0] != name:
        raise _no_such_policy(name)
    call.service.state.remove_inline(user.name, name)
    return call.answer()


def list_user_policies(call: Call) -> Response:
    """ListUserPolicies: the names of the user's own."""
    user = call.permitted_user(call.text("UserName"))
    own = call.service.state.inline_policy(user.name)
    shown, end = call.page([] if own is None else [own[0]], str)
    listed = "".join(xml.leaf("member", name) for name in shown)
    return call.answer(f"{end}<PolicyNames>{listed}</PolicyNames>")


def _attached(call: Call, user: UserRecord) -> str | None:
    return ADMINISTRATOR_ACCESS if user.is_admin else call.service.state.attached_policy(user.name)


def _may_give(call: Call, document: PolicyDocument) -> None:
    if call.unlimited:
        return
    held = [policy for _, policy in call.service.state.policies_for(call.user)]
    if not within(document, held):
        call.refuse("the policy allows what its own does not plainly allow as well")


def _no_such_policy(name: str) -> Exception:
    return no_such_entity(f"The user policy with name {name} cannot be found.")
