"""Deletes and copies that happen only if the object is what the client thinks it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.store.conftest import Refusal
from tests.store.test_policies import DENIED, allow, policy, somebody
from tests.store_process import StoreProcess

FAILED = ("PreconditionFailed", 412)
THERE: dict[str, Any] = {"Bucket": "photos", "Key": "conditional"}
WRONG = '"00000000000000000000000000000000"'


@pytest.fixture
def present(client: Any) -> dict[str, Any]:
    """The head of the object of 5 bytes that is there."""
    client.put_object(**THERE, Body=b"12345")
    head: dict[str, Any] = client.head_object(**THERE)
    return head


def there(client: Any) -> bool:
    listing = client.list_objects_v2(Bucket="photos", Prefix=THERE["Key"])
    return bool(listing["KeyCount"])


def test_delete_if_match(client: Any, refusal: Refusal, present: dict[str, Any]) -> None:
    assert refusal(client.delete_object, **THERE, IfMatch=WRONG) == FAILED
    assert there(client)
    client.delete_object(**THERE, IfMatch=present["ETag"])
    assert not there(client)
    for match in (present["ETag"], "*"):
        assert refusal(client.delete_object, **THERE, IfMatch=match) == ("NoSuchKey", 404)
    client.put_object(**THERE, Body=b"")
    client.delete_object(**THERE, IfMatch="*")
    assert not there(client)


def test_delete_if_size_and_time(client: Any, refusal: Refusal, present: dict[str, Any]) -> None:
    other = present["LastModified"] - timedelta(seconds=1)
    assert refusal(client.delete_object, **THERE, IfMatchSize=6) == FAILED
    assert refusal(client.delete_object, **THERE, IfMatchLastModifiedTime=other) == FAILED
    both = {"IfMatchSize": 5, "IfMatchLastModifiedTime": present["LastModified"]}
    assert refusal(client.delete_object, **THERE, **both, IfMatch=WRONG) == FAILED
    assert there(client)
    client.delete_object(**THERE, **both)
    assert not there(client)
    # Of what is not there nothing can be wrong.
    client.delete_object(**THERE, **both)


def test_delete_many_with_conditions(client: Any, present: dict[str, Any]) -> None:
    key = THERE["Key"]

    def delete(**fields: Any) -> Any:
        wanted = {"Objects": [{"Key": key, **fields}, {"Key": "not-there"}]}
        return client.delete_objects(Bucket="photos", Delete=wanted)

    for wrong in (
        {"ETag": WRONG},
        {"Size": 4},
        {"LastModifiedTime": datetime(2020, 1, 1)},  # noqa: DTZ001  sent as GMT
    ):
        answer = delete(**wrong)
        assert [(row["Key"], row["Code"]) for row in answer["Errors"]] == [
            (key, "PreconditionFailed")
        ]
        assert [row["Key"] for row in answer["Deleted"]] == ["not-there"]
    assert there(client)
    answer = delete(ETag=present["ETag"], Size=5, VersionId="null")
    assert answer["Deleted"] == [{"Key": key, "VersionId": "null"}, {"Key": "not-there"}]
    assert not there(client)


def test_to_compare_an_etag_is_to_read(
    running: StoreProcess, client: Any, refusal: Refusal, present: dict[str, Any]
) -> None:
    with somebody(running, "blind", policy(allow("s3:DeleteObject"))) as one:
        assert refusal(one.delete_object, **THERE, IfMatch=present["ETag"]) == DENIED
        wanted = {"Objects": [{"Key": THERE["Key"], "ETag": present["ETag"]}]}
        (error,) = one.delete_objects(Bucket="photos", Delete=wanted)["Errors"]
        assert error["Code"] == "AccessDenied"
        assert there(client)
        one.delete_object(**THERE, IfMatch="*")
    assert not there(client)


def test_a_condition_that_is_none(raw: Any, present: dict[str, Any]) -> None:
    for name, value in (
        ("x-amz-if-match-size", "-1"),
        ("x-amz-if-match-size", "five"),
        ("x-amz-if-match-last-modified-time", "yesterday"),
    ):
        raw.send(raw.head("DELETE", "/photos/conditional", (name, value)))
        assert raw.answer().code == "InvalidArgument"


@pytest.mark.parametrize(
    ("conditions", "done"),
    [
        ({"CopySourceIfMatch": "ETAG"}, True),
        ({"CopySourceIfMatch": "*"}, True),
        ({"CopySourceIfMatch": WRONG}, False),
        ({"CopySourceIfNoneMatch": "ETAG"}, False),
        ({"CopySourceIfNoneMatch": WRONG}, True),
        ({"CopySourceIfModifiedSince": -10}, True),
        ({"CopySourceIfModifiedSince": 0}, False),
        ({"CopySourceIfUnmodifiedSince": 0}, True),
        ({"CopySourceIfUnmodifiedSince": -10}, False),
        # With both of a pair the ETag decides ("CopyObject", request headers).
        ({"CopySourceIfMatch": "ETAG", "CopySourceIfUnmodifiedSince": -10}, True),
        ({"CopySourceIfNoneMatch": "ETAG", "CopySourceIfModifiedSince": -10}, False),
        ({"CopySourceIfMatch": WRONG, "CopySourceIfUnmodifiedSince": 10}, False),
    ],
)
def test_copy_if_the_source_is(
    client: Any,
    refusal: Refusal,
    present: dict[str, Any],
    conditions: dict[str, Any],
    done: bool,
) -> None:
    given = {
        name: present["ETag"]
        if value == "ETAG"
        else present["LastModified"] + timedelta(seconds=value)
        if isinstance(value, int)
        else value
        for name, value in conditions.items()
    }
    target = {"Bucket": "photos", "Key": "copy-of-it"}
    source = {"CopySource": "photos/conditional", **given}
    upload = client.create_multipart_upload(**target)["UploadId"]
    part = {**target, "UploadId": upload, "PartNumber": 1}
    if done:
        assert client.copy_object(**target, **source)["CopyObjectResult"]["ETag"]
        assert client.upload_part_copy(**part, **source)["CopyPartResult"]["ETag"]
    else:
        assert refusal(client.copy_object, **target, **source) == FAILED
        assert refusal(client.upload_part_copy, **part, **source) == FAILED
    client.abort_multipart_upload(**target, UploadId=upload)


def test_copy_if_the_target_is(client: Any, refusal: Refusal, present: dict[str, Any]) -> None:
    target = {"Bucket": "photos", "Key": "target", "CopySource": "photos/conditional"}
    assert refusal(client.copy_object, **target, IfMatch=WRONG) == ("NoSuchKey", 404)
    client.copy_object(**target, IfNoneMatch="*")
    assert refusal(client.copy_object, **target, IfNoneMatch="*") == FAILED
    assert refusal(client.copy_object, **target, IfMatch=WRONG) == FAILED
    client.copy_object(**target, IfMatch=present["ETag"])


def test_what_the_answer_is_called(client: Any) -> None:
    """Every response-* parameter sets its header, also of a range and of HEAD."""
    client.put_object(**THERE, Body=b"12345", ContentType="text/plain", CacheControl="no-store")
    wanted = {
        "ResponseCacheControl": "max-age=5",
        "ResponseContentDisposition": 'attachment; filename="a b"',
        "ResponseContentEncoding": "x-none",
        "ResponseContentLanguage": "de",
        "ResponseContentType": "application/x-mine",
    }
    for answer in (
        client.get_object(**THERE, **wanted),
        client.get_object(**THERE, **wanted, Range="bytes=1-2"),
        client.head_object(**THERE, **wanted),
    ):
        for name, value in wanted.items():
            assert answer[name.removeprefix("Response")] == value
    plain = client.get_object(**THERE)
    assert (plain["ContentType"], plain["CacheControl"]) == ("text/plain", "no-store")
