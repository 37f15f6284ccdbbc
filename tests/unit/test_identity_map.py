"""The identity file: what it gives, and where it says that something is wrong."""

from __future__ import annotations

import json
import os
import pwd
from textwrap import dedent
from typing import Any

import pytest

from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.map import (
    Identity,
    IdentityMap,
    identities_from_json,
    parse_identities,
)


class Host:
    """A host with alice (1001:100) and the group staff (50)."""

    def user(self, name: str) -> PosixOwner:
        return {"alice": PosixOwner(1001, 100)}[name]

    def group(self, name: str) -> int:
        return {"staff": 50}[name]


def parse(text: str) -> IdentityMap:
    return parse_identities(dedent(text), "ids.toml", users=Host())


ALICE_AND_BOB = """\
    # who is who
    [[identity]]
    name = "alice"
    access_keys = ["alice", "AKIAALICE"]
    owner_ids = ["alice-id", "0123abcd"]
    uid = 1001
    gid = 1001
    profile = "alice"
    role_arn = "arn:aws:iam:::user/alice"

    [[identity]]
    name = "bob"
    owner_ids = ["bob"]
    uid = 1002
    gid = 1002
    """


def test_everything_in_a_file() -> None:
    found = parse(ALICE_AND_BOB)
    alice = Identity(
        "alice",
        ("alice", "AKIAALICE"),
        ("alice-id", "0123abcd"),
        PosixOwner(1001, 1001),
        "alice",
        "arn:aws:iam:::user/alice",
    )
    bob = Identity("bob", (), ("bob",), PosixOwner(1002, 1002))
    assert found.identities == (alice, bob)
    for owner_id in ("alice", "AKIAALICE", "alice-id", "0123abcd"):
        assert found.by_owner_id(owner_id) == alice
    assert found.by_owner_id("bob") == bob
    assert found.by_owner_id("Bob") is None
    assert found.by_uid(1002) == bob
    assert found.by_uid(0) is None


def test_an_empty_file_knows_nobody() -> None:
    assert parse("# nobody yet\n").identities == ()


def test_names_of_the_host() -> None:
    by_name = parse('[[identity]]\nname = "a"\nuid = "alice"\n').identities[0]
    assert by_name.owner == PosixOwner(1001, 100)
    group = parse('[[identity]]\nname = "a"\nuid = 7\ngid = "staff"\n').identities[0]
    assert group.owner == PosixOwner(7, 50)


def test_the_hosts_own_names() -> None:
    own = pwd.getpwuid(os.getuid())
    text = f'[[identity]]\nname = "me"\nuid = "{own.pw_name}"\n'
    assert parse_identities(text, "x").identities[0].owner == PosixOwner(own.pw_uid, own.pw_gid)
    with pytest.raises(OperatorError, match=r"^x, line 4: this host has no group named 'no-such"):
        parse_identities(text + 'gid = "no-such-group-here"\n', "x")


ALICE = '[[identity]]\nname = "alice"\nowner_ids = ["alice"]\nuid = 1001\ngid = 1001\n'

