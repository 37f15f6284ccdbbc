"""Uploads by a browser's form: policy, signature, conditions, and the form itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from lxml import etree

from s3posixfs.sigv4.signing import signing_key
from tests.store.conftest import Refusal
from tests.store.raw import Answer, RawClient
from tests.store.test_policies import allow, policy
from tests.store_process import REGION, StoreProcess, User

BOUNDARY = "----form7MA4YWxkTrZu0gW"
Pairs = Sequence[tuple[str, str]]


def form(fields: Pairs, data: bytes | None, file_name: str | None = "local name.txt") -> bytes:
    """A body of multipart/form-data; the file is the last part."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    ]
    if data is not None:
        named = f'; filename="{file_name}"' if file_name is not None else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"{named}\r\n'
        parts += [head.encode(), b"Content-Type: text/html\r\n\r\n", data, b"\r\n"]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def send(
    store: StoreProcess,
    body: bytes,
    *,
    bucket: str = "photos",
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}",
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=30)
    connection.request("POST", f"/{bucket}", body=body, headers={"Content-Type": content_type})
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    result = Answer(answer.status, headers, answer.read())
    connection.close()
    return result


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def signed(user: User, document: Any, **changed: str) -> list[tuple[str, str]]:
    """The fields that sign a policy document; ``changed`` replaces some of them."""
    now = datetime.now(UTC)
    day = now.strftime("%Y%m%d")
    text = document if isinstance(document, str) else json.dumps(document)
    encoded = base64.b64encode(text.encode()).decode()
    key = signing_key(user.secret_key, day, REGION, "s3")
    fields = {
        "policy": encoded,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{user.access_key}/{day}/{REGION}/s3/aws4_request",
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        "x-amz-signature": hmac.new(key, encoded.encode(), hashlib.sha256).hexdigest(),
    }
    for name, value in changed.items():
        fields[name.replace("_", "-")] = value
    return [(name, value) for name, value in fields.items() if value]


def document(*conditions: Any, seconds: float = 60, **changed: Any) -> dict[str, Any]:
    """A policy with the conditions that every form here needs, and ``conditions``."""
    always = [
        {"bucket": "photos"},
        ["starts-with", "$key", "up/"],
        ["starts-with", "$x-amz-algorithm", ""],
        ["starts-with", "$x-amz-credential", ""],
        ["starts-with", "$x-amz-date", ""],
    ]
    whole = {"expiration": timestamp(time.time() + seconds), "conditions": [*always, *conditions]}
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


def post(
    store: StoreProcess,
    user: User,
    wanted: Any,
    fields: Pairs = (),
    data: bytes = b"from a form",
    key: str = "up/loaded",
    **changed: str,
) -> Answer:
    body = form([("key", key), *fields, *signed(user, wanted, **changed)], data)
    return send(store, body)


def test_as_boto3_signs_it(running: StoreProcess, client: Any, alice: User) -> None:
    signer: Any = boto3.client(
        "s3",
        endpoint_url=running.endpoint,
        region_name=REGION,
        aws_access_key_id=alice.access_key,
        aws_secret_access_key=alice.secret_key,
        config=Config(signature_version="s3v4"),
    )
    made = signer.generate_presigned_post(
        "photos",
        "up/boto",
        Fields={"Content-Type": "text/plain", "x-amz-meta-color": "red"},
        Conditions=[
            {"Content-Type": "text/plain"},
            {"x-amz-meta-color": "red"},
            ["content-length-range", 1, 100],
        ],
    )
    signer.close()
    answer = send(running, form(list(made["fields"].items()), b"data of it"))
    assert (answer.status, answer.body) == (204, b"")
    head = client.head_object(Bucket="photos", Key="up/boto", ChecksumMode="ENABLED")
    assert answer.headers["etag"] == head["ETag"]
    assert answer.headers["location"] == f"{running.endpoint.rstrip('/')}/photos/up/boto"
    assert answer.headers["x-amz-checksum-crc64nvme"] == head["ChecksumCRC64NVME"]
    assert (head["ContentType"], head["Metadata"]) == ("text/plain", {"color": "red"})
    assert client.get_object(Bucket="photos", Key="up/boto")["Body"].read() == b"data of it"
    assert (running.root / "photos/up/boto").stat().st_uid == 1001


