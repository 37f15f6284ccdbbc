"""Users and their POSIX ids, which IAM knows as the tags ``posix-uid`` and ``posix-gid``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.store import xml
from s3posixfs.store.iam.call import (
    ACCOUNT,
    Call,
    date,
    invalid,
    members_xml,
    posix_tags,
    user_resource,
)
from s3posixfs.store.response import Response
from s3posixfs.store.state import UserRecord
from s3posixfs.store.state_records import MAX_POSIX_ID

_IDS = ("posix-uid", "posix-gid")
_NUMBER = re.compile(r"[0-9]{1,10}")


def create_user(call: Call) -> Response:
    """CreateUser; without tags the user's POSIX ids are 0, or the caller's if it is no admin."""
    name = call.text("UserName")
    if call.form.get("Path", "/") != "/":
        raise invalid("This store has no paths of users: leave Path out, or give /")
    tags = _tags(call)
    call.permit(user_resource(name), _tag_context(tags))
    call.may_change()
    before = PosixOwner(0, 0) if call.unlimited else call.user.owner
    owner = _changed(call, before, tags)
    if call.service.state.find_user(name) is not None:
        raise S3Error("EntityAlreadyExists", f"User with name {name} already exists.", status=409)
    user = call.service.state.add_user_without_key(name, owner)
    return call.answer(f"<User>{_describe(user)}{tags_xml(user)}</User>")


def get_user(call: Call) -> Response:
    """GetUser."""
    user = call.permitted_user(call.user_name())
    return call.answer(f"<User>{_describe(user)}{tags_xml(user)}</User>")


def list_users(call: Call) -> Response:
    """ListUsers; all are at the path ``/``."""
    call.permit(user_resource(""))
    everyone = call.form.get("PathPrefix", "/") == "/"
    users = call.service.state.users() if everyone else []
    shown, end = call.page(users, lambda user: user.name)
    return call.answer(end + members_xml("Users", [_describe(user) for user in shown]))


def delete_user(call: Call) -> Response:
    """DeleteUser: refused while it has a key or a policy; its objects stay."""
    user = call.permitted_user(call.text("UserName"))
    call.may_change(user)
    call.service.state.remove_user(user.name, bare=True)
    return call.answer()


def tag_user(call: Call) -> Response:
    """TagUser: sets the POSIX ids of what the user makes from now on."""
    name = call.text("UserName")
    tags = _tags(call)
    if not tags:
        raise invalid("Tags must have at least one member")
    _change_ids(call, name, tags)
    return call.answer()


def untag_user(call: Call) -> Response:
    """UntagUser: a POSIX id goes back to 0, which is what a user has without a tag."""
    name = call.text("UserName")
    keys = [member.get("", "") for member in call.members("TagKeys")]
    _change_ids(call, name, {key: "0" for key in keys if key in _IDS})
    return call.answer()


def list_user_tags(call: Call) -> Response:
    """ListUserTags."""
    user = call.permitted_user(call.text("UserName"))
    shown, end = call.page(sorted(posix_tags(user).items()), lambda tag: tag[0])
    return call.answer(end + _tag_list(dict(shown)))


def list_groups_for_user(call: Call) -> Response:
    """ListGroupsForUser: this store has no groups."""
    call.permitted_user(call.text("UserName"))
    return call.answer("<Groups/>" + xml.leaf("IsTruncated", False))


def _describe(user: UserRecord) -> str:
    return (
        xml.leaf("Path", "/")
        + xml.leaf("UserName", user.name)
        + xml.leaf("UserId", user.name)
        + xml.leaf("Arn", f"arn:aws:iam::{ACCOUNT}:user/{user.name}")
        + xml.leaf("CreateDate", date(user.created))
    )


def tags_xml(user: UserRecord) -> str:
    """A user's tags as GetUser shows them."""
    return _tag_list(posix_tags(user))


def _tag_list(tags: Mapping[str, str]) -> str:
    return members_xml(
        "Tags", [xml.leaf("Key", key) + xml.leaf("Value", value) for key, value in tags.items()]
    )


def _change_ids(call: Call, name: str, tags: Mapping[str, str]) -> None:
    state = call.service.state
    user = state.find_user(name)
    context: dict[str, str | tuple[str, ...]] = dict(_tag_context(tags))
    if user is not None:
        for key, value in posix_tags(user).items():
            context[f"aws:resourcetag/{key}"] = context[f"iam:resourcetag/{key}"] = value
    call.permit(user_resource(name), context)
    if user is None:
        raise S3Error("NoSuchEntity", f"The user with name {name} cannot be found.", status=404)
    call.may_change(user)
    owner = _changed(call, user.owner, tags)
    state.update_user(name, uid=owner.uid, gid=owner.gid)


def _tags(call: Call) -> dict[str, str]:
    tags: dict[str, str] = {}
    for member in call.members("Tags"):
        key, value = member.get("Key", ""), member.get("Value", "")
        if key not in _IDS:
            raise S3Error(
                "InvalidInput",
                f"The tag {key[:128]!r} has no meaning in this store: users have the tags "
                "posix-uid and posix-gid",
                status=400,
            )
        if key in tags:
            raise S3Error("InvalidInput", f"The tag {key} is given twice", status=400)
        if not (_NUMBER.fullmatch(value) and int(value) <= MAX_POSIX_ID):
            raise S3Error("InvalidInput", f"{key} is a number from 0 to {MAX_POSIX_ID}", status=400)
        tags[key] = value
    return tags


def _tag_context(tags: Mapping[str, str]) -> dict[str, str | tuple[str, ...]]:
    context: dict[str, str | tuple[str, ...]] = {
        f"aws:requesttag/{key}": value for key, value in tags.items()
    }
    if tags:
        context["aws:tagkeys"] = tuple(tags)
    return context


def _changed(call: Call, owner: PosixOwner, tags: Mapping[str, str]) -> PosixOwner:
    """The POSIX ids after ``tags``; AccessDenied where the caller can't give them.

    Files on the host belong to them, and the mount takes whoever has an id for that user. So
    who is no admin can give the ids it has itself, and no others.
    """
    own = call.user.owner
    if not call.unlimited:
        for key, number in (("posix-uid", own.uid), ("posix-gid", own.gid)):
            if key in tags and int(tags[key]) != number:
                call.refuse(f"only the role admin can give a user another {key} than its own")
    return PosixOwner(int(tags.get("posix-uid", owner.uid)), int(tags.get("posix-gid", owner.gid)))