WRONG = {
    "syntax": (ALICE + "profile = alice\n", "ids.toml, line 6: Invalid value"),
    "cut short": ('[[identity]]\nname = "alice', "ids.toml, line 2: "),
    "key twice": (ALICE + "uid = 1\n", "ids.toml, line 6: "),
    "other table": ("[identities]\n", "ids.toml: unknown key 'identities'"),
    "single brackets": ('[identity]\nname = "a"\n', r"ids.toml: write \[\[identity\]\]"),
    "unknown key": (
        ALICE + '"owner_id" = "alice"\n',
        "ids.toml, line 6: unknown key 'owner_id'; use one of name, access_keys",
    ),
    "no name": ("\n\n[[identity]]\nuid = 1\ngid = 1\n", "line 3: this identity has no name"),
    "no uid": (ALICE + '\n[[identity]]\nname = "bob"\n', "line 7: this identity has no uid"),
    "no gid": ('[[identity]]\nname = "bob"\nuid = 1\n', "line 1: this identity has no gid"),
    "name": ("[[identity]]\nuid = 1\ngid = 1\nname = 5\n", "line 4: name is no printable"),
    "empty name": ('[[identity]]\nname = ""\nuid = 1\ngid = 1\n', "line 2: name is no printable"),
    "negative uid": ('[[identity]]\nname = "a"\nuid = -1\ngid = 1\n', "line 3: uid is neither"),
    "(uid_t) -1": (f'[[identity]]\nname = "a"\nuid = {2**32 - 1}\ngid = 1\n', "line 3: uid is"),
    "float gid": ('[[identity]]\nname = "a"\nuid = 1\ngid = 1.0\n', "line 4: gid is neither"),
    "bool uid": ('[[identity]]\nname = "a"\nuid = true\ngid = 1\n', "line 3: uid is neither"),
    "unknown user": (
        '[[identity]]\nname = "a"\nuid = "zoe"\n',
        "line 3: this host has no user named 'zoe'",
    ),
    "unknown group": (
        '[[identity]]\nname = "a"\nuid = 1\ngid = "zoo"\n',
        "line 4: this host has no group named 'zoo'",
    ),
    "no list": (
        '[[identity]]\nname = "a"\nuid = 1\ngid = 1\naccess_keys = "a"\n',
        r'line 5: access_keys is no list of texts; write it as \["alice"\]',
    ),
    "list of numbers": (
        '[[identity]]\nname = "a"\nuid = 1\ngid = 1\nowner_ids = [1]\n',
        "line 5: owner_ids is no list",
    ),
    "role": (ALICE + 'role_arn = "alice"\n', "line 6: 'alice' is no role ARN"),
    "same name": (
        ALICE + '[[identity]]\nuid = 5\ngid = 1\nname = "alice"\n',
        r"line 9: name 'alice' is given to 'alice' \(line 2\) already",
    ),
    "same uid": (
        ALICE + '[[identity]]\nname = "b"\nuid = 1001\ngid = 1\n',
        r"line 8: uid 1001 is given to 'alice' \(line 4\) already",
    ),
    "owner that is another's key": (
        ALICE + '[[identity]]\nname = "b"\nuid = 1\ngid = 1\naccess_keys = ["x", "alice"]\n',
        r"line 10: access_keys 'alice' is given to 'alice' \(line 3\) already",
    ),
    "not as tables": (
        'identity = [{name = "a", uid = 1, gid = 1}, {name = "b", uid = 1, gid = 1}]',
        r"ids.toml: identity 2: uid 1 is given to 'a' \(identity 1\) already",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(OperatorError, match=message) as caught:
        parse_identities(text, "ids.toml", users=Host())
    assert "\n" not in str(caught.value)


def test_an_identity_may_name_itself_twice() -> None:
    text = ALICE + 'access_keys = ["alice", "alice"]\n'
    assert parse(text).identities[0].access_keys == ("alice",)


def store_answer(*entries: dict[str, Any]) -> str:
    return json.dumps({"identities": list(entries)})


ADMIN = {"name": "admin", "role": "admin", "uid": 0, "gid": 0, "access_keys": ["admin"]}
BOB = {"name": "bob", "role": "s3", "uid": 1002, "gid": 1003, "access_keys": ["bob", "AKIA1"]}


def test_the_map_of_the_embedded_store() -> None:
    found = identities_from_json(store_answer(ADMIN, BOB))
    assert found.by_owner_id("AKIA1") == Identity(
        "bob",
        ("bob", "AKIA1"),
        ("bob",),
        PosixOwner(1002, 1003),
        None,
        "arn:aws:iam:::user/bob",
    )
    admin = found.by_uid(0)
    assert admin is not None
    assert admin.admin
    assert found == identities_from_json(json.loads(store_answer(ADMIN, BOB)))
    assert found == identities_from_json(store_answer(ADMIN, BOB).encode())


def test_a_uid_that_several_have_is_nobodys() -> None:
    """A caller must not sign as one of them by chance; owners are still told apart."""
    found = identities_from_json(store_answer(ADMIN, {**BOB, "uid": 0}, {**BOB, "name": "c"}))
    assert found.by_uid(0) is None
    bob = found.by_owner_id("bob")
    assert bob is not None
    assert bob.owner.uid == 0


def test_an_owner_goes_before_anothers_access_key() -> None:
    thief = {"name": "aaa", "role": "s3", "uid": 7, "gid": 7, "access_keys": ["bob"]}
    found = identities_from_json(store_answer(thief, {**BOB, "access_keys": []}))
    bob = found.by_owner_id("bob")
    assert bob is not None
    assert bob.name == "bob"


@pytest.mark.parametrize(
    "data",
    [
        "<html>",
        b"\xff",
        "[]",
        "{}",
        '{"identities": {}}',
        '{"identities": [1]}',
        store_answer({**BOB, "uid": "1002"}),
        store_answer({**BOB, "uid": -1}),
        store_answer({**BOB, "gid": True}),
        store_answer({**BOB, "name": ""}),
        store_answer({**BOB, "access_keys": "bob"}),
        store_answer({"uid": 1, "gid": 1}),
    ],
)
def test_an_answer_that_is_no_map(data: str | bytes) -> None:
    with pytest.raises(OperatorError, match="no identity map"):
        identities_from_json(data)