@pytest.mark.parametrize("size", [0, 1, 127 * 1024, 128 * 1024 - 1, 3_000_001])
def test_files_of_any_size(running: StoreProcess, client: Any, alice: User, size: int) -> None:
    # Line ends and almost-boundaries in the file are only data.
    pattern = f"\r\n--{BOUNDARY[:-1]}\r\n--\r\n".encode()
    data = (pattern * (size // len(pattern) + 1))[:size]
    assert post(running, alice, document(), data=data).status == 204
    assert client.get_object(Bucket="photos", Key="up/loaded")["Body"].read() == data


def test_the_name_of_the_file(running: StoreProcess, client: Any, alice: User) -> None:
    for sent, stored in (
        ("plain.txt", "up/plain.txt"),
        ("C:\\\\My Files\\\\a b.txt", "up/a b.txt"),
        ("/home/x/ü.txt", "up/ü.txt"),
    ):
        fields = [("key", "up/${filename}"), *signed(alice, document())]
        assert send(running, form(fields, b"x", sent)).status == 204
        assert client.head_object(Bucket="photos", Key=stored)
    fields = [("key", "up/${filename}"), *signed(alice, document())]
    assert send(running, form(fields, b"x", None)).status == 204
    assert client.head_object(Bucket="photos", Key="up/${filename}")


def test_what_the_answer_is(running: StoreProcess, alice: User) -> None:
    wanted = document(["starts-with", "$success_action_status", ""])
    for status, answered in (("200", 200), ("204", 204), ("404", 204), ("x", 204)):
        answer = post(running, alice, wanted, [("success_action_status", status)])
        assert (answer.status, answer.body) == (answered, b"")
    answer = post(running, alice, wanted, [("success_action_status", "201")])
    assert answer.status == 201
    root = etree.fromstring(answer.body)
    assert root.tag == "PostResponse"
    assert {element.tag: element.text for element in root} == {
        "Location": f"{running.endpoint.rstrip('/')}/photos/up/loaded",
        "Bucket": "photos",
        "Key": "up/loaded",
        "ETag": answer.headers["etag"],
    }


def test_redirection(running: StoreProcess, alice: User) -> None:
    wanted = document(["starts-with", "$success_action_redirect", ""])
    target = ("success_action_redirect", "https://app.example/done?a=1")
    answer = post(running, alice, wanted, [target])
    assert answer.status == 303
    found = urlsplit(answer.headers["location"])
    assert (found.scheme, found.netloc, found.path) == ("https", "app.example", "/done")
    assert parse_qs(found.query) == {
        "a": ["1"],
        "bucket": ["photos"],
        "key": ["up/loaded"],
        "etag": [answer.headers["etag"]],
    }
    for bad in ("javascript:alert(1)", "nowhere", "http://[x", "http://a/\r\nX-Evil: 1"):
        answer = post(running, alice, wanted, [("success_action_redirect", bad)])
        assert answer.status == 204
        assert "x-evil" not in answer.headers


FAILED = (403, "AccessDenied")


@pytest.mark.parametrize(
    ("conditions", "fields", "refused"),
    [
        ([["eq", "$Content-Type", "a/b"]], [("content-type", "a/b")], None),
        ([["eq", "$content-type", "a/b"]], [("Content-Type", "a/c")], FAILED),
        ([["eq", "$content-type", "a/b"]], [("Content-Type", "A/b")], FAILED),
        ([["eq", "$content-type", "a/b"]], [], FAILED),
        ([["eq", "content-type", "a/b"]], [("Content-Type", "a/b")], FAILED),
        ([["starts-with", "$content-type", "a/"]], [("Content-Type", "a/b")], None),
        ([["starts-with", "$content-type", "b"]], [("Content-Type", "a/b")], FAILED),
        ([["starts-with", "$x-amz-meta-a", ""]], [("x-amz-meta-A", "any")], None),
        ([{"x-amz-meta-a": "1"}], [("x-amz-meta-a", "1")], None),
        ([{"x-amz-meta-a": "1"}], [("x-amz-meta-a", "2")], FAILED),
        ([{"bucket": "another"}], [], FAILED),
        ([["eq", "$key", "up/else"]], [], FAILED),
        ([], [("x-amz-meta-a", "1")], FAILED),
        ([], [("acl", "private")], FAILED),
        ([], [("x-ignore-me", "1")], None),
        ([["content-length-range", 11, 11]], [], None),
        ([["content-length-range", 12, 100]], [], (400, "EntityTooSmall")),
        ([["content-length-range", 0, 10]], [], (400, "EntityTooLarge")),
        ([["content-length-range", 0]], [], (400, "InvalidPolicyDocument")),
        ([["content-length-range", -1, 5]], [], (400, "InvalidPolicyDocument")),
        ([["content-length-range", "a", 5]], [], (400, "InvalidPolicyDocument")),
        ([["contains", "$key", "u"]], [], (400, "InvalidPolicyDocument")),
        ([["eq", "$key"]], [], (400, "InvalidPolicyDocument")),
        ([{"acl": "private", "key": "up/loaded"}], [], (400, "InvalidPolicyDocument")),
        ([{}], [], (400, "InvalidPolicyDocument")),
        (["eq"], [], (400, "InvalidPolicyDocument")),
        (
            [{"acl": "public-read"}],
            [("acl", "public-read")],
            (400, "AccessControlListNotSupported"),
        ),
    ],
)
def test_conditions(
    running: StoreProcess,
    client: Any,
    alice: User,
    refusal: Refusal,
    conditions: list[Any],
    fields: Pairs,
    refused: tuple[int, str] | None,
) -> None:
    client.delete_object(Bucket="photos", Key="up/loaded")
    answer = post(running, alice, document(*conditions), fields)
    if refused is None:
        assert answer.status == 204, answer.body
        assert client.head_object(Bucket="photos", Key="up/loaded")
    else:
        assert (answer.status, answer.code) == refused, answer.body
        assert refusal(client.head_object, Bucket="photos", Key="up/loaded")[1] == 404


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (document(seconds=-1), "AccessDenied"),
        (document(expiration=None), "InvalidPolicyDocument"),
        (document(expiration="tomorrow"), "InvalidPolicyDocument"),
        (document(expiration=5), "InvalidPolicyDocument"),
        (document(conditions=None), "InvalidPolicyDocument"),
        (document(conditions={}), "InvalidPolicyDocument"),
        (document(CONDITIONS=[]), "InvalidPolicyDocument"),
        ("{", "InvalidPolicyDocument"),
        ("[]", "InvalidPolicyDocument"),
        ("[" * 5000, "InvalidPolicyDocument"),
        ({**document(), "conditions": document()["conditions"][1:]}, "AccessDenied"),
    ],
)
def test_policies(running: StoreProcess, alice: User, wanted: Any, code: str) -> None:
    assert post(running, alice, wanted).code == code


