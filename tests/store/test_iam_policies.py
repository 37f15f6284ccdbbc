"""Policies of IAM: managed, inline, attached; one a user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.store.conftest import Refusal
from tests.store.iam_kit import ACCOUNT, allow, as_user, iam_of, policy
from tests.store_process import StoreProcess

READ = policy(allow("s3:GetObject", on="arn:aws:s3:::photos/*"))
READWRITE = "arn:aws:iam::aws:policy/readwrite"


@pytest.fixture(scope="module")
def iam(running: StoreProcess) -> Iterator[Any]:
    with iam_of(running, running.admin()) as client:
        yield client


@pytest.fixture
def dave(iam: Any) -> Iterator[str]:
    iam.create_user(UserName="dave")
    yield "dave"
    for attached in iam.list_attached_user_policies(UserName="dave")["AttachedPolicies"]:
        iam.detach_user_policy(UserName="dave", PolicyArn=attached["PolicyArn"])
    for name in iam.list_user_policies(UserName="dave")["PolicyNames"]:
        iam.delete_user_policy(UserName="dave", PolicyName=name)
    for key in iam.list_access_keys(UserName="dave")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="dave", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="dave")


@pytest.fixture
def reads(iam: Any) -> Iterator[str]:
    arn = iam.create_policy(PolicyName="reads", PolicyDocument=READ, Description="tést")
    yield arn["Policy"]["Arn"]
    iam.delete_policy(PolicyArn=arn["Policy"]["Arn"])


def test_a_policy_is_kept(iam: Any, reads: str, running: StoreProcess) -> None:
    assert reads == f"{ACCOUNT}:policy/reads"
    shown = iam.get_policy(PolicyArn=reads)["Policy"]
    assert (shown["PolicyName"], shown["AttachmentCount"]) == ("reads", 0)
    assert (shown["Description"], shown["DefaultVersionId"]) == ("tést", "v1")
    version = iam.get_policy_version(PolicyArn=reads, VersionId="v1")["PolicyVersion"]
    assert version["Document"] == json.loads(READ)
    assert version["IsDefaultVersion"] is True
    versions = iam.list_policy_versions(PolicyArn=reads)["Versions"]
    assert [entry["VersionId"] for entry in versions] == ["v1"]
    assert json.loads(running.command("policy", "show", "reads").stdout) == json.loads(READ)


def test_listing(iam: Any, reads: str) -> None:
    def names(**arguments: Any) -> set[str]:
        pages = iam.get_paginator("list_policies").paginate(
            **arguments, PaginationConfig={"PageSize": 2}
        )
        return {entry["PolicyName"] for page in pages for entry in page["Policies"]}

    predefined = {"AdministratorAccess", "readonly", "writeonly", "readwrite"}
    assert names(Scope="AWS") == predefined
    assert names(Scope="Local") == {"reads"}
    assert names() == {*predefined, "reads"}
    assert names(OnlyAttached=True) == {"AdministratorAccess", "readwrite"}
    entry = iam.list_policies(Scope="Local")["Policies"][0]
    assert entry["Arn"] == reads
    assert len(entry["PolicyId"]) >= 16


def test_an_attached_policy_counts_at_once(
    iam: Any, dave: str, reads: str, running: StoreProcess, refusal: Refusal
) -> None:
    key = iam.create_access_key(UserName=dave)["AccessKey"]
    running_key = running.s3(as_user(dave, key))
    missing = {"Bucket": "photos", "Key": "none"}
    assert refusal(running_key.get_object, **missing)[0] == "AccessDenied"
    running_admin = running.s3(running.admin())
    running_admin.put_object(Bucket="photos", Key="a", Body=b"x")
    running_admin.close()
    iam.attach_user_policy(UserName=dave, PolicyArn=reads)
    running_key.get_object(Bucket="photos", Key="a")
    assert iam.get_policy(PolicyArn=reads)["Policy"]["AttachmentCount"] == 1
    entities = iam.list_entities_for_policy(PolicyArn=reads)
    assert [user["UserName"] for user in entities["PolicyUsers"]] == [dave]
    assert iam.list_entities_for_policy(PolicyArn=reads, EntityFilter="Role")["PolicyUsers"] == []
    assert refusal(iam.delete_policy, PolicyArn=reads) == ("DeleteConflict", 409)
    iam.detach_user_policy(UserName=dave, PolicyArn=reads)
    assert refusal(running_key.get_object, Bucket="photos", Key="a") == ("AccessDenied", 403)
    running_key.close()


def test_one_policy_a_user(iam: Any, dave: str, reads: str, refusal: Refusal) -> None:
    limit = ("LimitExceeded", 409)
    own = {"UserName": dave, "PolicyName": "own", "PolicyDocument": READ}
    iam.attach_user_policy(UserName=dave, PolicyArn=reads)
    iam.attach_user_policy(UserName=dave, PolicyArn=reads)
    assert refusal(iam.attach_user_policy, UserName=dave, PolicyArn=READWRITE) == limit
    assert refusal(iam.put_user_policy, **own) == limit
    attached = iam.list_attached_user_policies(UserName=dave)["AttachedPolicies"]
    assert attached == [{"PolicyName": "reads", "PolicyArn": reads}]
    iam.detach_user_policy(UserName=dave, PolicyArn=reads)
    iam.put_user_policy(**own)
    assert refusal(iam.put_user_policy, **{**own, "PolicyName": "second"}) == limit
    assert refusal(iam.attach_user_policy, UserName=dave, PolicyArn=reads) == limit
    wider = policy(allow("s3:*"))
    iam.put_user_policy(**{**own, "PolicyDocument": wider})
    assert iam.list_user_policies(UserName=dave)["PolicyNames"] == ["own"]
    answer = iam.get_user_policy(UserName=dave, PolicyName="own")
    assert answer["PolicyDocument"] == json.loads(wider)
    iam.delete_user_policy(UserName=dave, PolicyName="own")
    assert iam.list_user_policies(UserName=dave)["PolicyNames"] == []


def test_the_command_line_sees_an_inline_policy(iam: Any, dave: str, running: StoreProcess) -> None:
    iam.put_user_policy(UserName=dave, PolicyName="own", PolicyDocument=READ)
    explained = running.command("policy", "explain", dave, "s3:GetObject", "photos/a", "--json")
    assert json.loads(explained.stdout)["decision"] == "allowed"
    assert json.loads(explained.stdout)["policy"] == "own"
    running.command("policy", "attach", "readonly", dave)
    assert iam.list_user_policies(UserName=dave)["PolicyNames"] == []
    running.command("policy", "detach", dave)
    assert iam.list_attached_user_policies(UserName=dave)["AttachedPolicies"] == []


def test_the_role_admin_is_a_policy(iam: Any, dave: str, running: StoreProcess) -> None:
    arn = "arn:aws:iam::aws:policy/AdministratorAccess"
    key = as_user(dave, iam.create_access_key(UserName=dave)["AccessKey"])
    iam.attach_user_policy(UserName=dave, PolicyArn=arn)
    attached = iam.list_attached_user_policies(UserName=dave)["AttachedPolicies"]
    assert [entry["PolicyArn"] for entry in attached] == [arn]
    with iam_of(running, key) as own:
        assert own.get_user()["User"]["UserName"] == dave
    iam.detach_user_policy(UserName=dave, PolicyArn=arn)
    shown = json.loads(running.command("user", "show", dave, "--json").stdout)
    assert (shown["role"], shown["policy"]) == ("s3", None)


def test_refusals(iam: Any, dave: str, reads: str, refusal: Refusal) -> None:
    missing = ("NoSuchEntity", 404)
    other = f"{ACCOUNT}:policy/other"
    assert refusal(iam.get_policy, PolicyArn=other) == missing
    assert refusal(iam.delete_policy, PolicyArn=other) == missing
    assert refusal(iam.attach_user_policy, UserName=dave, PolicyArn=other) == missing
    assert refusal(iam.attach_user_policy, UserName="nobody", PolicyArn=reads) == missing
    assert refusal(iam.detach_user_policy, UserName=dave, PolicyArn=reads) == missing
    # Predefined policies are AWS's, the others are not.
    for arn in (f"{ACCOUNT}:policy/readonly", "arn:aws:iam::aws:policy/reads"):
        assert refusal(iam.get_policy, PolicyArn=arn) == missing
    assert refusal(iam.get_policy_version, PolicyArn=reads, VersionId="v2") == missing
    assert refusal(iam.get_user_policy, UserName=dave, PolicyName="own") == missing
    assert refusal(iam.delete_user_policy, UserName=dave, PolicyName="own") == missing
    assert refusal(iam.delete_policy, PolicyArn=READWRITE) == ("AccessDenied", 403)
    assert refusal(iam.get_policy, PolicyArn="arn:aws:s3:::photos/policy") == (
        "ValidationError",
        400,
    )
    taken = ("EntityAlreadyExists", 409)
    for name in ("reads", "readonly", "AdministratorAccess"):
        assert refusal(iam.create_policy, PolicyName=name, PolicyDocument=READ) == taken
    malformed = ("MalformedPolicyDocument", 400)
    for text in ("{", "{}", READ.replace("s3:GetObject", "s3:Nope")):
        assert refusal(iam.create_policy, PolicyName="new", PolicyDocument=text) == malformed
        put = {"UserName": dave, "PolicyName": "own", "PolicyDocument": text}
        assert refusal(iam.put_user_policy, **put) == malformed
    large = policy(allow("s3:*", on=[f"arn:aws:s3:::photos/{n:060}" for n in range(30)]))
    answer = refusal(iam.create_policy, PolicyName="new", PolicyDocument=large)
    assert answer == ("LimitExceeded", 409)
