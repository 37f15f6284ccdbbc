"""Every IAM call that is built, and the parameters it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from s3posixfs.core.errors import S3Error
from s3posixfs.store.iam import keys, policies, user_policies, users
from s3posixfs.store.iam.call import VERSION, Call, invalid
from s3posixfs.store.request import Request, parse_query
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service
from s3posixfs.store.state import Refused

_STATUS = {
    "DeleteConflict": 409,
    "EntityAlreadyExists": 409,
    "LimitExceeded": 409,
    "NoSuchEntity": 404,
}


@dataclass(frozen=True, slots=True)
class Action:
    """What answers a call, and the parameters it takes; of a list the part before the dot."""

    handler: Callable[[Call], Response]
    parameters: frozenset[str]


def _action(handler: Callable[[Call], Response], *parameters: str) -> Action:
    return Action(handler, frozenset(parameters))


_PAGE = ("Marker", "MaxItems")

ACTIONS: Mapping[str, Action] = {
    "CreateUser": _action(users.create_user, "UserName", "Path", "Tags"),
    "GetUser": _action(users.get_user, "UserName"),
    "ListUsers": _action(users.list_users, "PathPrefix", *_PAGE),
    "DeleteUser": _action(users.delete_user, "UserName"),
    "TagUser": _action(users.tag_user, "UserName", "Tags"),
    "UntagUser": _action(users.untag_user, "UserName", "TagKeys"),
    "ListUserTags": _action(users.list_user_tags, "UserName", *_PAGE),
    "ListGroupsForUser": _action(users.list_groups_for_user, "UserName", *_PAGE),
    "CreateAccessKey": _action(keys.create_access_key, "UserName"),
    "UpdateAccessKey": _action(keys.update_access_key, "UserName", "AccessKeyId", "Status"),
    "DeleteAccessKey": _action(keys.delete_access_key, "UserName", "AccessKeyId"),
    "ListAccessKeys": _action(keys.list_access_keys, "UserName", *_PAGE),
    "CreatePolicy": _action(
        policies.create_policy, "PolicyName", "Path", "PolicyDocument", "Description"
    ),
    "GetPolicy": _action(policies.get_policy, "PolicyArn"),
    "GetPolicyVersion": _action(policies.get_policy_version, "PolicyArn", "VersionId"),
    "ListPolicyVersions": _action(policies.list_policy_versions, "PolicyArn", *_PAGE),
    "ListEntitiesForPolicy": _action(
        policies.list_entities_for_policy, "PolicyArn", "EntityFilter", *_PAGE
    ),
    "ListPolicies": _action(
        policies.list_policies,
        *("Scope", "OnlyAttached", "PathPrefix", "PolicyUsageFilter", *_PAGE),
    ),
    "DeletePolicy": _action(policies.delete_policy, "PolicyArn"),
    "AttachUserPolicy": _action(user_policies.attach_user_policy, "UserName", "PolicyArn"),
    "DetachUserPolicy": _action(user_policies.detach_user_policy, "UserName", "PolicyArn"),
    "ListAttachedUserPolicies": _action(
        user_policies.list_attached_user_policies, "UserName", "PathPrefix", *_PAGE
    ),
    "PutUserPolicy": _action(
        user_policies.put_user_policy, "UserName", "PolicyName", "PolicyDocument"
    ),
    "GetUserPolicy": _action(user_policies.get_user_policy, "UserName", "PolicyName"),
    "DeleteUserPolicy": _action(user_policies.delete_user_policy, "UserName", "PolicyName"),
    "ListUserPolicies": _action(user_policies.list_user_policies, "UserName", *_PAGE),
}


def handle(service: Service, request: Request) -> Response:
    """Answer an authenticated form; S3Error with IAM's codes where it is refused."""
    form = parse_query(request.content.decode("utf-8", "replace"))
    name = form.pop("Action", "")
    version = form.pop("Version", VERSION)
    request.audit.operation = f"iam:{name[:64]}"
    action = ACTIONS.get(name)
    if action is None or version != VERSION:
        raise S3Error(
            "InvalidAction",
            f"Could not find operation {name[:64]} for version {version[:32]}",
            status=400,
        )
    if request.who.user is None:
        raise S3Error(
            "MissingAuthenticationToken", "Request is missing Authentication Token", status=403
        )
    for parameter in form:
        # A parameter that is not known could ask for less than would be done without it.
        if parameter.partition(".")[0] not in action.parameters:
            raise invalid(f"The parameter {parameter[:100]} of {name} is not built in this store")
    try:
        return action.handler(Call(service, request, name, form))
    except Refused as error:
        raise S3Error(error.code, str(error), status=_STATUS.get(error.code, 400)) from None
