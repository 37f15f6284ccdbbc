"""Temporary credentials: AssumeRole by plain boto3, and every way in which they are limited."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.store.conftest import Refusal
from tests.store_process import StoreProcess, User

DENIED = ("AccessDenied", 403)
SELF: dict[str, Any] = {
    "RoleArn": "arn:aws:iam::123456789012:role/anything",
    "RoleSessionName": "test",
}
READ_ONLY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::photos/*"},
            {"Effect": "Allow", "Action": "sts:*", "Resource": "*"},
        ],
    }
)


def as_user(name: str) -> dict[str, Any]:
    return {"RoleArn": f"arn:aws:iam:::user/{name}", "RoleSessionName": "test"}


@pytest.fixture(scope="module")
def sts(running: StoreProcess, alice: User) -> Iterator[Any]:
    client = running.sts(alice)
    yield client
    client.close()


def session_client(
    running: StoreProcess, answer: Any, service: str = "s3", token: str | None = None
) -> Any:
    credentials = answer["Credentials"]
    user = User("x", credentials["AccessKeyId"], credentials["SecretAccessKey"], 0, 0)
    token = token or credentials["SessionToken"]
    if service == "s3":
        return running.s3(user, token=token)
    return running.sts(user, aws_session_token=token)


def test_who_am_i(sts: Any, running: StoreProcess) -> None:
    identity = sts.get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::000000000000:user/alice"
    assert identity["UserId"] == "alice"
    answer = sts.assume_role(**SELF)
    assert answer["AssumedRoleUser"]["Arn"].endswith(":assumed-role/alice/test")
    with_session = session_client(running, answer, "sts")
    assert with_session.get_caller_identity()["Arn"].endswith(":assumed-role/alice/test")
    with_session.close()


def test_a_session_acts_as_its_user(sts: Any, running: StoreProcess) -> None:
    client = session_client(running, sts.assume_role(**SELF))
    client.put_object(Bucket="photos", Key="by-session", Body=b"x")
    client.close()
    assert (running.root / "photos/by-session").stat().st_uid == 1001


def test_a_session_policy_only_takes_away(
    sts: Any, running: StoreProcess, refusal: Refusal
) -> None:
    answer = sts.assume_role(**SELF, Policy=READ_ONLY)
    assert 0 < answer["PackedPolicySize"] <= 100
    client = session_client(running, answer)
    client.get_object(Bucket="photos", Key="by-session")
    assert refusal(client.put_object, Bucket="photos", Key="no", Body=b"x") == DENIED
    assert refusal(client.list_objects_v2, Bucket="photos") == DENIED
    client.close()
    again = session_client(running, answer, "sts")
    assert refusal(again.assume_role, **SELF) == DENIED
    again.close()


def test_a_session_policy_limits_the_admin_too(running: StoreProcess, refusal: Refusal) -> None:
    admin: Any = running.sts(running.admin())
    client = session_client(running, admin.assume_role(**SELF, Policy=READ_ONLY))
    assert refusal(client.list_buckets) == DENIED
    client.close()
    admin.close()


def test_session_policies_that_are_refused(sts: Any, refusal: Refusal) -> None:
    unknown = READ_ONLY.replace("s3:Get*", "s3:Nope")
    assert refusal(sts.assume_role, **SELF, Policy=unknown) == ("MalformedPolicyDocument", 400)
    assert refusal(sts.assume_role, **SELF, Policy="{}") == ("MalformedPolicyDocument", 400)
    large = json.loads(READ_ONLY)
    large["Statement"][0]["Resource"] = [f"arn:aws:s3:::photos/{n:060}" for n in range(30)]
    answer = refusal(sts.assume_role, **SELF, Policy=json.dumps(large))
    assert answer == ("PackedPolicyTooLarge", 400)


def test_the_wrapper_of_errors(running: StoreProcess, alice: User) -> None:
    from tests.store.raw import RawClient

    with RawClient(running.port, alice) as raw:
        body = b"Action=AssumeRole&Version=2011-06-15"
        lines = [
            "POST / HTTP/1.1",
            f"Host: {raw.host}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
        ]
        raw.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = raw.answer()
    assert answer.status == 403
    assert re.search(
        rb'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        rb"<Error><Type>Sender</Type><Code>MissingAuthenticationToken</Code>.*</Error><RequestId>.*</RequestId></ErrorResponse>",
        answer.body,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"DurationSeconds": 604_801},
         "Value '604801' at 'durationSeconds' failed to satisfy constraint: Member must have value "
         "less than or equal to 604800"),
        ({"DurationSeconds": 0},
         "Value '0' at 'durationSeconds' failed to satisfy constraint: Member must have value "
         "greater than or equal to 1"),  # 900 but for the test's switch
        ({"RoleSessionName": "a b"},
         "Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy "
         "regular expression pattern: [\\w+=,.@-]*"),
        ({"RoleSessionName": "a"},
         "Value 'a' at 'roleSessionName' failed to satisfy constraint: Member must have length "
         "greater than or equal to 2"),
        ({"RoleSessionName": "a" * 65}, "Member must have length less than or equal to 64"),
        ({"RoleSessionName": None},
         "Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null"),
        ({"RoleArn": "short"}, "Member must have length greater than or equal to 20"),
        # What could ask for less than would be given without it.
        ({"Tags": [{"Key": "a", "Value": "b"}]},
         "Tags.member.1.Key of AssumeRole is not supported"),
        ({"TransitiveTagKeys": ["a"]}, "TransitiveTagKeys.member.1 of AssumeRole is not supported"),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/readonly"}]},
         "PolicyArns.member.1.arn of AssumeRole is not supported"),
        ({"SourceIdentity": "bob"}, "SourceIdentity of AssumeRole is not supported"),
        ({"SerialNumber": "device-0000", "TokenCode": "123456"}, "is not supported"),
    ],
)  # fmt: skip
def test_bad_arguments(
    running: StoreProcess, alice: User, arguments: dict[str, Any], told: str
) -> None:
    config = Config(parameter_validation=False)
    client = boto3.client(
        "sts",
        endpoint_url=running.endpoint,
        region_name="us-east-1",
        aws_access_key_id=alice.access_key,
        aws_secret_access_key=alice.secret_key,
        config=config,
    )
    wanted = {name: v for name, v in {**SELF, **arguments}.items() if v is not None}
    with pytest.raises(ClientError) as refused:
        client.assume_role(**wanted)
    client.close()
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert told in refused.value.response["Error"]["Message"]


def test_what_means_nothing_here_is_taken(sts: Any) -> None:
    made = sts.assume_role(**SELF, ExternalId="anything", Tags=[], PolicyArns=[])
    assert made["Credentials"]["AccessKeyId"].startswith("ASIA")


def test_conditions_on_the_call(
    running: StoreProcess, sts: Any, alice: User, refusal: Refusal
) -> None:
    running.add_user("target", 1777)
    condition = {
        "StringEquals": {"sts:RoleSessionName": "right", "sts:ExternalId": "four words"},
    }
    statement = {
        "Effect": "Allow", "Action": "sts:AssumeRole", "Condition": condition,
        "Resource": "arn:aws:iam:::user/target",
    }  # fmt: skip
    text = json.dumps({"Version": "2012-10-17", "Statement": statement})
    running.command("policy", "add", "becoming", "-", text=text)
    gina = running.add_user("gina", 1778, policy="becoming")
    client = running.sts(gina)
    right = {**as_user("target"), "RoleSessionName": "right", "ExternalId": "four words"}
    assert client.assume_role(**right)["AssumedRoleUser"]["AssumedRoleId"] == "target:right"
    for wrong in ({"RoleSessionName": "wrong"}, {"ExternalId": "three words"}):
        assert refusal(client.assume_role, **{**right, **wrong}) == DENIED
    client.close()


def test_a_wrong_secret_or_key_has_the_codes_of_sts(
    running: StoreProcess, refusal: Refusal
) -> None:
    wrong = running.sts(User("alice", "alice", "wrong-secret", 0, 0))
    assert refusal(wrong.get_caller_identity) == ("SignatureDoesNotMatch", 403)
    wrong.close()
    unknown = running.sts(User("x", "unknown-key", "wrong-secret", 0, 0))
    assert refusal(unknown.get_caller_identity) == ("InvalidClientTokenId", 403)
    unknown.close()


def test_to_become_another_user_a_policy_must_allow_it(
    running: StoreProcess, sts: Any, refusal: Refusal
) -> None:
    assert refusal(sts.assume_role, **as_user("bob")) == DENIED
    broker = running.add_user("broker", 1700)
    statement = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Resource": ["arn:aws:iam:::user/alice", "arn:aws:iam:::user/admin"],
    }
    running.add_policy("broker", json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    running.command("policy", "attach", "broker", "broker")
    brokers = running.sts(broker)
    client = session_client(running, brokers.assume_role(**as_user("alice")))
    client.put_object(Bucket="photos", Key="by-broker", Body=b"x")
    assert (running.root / "photos/by-broker").stat().st_uid == 1001
    for name in ("bob", "admin", "nobody-there"):
        assert refusal(brokers.assume_role, **as_user(name)) == DENIED
    # The broker's own end ends what it made.
    running.command("user", "remove", "broker")
    assert refusal(client.get_object, Bucket="photos", Key="by-broker")[0] == "InvalidAccessKeyId"
    client.close()
    brokers.close()


def test_the_admin_becomes_anyone(running: StoreProcess) -> None:
    admin: Any = running.sts(running.admin())
    arn = {"RoleArn": "arn:aws:iam::000000000000:user/alice", "RoleSessionName": "mount"}
    client = session_client(running, admin.assume_role(**arn))
    client.put_object(Bucket="photos", Key="by-admin", Body=b"x")
    assert (running.root / "photos/by-admin").stat().st_uid == 1001
    client.close()
    admin.close()


def test_sessions_do_not_prolong_themselves(
    sts: Any, running: StoreProcess, refusal: Refusal
) -> None:
    first = sts.assume_role(**SELF, DurationSeconds=900)
    again = session_client(running, first, "sts")
    second = again.assume_role(**SELF, DurationSeconds=7200)
    assert second["Credentials"]["Expiration"] <= first["Credentials"]["Expiration"]
    again.close()


def test_tokens_belong_to_their_key(
    sts: Any, running: StoreProcess, alice: User, refusal: Refusal
) -> None:
    one, two = sts.assume_role(**SELF), sts.assume_role(**SELF)
    mixed = session_client(running, one, token=two["Credentials"]["SessionToken"])
    assert refusal(mixed.list_buckets) == ("InvalidToken", 400)
    mixed.close()
    credentials = one["Credentials"]
    bare = running.s3(
        User("x", credentials["AccessKeyId"], credentials["SecretAccessKey"], 0, 0), token=None
    )
    assert refusal(bare.list_buckets) == ("InvalidToken", 400)
    bare.close()
    static = running.s3(alice, token=credentials["SessionToken"])
    assert refusal(static.list_buckets) == ("InvalidToken", 400)
    static.close()


def test_an_ordinary_aws_profile(running: StoreProcess, alice: User, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile alice]\n"
        f"aws_access_key_id = {alice.access_key}\n"
        f"aws_secret_access_key = {alice.secret_key}\n"
        "region = us-east-1\nservices = store\n"
        "[profile assumed]\n"
        "role_arn = arn:aws:iam::123456789012:role/whatever\n"
        "source_profile = alice\nregion = us-east-1\nservices = store\n"
        "[services store]\n"
        f"s3 =\n  endpoint_url = {running.endpoint}\n"
        f"sts =\n  endpoint_url = {running.endpoint}\n"
    )
    core = botocore.session.Session(profile="assumed")
    core.set_config_variable("config_file", str(config))
    client: Any = boto3.Session(botocore_session=core).client("s3")
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["photos"]
    credentials = core.get_credentials()
    assert credentials is not None
    assert credentials.access_key.startswith("ASIA")
    client.close()
