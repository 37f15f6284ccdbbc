"""Access keys."""

from __future__ import annotations

import re

from s3posixfs.store import xml
from s3posixfs.store.iam.call import Call, date, invalid, members_xml, no_such_entity
from s3posixfs.store.response import Response
from s3posixfs.store.state import KeyRecord, UserRecord

# The store's own rule: keys that a person named are shorter than AWS's 16 characters.
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_.@+-]{3,128}")


def create_access_key(call: Call) -> Response:
    """CreateAccessKey; the only answer that shows the secret."""
    user = call.permitted_user(call.user_name())
    call.may_change(user)
    access_key, secret = call.service.state.add_key(user.name)
    made = call.service.state.key(access_key)
    created = made.created if made is not None else call.service.clock.time()
    fields = (
        xml.leaf("UserName", user.name)
        + xml.leaf("AccessKeyId", access_key)
        + xml.leaf("Status", "Active")
        + xml.leaf("SecretAccessKey", secret)
        + xml.leaf("CreateDate", date(created))
    )
    return call.answer(f"<AccessKey>{fields}</AccessKey>")


def update_access_key(call: Call) -> Response:
    """UpdateAccessKey: an inactive key does not sign in, and neither do its sessions."""
    access_key = call.text("AccessKeyId", _ACCESS_KEY)
    status = call.form.get("Status")
    if status not in ("Active", "Inactive"):
        raise invalid(
            "1 validation error detected: Value at 'status' failed to satisfy constraint: "
            "Member must satisfy enum value set: [Active, Inactive]"
        )
    user = call.permitted_user(call.user_name())
    call.may_change(user)
    _check_key(call, user, access_key)
    call.service.state.enable_key(user.name, access_key, enabled=status == "Active")
    return call.answer()


def delete_access_key(call: Call) -> Response:
    """DeleteAccessKey, which ends the sessions that the key made."""
    access_key = call.text("AccessKeyId", _ACCESS_KEY)
    user = call.permitted_user(call.user_name())
    call.may_change(user)
    _check_key(call, user, access_key)
    call.service.state.remove_key(user.name, access_key)
    return call.answer()


def list_access_keys(call: Call) -> Response:
    """ListAccessKeys."""
    user = call.permitted_user(call.user_name())
    keys = sorted(call.service.state.keys(user.name), key=lambda key: key.access_key)
    shown, end = call.page(keys, lambda key: key.access_key)
    listed = members_xml("AccessKeyMetadata", [_describe(key) for key in shown])
    return call.answer(xml.leaf("UserName", user.name) + listed + end)


def _describe(key: KeyRecord) -> str:
    return (
        xml.leaf("UserName", key.user.name)
        + xml.leaf("AccessKeyId", key.access_key)
        + xml.leaf("Status", "Active" if key.enabled else "Inactive")
        + xml.leaf("CreateDate", date(key.created))
    )


def _check_key(call: Call, user: UserRecord, access_key: str) -> None:
    if all(key.access_key != access_key for key in call.service.state.keys(user.name)):
        raise no_such_entity(f"The Access Key with id {access_key} cannot be found")