def test_signatures(running: StoreProcess, alice: User, bob: User) -> None:
    day = datetime.now(UTC).strftime("%Y%m%d")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"x_amz_signature": "0" * 64}, "SignatureDoesNotMatch"),
        ({"x_amz_signature": "é"}, "SignatureDoesNotMatch"),
        ({"x_amz_signature": ""}, "InvalidArgument"),
        ({"policy": ""}, "InvalidArgument"),
        ({"x_amz_credential": ""}, "InvalidArgument"),
        (
            {"x_amz_credential": f"nobody/{day}/{REGION}/s3/aws4_request"},
            "InvalidAccessKeyId",
        ),
        ({"x_amz_credential": f"alice/{day}/{REGION}/s3"}, "AuthorizationHeaderMalformed"),
        (
            {"x_amz_credential": f"alice/{day}/eu-north-1/s3/aws4_request"},
            "AuthorizationHeaderMalformed",
        ),
        (
            {"x_amz_credential": f"alice/20200101/{REGION}/s3/aws4_request"},
            "AuthorizationHeaderMalformed",
        ),
        ({"x_amz_algorithm": "AWS4-HMAC-SHA1"}, "InvalidRequest"),
        ({"x_amz_security_token": "token"}, "InvalidToken"),
        ({"signature": "x", "AWSAccessKeyId": "alice"}, "InvalidRequest"),
    ]
    for changed, code in cases:
        wanted = document(["starts-with", "$x-amz-security-token", ""])
        assert post(running, alice, wanted, **changed).code == code, changed
    other = document({"x-amz-meta-a": "1"})
    theirs = dict(signed(alice, other))
    answer = post(running, alice, document(), x_amz_signature=theirs["x-amz-signature"])
    assert answer.code == "SignatureDoesNotMatch"
    # bob may sign, but not write.
    assert post(running, bob, document()).code == "AccessDenied"


def test_anybody_where_a_bucket_lets_them(running: StoreProcess, client: Any) -> None:
    body = form([("key", "drop/1")], b"from anybody")
    assert send(running, body).code == "AccessDenied"
    anybody = allow("s3:PutObject", resource="arn:aws:s3:::photos/drop/*", Principal="*")
    client.put_bucket_policy(Bucket="photos", Policy=policy(anybody))
    try:
        assert send(running, body).status == 204
        assert send(running, form([("key", "other/1")], b"x")).code == "AccessDenied"
    finally:
        client.delete_bucket_policy(Bucket="photos")
    assert (running.root / "photos/drop/1").stat().st_uid == 65534


