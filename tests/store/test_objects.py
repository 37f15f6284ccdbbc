"""Objects through boto3: ranges, conditions, headers, copies, renames, and what is not built."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.store.conformance_kit import md5_of
from tests.store.conftest import Refusal
from tests.store.raw import RawClient
from tests.store_process import StoreProcess, User

BIG = bytes(range(251)) * 4000


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-", 10, len(BIG) - 1),
        ("bytes=-7", len(BIG) - 7, len(BIG) - 1),
        ("bytes=5-99999999", 5, len(BIG) - 1),
        ("bytes=100-700000", 100, 700000),
    ],
)
def test_ranges(client: Any, text: str, first: int, last: int) -> None:
    client.put_object(Bucket="photos", Key="big", Body=BIG)
    got = client.get_object(Bucket="photos", Key="big", Range=text)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/{len(BIG)}"
    assert got["Body"].read() == BIG[first : last + 1]


def test_ranges_that_are_none(client: Any, refusal: Refusal, raw: RawClient) -> None:
    client.put_object(Bucket="photos", Key="big", Body=BIG)
    client.put_object(Bucket="photos", Key="empty", Body=b"")
    past = f"bytes={len(BIG)}-"
    assert refusal(client.get_object, Bucket="photos", Key="big", Range=past) == (
        "InvalidRange",
        416,
    )
    for text in ("bytes=0-0", "bytes=-5"):
        answer = raw.get("/photos/empty", ("range", text))
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */0")
    for text in ("bytes=9-3", "lines=1-2", "bytes=a-b", "bytes=0-1,3-4", "bytes=-"):
        assert raw.get("/photos/big", ("range", text)).status == 200


def test_a_range_of_an_older_object_gives_all_of_the_new(client: Any, raw: RawClient) -> None:
    etag = client.put_object(Bucket="photos", Key="big", Body=BIG)["ETag"]
    modified = raw.get("/photos/big").headers["last-modified"]
    for validator, status in (
        (etag, 206),
        (modified, 206),
        ('"other"', 200),
        (f"W/{etag}", 200),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 200),
    ):
        answer = raw.get("/photos/big", ("range", "bytes=0-9"), ("if-range", validator))
        assert (answer.status, len(answer.body)) == (status, 10 if status == 206 else len(BIG))


def test_read_conditions(client: Any, refusal: Refusal) -> None:
    etag = client.put_object(Bucket="photos", Key="c", Body=b"x")["ETag"]
    there: dict[str, Any] = {"Bucket": "photos", "Key": "c"}
    before = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    now = datetime.datetime.now(datetime.UTC)
    for call in (client.get_object, client.head_object):
        call(**there, IfMatch=etag)
        call(**there, IfMatch="*")
        call(**there, IfNoneMatch='"other"')
        call(**there, IfModifiedSince=before)
        call(**there, IfUnmodifiedSince=now)
        # If-Match that holds outweighs If-Unmodified-Since (RFC 9110, 13.2.2).
        call(**there, IfMatch=etag, IfUnmodifiedSince=before)
        assert refusal(call, **there, IfMatch='"other"')[1] == 412
        assert refusal(call, **there, IfNoneMatch=etag)[1] == 304
        assert refusal(call, **there, IfModifiedSince=now)[1] == 304
        assert refusal(call, **there, IfUnmodifiedSince=before)[1] == 412


def test_write_conditions(client: Any, refusal: Refusal) -> None:
    there: dict[str, Any] = {"Bucket": "photos", "Key": "once"}
    etag = client.put_object(**there, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refusal(client.put_object, **there, Body=b"2", IfNoneMatch="*") == (
        "PreconditionFailed",
        412,
    )
    assert refusal(client.put_object, **there, Body=b"2", IfMatch='"other"') == (
        "PreconditionFailed",
        412,
    )
    assert refusal(client.put_object, **there, Body=b"2", IfNoneMatch='"a"')[1] == 501
    client.put_object(**there, Body=b"2", IfMatch=etag)
    assert client.get_object(**there)["Body"].read() == b"2"
    absent: dict[str, Any] = {"Bucket": "photos", "Key": "never"}
    assert refusal(client.put_object, **absent, Body=b"2", IfMatch=etag) == ("NoSuchKey", 404)


def test_headers_and_metadata_come_back(client: Any) -> None:
    there: dict[str, Any] = {"Bucket": "photos", "Key": "dressed"}
    client.put_object(
        **there,
        Body=b"x",
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=5",
        ContentDisposition='attachment; filename="ü.txt"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Metadata={"Mixed-Case": "Value", "n": "1"},
        Tagging="a=1&b=%C3%BC",
    )
    head = client.head_object(**there)
    assert head["ContentType"] == "text/plain; charset=utf-8"
    assert head["CacheControl"] == "max-age=5"
    assert head["ContentEncoding"] == "gzip"
    assert head["ContentLanguage"] == "de"
    assert head["Metadata"] == {"mixed-case": "Value", "n": "1"}
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-s3posixfs-owner"] == "alice"
    tags = client.get_object_tagging(**there)["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "ü"}]
    got = client.get_object(**there, ResponseContentType="image/png")
    assert got["ContentType"] == "image/png"


def test_too_much_metadata(client: Any, refusal: Refusal) -> None:
    there: dict[str, Any] = {"Bucket": "photos", "Key": "heavy", "Body": b"x"}
    client.put_object(**there, Metadata={"k": "v" * 2047})
    assert refusal(client.put_object, **there, Metadata={"k": "v" * 2048}) == (
        "MetadataTooLarge",
        400,
    )


@pytest.mark.parametrize(
    "key", ["a b+c", "ü/日本", "x//y", "../up", ".", "dir/", "%2F", "a&b=c?d#e", "-~_*'()!"]
)
def test_keys_of_any_kind(client: Any, running: StoreProcess, key: str) -> None:
    there: dict[str, Any] = {"Bucket": "photos", "Key": key}
    client.put_object(**there, Body=b"" if key.endswith("/") else key.encode())
    assert client.head_object(**there)["ContentLength"] == (
        0 if key.endswith("/") else len(key.encode())
    )
    assert key in {row["Key"] for row in client.list_objects_v2(Bucket="photos")["Contents"]}
    assert not (running.root.parent / "up").exists()
    client.delete_object(**there)
    assert key not in {
        row["Key"] for row in client.list_objects_v2(Bucket="photos").get("Contents", [])
    }


def test_copy(client: Any, refusal: Refusal, running: StoreProcess) -> None:
    etag = client.put_object(
        Bucket="photos", Key="from/a b", Body=b"data", Metadata={"n": "1"}, ContentType="text/css"
    )["ETag"]
    source = {"Bucket": "photos", "Key": "from/a b"}
    there: dict[str, Any] = {"Bucket": "photos", "Key": "to"}
    client.copy_object(**there, CopySource=source)
    head = client.head_object(**there)
    assert (head["Metadata"], head["ContentType"], head["ETag"]) == ({"n": "1"}, "text/css", etag)
    client.copy_object(**there, CopySource=source, MetadataDirective="REPLACE", Metadata={"m": "2"})
    head = client.head_object(**there)
    assert (head["Metadata"], head["ContentType"]) == ({"m": "2"}, "binary/octet-stream")
    wrong = {"CopySourceIfMatch": '"other"'}
    assert refusal(client.copy_object, **there, CopySource=source, **wrong)[1] == 412
    wrong = {"CopySourceIfNoneMatch": etag}
    assert refusal(client.copy_object, **there, CopySource=source, **wrong)[1] == 412
    absent = {"Bucket": "photos", "Key": "never"}
    assert refusal(client.copy_object, **there, CopySource=absent) == ("NoSuchKey", 404)
    summed = client.copy_object(**there, CopySource=source, ChecksumAlgorithm="SHA256")
    assert "ChecksumSHA256" in summed["CopyObjectResult"]


def test_copy_onto_itself(client: Any, refusal: Refusal) -> None:
    there: dict[str, Any] = {"Bucket": "photos", "Key": "self"}
    etag = client.put_object(**there, Body=b"data")["ETag"]
    source = "photos/self"
    assert refusal(client.copy_object, **there, CopySource=source) == ("InvalidRequest", 400)
    client.copy_object(**there, CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"})
    head = client.head_object(**there)
    assert (head["Metadata"], head["ETag"], head["ContentLength"]) == ({"n": "2"}, etag, 4)


def test_a_copy_belongs_to_who_makes_it(running: StoreProcess, client: Any) -> None:
    other = running.add_user("dora", 1004, policy="readwrite")
    client.put_object(Bucket="photos", Key="hers", Body=b"data")
    dora = running.s3(other)
    dora.copy_object(Bucket="photos", Key="mine", CopySource="photos/hers")
    dora.close()
    head = client.head_object(Bucket="photos", Key="mine")
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-s3posixfs-owner"] == "dora"
    assert (running.root / "photos/mine").stat().st_uid == 1004
    assert (running.root / "photos/hers").stat().st_uid == 1001


def test_rename(client: Any, refusal: Refusal, running: StoreProcess) -> None:
    client.put_object(Bucket="photos", Key="old/name", Body=b"data", Metadata={"n": "1"})
    inode = (running.root / "photos/old/name").stat().st_ino
    there: dict[str, Any] = {"Bucket": "photos", "Key": "new/name"}
    client.rename_object(**there, RenameSource="/photos/old/name")
    assert (running.root / "photos/new/name").stat().st_ino == inode
    assert client.head_object(**there)["Metadata"] == {"n": "1"}
    assert refusal(client.head_object, Bucket="photos", Key="old/name")[1] == 404
    absent = refusal(client.rename_object, **there, RenameSource="old/name")
    assert absent == ("NoSuchKey", 404)
    client.put_object(Bucket="photos", Key="other", Body=b"2")
    held = refusal(client.rename_object, **there, RenameSource="other", DestinationIfNoneMatch="*")
    assert held == ("PreconditionFailed", 412)
    assert client.get_object(**there)["Body"].read() == b"data"


def test_delete(client: Any, refusal: Refusal) -> None:
    client.delete_object(Bucket="photos", Key="never")
    there: dict[str, Any] = {"Bucket": "photos", "Key": "gone"}
    client.put_object(**there, Body=b"x")
    assert refusal(client.delete_object, **there, IfMatch='"other"')[1] == 412
    client.delete_object(**there)
    assert refusal(client.get_object, **there) == ("NoSuchKey", 404)


def test_delete_many(client: Any) -> None:
    keys = ["del/1", "del/ü & <x>", "del/never"]
    for key in keys[:2]:
        client.put_object(Bucket="photos", Key=key, Body=b"x")
    done = client.delete_objects(Bucket="photos", Delete={"Objects": [{"Key": k} for k in keys]})
    assert [row["Key"] for row in done["Deleted"]] == keys
    assert "Errors" not in done
    assert client.list_objects_v2(Bucket="photos", Prefix="del/")["KeyCount"] == 0


def test_bad_xml_is_refused(raw: RawClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    entity = f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{secret}">]>'
    bomb = '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    for text in (
        "",
        "no xml",
        "<Delete>",
        "<Remove/>",
        "<Delete/>",
        "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
        f"{entity}<Delete><Object><Key>&x;</Key></Object></Delete>",
        f"{bomb}<Delete><Object><Key>&b;</Key></Object></Delete>",
    ):
        body = text.encode()
        length = (("content-length", str(len(body))),)
        digest = ("content-md5", md5_of(body))
        raw.send(raw.head("POST", "/photos", digest, query="delete", unsigned=length) + body)
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "MalformedXML"), text
        assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
        (
            "put_bucket_website",
            {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}}},
        ),
        ("list_bucket_metrics_configurations", {}),
        ("restore_object", {"Key": "k", "RestoreRequest": {"Days": 1}}),
        ("get_object_torrent", {"Key": "k"}),
        ("put_object", {"Key": "k", "ServerSideEncryption": "aws:kms"}),
        ("put_object", {"Key": "k", "ObjectLockLegalHoldStatus": "ON"}),
        ("put_object", {"Key": "k", "WriteOffsetBytes": 5}),
        ("put_object", {"Key": "k", "WebsiteRedirectLocation": "/x"}),
    ],
)
def test_what_is_not_built_is_refused(
    client: Any, refusal: Refusal, method: str, arguments: dict[str, Any]
) -> None:
    answer = refusal(getattr(client, method), Bucket="photos", **arguments)
    assert answer == ("NotImplemented", 501)
    assert refusal(client.head_object, Bucket="photos", Key="k")[1] == 404


def test_what_is_not_allowed_is_refused(client: Any, refusal: Refusal) -> None:
    there: dict[str, Any] = {"Bucket": "photos", "Key": "k"}
    assert refusal(client.put_object, **there, StorageClass="GLACIER")[0] == "InvalidStorageClass"
    assert (
        refusal(client.put_object, **there, ACL="public-read")[0] == "AccessControlListNotSupported"
    )
    client.put_object(**there, ACL="bucket-owner-full-control", StorageClass="STANDARD")
    assert refusal(client.get_object, **there, VersionId="abc") == ("InvalidArgument", 400)
    assert refusal(client.get_object, **there, VersionId="v" * 32) == ("NoSuchVersion", 404)
    client.delete_object(**there)


def test_buckets(client: Any, refusal: Refusal, running: StoreProcess, alice: User) -> None:
    client.create_bucket(Bucket="second")
    client.create_bucket(Bucket="second")  # again, as in S3's oldest region
    assert [b["Name"] for b in client.list_buckets()["Buckets"]] == ["photos", "second"]
    assert client.get_bucket_location(Bucket="second")["LocationConstraint"] is None
    assert client.head_bucket(Bucket="second")["BucketRegion"] == "us-east-1"
    client.put_object(Bucket="second", Key="x", Body=b"x")
    assert refusal(client.delete_bucket, Bucket="second") == ("BucketNotEmpty", 409)
    client.delete_object(Bucket="second", Key="x")
    client.delete_bucket(Bucket="second")
    assert refusal(client.head_bucket, Bucket="second")[1] == 404
    assert refusal(client.list_objects_v2, Bucket="second") == ("NoSuchBucket", 404)
    assert refusal(client.put_object, Bucket="second", Key="x") == ("NoSuchBucket", 404)
    wrong = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    assert (
        refusal(client.create_bucket, Bucket="third", **wrong)[0]
        == "IllegalLocationConstraintException"
    )
    expected = refusal(client.head_bucket, Bucket="photos", ExpectedBucketOwner="someone")
    assert expected[1] == 403


def test_answers_to_what_clients_probe_for(client: Any, refusal: Refusal) -> None:
    assert "Status" not in client.get_bucket_versioning(Bucket="photos")
    grant = client.get_bucket_acl(Bucket="photos")["Grants"][0]
    assert grant["Permission"] == "FULL_CONTROL"
    assert grant["Grantee"]["ID"] == "alice"
    for method, code in (
        (client.get_bucket_policy, "NoSuchBucketPolicy"),
        (client.get_bucket_tagging, "NoSuchTagSet"),
        (client.get_bucket_cors, "NoSuchCORSConfiguration"),
        (client.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
        (client.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError"),
        (client.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
    ):
        assert refusal(method, Bucket="photos") == (code, 404)
