"""What a client is told when its request must not be served: AWS's codes, to the letter."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer
from tests.store_process import REGION, StoreProcess, User, secret_of


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(
        module_folder / "store", environment={"S3POSIXFS_TEST_MIN_SESSION": "1"}
    ) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        store.add_user("carol", 1003)
        client = store.s3(alice)
        client.create_bucket(Bucket="photos")
        client.put_object(Bucket="photos", Key="there", Body=b"there")
        client.close()
        yield store


@pytest.fixture(scope="module")
def alice() -> User:
    return User("alice", "alice", secret_of("alice"), 1001, 1001)


def refusal(call: Any, **arguments: Any) -> tuple[str, int]:
    """The error code and HTTP status that a boto3 call is refused with."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def raw_put(
    store: StoreProcess, user: User, *, signed: bytes, sent: bytes, now: float
) -> tuple[int, str]:
    """PUT ``sent`` with a signature over ``signed``, made at ``now``: status and error code."""
    signer = Signer(Credentials(user.access_key, user.secret_key), REGION)
    headers = [("host", f"127.0.0.1:{store.port}")]
    digest = hashlib.sha256(signed).hexdigest()
    headers += signer.sign("PUT", "/photos/raw", "", headers, digest, now)
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=20)
    try:
        connection.request("PUT", "/photos/raw", body=sent, headers=dict(headers))
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    code = re.search(r"<Code>(.*?)</Code>", text)
    return answer.status, code[1] if code else ""


def test_wrong_secret(store: StoreProcess) -> None:
    client = store.s3(User("alice", "alice", "not her secret", 1001, 1001))
    assert refusal(client.list_buckets) == ("SignatureDoesNotMatch", 403)
    client.close()


def test_unknown_key(store: StoreProcess) -> None:
    client = store.s3(User("nobody", "nobody", "whatever it is", 0, 0))
    assert refusal(client.list_buckets) == ("InvalidAccessKeyId", 403)
    client.close()


def test_expired_token(store: StoreProcess, alice: User) -> None:
    sts = boto3.client(
        "sts",
        endpoint_url=store.endpoint,
        region_name=REGION,
        aws_access_key_id=alice.access_key,
        aws_secret_access_key=alice.secret_key,
        # botocore itself would refuse so short a session.
        config=Config(parameter_validation=False),
    )
    session = sts.assume_role(
        RoleArn="arn:aws:iam:::role/self", RoleSessionName="short", DurationSeconds=1
    )["Credentials"]
    sts.close()
    temporary = User("alice", session["AccessKeyId"], session["SecretAccessKey"], 1001, 1001)
    client = store.s3(temporary, token=session["SessionToken"])
    client.head_object(Bucket="photos", Key="there")
    time.sleep(2.1)
    assert refusal(client.list_objects_v2, Bucket="photos") == ("ExpiredToken", 400)
    client.close()


def test_token_that_was_not_given_out(store: StoreProcess, alice: User) -> None:
    client = store.s3(alice, token="made up")
    assert refusal(client.list_buckets) == ("InvalidToken", 400)
    client.close()


@pytest.mark.parametrize("seconds", [-1000, 1000])
def test_skewed_clock(store: StoreProcess, alice: User, seconds: int) -> None:
    now = time.time() + seconds
    answer = raw_put(store, alice, signed=b"body", sent=b"body", now=now)
    assert answer == (403, "RequestTimeTooSkewed")


def test_clock_within_fifteen_minutes(store: StoreProcess, alice: User) -> None:
    answer = raw_put(store, alice, signed=b"body", sent=b"body", now=time.time() - 800)
    assert answer == (200, "")


def test_tampered_body(store: StoreProcess, alice: User) -> None:
    before = store.s3(alice)
    before.put_object(Bucket="photos", Key="raw", Body=b"as it was")
    answer = raw_put(store, alice, signed=b"pay alice", sent=b"pay carol", now=time.time())
    assert answer == (400, "XAmzContentSHA256Mismatch")
    assert before.get_object(Bucket="photos", Key="raw")["Body"].read() == b"as it was"
    before.close()


def test_body_tampered_with_under_boto3(store: StoreProcess, alice: User) -> None:
    client = store.s3(alice)

    def tamper(request: Any, **_: Any) -> None:
        request.body = b"pay carol"

    client.meta.events.register("before-send.s3.PutObject", tamper)
    refused = refusal(client.put_object, Bucket="photos", Key="tampered", Body=b"pay alice")
    assert refused in {("XAmzContentSHA256Mismatch", 400), ("BadDigest", 400)}
    assert refusal(client.head_object, Bucket="photos", Key="tampered")[1] == 404
    client.close()


def test_no_policy_no_access(store: StoreProcess) -> None:
    client = store.s3(User("carol", "carol", secret_of("carol"), 1003, 1003))
    assert refusal(client.list_buckets) == ("AccessDenied", 403)
    assert refusal(client.get_object, Bucket="photos", Key="there") == ("AccessDenied", 403)
    assert refusal(client.get_object, Bucket="photos", Key="none") == ("AccessDenied", 403)
    assert refusal(client.put_object, Bucket="photos", Key="there", Body=b"mine") == (
        "AccessDenied",
        403,
    )
    client.close()


def test_anonymous(store: StoreProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=20)
    connection.request("GET", "/photos/there")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 403
    assert "<Code>AccessDenied</Code>" in text
