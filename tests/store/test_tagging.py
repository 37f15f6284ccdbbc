"""Tags of objects and buckets, with S3's limits and the policies that look at them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.store.conftest import Refusal
from tests.store.test_policies import DENIED, allow, policy, somebody
from tests.store_process import StoreProcess

THERE: dict[str, Any] = {"Bucket": "photos", "Key": "tagged"}


def tagging(**tags: str) -> dict[str, Any]:
    return {"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]}


@pytest.fixture(scope="module", autouse=True)
def tagged(client: Any) -> None:
    client.put_object(**THERE, Body=b"x", Tagging="color=red&size=%C3%A9+big")


def test_object_tags_come_and_go(client: Any) -> None:
    there = {**THERE, "Key": "own"}
    client.put_object(**there, Body=b"x", Tagging="color=red&size=%C3%A9+big")
    before = client.head_object(**there)
    assert before["TagCount"] == 2
    assert client.get_object_tagging(**there)["TagSet"] == [
        {"Key": "color", "Value": "red"},
        {"Key": "size", "Value": "é big"},
    ]
    client.put_object_tagging(**there, Tagging=tagging(only="one"))
    assert client.get_object_tagging(**there)["TagSet"] == [{"Key": "only", "Value": "one"}]
    after = client.head_object(**there)
    assert after["TagCount"] == 1
    for same in ("ETag", "LastModified", "ContentLength"):
        assert after[same] == before[same]
    answer = client.delete_object_tagging(**there)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.get_object_tagging(**there)["TagSet"] == []
    assert "TagCount" not in client.head_object(**there)
    assert client.get_object(**there)["Body"].read() == b"x"


def test_of_what_is_not_there(client: Any, refusal: Refusal) -> None:
    absent = {"Bucket": "photos", "Key": "absent"}
    missing = ("NoSuchKey", 404)
    assert refusal(client.get_object_tagging, **absent) == missing
    assert refusal(client.put_object_tagging, **absent, Tagging=tagging(a="1")) == missing
    assert refusal(client.delete_object_tagging, **absent) == missing
    nowhere = {"Bucket": "no-such-bucket", "Key": "k"}
    assert refusal(client.get_object_tagging, **nowhere) == ("NoSuchBucket", 404)
    assert refusal(client.get_object_tagging, **THERE, VersionId="1") == ("InvalidArgument", 400)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({f"k{number}": "v" for number in range(11)}, "BadRequest"),
        ({"k" * 129: "v"}, "InvalidTag"),
        ({"k": "v" * 257}, "InvalidTag"),
        ({"\U00010400" * 65: "v"}, "InvalidTag"),
        ({"bad!": "v"}, "InvalidTag"),
        ({"k": "v;w"}, "InvalidTag"),
        ({"aws:k": "v"}, "InvalidTag"),
        ({"AWS:k": "v"}, "InvalidTag"),
    ],
)
def test_limits(client: Any, refusal: Refusal, tags: dict[str, str], code: str) -> None:
    assert refusal(client.put_object_tagging, **THERE, Tagging=tagging(**tags)) == (code, 400)
    client.put_object_tagging(
        **THERE, Tagging=tagging(**{"k" * 128: "v" * 256, "\U00010400" * 64: "", "a b_.:/=+-@": ""})
    )


def test_the_same_key_twice(client: Any, refusal: Refusal) -> None:
    twice = {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    assert refusal(client.put_object_tagging, **THERE, Tagging=twice) == ("InvalidTag", 400)
    answer = refusal(client.put_object, **THERE, Body=b"x", Tagging="a=1&a=2")
    assert answer == ("InvalidArgument", 400)


def test_malformed(running: StoreProcess, raw: Any) -> None:
    for body in (
        b"",
        b"<Tagging/>",
        b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet/><TagSet/></Tagging>",
        b"<Other><TagSet/></Other>",
    ):
        digest_free = raw.head("PUT", "/photos/tagged", query="tagging=").removesuffix(b"\r\n")
        raw.send(digest_free + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert raw.answer().code == "MalformedXML", body


def test_copies_take_the_tags_or_new_ones(client: Any) -> None:
    client.put_object_tagging(**THERE, Tagging=tagging(color="red"))
    copied = {"Bucket": "photos", "Key": "copied"}
    client.copy_object(**copied, CopySource="photos/tagged")
    assert client.get_object_tagging(**copied)["TagSet"] == [{"Key": "color", "Value": "red"}]
    client.copy_object(
        **copied, CopySource="photos/tagged", TaggingDirective="REPLACE", Tagging="new=1"
    )
    assert client.get_object_tagging(**copied)["TagSet"] == [{"Key": "new", "Value": "1"}]


def test_each_needs_its_action(running: StoreProcess, client: Any, refusal: Refusal) -> None:
    client.put_object_tagging(**THERE, Tagging=tagging(color="red"))
    document = policy(allow("s3:GetObject", "s3:PutObject", "s3:DeleteObject"))
    with somebody(running, "untagged", document) as one:
        assert refusal(one.get_object_tagging, **THERE) == DENIED
        assert refusal(one.put_object_tagging, **THERE, Tagging=tagging(a="1")) == DENIED
        assert refusal(one.put_object_tagging, **THERE, Tagging=tagging(aws="!")) == DENIED
        assert refusal(one.delete_object_tagging, **THERE) == DENIED
        copied = {"Bucket": "photos", "Key": "copied"}
        assert refusal(one.copy_object, **copied, CopySource="photos/tagged") == DENIED
        one.copy_object(**copied, CopySource="photos/tagged", TaggingDirective="REPLACE")
    assert client.get_object_tagging(**THERE)["TagSet"] == [{"Key": "color", "Value": "red"}]


def test_tags_of_the_request_decide(running: StoreProcess, refusal: Refusal) -> None:
    condition = {
        "StringEquals": {"s3:RequestObjectTag/team": "blue"},
        "ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["team"]},
    }
    with somebody(running, "blue", policy(allow("s3:PutObjectTagging", Condition=condition))) as me:
        me.put_object_tagging(**THERE, Tagging=tagging(team="blue"))
        assert refusal(me.put_object_tagging, **THERE, Tagging=tagging(team="red")) == DENIED
        more = tagging(team="blue", extra="1")
        assert refusal(me.put_object_tagging, **THERE, Tagging=more) == DENIED
        assert refusal(me.put_object_tagging, **THERE, Tagging=tagging()) == DENIED


def test_a_tag_that_protects_itself(running: StoreProcess, client: Any, refusal: Refusal) -> None:
    client.put_object_tagging(**THERE, Tagging=tagging(level="secret"))
    deny = {
        "Effect": "Deny",
        "Action": ["s3:PutObjectTagging", "s3:DeleteObjectTagging", "s3:GetObjectTagging"],
        "Resource": "*",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/level": "secret"}},
    }
    with somebody(running, "retagger", policy(allow("s3:*"), deny)) as one:
        assert refusal(one.put_object_tagging, **THERE, Tagging=tagging()) == DENIED
        assert refusal(one.delete_object_tagging, **THERE) == DENIED
        assert refusal(one.get_object_tagging, **THERE) == DENIED


def test_bucket_tags(running: StoreProcess, client: Any, refusal: Refusal) -> None:
    bucket = {"Bucket": "photos"}
    assert refusal(client.get_bucket_tagging, **bucket) == ("NoSuchTagSet", 404)
    many = {f"k{number:02}": "v" for number in range(50)}
    answer = client.put_bucket_tagging(**bucket, Tagging=tagging(**many))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.get_bucket_tagging(**bucket) | {"ResponseMetadata": 0} == {
        "TagSet": [{"Key": name, "Value": "v"} for name in many],
        "ResponseMetadata": 0,
    }
    more = tagging(**many, k50="v")
    assert refusal(client.put_bucket_tagging, **bucket, Tagging=more) == ("BadRequest", 400)
    assert len(client.get_bucket_tagging(**bucket)["TagSet"]) == 50
    with somebody(running, "bucketless", policy(allow("s3:GetBucketTagging"))) as one:
        assert len(one.get_bucket_tagging(**bucket)["TagSet"]) == 50
        assert refusal(one.put_bucket_tagging, **bucket, Tagging=tagging(a="1")) == DENIED
        assert refusal(one.delete_bucket_tagging, **bucket) == DENIED
    answer = client.delete_bucket_tagging(**bucket)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(client.get_bucket_tagging, **bucket) == ("NoSuchTagSet", 404)
    nowhere = refusal(client.put_bucket_tagging, Bucket="no-such-bucket", Tagging=tagging(a="1"))
    assert nowhere == ("NoSuchBucket", 404)
