"""What other systems print of their users, and the identity file that comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.importing import (
    Choices,
    ForeignUser,
    Imported,
    LeftOut,
    import_users,
    radosgw_users,
    to_toml,
    weka_users,
)
from s3posixfs.identity.map import Identity, IdentityMap, parse_identities

SECRET = "7QKAVOwDrD8yA2gg6k4yUSv8DqYItL"
HOST = {
    "alice": PosixOwner(1001, 100),
    "bob": PosixOwner(1002, 1002),
    "backup": PosixOwner(34, 34),
    "root": PosixOwner(0, 0),
    "alias": PosixOwner(1001, 100),
}


def choices(**other: Any) -> Choices:
    uids = {owner.uid for owner in HOST.values()}
    return Choices(HOST.get, uids.__contains__, **other)


def rgw(name: str, *keys: str, **other: object) -> dict[str, object]:
    """A record as radosgw-admin 16.2 prints it, with its secrets."""
    return {
        "user_id": name,
        "display_name": name.title(),
        "email": "",
        "suspended": 0,
        "max_buckets": 1000,
        "subusers": [{"id": f"{name}:swift", "permissions": "full-control"}],
        "keys": [{"user": name, "access_key": key, "secret_key": SECRET} for key in keys],
        "swift_keys": [{"user": f"{name}:swift", "secret_key": SECRET}],
        "caps": [],
        "op_mask": "read, write, delete",
        "type": "rgw",
        **other,
    }


def weka(name: str, role: str = "S3", uid: object = 0, gid: object = 0) -> dict[str, object]:
    # ``uid`` is WEKA's own name for the user, no POSIX id.
    return {
        "org_id": 0,
        "posix_gid": gid,
        "posix_uid": uid,
        "role": role,
        "source": "Internal",
        "uid": "0a7be3f3-58b6-4c2a-8a54-6e0c5f0f2b11",
        "username": name,
    }


def test_one_record_several_and_lists_are_the_same() -> None:
    records = [rgw("alice", "AK1", "AK2"), rgw("bob", "AK3")]
    expected = [ForeignUser("alice", ("AK1", "AK2")), ForeignUser("bob", ("AK3",))]
    assert radosgw_users(json.dumps(records)) == expected
    # What a loop of `user info` prints: pretty-printed, one after another.
    assert radosgw_users("\n".join(json.dumps(r, indent=4) for r in records) + "\n") == expected
    assert radosgw_users(json.dumps({"data": records[0]})) == expected[:1]
    assert radosgw_users(json.dumps(records[1])) == expected[1:]


def test_a_tenants_user_is_named_as_rgw_names_owners() -> None:
    found = radosgw_users(json.dumps([rgw("zoe", "A", tenant="acme"), rgw("acme$joe", "B")]))
    assert [user.name for user in found] == ["acme$zoe", "acme$joe"]
    assert radosgw_users(json.dumps(rgw("zoe", tenant="")))[0].name == "zoe"


def test_who_of_the_same_name_in_two_tenants_is_not_one_person() -> None:
    users = [ForeignUser("acme$alice"), ForeignUser("beta$alice")]
    imported = import_users(users, choices())
    assert not imported.identities
    assert [left.name for left in imported.left_out] == ["acme$alice", "beta$alice"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["alice", "bob"]', "these are names only.*radosgw-admin user info --uid"),
        ("", "there is no user in it"),
        ("[]", "there is no user in it"),
        ("{}", "no user_id"),
        ('{"user_id": ""}', "no user_id"),
        ('{"user_id": 5}', "no user_id"),
        ("5", "no list of users"),
        ('{"user_id": "a"}\n{"user', "line 2 is not JSON"),
        ("[" * 100_000, "not JSON|too deep"),
        (f'{{"user_id": "a", "secret_key": "{SECRET}" oops}}', "line 1 is not JSON"),
    ],
)
def test_what_is_no_list_of_users(text: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said) as caught:
        radosgw_users(text)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weka_gives_posix_ids_and_other_roles_are_no_s3_users() -> None:
    text = json.dumps(
        [weka("alice", uid=2001, gid=2002), weka("root", "ClusterAdmin"), weka("bob", uid=2003)]
    )
    alice = ForeignUser("alice", ("alice",), PosixOwner(2001, 2002))
    bob = ForeignUser("bob", ("bob",), PosixOwner(2003, 0))
    assert weka_users(text) == [alice, bob]
    assert weka_users(json.dumps({"data": json.loads(text)})) == [alice, bob]


@pytest.mark.parametrize(
    "record",
    [
        {"Username": "alice", "Role": "s3", "POSIX UID": "2001", "POSIX GID": "2002"},
        {"username": "alice", "role": "S3", "posixUid": 2001, "posixGid": 2002},
        {"access_key": "alice", "posix-uid": 2001, "posix-gid": 2002},
    ],
)
def test_weka_spellings(record: dict[str, object]) -> None:
    assert weka_users(json.dumps([record])) == [
        ForeignUser("alice", ("alice",), PosixOwner(2001, 2002))
    ]


def test_weka_without_s3_users() -> None:
    with pytest.raises(OperatorError, match="no user in it has the role s3"):
        weka_users(json.dumps([weka("admin", "ClusterAdmin")]))
    with pytest.raises(OperatorError, match="no username"):
        weka_users(json.dumps([{"role": "s3"}]))


def test_the_host_says_who_is_who() -> None:
    users = [ForeignUser("bob", ("B",)), ForeignUser("alice", ("A",)), ForeignUser("zoe")]
    imported = import_users(users, choices(profiles=True))
    assert imported.identities == [
        Identity("alice", ("A",), ("alice",), PosixOwner(1001, 100), "alice"),
        Identity("bob", ("B",), ("bob",), PosixOwner(1002, 1002), "bob"),
    ]
    assert [left.name for left in imported.left_out] == ["zoe"]
    assert "--uid-from" in imported.left_out[0].reason


def test_nobody_becomes_root_or_a_system_account_by_name() -> None:
    users = [ForeignUser("root"), ForeignUser("backup"), ForeignUser("w", (), PosixOwner(0, 0))]
    imported = import_users(users, choices())
    assert not imported.identities
    assert [left.name for left in imported.left_out] == ["backup", "root", "w"]
    lower = import_users(users, choices(uid_min=30))
    assert [identity.name for identity in lower.identities] == ["backup"]


def test_numbers_skip_those_that_are_taken() -> None:
    present = IdentityMap((Identity("old", (), ("old",), PosixOwner(1000, 1000)),))
    users = [ForeignUser(name) for name in ("old", "n1", "n2", "alice")]
    imported = import_users(users, choices(uid_from=1000), present)
    assert {i.name: i.owner.uid for i in imported.identities} == {
        "alice": 1001,
        "n1": 1003,  # 1000 the file's, 1001 and 1002 the host's
        "n2": 1004,
    }
    assert imported.kept == ["old"]


def test_users_of_one_uid_are_one_identity() -> None:
    shared = PosixOwner(2001, 2001)
    users = [ForeignUser("app2", ("app2",), shared), ForeignUser("app1", ("app1",), shared)]
    imported = import_users(users, choices())
    assert imported.identities == [Identity("app1", ("app1", "app2"), ("app1", "app2"), shared)]


def test_a_uid_that_another_identity_has_is_not_given_again() -> None:
    imported = import_users([ForeignUser("alias"), ForeignUser("alice")], choices())
    assert [identity.name for identity in imported.identities] == ["alias"]
    assert imported.left_out == [LeftOut("alice", "uid 1001 is another identity's")]


def test_what_a_person_wrote_stays_and_who_is_gone_is_named() -> None:
    present = parse_identities(
        '[[identity]]\nname = "chief"\nowner_ids = ["alice"]\nuid = 5\ngid = 5\n'
        '[[identity]]\nname = "left"\nowner_ids = ["left"]\nuid = 6\ngid = 6\n',
        "x",
    )
    imported = import_users([ForeignUser("alice"), ForeignUser("bob")], choices(), present)
    assert imported == Imported(
        [Identity("bob", (), ("bob",), PosixOwner(1002, 1002))], [], ["alice"], ["left"]
    )


AWKWARD = ('quo"te', "back\\slash", "ümläut", "acme$zoe", "a b", "#hash", "'single'")


def test_what_is_written_reads_the_same() -> None:
    identities = tuple(
        Identity(name, (f"key-{name}",), (name,), PosixOwner(2000 + n, 2000), name, None)
        for n, name in enumerate(AWKWARD)
    )
    assert parse_identities(to_toml(identities), "x").identities == identities


@pytest.mark.parametrize("name", ["new\nline", "nul\0", "bell\a", "del\x7f", "esc\x1b[0m"])
def test_names_that_no_file_can_hold_are_left_out(name: str) -> None:
    imported = import_users([ForeignUser(name)], choices(uid_from=3000))
    assert not imported.identities
    assert imported.left_out[0].name.isprintable()


def test_no_secret_is_carried_over() -> None:
    users = radosgw_users(json.dumps([rgw("alice", "AK1")]))
    assert SECRET not in repr(users)
    assert SECRET not in to_toml(import_users(users, choices(profiles=True)).identities)
