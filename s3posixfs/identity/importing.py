"""Users of other systems, as their administration tools print them, and the identities they become.

Only names, access keys and POSIX ids are read: a secret in the JSON goes nowhere, and what is wrong
is said without quoting the input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.map import MAX_POSIX_ID, Identity, IdentityMap

_NAMES_ONLY = (
    "these are names only, without keys: get each user's record, for u in "
    '$(radosgw-admin user list | tr -d \'[]",\'); do radosgw-admin user info --uid="$u"; done'
)


@dataclass(frozen=True, slots=True)
class ForeignUser:
    """An S3 user of another system. ``name`` is what its listings name as the owner; ``owner``
    is ``None`` where that system gives its users no POSIX ids."""

    name: str
    access_keys: tuple[str, ...] = ()
    owner: PosixOwner | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A user who became no identity, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class Imported:
    """What came of an import. ``kept`` are names that the present file has already, ``gone``
    those in it whom the other system does not know (any more)."""

    identities: list[Identity] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def _documents(text: str, tool: str) -> Iterator[object]:
    """Each JSON document of a text that has one or several after another."""
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise OperatorError(
                f"line {error.lineno} is not JSON ({error.msg}); give it what {tool} prints"
            ) from None
        except RecursionError:
            raise OperatorError(
                f"this is JSON nested too deep; give it what {tool} prints"
            ) from None
        yield value


def _records(text: str, tool: str) -> list[Mapping[str, object]]:
    """The users' JSON objects: one, several, a list, or either as ``data`` of another."""
    found: list[Mapping[str, object]] = []
    waiting = list(_documents(text, tool))
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, list):
            waiting[:0] = value
        elif isinstance(value, dict) and isinstance(value.get("data"), list | dict):
            waiting.insert(0, value["data"])
        elif isinstance(value, dict):
            found.append(value)
        elif isinstance(value, str) and tool == "radosgw-admin":
            raise OperatorError(_NAMES_ONLY)
        else:
            raise OperatorError(f"this is no list of users; give it what {tool} prints")
    if not found:
        raise OperatorError(f"there is no user in it; give it what {tool} prints")
    return found


def radosgw_users(text: str) -> list[ForeignUser]:
    """The users in the output of ``radosgw-admin user info``: one record, several one after
    another, or a list of them. A tenant's user is ``tenant$user``, as RGW names owners.

    Raises OperatorError for what is none, and for the bare names of ``user list``.
    """
    users: dict[str, ForeignUser] = {}
    for record in _records(text, "radosgw-admin"):
        user_id = record.get("user_id")
        if not isinstance(user_id, str) or not user_id:
            raise OperatorError("a record has no user_id: give it `radosgw-admin user info`")
        tenant = record.get("tenant")
        name = user_id
        if isinstance(tenant, str) and tenant and "$" not in user_id:
            name = f"{tenant}${user_id}"
        keys = record.get("keys")
        rows = keys if isinstance(keys, list) else []
        found = [key.get("access_key") for key in rows if isinstance(key, dict)]
        users[name] = ForeignUser(name, tuple(dict.fromkeys(k for k in found if _is_text(k))))
    return list(users.values())


def weka_users(text: str) -> list[ForeignUser]:
    """The users with role S3 in the JSON of ``weka user -J`` or of WEKA's API (``data``). Names of
    fields count without regard to case and punctuation. The user's name is the access key.
    """
    users: dict[str, ForeignUser] = {}
    for record in _records(text, "weka"):
        fields = {"".join(filter(str.isalnum, key)).lower(): value for key, value in record.items()}
        role = fields.get("role", "s3")
        if not isinstance(role, str) or role.lower() != "s3":
            continue
        names = (fields.get(key) for key in ("username", "accesskey", "name", "user"))
        name = next((value for value in names if value), None)
        if not _is_text(name):
            raise OperatorError("a record has no username: give it `weka user -J`")
        uid, gid = _number(fields.get("posixuid")), _number(fields.get("posixgid"))
        owner = PosixOwner(uid, gid if gid is not None else uid) if uid is not None else None
        users[name] = ForeignUser(name, (name,), owner)
    if not users:
        raise OperatorError(
            "no user in it has the role s3, so there is nobody to import; make one there first"
        )
    return list(users.values())


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_POSIX_ID:
        return None
    return value


