"""Users, their POSIX ids and their keys, by plain boto3 and aws-cli against the store's IAM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.store.conftest import Refusal
from tests.store.iam_kit import ACCOUNT, allow, as_user, audited, iam_of, policy
from tests.store_process import StoreProcess, User

AWS = str(Path(sys.executable).with_name("aws"))


@pytest.fixture(scope="module")
def iam(running: StoreProcess) -> Iterator[Any]:
    # boto3 holds that access keys have 16 characters and more; those of this store may have 3.
    with iam_of(running, running.admin(), parameter_validation=False) as client:
        yield client


@pytest.fixture
def carol(iam: Any) -> Iterator[str]:
    iam.create_user(
        UserName="carol",
        Tags=[{"Key": "posix-uid", "Value": "3001"}, {"Key": "posix-gid", "Value": "3002"}],
    )
    yield "carol"
    for key in iam.list_access_keys(UserName="carol")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="carol", AccessKeyId=key["AccessKeyId"])
    for name in iam.list_user_policies(UserName="carol")["PolicyNames"]:
        iam.delete_user_policy(UserName="carol", PolicyName=name)
    iam.delete_user(UserName="carol")


def test_a_user_is_made_and_shown(iam: Any, carol: str, running: StoreProcess) -> None:
    user = iam.get_user(UserName=carol)["User"]
    assert user["Arn"] == f"{ACCOUNT}:user/carol"
    assert (user["UserName"], user["Path"]) == ("carol", "/")
    assert user["CreateDate"].year >= 2024
    assert {tag["Key"]: tag["Value"] for tag in user["Tags"]} == {
        "posix-uid": "3001",
        "posix-gid": "3002",
    }
    shown = json.loads(running.command("user", "show", carol, "--json").stdout)
    assert (shown["uid"], shown["gid"], shown["role"]) == (3001, 3002, "s3")
    assert shown["access_keys"] == []


def test_who_signs_is_who_is_meant(iam: Any) -> None:
    assert iam.get_user()["User"]["UserName"] == "admin"
    keys = iam.list_access_keys()["AccessKeyMetadata"]
    assert [(key["UserName"], key["AccessKeyId"]) for key in keys] == [("admin", "admin")]


def test_listing_by_pages(iam: Any, carol: str) -> None:
    names: list[str] = []
    for page in iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 1}):
        assert len(page["Users"]) == 1
        names += [user["UserName"] for user in page["Users"]]
    assert names == sorted(names)
    assert set(names) >= {"admin", "alice", "bob", "carol"}
    assert [user["UserName"] for user in iam.list_users()["Users"]] == names
    assert iam.list_users(PathPrefix="/other/")["Users"] == []


def test_a_key_signs_at_once_and_its_end_is_at_once(
    iam: Any, carol: str, running: StoreProcess, refusal: Refusal
) -> None:
    iam.put_user_policy(UserName=carol, PolicyName="own", PolicyDocument=policy(allow("s3:*")))
    made = iam.create_access_key(UserName=carol)["AccessKey"]
    assert made["Status"] == "Active"
    assert made["AccessKeyId"].startswith("AKIA")
    client = running.s3(as_user(carol, made))
    client.put_object(Bucket="photos", Key="by-carol", Body=b"x")
    stat = (running.root / "photos/by-carol").stat()
    assert (stat.st_uid, stat.st_gid) == (3001, 3002)
    key = {"UserName": carol, "AccessKeyId": made["AccessKeyId"]}
    for status, count in (("Inactive", 0), ("Active", 1)):
        iam.update_access_key(**key, Status=status)
        listed = iam.list_access_keys(UserName=carol)["AccessKeyMetadata"]
        assert [one["Status"] for one in listed] == [status]
        if count:
            client.get_object(Bucket="photos", Key="by-carol")
        else:
            answer = refusal(client.get_object, Bucket="photos", Key="by-carol")
            assert answer == ("InvalidAccessKeyId", 403)
    iam.delete_access_key(**key)
    assert refusal(client.list_buckets) == ("InvalidAccessKeyId", 403)
    client.close()


def test_rotating_a_key(iam: Any, carol: str, running: StoreProcess) -> None:
    first = iam.create_access_key(UserName=carol)["AccessKey"]
    iam.put_user_policy(
        UserName=carol,
        PolicyName="rotate",
        PolicyDocument=policy(allow("iam:*AccessKey*", on=f"{ACCOUNT}:user/carol")),
    )
    with iam_of(running, as_user(carol, first)) as own:
        second = own.create_access_key()["AccessKey"]
        assert second["UserName"] == carol
    with iam_of(running, as_user(carol, second)) as own:
        own.delete_access_key(AccessKeyId=first["AccessKeyId"])
        listed = own.list_access_keys()["AccessKeyMetadata"]
        assert [key["AccessKeyId"] for key in listed] == [second["AccessKeyId"]]


def test_keys_have_a_limit(iam: Any, carol: str, refusal: Refusal) -> None:
    for _ in range(16):
        iam.create_access_key(UserName=carol)
    assert refusal(iam.create_access_key, UserName=carol) == ("LimitExceeded", 409)


def test_posix_ids_are_tags(iam: Any, carol: str, running: StoreProcess) -> None:
    iam.tag_user(UserName=carol, Tags=[{"Key": "posix-uid", "Value": "3003"}])
    tags = {tag["Key"]: tag["Value"] for tag in iam.list_user_tags(UserName=carol)["Tags"]}
    assert tags == {"posix-uid": "3003", "posix-gid": "3002"}
    iam.untag_user(UserName=carol, TagKeys=["posix-gid", "never-there"])
    shown = json.loads(running.command("user", "show", carol, "--json").stdout)
    assert (shown["uid"], shown["gid"]) == (3003, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("team", "x"),
        ("posix-uid", "-1"),
        ("posix-uid", "4294967295"),
        ("posix-uid", "0" * 5_000),
        ("posix-gid", "wheel"),
        ("posix-gid", "\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_tags_that_mean_nothing_are_refused(
    iam: Any, carol: str, refusal: Refusal, key: str, value: str
) -> None:
    tags = [{"Key": key, "Value": value}]
    assert refusal(iam.tag_user, UserName=carol, Tags=tags) == ("InvalidInput", 400)
    assert refusal(iam.create_user, UserName="dora", Tags=tags) == ("InvalidInput", 400)
    assert refusal(iam.get_user, UserName="dora") == ("NoSuchEntity", 404)


def test_delete_waits_for_keys_and_policies(iam: Any, refusal: Refusal) -> None:
    iam.create_user(UserName="gone")
    key = iam.create_access_key(UserName="gone")["AccessKey"]["AccessKeyId"]
    iam.attach_user_policy(UserName="gone", PolicyArn="arn:aws:iam::aws:policy/readonly")
    assert refusal(iam.delete_user, UserName="gone") == ("DeleteConflict", 409)
    iam.delete_access_key(UserName="gone", AccessKeyId=key)
    assert refusal(iam.delete_user, UserName="gone") == ("DeleteConflict", 409)
    iam.detach_user_policy(UserName="gone", PolicyArn="arn:aws:iam::aws:policy/readonly")
    iam.delete_user(UserName="gone")
    assert refusal(iam.delete_user, UserName="gone") == ("NoSuchEntity", 404)


def test_refusals(iam: Any, running: StoreProcess, refusal: Refusal) -> None:
    assert refusal(iam.get_user, UserName="nobody") == ("NoSuchEntity", 404)
    assert refusal(iam.create_user, UserName="alice") == ("EntityAlreadyExists", 409)
    assert refusal(iam.create_user, UserName="x") == ("ValidationError", 400)
    assert refusal(iam.create_user, UserName="dora", Path="/team/") == ("ValidationError", 400)
    boundary = f"{ACCOUNT}:policy/limit"
    answer = refusal(iam.create_user, UserName="dora", PermissionsBoundary=boundary)
    assert answer == ("ValidationError", 400)
    key = {"UserName": "alice", "AccessKeyId": "AKIAAAAAAAAAAAAAAAAA"}
    assert refusal(iam.delete_access_key, **key) == ("NoSuchEntity", 404)
    assert refusal(iam.update_access_key, **key, Status="Inactive") == ("NoSuchEntity", 404)
    # A key of somebody else is not found either.
    key["AccessKeyId"] = "bob"
    assert refusal(iam.delete_access_key, **key) == ("NoSuchEntity", 404)
    assert refusal(iam.list_roles) == ("InvalidAction", 400)
    assert refusal(iam.list_users, Marker="zz") == ("ValidationError", 400)
    for size in (0, 1_001, 10**30):
        assert refusal(iam.list_users, MaxItems=size) == ("ValidationError", 400)


def test_the_codes_of_authentication(running: StoreProcess, refusal: Refusal) -> None:
    with iam_of(running, User("x", "unknown-key", "wrong-secret", 0, 0)) as iam:
        assert refusal(iam.list_users) == ("InvalidClientTokenId", 403)
    with iam_of(running, User("admin", "admin", "wrong-secret", 0, 0)) as iam:
        assert refusal(iam.list_users) == ("SignatureDoesNotMatch", 403)
    with iam_of(running, running.admin(), signature_version=UNSIGNED) as iam:
        assert refusal(iam.list_users) == ("MissingAuthenticationToken", 403)


def test_a_signature_for_sts_is_none_for_iam(running: StoreProcess, refusal: Refusal) -> None:
    """The scope of a signature names its service; a call of the other is not let in by it."""
    admin = running.admin()
    core = boto3.client(
        "iam",
        endpoint_url=running.endpoint,
        region_name="us-east-1",
        aws_access_key_id=admin.access_key,
        aws_secret_access_key=admin.secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )
    core._request_signer._signing_name = "sts"
    assert refusal(core.list_users) == ("InvalidAction", 400)
    core.close()


def test_iam_is_signed_for_us_east_1_in_every_region(tmp_path: Path) -> None:
    arguments = ["--region", "eu-central-1"]
    with StoreProcess(tmp_path / "store", arguments=arguments) as store, ExitStack() as stack:
        iam = stack.enter_context(iam_of(store, store.admin()))
        assert [user["UserName"] for user in iam.list_users()["Users"]] == ["admin"]


def aws(store: StoreProcess, *arguments: str) -> Any:
    """Run aws-cli as the administrator; its JSON."""
    environment = {
        **os.environ,
        "AWS_SHARED_CREDENTIALS_FILE": str(store.credentials_file),
        "AWS_PROFILE": "admin",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_PAGER": "",
    }
    done = subprocess.run(
        [AWS, *arguments, "--output", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_aws_cli_administers_the_store(running: StoreProcess, tmp_path: Path) -> None:
    document = tmp_path / "policy.json"
    document.write_text(policy(allow("s3:GetObject", on="arn:aws:s3:::photos/*")))
    tags = ["Key=posix-uid,Value=4001", "Key=posix-gid,Value=4002"]
    made = aws(running, "iam", "create-user", "--user-name", "cli", "--tags", *tags)
    assert made["User"]["Arn"] == f"{ACCOUNT}:user/cli"
    key = aws(running, "iam", "create-access-key", "--user-name", "cli")["AccessKey"]
    arn = aws(
        running, "iam", "create-policy", "--policy-name", "cli-reads",
        "--policy-document", f"file://{document}", "--description", "for a test",
    )["Policy"]["Arn"]  # fmt: skip
    aws(running, "iam", "attach-user-policy", "--user-name", "cli", "--policy-arn", arn)
    attached = aws(running, "iam", "list-attached-user-policies", "--user-name", "cli")
    assert attached["AttachedPolicies"] == [{"PolicyName": "cli-reads", "PolicyArn": arn}]
    version = aws(
        running, "iam", "get-policy-version", "--policy-arn", arn, "--version-id", "v1"
    )["PolicyVersion"]  # fmt: skip
    assert version["Document"] == json.loads(document.read_text())
    users = aws(running, "iam", "list-users")["Users"]
    assert "cli" in [user["UserName"] for user in users]
    identity = aws(running, "sts", "get-caller-identity")
    assert identity["Arn"] == f"{ACCOUNT}:user/admin"
    token = aws(running, "sts", "get-session-token", "--duration-seconds", "900")
    assert token["Credentials"]["AccessKeyId"].startswith("ASIA")
    aws(running, "iam", "detach-user-policy", "--user-name", "cli", "--policy-arn", arn)
    aws(running, "iam", "delete-policy", "--policy-arn", arn)
    aws(
        running, "iam", "delete-access-key", "--user-name", "cli",
        "--access-key-id", key["AccessKeyId"],
    )  # fmt: skip
    aws(running, "iam", "delete-user", "--user-name", "cli")


def test_the_secret_is_nowhere_but_in_the_answer(
    iam: Any, carol: str, running: StoreProcess
) -> None:
    made = iam.create_access_key(UserName=carol)
    secret = made["AccessKey"]["SecretAccessKey"]
    iam.list_access_keys(UserName=carol)
    assert iam.list_groups_for_user(UserName=carol)["Groups"] == []
    request = made["ResponseMetadata"]["RequestId"]
    line = audited(running, "iam:CreateAccessKey", request_id=request)
    assert (line["user"], line["resource"]) == ("admin", "arn:aws:iam:::user/carol")
    assert secret not in (running.state / "audit.log").read_text()
    assert secret not in running.log.read_text()


def test_the_last_admin_stays(iam: Any, running: StoreProcess, refusal: Refusal) -> None:
    told = ("UnmodifiableEntity", 400)
    admin = {"UserName": "admin"}
    (key,) = iam.list_access_keys(**admin)["AccessKeyMetadata"]
    of_key = {**admin, "AccessKeyId": key["AccessKeyId"]}
    assert refusal(iam.delete_access_key, **of_key) == told
    assert refusal(iam.update_access_key, **of_key, Status="Inactive") == told
    administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
    assert refusal(iam.detach_user_policy, **admin, PolicyArn=administrator) == told
    for arguments in (
        ("user", "remove", "admin"),
        ("user", "keys", "admin", "--disable", key["AccessKeyId"]),
        ("user", "update", "admin", "--role", "s3"),
        ("user", "update", "admin", "--disable"),
    ):
        done = running.command(*arguments, check=False)
        assert done.returncode == 1, arguments
        assert "this would leave no admin who can sign in: give another user" in done.stderr
        assert done.stderr.count("\n") == 1
    iam.create_user(UserName="second")
    iam.attach_user_policy(UserName="second", PolicyArn=administrator)
    # Without a key it can't sign in, so it does not count.
    assert refusal(iam.update_access_key, **of_key, Status="Inactive") == told
    made = iam.create_access_key(UserName="second")["AccessKey"]
    iam.update_access_key(**of_key, Status="Inactive")
    with iam_of(running, as_user("second", made), parameter_validation=False) as second:
        second.update_access_key(**of_key, Status="Active")
    iam.delete_access_key(UserName="second", AccessKeyId=made["AccessKeyId"])
    iam.detach_user_policy(UserName="second", PolicyArn=administrator)
    iam.delete_user(UserName="second")
