"""Who may do what: policies through the server, each refusal with AWS's code."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer
from tests.store.conftest import Refusal
from tests.store.raw import RawClient
from tests.store_process import REGION, StoreProcess, User

DENIED = ("AccessDenied", 403)


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(
    *actions: str, resource: str | list[str] = "arn:aws:s3:::*", **more: Any
) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


@contextmanager
def somebody(store: StoreProcess, name: str, document: str) -> Iterator[Any]:
    """boto3 as a new user with this policy."""
    user = store.add_user(name, 1500)
    store.add_policy(name, document)
    store.command("policy", "attach", name, name)
    client = store.s3(user)
    yield client
    client.close()


@pytest.fixture(scope="module", autouse=True)
def objects(client: Any) -> None:
    for key in ("public/1", "public/2", "private/1"):
        client.put_object(Bucket="photos", Key=key, Body=b"x")


def test_no_policy_no_access(running: StoreProcess, bob: User, refusal: Refusal) -> None:
    client = running.s3(bob)
    for method, arguments in (
        (client.list_buckets, {}),
        (client.list_objects_v2, {"Bucket": "photos"}),
        (client.get_object, {"Bucket": "photos", "Key": "public/1"}),
        (client.put_object, {"Bucket": "photos", "Key": "public/1", "Body": b"y"}),
        (client.delete_object, {"Bucket": "photos", "Key": "public/1"}),
        (client.create_bucket, {"Bucket": "another"}),
        (client.create_multipart_upload, {"Bucket": "photos", "Key": "public/1"}),
        (client.get_bucket_location, {"Bucket": "photos"}),
    ):
        assert refusal(method, **arguments) == DENIED
    assert refusal(client.head_object, Bucket="photos", Key="public/1")[1] == 403
    done = client.delete_objects(Bucket="photos", Delete={"Objects": [{"Key": "public/1"}]})
    assert done["Errors"][0]["Code"] == "AccessDenied"
    client.close()


def test_a_missing_key_is_told_only_to_who_may_list(
    running: StoreProcess, refusal: Refusal
) -> None:
    with somebody(running, "reader", policy(allow("s3:GetObject"))) as reader:
        assert reader.get_object(Bucket="photos", Key="public/1")["Body"].read() == b"x"
        assert refusal(reader.get_object, Bucket="photos", Key="absent") == DENIED
        assert refusal(reader.head_object, Bucket="photos", Key="absent")[1] == 403
    with somebody(running, "lister", policy(allow("s3:GetObject", "s3:ListBucket"))) as lister:
        assert refusal(lister.get_object, Bucket="photos", Key="absent") == ("NoSuchKey", 404)


def test_prefix_condition(running: StoreProcess, refusal: Refusal) -> None:
    condition = {"StringLike": {"s3:prefix": "public/*"}}
    with somebody(running, "prefixed", policy(allow("s3:ListBucket", Condition=condition))) as one:
        assert one.list_objects_v2(Bucket="photos", Prefix="public/")["KeyCount"] == 2
        assert refusal(one.list_objects_v2, Bucket="photos", Prefix="private/") == DENIED
        assert refusal(one.list_objects_v2, Bucket="photos") == DENIED
        assert refusal(one.head_bucket, Bucket="photos")[1] == 403


def test_delete_many_asks_for_each_key(running: StoreProcess, client: Any) -> None:
    client.put_object(Bucket="photos", Key="mine/1", Body=b"x")
    document = policy(allow("s3:DeleteObject", resource="arn:aws:s3:::photos/mine/*"))
    with somebody(running, "deleter", document) as deleter:
        wanted = {"Objects": [{"Key": "mine/1"}, {"Key": "public/1"}]}
        done = deleter.delete_objects(Bucket="photos", Delete=wanted)
    assert [row["Key"] for row in done["Deleted"]] == ["mine/1"]
    assert [(row["Key"], row["Code"]) for row in done["Errors"]] == [("public/1", "AccessDenied")]
    assert client.head_object(Bucket="photos", Key="public/1")


def test_a_copy_needs_both_sides(running: StoreProcess, refusal: Refusal) -> None:
    put_only = policy(allow("s3:PutObject"))
    with somebody(running, "putter", put_only) as putter:
        there: dict[str, Any] = {"Bucket": "photos", "Key": "copied"}
        assert refusal(putter.copy_object, **there, CopySource="photos/public/1") == DENIED
        upload = putter.create_multipart_upload(**there)["UploadId"]
        part = {"UploadId": upload, "PartNumber": 1, "CopySource": "photos/public/1"}
        assert refusal(putter.upload_part_copy, **there, **part) == DENIED
        assert refusal(putter.rename_object, **there, RenameSource="public/1") == DENIED
    with somebody(running, "getter", policy(allow("s3:GetObject"))) as getter:
        assert refusal(getter.copy_object, **there, CopySource="photos/public/1") == DENIED


def test_tags_need_their_own_action(running: StoreProcess, refusal: Refusal) -> None:
    with somebody(running, "tagger", policy(allow("s3:PutObject"))) as tagger:
        there: dict[str, Any] = {"Bucket": "photos", "Key": "tagged", "Body": b"x"}
        tagger.put_object(**there)
        assert refusal(tagger.put_object, **there, Tagging="a=1") == DENIED


def test_existing_tags_decide(running: StoreProcess, client: Any, refusal: Refusal) -> None:
    client.put_object(Bucket="photos", Key="tags/red", Body=b"x", Tagging="color=red")
    client.put_object(Bucket="photos", Key="tags/blue", Body=b"x", Tagging="color=blue")
    condition = {"StringEquals": {"s3:ExistingObjectTag/color": "red"}}
    with somebody(running, "redonly", policy(allow("s3:GetObject", Condition=condition))) as red:
        red.get_object(Bucket="photos", Key="tags/red")
        assert refusal(red.get_object, Bucket="photos", Key="tags/blue") == DENIED
        assert refusal(red.get_object, Bucket="photos", Key="public/1") == DENIED


def test_no_way_round_a_denied_tag(running: StoreProcess, client: Any, refusal: Refusal) -> None:
    client.put_object(Bucket="photos", Key="tags/secret", Body=b"x", Tagging="level=secret")
    deny = {
        "Effect": "Deny",
        "Action": ["s3:GetObject", "s3:DeleteObject"],
        "Resource": "*",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/level": "secret"}},
    }
    there: dict[str, Any] = {"Bucket": "photos", "Key": "stolen"}
    with somebody(running, "thief", policy(allow("s3:*"), deny)) as thief:
        thief.copy_object(**there, CopySource="photos/public/1")
        assert refusal(thief.copy_object, **there, CopySource="photos/tags/secret") == DENIED
        assert refusal(thief.rename_object, **there, RenameSource="tags/secret") == DENIED
        upload = thief.create_multipart_upload(**there)["UploadId"]
        part = {"UploadId": upload, "PartNumber": 1, "CopySource": "photos/tags/secret"}
        assert refusal(thief.upload_part_copy, **there, **part) == DENIED
        wanted = {"Objects": [{"Key": "tags/secret"}]}
        assert thief.delete_objects(Bucket="photos", Delete=wanted)["Errors"]


def test_metadata_in_listings_needs_get_object(running: StoreProcess) -> None:
    deny = {
        "Effect": "Deny",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::photos/public/2",
    }
    document = policy(allow("s3:ListBucket", "s3:GetObject"), deny)
    user = running.add_user("names", 1500)
    running.add_policy("names", document)
    running.command("policy", "attach", "names", "names")
    with RawClient(running.port, user) as raw:
        body = raw.get("/photos", query="list-type=2&metadata=true&prefix=public%2F").body
    first, second = (row for row in body.split(b"<Contents>")[1:])
    assert b"<Key>public/1</Key>" in first
    assert b"<UserMetadata>" in first
    assert b"<Key>public/2</Key>" in second
    assert b"<UserMetadata>" not in second


def test_bucket_policy(running: StoreProcess, client: Any, bob: User, refusal: Refusal) -> None:
    bobs = running.s3(bob)
    document = policy(
        allow("s3:GetObject", resource="arn:aws:s3:::photos/public/*", Principal="*"),
        {
            "Sid": "NotTheSecond",
            "Effect": "Deny",
            "Principal": {"AWS": ["arn:aws:iam:::user/alice"]},
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::photos/public/2",
        },
    )
    try:
        client.put_bucket_policy(Bucket="photos", Policy=document)
        assert json.loads(client.get_bucket_policy(Bucket="photos")["Policy"])
        assert bobs.get_object(Bucket="photos", Key="public/1")["Body"].read() == b"x"
        assert refusal(bobs.get_object, Bucket="photos", Key="private/1") == DENIED
        assert refusal(client.get_object, Bucket="photos", Key="public/2") == DENIED
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        for path, status in (("/photos/public/1", 200), ("/photos/private/1", 403)):
            connection.request("GET", path)
            got = connection.getresponse()
            got.read()
            assert got.status == status
        connection.close()
    finally:
        client.delete_bucket_policy(Bucket="photos")
    assert refusal(bobs.get_object, Bucket="photos", Key="public/1") == DENIED
    bobs.close()
    elsewhere = allow("s3:GetObject", resource="arn:aws:s3:::videos/*", Principal="*")
    for wrong in (allow("s3:GetObjekt", Principal="*"), elsewhere):
        answer = refusal(client.put_bucket_policy, Bucket="photos", Policy=policy(wrong))
        assert answer == ("MalformedPolicy", 400)


def test_the_admin_may_do_everything(running: StoreProcess) -> None:
    admin = running.s3(running.admin())
    admin.put_object(Bucket="photos", Key="admins", Body=b"x")
    assert (running.root / "photos/admins").stat().st_uid == 0
    admin.delete_object(Bucket="photos", Key="admins")
    admin.close()


def test_a_change_counts_at_once(running: StoreProcess, refusal: Refusal) -> None:
    user = running.add_user("erin", 1600)
    client = running.s3(user)
    there: dict[str, Any] = {"Bucket": "photos", "Key": "public/1"}
    assert refusal(client.get_object, **there) == DENIED
    running.command("policy", "attach", "readonly", "erin")
    client.get_object(**there)
    running.command("policy", "detach", "erin")
    assert refusal(client.get_object, **there) == DENIED
    running.command("user", "remove", "erin")
    assert refusal(client.get_object, **there) == ("InvalidAccessKeyId", 403)
    client.close()


def test_identities_are_for_admins_and_who_is_allowed(
    running: StoreProcess, client: Any, alice: User
) -> None:
    with RawClient(running.port, alice) as raw:
        assert raw.get("/", query="s3posixfs-identities=").code == "AccessDenied"
    with RawClient(running.port, running.admin()) as raw:
        answer = raw.get("/", query="s3posixfs-identities=")
    found = {row["name"]: row for row in json.loads(answer.body)["identities"]}
    assert found["alice"] == {
        "name": "alice",
        "role": "s3",
        "uid": 1001,
        "gid": 1001,
        "access_keys": ["alice"],
    }
    assert found["admin"]["role"] == "admin"
    assert b"secret" not in answer.body


def presigner(store: StoreProcess, user: User) -> Any:
    """boto3 that presigns with version 4: by default it still does with version 2."""
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id=user.access_key,
        aws_secret_access_key=user.secret_key,
        config=Config(signature_version="s3v4"),
    )


def test_presigned(running: StoreProcess, client: Any, alice: User, bob: User) -> None:
    def fetch(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        connection.request(method, url.removeprefix(running.endpoint), body=body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    there: dict[str, Any] = {"Bucket": "photos", "Key": "public/1"}
    version_2 = client.generate_presigned_url("get_object", Params=there)
    assert b"AWS4-HMAC-SHA256" in fetch(version_2)[1]
    client = presigner(running, alice)
    url = client.generate_presigned_url("get_object", Params=there, ExpiresIn=60)
    assert fetch(url) == (200, b"x")
    assert fetch(url, "HEAD")[0] == 403
    assert b"SignatureDoesNotMatch" in fetch(url.replace("public/1", "public/2"))[1]
    put = client.generate_presigned_url("put_object", Params={**there, "Key": "presigned"})
    assert fetch(put, "PUT", b"data")[0] == 200
    client.close()
    bobs = presigner(running, bob)
    url = bobs.generate_presigned_url("get_object", Params=there, ExpiresIn=60)
    bobs.close()
    status, data = fetch(url)
    assert status == 403
    assert b"AccessDenied" in data


def test_the_audit_log_says_what_happened(
    running: StoreProcess, client: Any, bob: User, refusal: Refusal
) -> None:
    document = policy(allow("s3:GetObject", Sid="MayRead"))
    with somebody(running, "audited", document) as audited:
        audited.get_object(Bucket="photos", Key="public/1")
        refusal(audited.delete_object, Bucket="photos", Key="public/1")
    forger = running.s3(replace(bob, access_key="alice", secret_key="wrong" * 8))
    assert refusal(forger.list_buckets)[0] == "SignatureDoesNotMatch"
    forger.close()
    time.sleep(0.5)
    text = (running.state / "audit.log").read_text()
    rows = [row for row in map(json.loads, text.splitlines()) if row["user"] == "audited"]
    assert [
        (r["operation"], r["action"], r["bucket"], r["key"], r["decision"], r["sid"], r["status"])
        for r in rows
    ] == [
        ("GetObject", "s3:GetObject", "photos", "public/1", "allow", "MayRead", 200),
        ("DeleteObject", "s3:DeleteObject", "photos", "public/1", "deny", None, 403),
    ]
    assert rows[0]["bytes_sent"] == 1
    refused = [row for row in map(json.loads, text.splitlines()) if row["status"] == 403]
    assert {"user": None, "access_key": "alice", "error": "SignatureDoesNotMatch"}.items() <= (
        next(row for row in refused if row["error"] == "SignatureDoesNotMatch").items()
    )
    assert rows[0]["peer"] == "127.0.0.1"
    assert (running.state / "audit.log").stat().st_mode & 0o777 == 0o600
    for word in ("-secret-", "Signature=", "AWS4-HMAC", "Security-Token"):
        assert word not in text


RENAME = "s3posixfs-rename-folder="
BELOW = "arn:aws:s3:::photos/moving/*"


def rename_folder(raw: RawClient, source: str, target: str, *more: tuple[str, str]) -> str:
    """The code of the refusal, "" where the folder was renamed."""
    headers = (("x-amz-rename-source", f"/photos/{source}"), *more)
    raw.send(raw.head("PUT", f"/photos/{target}", *headers, query=RENAME))
    answer = raw.answer()
    assert answer.status < 300 or answer.code
    return answer.code


@pytest.mark.parametrize(
    ("statement", "moves"),
    [
        (allow("s3:*", resource="arn:aws:s3:::*"), True),
        (allow("s3:*", resource=[BELOW, "arn:aws:s3:::photos/moved/*"]), True),
        (allow("s3:*", resource=[BELOW]), False),
        (allow("s3:*", resource=["arn:aws:s3:::photos/moved/*"]), False),
        (allow("s3:GetObject", "s3:PutObject"), False),
        (allow("s3:GetObject", "s3:DeleteObject"), False),
        (allow("s3:PutObject", "s3:DeleteObject"), False),
        (allow("s3:*", resource="arn:aws:s3:::photos/mov*/?*"), True),
        (allow("s3:*", resource="arn:aws:s3:::photos/mov*/1"), False),
        (allow("s3:*", NotResource="arn:aws:s3:::photos/other/*"), True),
        (allow("s3:*", NotResource="arn:aws:s3:::photos/*/deep/2"), False),
        (allow("s3:*", resource="arn:aws:s3:::photos/${aws:username}*"), False),
    ],
)
def test_a_folder_is_renamed_by_who_may_rename_each_key(
    running: StoreProcess, client: Any, alice: User, statement: dict[str, Any], moves: bool
) -> None:
    for key in ("moving/1", "moving/deep/2"):
        client.put_object(Bucket="photos", Key=key, Body=b"x")
    if "NotResource" in statement:
        del statement["Resource"]
    sts = running.sts(alice)
    session = sts.assume_role(
        RoleArn="arn:aws:iam::000000000000:role/any",
        RoleSessionName="mover",
        Policy=policy(statement),
    )["Credentials"]
    sts.close()
    with RawClient(running.port, alice) as raw:
        raw.signer = Signer(
            Credentials(
                session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
            ),
            REGION,
        )
        assert rename_folder(raw, "moving/", "moved/") == ("" if moves else "AccessDenied")
    listed = client.list_objects_v2(Bucket="photos", Prefix="mov")["Contents"]
    there = "moved" if moves else "moving"
    assert [row["Key"] for row in listed] == [f"{there}/1", f"{there}/deep/2"]
    for row in listed:
        client.delete_object(Bucket="photos", Key=row["Key"])


@pytest.mark.parametrize(
    "denial",
    [
        {"Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::photos/held/deep/2"},
        {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*2"},
        {"Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/free/*/2"},
        {
            "Action": "s3:DeleteObject",
            "Resource": "arn:aws:s3:::photos/*",
            "Condition": {"StringEquals": {"s3:ExistingObjectTag/keep": "yes"}},
        },
    ],
)
def test_one_denied_key_holds_its_folder(
    running: StoreProcess, client: Any, raw: RawClient, denial: dict[str, Any]
) -> None:
    """By the bucket's policy, which binds the administrator too; gone, the folder moves."""
    client.put_object(Bucket="photos", Key="held/1", Body=b"x")
    client.put_object(Bucket="photos", Key="held/deep/2", Body=b"x", Tagging="keep=yes")
    statement = {"Effect": "Deny", "Principal": "*", **denial}
    client.put_bucket_policy(Bucket="photos", Policy=policy(statement))
    try:
        with RawClient(running.port, running.admin()) as admin:
            assert rename_folder(admin, "held/", "free/") == "AccessDenied"
        assert rename_folder(raw, "held/", "free/") == "AccessDenied"
        found = client.list_objects_v2(Bucket="photos", Prefix="held/")
        assert found["KeyCount"] == 2
    finally:
        client.delete_bucket_policy(Bucket="photos")
    held = ("if-none-match", "*")
    assert rename_folder(raw, "held/", "free/", held) == ""
    assert rename_folder(raw, "held/", "new/") == "NoSuchKey"
    assert rename_folder(raw, "free/", "free/deep/") == "InvalidRequest"
    client.put_object(Bucket="photos", Key="taken/1", Body=b"x")
    assert rename_folder(raw, "free/", "taken/", held) == "PreconditionFailed"
    assert rename_folder(raw, "free/", "taken/") == "FolderNotEmpty"
    assert rename_folder(raw, "free/", "taken/", ("if-match", '"x"')) == "NotImplemented"
    assert rename_folder(raw, "free", "taken/") == "InvalidArgument"
    assert rename_folder(raw, "free/", "taken") == "InvalidArgument"
    for key in ("free/1", "free/deep/2", "taken/1"):
        client.delete_object(Bucket="photos", Key=key)