@dataclass(frozen=True, slots=True)
class Choices:
    """Where POSIX ids come from that the other system does not have.

    ``host`` looks a name up (``None``: not there) and ``has_uid`` a number. ``uid_from`` is the
    first number for who is not there either, ``None`` to leave those out. Nobody gets a uid below
    ``uid_min``: an S3 user who is named like a system account shall not own its files.
    ``profiles`` has each identity act by the AWS profile of its own name.
    """

    host: Callable[[str], PosixOwner | None]
    has_uid: Callable[[int], bool]
    uid_from: int | None = None
    uid_min: int = 1000
    profiles: bool = False


def import_users(
    users: Sequence[ForeignUser], choices: Choices, present: IdentityMap | None = None
) -> Imported:
    """Identities for the users that ``present`` does not have.

    Users to whom the other system gave one uid become one identity with several owners. New
    numbers are the lowest from ``uid_from`` that nobody has, in the order of names.
    """
    present = present or IdentityMap(())
    result = Imported()
    taken = {identity.owner.uid for identity in present.identities}
    names = {identity.name for identity in present.identities}
    by_uid: dict[int, int] = {}
    unnumbered: list[ForeignUser] = []
    for user in sorted(users, key=lambda user: user.name):
        if present.by_owner_id(user.name) is not None or user.name in names:
            result.kept.append(user.name)
        elif not user.name.isprintable():
            result.left_out.append(LeftOut(ascii(user.name), "its name is not printable"))
        elif user.owner is not None and user.owner.uid in by_uid:
            _join(result.identities, by_uid[user.owner.uid], user)
        elif (owner := user.owner or choices.host(user.name)) is None:
            unnumbered.append(user)
        elif owner.uid < choices.uid_min:
            result.left_out.append(
                LeftOut(user.name, f"uid {owner.uid} is below --uid-min {choices.uid_min}")
            )
        elif owner.uid in taken or owner.uid in by_uid:
            result.left_out.append(LeftOut(user.name, f"uid {owner.uid} is another identity's"))
        else:
            by_uid[owner.uid] = len(result.identities)
            result.identities.append(_identity(user, owner, choices))
    number = choices.uid_from
    for user in unnumbered:
        if number is None:
            result.left_out.append(
                LeftOut(user.name, "no user of this host has that name; see --uid-from, --passwd")
            )
            continue
        while number in taken or number in by_uid or choices.has_uid(number):
            number += 1
        by_uid[number] = len(result.identities)
        result.identities.append(_identity(user, PosixOwner(number, number), choices))
    known = {user.name for user in users} | {key for user in users for key in user.access_keys}
    result.gone = [
        identity.name
        for identity in present.identities
        if not known.intersection((identity.name, *identity.owner_ids, *identity.access_keys))
    ]
    return result


def _identity(user: ForeignUser, owner: PosixOwner, choices: Choices) -> Identity:
    profile = user.name if choices.profiles else None
    return Identity(user.name, user.access_keys, (user.name,), owner, profile)


def _join(identities: list[Identity], index: int, user: ForeignUser) -> None:
    first = identities[index]
    identities[index] = replace(
        first,
        access_keys=(*first.access_keys, *user.access_keys),
        owner_ids=(*first.owner_ids, user.name),
    )


def to_toml(identities: Sequence[Identity]) -> str:
    """Identities as tables of an identity file."""
    return "\n".join(_table(identity) for identity in identities)


def _table(identity: Identity) -> str:
    lines = ["[[identity]]", f"name = {_quoted(identity.name)}"]
    for name, values in (
        ("owner_ids", identity.owner_ids),
        ("access_keys", identity.access_keys),
    ):
        if values:
            lines.append(f"{name} = [{', '.join(map(_quoted, values))}]")
    lines += [f"uid = {identity.owner.uid}", f"gid = {identity.owner.gid}"]
    for name, value in (("profile", identity.profile), ("role_arn", identity.role_arn)):
        if value is not None:
            lines.append(f"{name} = {_quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # What JSON escapes, a basic string of TOML escapes alike; nothing here is unprintable.
    return json.dumps(text, ensure_ascii=False)
