"""The identity map: which S3 owner is which uid on this host, and how to act as them."""

from __future__ import annotations

import grp
import json
import pwd
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import PosixOwner

# 2**32 - 1 is (uid_t) -1.
MAX_POSIX_ID = 2**32 - 2
_FIELDS = ("name", "access_keys", "owner_ids", "uid", "gid", "profile", "role_arn")
_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam:[^:\s]*:[^:\s]*:(role|user)/\S+")
_HEADER = re.compile(r"\s*\[\[\s*[\"']?identity[\"']?\s*\]\]\s*(#.*)?")


@dataclass(frozen=True, slots=True)
class Identity:
    """One S3 user that is also a user of this host.

    ``admin`` says that the store gives it the role admin (known from the embedded store only).
    """

    name: str
    access_keys: tuple[str, ...]
    owner_ids: tuple[str, ...]
    owner: PosixOwner
    profile: str | None = None
    role_arn: str | None = None
    admin: bool = False


@dataclass(frozen=True, slots=True)
class IdentityMap:
    """Identities, found by what S3 calls an owner and by what the host calls a caller."""

    identities: tuple[Identity, ...]
    _by_owner_id: Mapping[str, Identity] = field(init=False, repr=False, compare=False)
    _by_uid: Mapping[int, Identity | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_owner_id: dict[str, Identity] = {}
        by_uid: dict[int, Identity | None] = {}
        for identity in self.identities:
            uid = identity.owner.uid
            by_uid[uid] = None if uid in by_uid else identity
            for access_key in identity.access_keys:
                by_owner_id.setdefault(access_key, identity)
        # What S3 calls the owner goes before an access key that happens to read the same.
        for identity in self.identities:
            for owner_id in identity.owner_ids:
                by_owner_id[owner_id] = identity
        object.__setattr__(self, "_by_owner_id", by_owner_id)
        object.__setattr__(self, "_by_uid", by_uid)

    def by_owner_id(self, owner_id: str) -> Identity | None:
        """The identity that an ``<Owner><ID>`` (or an access key) is of."""
        return self._by_owner_id.get(owner_id)

    def by_uid(self, uid: int) -> Identity | None:
        """The identity a caller acts as; ``None`` where no one, or more than one, has the uid."""
        return self._by_uid.get(uid)


class HostUsers(Protocol):
    """Where names of users and groups are looked up; KeyError for one that is not there."""

    def user(self, name: str) -> PosixOwner:
        """The uid and primary gid."""
        ...

    def group(self, name: str) -> int:
        """The gid."""
        ...


class PasswdUsers:
    """The host's own: passwd(5), group(5) and what else nsswitch.conf(5) names."""

    __slots__ = ()

    def user(self, name: str) -> PosixOwner:
        entry = pwd.getpwnam(name)
        return PosixOwner(entry.pw_uid, entry.pw_gid)

    def group(self, name: str) -> int:
        return grp.getgrnam(name).gr_gid


class _Places:
    """Says where in the file something is: tomllib does not."""

    def __init__(self, text: str, source: str, count: int) -> None:
        self._source = source
        self._lines = text.splitlines()
        headers = [n for n, line in enumerate(self._lines) if _HEADER.fullmatch(line)]
        # Identities that are not written as [[identity]] tables are counted instead.
        self._headers = headers if len(headers) == count else None

    def error(self, index: int, name: str | None, problem: str) -> OperatorError:
        """``problem`` at the key ``name`` of the identity number ``index`` (from 0)."""
        if self._headers is None:
            return OperatorError(f"{self._source}: identity {index + 1}: {problem}")
        return OperatorError(f"{self._source}, line {self.line(index, name)}: {problem}")

    def line(self, index: int, name: str | None) -> int:
        """The line (from 1) of a key in an identity, or of its header."""
        if self._headers is None:
            return 0
        start = self._headers[index]
        later = self._headers[index + 1 : index + 2]
        if name is not None:
            key = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*[=.]")
            for number in range(start + 1, later[0] if later else len(self._lines)):
                if key.match(self._lines[number]):
                    return number + 1
        return start + 1

    def short(self, index: int, name: str) -> str:
        """A place to point at from another's error."""
        if self._headers is None:
            return f"identity {index + 1}"
        return f"line {self.line(index, name)}"


def parse_identities(text: str, source: str, *, users: HostUsers | None = None) -> IdentityMap:
    """Read the TOML of an identity file; ``source`` is its name, for messages.

    Raises OperatorError naming file and line: TOML errors, unknown keys, missing or wrong
    values, names that the host does not know, and anything given to two identities.
    """
    identities, problems = examine_identities(text, source, users=users)
    if problems:
        raise problems[0]
    return IdentityMap(identities)


def examine_identities(
    text: str, source: str, *, users: HostUsers | None = None
) -> tuple[tuple[Identity, ...], tuple[OperatorError, ...]]:
    """What :func:`parse_identities` reads, with everything that is wrong instead of the first:
    the identities that can be read, and the errors. Raises OperatorError where it is no TOML.
    """
    users = users or PasswdUsers()
    tables = _tables(text, source)
    places = _Places(text, source, len(tables))
    numbered: list[tuple[int, Identity]] = []
    problems: list[OperatorError] = []
    for index, table in enumerate(tables):
        try:
            numbered.append((index, _identity(index, table, places, users)))
        except OperatorError as error:
            problems.append(error)
    problems.extend(_shared(numbered, places))
    return tuple(identity for _, identity in numbered), tuple(problems)


def _tables(text: str, source: str) -> list[dict[str, object]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", str(error), re.DOTALL)
        if found is None:
            raise OperatorError(
                f"{source}, line {text.count(chr(10)) + 1}: {error}; mend that"
            ) from None
        raise OperatorError(
            f"{source}, line {found.group(2)}: {found.group(1)}; mend that line"
        ) from None
    for name in document:
        if name != "identity":
            raise OperatorError(
                f"{source}: unknown key '{name}': the file holds [[identity]] tables only; "
                "remove it"
            )
    tables = document.get("identity", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise OperatorError(f"{source}: write [[identity]], in double brackets")
    return tables


def _identity(
    index: int, table: Mapping[str, object], places: _Places, users: HostUsers
) -> Identity:
    for name in table:
        if name not in _FIELDS:
            raise places.error(
                index, name, f"unknown key '{name}'; use one of {', '.join(_FIELDS)}"
            )
    for name in ("name", "uid"):
        if name not in table:
            raise places.error(index, None, f"this identity has no {name}; add it")

    def text(name: str) -> str:
        value = table[name]
        if not isinstance(value, str) or not value or not value.isprintable():
            raise places.error(index, name, f"{name} is no printable text; write it in quotes")
        return value

    def texts(name: str) -> tuple[str, ...]:
        value = table.get(name, [])
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise places.error(index, name, f'{name} is no list of texts; write it as ["alice"]')
        return tuple(dict.fromkeys(value))

    owner = _owner(index, table, places, users)
    role_arn = text("role_arn") if "role_arn" in table else None
    if role_arn is not None and _ROLE_ARN.fullmatch(role_arn) is None:
        raise places.error(
            index, "role_arn", f"{role_arn!r} is no role ARN; write it as arn:aws:iam:::user/alice"
        )
    return Identity(
        text("name"),
        texts("access_keys"),
        texts("owner_ids"),
        owner,
        text("profile") if "profile" in table else None,
        role_arn,
    )


def _owner(
    index: int, table: Mapping[str, object], places: _Places, users: HostUsers
) -> PosixOwner:
    uid = table["uid"]
    primary: int | None = None
    if isinstance(uid, str):
        try:
            known = users.user(uid)
        except KeyError:
            raise places.error(
                index,
                "uid",
                f"this host has no user named {uid!r}; add that user, or give a number",
            ) from None
        uid, primary = known.uid, known.gid
    gid = table.get("gid", primary)
    if gid is None:
        raise places.error(index, None, "this identity has no gid; add it")
    if isinstance(gid, str):
        try:
            gid = users.group(gid)
        except KeyError:
            raise places.error(
                index,
                "gid",
                f"this host has no group named {gid!r}; add that group, or give a number",
            ) from None
    return PosixOwner(_posix_id(index, "uid", uid, places), _posix_id(index, "gid", gid, places))


def _posix_id(index: int, name: str, value: object, places: _Places) -> int:
    if not _is_posix_id(value):
        raise places.error(
            index,
            name,
            f"{name} is neither a number from 0 to {MAX_POSIX_ID} nor a name; give one of both",
        )
    return value


def _shared(numbered: Sequence[tuple[int, Identity]], places: _Places) -> Iterator[OperatorError]:
    """Nothing that decides who someone is may be given to two identities."""
    seen: dict[tuple[str, object], tuple[int, str, str]] = {}
    for index, identity in numbered:
        claims: list[tuple[str, str, object]] = [
            ("name", "name", identity.name),
            ("uid", "uid", identity.owner.uid),
            # Both are looked up as owners, so they share one space.
            *(("owner", "access_keys", key) for key in identity.access_keys),
            *(("owner", "owner_ids", owner_id) for owner_id in identity.owner_ids),
        ]
        for space, name, value in claims:
            first, key, holder = seen.setdefault((space, value), (index, name, identity.name))
            if first != index:
                yield places.error(
                    index,
                    name,
                    f"{name} {value!r} is given to {holder!r} ({places.short(first, key)}) "
                    "already; remove it from one of them",
                )


def identities_from_json(data: str | bytes | Mapping[str, object]) -> IdentityMap:
    """The map that the embedded store answers for ``identities=auto``.

    ``{"identities": [{"name", "role", "uid", "gid", "access_keys"}]}``; each is acted as by
    assuming ``arn:aws:iam:::user/NAME``. Raises OperatorError where it is anything else.
    """
    problem = OperatorError(
        "the store's answer is no identity map: identities=auto needs the embedded store; "
        "write an identity file and give identities=FILE"
    )
    if isinstance(data, str | bytes):
        try:
            data = json.loads(data)
        except ValueError:
            raise problem from None
    entries = data.get("identities") if isinstance(data, Mapping) else None
    if not isinstance(entries, list):
        raise problem
    identities: list[Identity] = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise problem
        name, uid, gid = entry.get("name"), entry.get("uid"), entry.get("gid")
        access_keys = entry.get("access_keys", [])
        if not (
            isinstance(name, str)
            and name
            and _is_posix_id(uid)
            and _is_posix_id(gid)
            and isinstance(access_keys, list)
            and all(isinstance(key, str) for key in access_keys)
        ):
            raise problem
        identities.append(
            Identity(
                name,
                tuple(access_keys),
                (name,),
                PosixOwner(uid, gid),
                None,
                f"arn:aws:iam:::user/{name}",
                entry.get("role") == "admin",
            )
        )
    return IdentityMap(tuple(identities))


def _is_posix_id(value: object) -> TypeGuard[int]:
    # bool is an int to Python, but no number in JSON or TOML.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_POSIX_ID
