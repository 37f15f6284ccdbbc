"""Who administers by a policy can do what it says, and can't lift itself or others above it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.store.conftest import Refusal
from tests.store.iam_kit import ACCOUNT, allow, as_user, audited, client_of, deny, iam_of, policy
from tests.store_process import StoreProcess, User

DENIED = ("AccessDenied", 403)
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
READWRITE = "arn:aws:iam::aws:policy/readwrite"
# As much as a policy can give: everything on users, keys and policies, and one bucket.
DELEGATE = policy(
    allow("iam:*"),
    allow("s3:*", on=["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"]),
    deny("s3:DeleteBucket"),
)


@pytest.fixture(scope="module")
def admin(running: StoreProcess) -> Iterator[Any]:
    with iam_of(running, running.admin()) as client:
        yield client


@pytest.fixture(scope="module")
def delegate(running: StoreProcess, admin: Any) -> User:
    """A user without the role admin whose policy allows all of IAM."""
    tags = [{"Key": "posix-uid", "Value": "5001"}, {"Key": "posix-gid", "Value": "5002"}]
    admin.create_user(UserName="delegate", Tags=tags)
    admin.put_user_policy(UserName="delegate", PolicyName="all", PolicyDocument=DELEGATE)
    return as_user("delegate", admin.create_access_key(UserName="delegate")["AccessKey"])


@pytest.fixture(scope="module")
def iam(running: StoreProcess, delegate: User) -> Iterator[Any]:
    with iam_of(running, delegate, parameter_validation=False) as client:
        yield client


def give(iam: Any, document: str, *, name: str = "helped") -> None:
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)


def test_nothing_without_a_policy(
    running: StoreProcess, alice: User, bob: User, refusal: Refusal
) -> None:
    for user in (alice, bob):
        with iam_of(running, user) as client:
            assert refusal(client.list_users) == DENIED
            assert refusal(client.get_user) == DENIED
            assert refusal(client.create_access_key) == DENIED
            assert refusal(client.create_access_key, UserName="admin") == DENIED
            assert (
                refusal(client.attach_user_policy, UserName=user.name, PolicyArn=READWRITE)
                == DENIED
            )


def test_an_admin_is_out_of_reach(iam: Any, refusal: Refusal) -> None:
    target = {"UserName": "admin"}
    key = {**target, "AccessKeyId": "admin"}
    assert iam.get_user(**target)["User"]["UserName"] == "admin"
    assert refusal(iam.create_access_key, **target) == DENIED
    assert refusal(iam.update_access_key, **key, Status="Inactive") == DENIED
    assert refusal(iam.delete_access_key, **key) == DENIED
    assert refusal(iam.delete_user, **target) == DENIED
    assert refusal(iam.tag_user, **target, Tags=[{"Key": "posix-uid", "Value": "5001"}]) == DENIED
    assert refusal(iam.untag_user, **target, TagKeys=["posix-uid"]) == DENIED
    assert refusal(iam.detach_user_policy, **target, PolicyArn=ADMINISTRATOR) == DENIED
    put = {**target, "PolicyName": "x", "PolicyDocument": DELEGATE}
    assert refusal(iam.put_user_policy, **put) == DENIED


def test_nobody_becomes_an_admin(iam: Any, refusal: Refusal) -> None:
    iam.create_user(UserName="helped")
    for name in ("helped", "delegate", "bob"):
        attach = {"UserName": name, "PolicyArn": ADMINISTRATOR}
        assert refusal(iam.attach_user_policy, **attach) == DENIED
    iam.delete_user(UserName="helped")


def test_its_own_policy_is_not_its_to_change(iam: Any, refusal: Refusal) -> None:
    own = {"UserName": "delegate"}
    wide = policy(allow("*"))
    assert refusal(iam.put_user_policy, **own, PolicyName="all", PolicyDocument=wide) == DENIED
    assert refusal(iam.delete_user_policy, **own, PolicyName="all") == DENIED
    assert refusal(iam.attach_user_policy, **own, PolicyArn=READWRITE) == DENIED


def test_nobody_gives_what_it_does_not_have(
    iam: Any, running: StoreProcess, refusal: Refusal
) -> None:
    iam.create_user(UserName="helped")
    kept = deny("s3:DeleteBucket")
    photos = "arn:aws:s3:::photos/*"
    give(iam, policy(allow("s3:GetObject", on=photos)))
    give(iam, policy(allow("s3:*", on="arn:aws:s3:::photos/a/*"), kept))
    give(iam, policy(allow("iam:ListUsers"), allow("s3:Get*", on=photos)))
    for document in (
        policy(allow("*")),
        policy(allow("s3:*"), kept),
        policy(allow("s3:GetObject", on="arn:aws:s3:::photo*")),
        policy(allow("s3:GetObject", on="arn:aws:s3:::*/photos/*")),
        policy(allow("sts:AssumeRole", on=f"{ACCOUNT}:user/alice")),
        # Without the statement that denies.
        policy(allow("s3:*", on="arn:aws:s3:::photos")),
        policy({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
        policy(
            {"Effect": "Allow", "Action": "s3:GetObject", "NotResource": "arn:aws:s3:::photos/*"}
        ),
    ):
        put = {"UserName": "helped", "PolicyName": "own", "PolicyDocument": document}
        assert refusal(iam.put_user_policy, **put) == DENIED, document
    iam.delete_user_policy(UserName="helped", PolicyName="own")
    assert refusal(iam.attach_user_policy, UserName="helped", PolicyArn=READWRITE) == DENIED
    # A policy may be made, but not given.
    wide = iam.create_policy(PolicyName="wide", PolicyDocument=policy(allow("*")))["Policy"]["Arn"]
    assert refusal(iam.attach_user_policy, UserName="helped", PolicyArn=wide) == DENIED
    iam.delete_policy(PolicyArn=wide)
    iam.delete_user(UserName="helped")


def test_posix_ids_are_given_by_the_admin(
    iam: Any, running: StoreProcess, refusal: Refusal
) -> None:
    """An id stands for a user of the host: 0 is root's, 1001 alice's."""
    iam.create_user(UserName="helped")
    shown = json.loads(running.command("user", "show", "helped", "--json").stdout)
    assert (shown["uid"], shown["gid"], shown["role"]) == (5001, 5002, "s3")
    for name in ("helped", "delegate", "bob"):
        for value in ("0", "1001"):
            tags = [{"Key": "posix-uid", "Value": value}]
            assert refusal(iam.tag_user, UserName=name, Tags=tags) == DENIED
        assert refusal(iam.untag_user, UserName=name, TagKeys=["posix-uid"]) == DENIED
        tags = [{"Key": "posix-gid", "Value": "0"}]
        assert refusal(iam.tag_user, UserName=name, Tags=tags) == DENIED
        assert refusal(iam.create_user, UserName="other", Tags=tags) == DENIED
    iam.tag_user(UserName="helped", Tags=[{"Key": "posix-uid", "Value": "5001"}])
    iam.delete_user(UserName="helped")


def test_temporary_credentials_change_nothing(
    running: StoreProcess, delegate: User, refusal: Refusal
) -> None:
    """What they made would outlive them."""
    sts = client_of(running, "sts", delegate)
    made = sts.get_session_token()["Credentials"]
    sts.close()
    session = as_user("delegate", made)
    with iam_of(running, session, token=made["SessionToken"]) as iam:
        assert iam.list_users()["Users"]
        assert refusal(iam.create_access_key) == DENIED
        assert refusal(iam.create_user, UserName="other") == DENIED
        assert refusal(iam.create_policy, PolicyName="new", PolicyDocument=DELEGATE) == DENIED


def test_an_admin_in_a_session(running: StoreProcess, refusal: Refusal) -> None:
    sts = client_of(running, "sts", running.admin())
    role: dict[str, Any] = {"RoleArn": "arn:aws:iam:::role/any", "RoleSessionName": "test"}
    whole = sts.assume_role(**role)["Credentials"]
    limited = sts.assume_role(**role, Policy=policy(allow("iam:*")))["Credentials"]
    sts.close()
    with iam_of(running, as_user("x", whole), token=whole["SessionToken"]) as iam:
        iam.create_user(UserName="by-session")
        iam.delete_user(UserName="by-session")
    with iam_of(running, as_user("x", limited), token=limited["SessionToken"]) as iam:
        assert iam.list_users()["Users"]
        assert refusal(iam.create_access_key, UserName="admin") == DENIED
        assert refusal(iam.create_user, UserName="by-session") == DENIED


def test_a_policy_names_users_and_conditions(
    running: StoreProcess, admin: Any, refusal: Refusal
) -> None:
    document = policy(
        allow("iam:CreateAccessKey", "iam:GetUser", on="arn:aws:iam::123456789012:user/team-*"),
        allow(
            "iam:AttachUserPolicy",
            on="arn:aws:iam:::user/team-*",
            Condition={"ArnEquals": {"iam:PolicyARN": f"{ACCOUNT}:policy/team"}},
        ),
        allow(
            "iam:CreateUser",
            on="arn:aws:iam:::user/team-*",
            Condition={"StringEquals": {"aws:RequestTag/posix-uid": "0"}},
        ),
        allow("s3:GetObject", on="arn:aws:s3:::photos/team/*"),
    )
    admin.create_user(UserName="leader")
    admin.put_user_policy(UserName="leader", PolicyName="lead", PolicyDocument=document)
    team = policy(allow("s3:GetObject", on="arn:aws:s3:::photos/team/*"))
    arn = admin.create_policy(PolicyName="team", PolicyDocument=team)["Policy"]["Arn"]
    other = admin.create_policy(PolicyName="other", PolicyDocument=team)["Policy"]["Arn"]
    key = as_user("leader", admin.create_access_key(UserName="leader")["AccessKey"])
    with iam_of(running, key) as iam:
        assert refusal(iam.create_user, UserName="team-1") == DENIED
        tags = [{"Key": "posix-uid", "Value": "0"}]
        iam.create_user(UserName="team-1", Tags=tags)
        assert refusal(iam.create_user, UserName="rival", Tags=tags) == DENIED
        assert refusal(iam.attach_user_policy, UserName="team-1", PolicyArn=other) == DENIED
        iam.attach_user_policy(UserName="team-1", PolicyArn=arn)
        iam.create_access_key(UserName="team-1")
        assert refusal(iam.create_access_key, UserName="bob") == DENIED
        assert refusal(iam.create_access_key) == DENIED
        # Whether a user is there is told only to who may ask.
        assert refusal(iam.get_user, UserName="team-2") == ("NoSuchEntity", 404)
        assert refusal(iam.get_user, UserName="nobody") == DENIED
        assert refusal(iam.list_users) == DENIED
        assert refusal(iam.list_policies) == DENIED


def test_refusals_are_in_the_audit_log(iam: Any, running: StoreProcess, refusal: Refusal) -> None:
    assert refusal(iam.create_access_key, UserName="admin") == DENIED
    admin = "arn:aws:iam:::user/admin"
    line = audited(running, "iam:CreateAccessKey", user="delegate", resource=admin)
    assert (line["action"], line["decision"]) == ("iam:CreateAccessKey", "deny")
