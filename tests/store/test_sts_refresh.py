"""Credentials that refresh by themselves, that outlive a restart, and that end when they should."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.credentials import Credentials

from tests.store.conftest import Refusal
from tests.store.iam_kit import as_user, client_of, iam_of
from tests.store_process import StoreProcess, User

SELF: dict[str, Any] = {
    "RoleArn": "arn:aws:iam::123456789012:role/anything",
    "RoleSessionName": "test",
}
LIFE = 3


def session_of(folder: Path, store: StoreProcess, user: User) -> botocore.session.Session:
    """A session with an ordinary profile that assumes a role for ``LIFE`` seconds."""
    config = folder / "config"
    config.write_text(
        "[profile own]\n"
        f"aws_access_key_id = {user.access_key}\n"
        f"aws_secret_access_key = {user.secret_key}\n"
        "[profile assumed]\n"
        "role_arn = arn:aws:iam::123456789012:role/any\n"
        "source_profile = own\nregion = us-east-1\n"
        f"duration_seconds = {LIFE}\n"
        # boto3 itself would send nothing below 900.
        "parameter_validation = false\n"
        f"endpoint_url = {store.endpoint}\n"
    )
    core = botocore.session.Session(profile="assumed")
    core.set_config_variable("config_file", str(config))
    return core


def test_boto3_refreshes_across_many_expiries(
    running: StoreProcess, alice: User, tmp_path: Path
) -> None:
    """One client as it is, and one whose 15 and 10 minutes are scaled down with the lives.

    The first refreshes at every request, because its credentials are always about to expire;
    the second uses them for most of their lives. Neither ever sees a refusal.
    """
    used: dict[str, list[str]] = {"as it is": [], "scaled": []}
    clients: list[tuple[str, Credentials, Any]] = []
    for name in used:
        core = session_of(tmp_path, running, alice)
        credentials: Any = core.get_credentials()
        if name == "scaled":
            credentials._advisory_refresh_timeout = 1.0
            credentials._mandatory_refresh_timeout = 0.5
        clients.append((name, credentials, boto3.Session(botocore_session=core).client("s3")))
    expired_by: float = time.monotonic() + 4 * LIFE + 1
    count = 0
    while time.monotonic() < expired_by:
        for name, credentials, client in clients:
            key = f"refresh-{count}"
            client.put_object(Bucket="photos", Key=key, Body=b"x")
            client.delete_object(Bucket="photos", Key=key)
            used[name].append(credentials.get_frozen_credentials().access_key)
        count += 1
        time.sleep(0.2)
    for _, _, client in clients:
        client.close()
    for name, keys in used.items():
        assert all(key.startswith("ASIA") for key in keys)
        assert len(set(keys)) >= 4, name
    assert len(set(used["scaled"])) <= 8


def test_an_expired_session_is_told_so(
    running: StoreProcess, alice: User, refusal: Refusal
) -> None:
    sts = client_of(running, "sts", alice, parameter_validation=False)
    made = sts.assume_role(**SELF, DurationSeconds=1)["Credentials"]
    sts.close()
    session = as_user("alice", made)
    client = running.s3(session, token=made["SessionToken"])
    client.list_buckets()
    time.sleep(1.1)
    assert refusal(client.list_buckets) == ("ExpiredToken", 400)
    client.close()
    expired = client_of(running, "sts", session, token=made["SessionToken"])
    assert refusal(expired.get_caller_identity) == ("ExpiredToken", 403)
    expired.close()


def test_a_session_token_acts_as_its_user(
    running: StoreProcess, alice: User, refusal: Refusal
) -> None:
    sts = client_of(running, "sts", alice, parameter_validation=False)
    made = sts.get_session_token()["Credentials"]
    assert made["Expiration"].timestamp() == pytest.approx(time.time() + 43_200, abs=60)
    for seconds in (0, 129_601):
        answer = refusal(sts.get_session_token, DurationSeconds=seconds)
        assert answer == ("ValidationError", 400)
    answer = refusal(sts.get_session_token, SerialNumber="device-0000", TokenCode="123456")
    assert answer == ("ValidationError", 400)
    sts.close()
    session = as_user("alice", made)
    client = running.s3(session, token=made["SessionToken"])
    client.put_object(Bucket="photos", Key="by-token", Body=b"x")
    client.close()
    assert (running.root / "photos/by-token").stat().st_uid == 1001
    own = client_of(running, "sts", session, token=made["SessionToken"])
    identity = own.get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::000000000000:user/alice"
    assert refusal(own.get_session_token) == ("AccessDenied", 403)
    own.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_sessions_survive_the_store(tmp_path: Path, end: str) -> None:
    with StoreProcess(tmp_path / "store") as store:
        sts = client_of(store, "sts", store.admin())
        made = sts.assume_role(**SELF)["Credentials"]
        sts.close()
        client = store.s3(as_user("admin", made), token=made["SessionToken"])
        client.create_bucket(Bucket="before")
        getattr(store, end)()
        store.start()
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["before"]
        client.close()


@pytest.fixture
def erin(running: StoreProcess) -> Iterator[User]:
    yield running.add_user("erin", 6001, policy="readwrite")
    running.command("user", "remove", "erin", check=False)


ENDS: dict[str, Callable[[StoreProcess, Any], object]] = {
    "user disabled": lambda store, iam: store.command("user", "update", "erin", "--disable"),
    "user removed": lambda store, iam: store.command("user", "remove", "erin"),
    "key disabled": lambda store, iam: store.command("user", "keys", "erin", "--disable", "erin"),
    "key removed": lambda store, iam: store.command("user", "keys", "erin", "--remove", "erin"),
    "key made inactive by IAM": lambda store, iam: iam.update_access_key(
        UserName="erin", AccessKeyId="erin", Status="Inactive"
    ),
    "key deleted by IAM": lambda store, iam: iam.delete_access_key(
        UserName="erin", AccessKeyId="erin"
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_very_next_request_is_refused(
    running: StoreProcess, erin: User, refusal: Refusal, name: str
) -> None:
    sts = client_of(running, "sts", erin)
    made = sts.assume_role(**SELF)["Credentials"]
    sts.close()
    client = running.s3(as_user("erin", made), token=made["SessionToken"])
    client.list_buckets()
    with iam_of(running, running.admin(), parameter_validation=False) as iam:
        ENDS[name](running, iam)
    assert refusal(client.list_buckets) == ("InvalidAccessKeyId", 403)
    client.close()


def test_what_a_session_may_do_is_what_its_user_may_now(
    running: StoreProcess, erin: User, refusal: Refusal
) -> None:
    sts = client_of(running, "sts", erin)
    made = sts.assume_role(**SELF)["Credentials"]
    sts.close()
    client = running.s3(as_user("erin", made), token=made["SessionToken"])
    client.put_object(Bucket="photos", Key="by-erin", Body=b"x")
    running.command("policy", "attach", "readonly", "erin")
    assert refusal(client.put_object, Bucket="photos", Key="no", Body=b"x") == ("AccessDenied", 403)
    client.get_object(Bucket="photos", Key="by-erin")
    running.command("policy", "detach", "erin")
    assert refusal(client.get_object, Bucket="photos", Key="by-erin") == ("AccessDenied", 403)
    client.close()