def test_temporary_credentials(running: StoreProcess, alice: User) -> None:
    sts = running.sts(alice)
    made = sts.get_session_token()["Credentials"]
    sts.close()
    user = User("alice", made["AccessKeyId"], made["SecretAccessKey"], 1001, 1001)
    wanted = document(["starts-with", "$x-amz-security-token", ""])
    token: dict[str, Any] = {"x_amz_security_token": made["SessionToken"]}
    assert post(running, user, wanted, **token).status == 204
    assert post(running, user, wanted).code == "InvalidToken"


def test_tags_and_checksums(running: StoreProcess, client: Any, alice: User) -> None:
    tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    wanted = document(
        ["starts-with", "$tagging", ""],
        ["starts-with", "$x-amz-checksum-sha256", ""],
        ["starts-with", "$content-md5", ""],
    )
    checksum = base64.b64encode(hashlib.sha256(b"from a form").digest()).decode()
    fields = [("tagging", tagging), ("x-amz-checksum-sha256", checksum)]
    assert post(running, alice, wanted, fields).status == 204
    there = {"Bucket": "photos", "Key": "up/loaded"}
    assert client.get_object_tagging(**there)["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert client.head_object(**there, ChecksumMode="ENABLED")["ChecksumSHA256"] == checksum
    assert post(running, alice, wanted, fields, data=b"other").code == "BadDigest"
    wrong: Mapping[str, str] = {"Content-MD5": base64.b64encode(b"0" * 16).decode()}
    assert post(running, alice, wanted, [*wrong.items()]).code == "BadDigest"
    assert post(running, alice, wanted, [("tagging", "<x/>")]).code == "MalformedXML"


def test_forms_that_are_none(running: StoreProcess, alice: User) -> None:
    fields = [("key", "up/loaded"), *signed(alice, document())]
    whole = form(fields, b"x")
    assert send(running, whole, content_type="text/html").status == 412
    assert send(running, whole, content_type="multipart/form-data").code == "PreconditionFailed"
    assert send(running, whole, bucket="no-such-bucket").code == "AccessDenied"
    for body, code in (
        (form(fields, None), "InvalidArgument"),
        (form(fields[1:], b"x"), "InvalidArgument"),
        (form([("key", ""), *fields[1:]], b"x"), "UserKeyMustBeSpecified"),
        (form([("key", "k" * 1025), *fields[1:]], b"x"), "KeyTooLongError"),
        (form([*fields, ("key", "up/2")], b"x"), "InvalidArgument"),
        (form([("x-amz-meta-a", "a" * 21_000), *fields], b"x"), "MaxPostPreDataLengthExceeded"),
        (whole.replace(f"\r\n--{BOUNDARY}--".encode(), b""), "MalformedPOSTRequest"),
        (whole.replace(b'name="key"', b'named="key"'), "MalformedPOSTRequest"),
        (b"", "MalformedPOSTRequest"),
        (b"\xff" * 1000, "MalformedPOSTRequest"),
    ):
        assert send(running, body).code == code, body[:100]
    padded = whole + b"--after the end counts for nothing"
    assert send(running, padded).status == 204


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-meta-a%0D%0ASet-Cookie: evil=1%0D%0Ax-amz-meta-b",
        "x-amz-meta-a%0D%0A%0D%0A<script>alert(1)</script>",
        "x-amz-meta-a%0Ab",
        "x-amz-meta-a: b",
        "x-amz-meta-a b",
        "x-amz-meta-a\x01",
        "x-amz-meta-\u00fc",
    ],
)
def test_names_of_fields_do_not_become_headers(
    running: StoreProcess, alice: User, raw: RawClient, name: str
) -> None:
    plain = name.replace("%0D", "\r").replace("%0A", "\n")
    open_to_all = ("key", "x-amz-algorithm", "x-amz-credential", "x-amz-date", plain)
    document = {
        "expiration": timestamp(time.time() + 100),
        "conditions": [{"bucket": "photos"}, *(["starts-with", f"${n}", ""] for n in open_to_all)],
    }
    fields = [("key", "split"), *signed(alice, document), (name, "value")]
    answer = send(running, form(fields, b"data"))
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert raw.get("/photos/split").code == "NoSuchKey"
