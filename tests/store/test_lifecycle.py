"""Lifecycle rules: what is accepted, what they say of an object, and what they remove."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.records import ObjectRecord
from s3posixfs.store.lifecycle import LifecycleRule, expiration_headers
from tests.store.conftest import Refusal
from tests.store.test_policies import DENIED, allow, policy, somebody
from tests.store_process import StoreProcess

BUCKET = {"Bucket": "photos"}
FAR = {"Days": 4000}


def rule(name: str = "one", **fields: Any) -> dict[str, Any]:
    whole = {"ID": name, "Status": "Enabled", "Filter": {"Prefix": ""}, **fields}
    return {field: value for field, value in whole.items() if value is not None}


def configure(client: Any, *rules: dict[str, Any], bucket: str = "photos") -> None:
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)}
    )


@pytest.fixture(autouse=True)
def without_rules(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "client" in request.fixturenames:
        request.getfixturevalue("client").delete_bucket_lifecycle(**BUCKET)


def test_configuration_comes_back(client: Any, refusal: Refusal) -> None:
    missing = ("NoSuchLifecycleConfiguration", 404)
    assert refusal(client.get_bucket_lifecycle_configuration, **BUCKET) == missing
    rules = [
        rule("days", Filter={"Prefix": "logs/"}, Expiration=FAR),
        rule(
            "date",
            Status="Disabled",
            Filter={"Tag": {"Key": "a", "Value": "b c"}},
            Expiration={"Date": datetime(2099, 1, 1, tzinfo=UTC)},
        ),
        rule(
            "and",
            Filter={
                "And": {
                    "Prefix": "x/",
                    "Tags": [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "2"}],
                    "ObjectSizeGreaterThan": 500,
                    "ObjectSizeLessThan": 64000,
                }
            },
            Expiration=FAR,
        ),
        rule("uploads", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}),
        rule("old", NoncurrentVersionExpiration={"NoncurrentDays": 3}),
        rule("markers", Expiration={"ExpiredObjectDeleteMarker": True}),
    ]
    configure(client, *rules)
    assert client.get_bucket_lifecycle_configuration(**BUCKET)["Rules"] == rules
    minimum = client.get_bucket_lifecycle_configuration(**BUCKET)
    assert minimum["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
    configure(client, {"Status": "Enabled", "Prefix": "old-form/", "Expiration": FAR})
    (only,) = client.get_bucket_lifecycle_configuration(**BUCKET)["Rules"]
    assert only.pop("ID")
    assert only == {"Status": "Enabled", "Prefix": "old-form/", "Expiration": FAR}
    answer = client.delete_bucket_lifecycle(**BUCKET)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(client.get_bucket_lifecycle_configuration, **BUCKET) == missing


TAG = {"Key": "a", "Value": "b"}


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([rule(Expiration={"Days": 0})], "InvalidArgument"),
        ([rule(Expiration={"Days": -1})], "InvalidArgument"),
        ([rule(Expiration={"Date": datetime(2030, 1, 1, 1, tzinfo=UTC)})], "InvalidArgument"),
        ([rule(Expiration={"Days": 1, "Date": datetime(2030, 1, 1, tzinfo=UTC)})], "MalformedXML"),
        ([rule(Expiration={})], "MalformedXML"),
        ([rule(Status="enabled", Expiration=FAR)], "MalformedXML"),
        ([rule(Prefix="a", Expiration=FAR)], "MalformedXML"),
        ([rule(Filter=None, Expiration=FAR)], "MalformedXML"),
        ([rule()], "InvalidRequest"),
        ([rule("i" * 256, Expiration=FAR)], "InvalidArgument"),
        ([rule(Expiration=FAR), rule(Expiration=FAR)], "InvalidArgument"),
        ([rule(Filter={"Prefix": "p" * 1025}, Expiration=FAR)], "InvalidRequest"),
        ([rule(Filter={"Prefix": "p", "Tag": TAG}, Expiration=FAR)], "MalformedXML"),
        ([rule(Filter={"And": {"Prefix": "p"}}, Expiration=FAR)], "MalformedXML"),
        ([rule(Filter={"And": {"Tags": [TAG, TAG]}}, Expiration=FAR)], "InvalidRequest"),
        (
            [rule(Filter={"Tag": TAG}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1})],
            "InvalidRequest",
        ),
        (
            [rule(Filter={"Tag": TAG}, Expiration={"ExpiredObjectDeleteMarker": True})],
            "InvalidRequest",
        ),
        (
            [rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 0})],
            "InvalidArgument",
        ),
        ([rule(NoncurrentVersionExpiration={"NoncurrentDays": 0})], "InvalidArgument"),
        ([], "MalformedXML"),
    ],
)
def test_what_is_refused(
    client: Any, refusal: Refusal, rules: list[dict[str, Any]], code: str
) -> None:
    configuration = {"Rules": rules}
    answer = refusal(
        client.put_bucket_lifecycle_configuration, **BUCKET, LifecycleConfiguration=configuration
    )
    assert answer == (code, 400)


def test_other_storage_classes_are_not_built(client: Any, refusal: Refusal) -> None:
    moving = rule(Transitions=[{"Days": 30, "StorageClass": "GLACIER"}])
    answer = refusal(
        client.put_bucket_lifecycle_configuration,
        **BUCKET,
        LifecycleConfiguration={"Rules": [moving]},
    )
    assert answer == ("NotImplemented", 501)


def test_a_thousand_rules(client: Any, refusal: Refusal) -> None:
    many = [rule(f"r{number}", Expiration=FAR) for number in range(1001)]
    answer = refusal(
        client.put_bucket_lifecycle_configuration, **BUCKET, LifecycleConfiguration={"Rules": many}
    )
    assert answer == ("MalformedXML", 400)
    configure(client, *many[:1000])
    assert len(client.get_bucket_lifecycle_configuration(**BUCKET)["Rules"]) == 1000


def test_answers_say_when_an_object_expires(client: Any) -> None:
    there = {**BUCKET, "Key": "logs/1"}
    configure(
        client,
        rule("a rule", Filter={"Prefix": "logs/"}, Expiration={"Days": 3}),
        rule("later", Expiration=FAR),
    )
    midnight = (int(time.time()) // 86400 + 4) * 86400
    wanted = f'expiry-date="{formatdate(midnight, usegmt=True)}", rule-id="a%20rule"'
    assert client.put_object(**there, Body=b"x")["Expiration"] == wanted
    assert client.head_object(**there)["Expiration"] == wanted
    assert client.get_object(**there)["Expiration"] == wanted
    copied = client.copy_object(**BUCKET, Key="logs/2", CopySource="photos/logs/1")
    assert copied["Expiration"] == wanted
    assert "later" in client.put_object(**BUCKET, Key="other", Body=b"x")["Expiration"]
    client.delete_bucket_lifecycle(**BUCKET)
    assert "Expiration" not in client.head_object(**there)


def test_each_needs_its_action(running: StoreProcess, refusal: Refusal) -> None:
    with somebody(running, "ageless", policy(allow("s3:GetBucketPolicy"))) as one:
        assert refusal(one.get_bucket_lifecycle_configuration, **BUCKET) == DENIED
        assert refusal(one.delete_bucket_lifecycle, **BUCKET) == DENIED
        configuration = {"Rules": [rule(Expiration=FAR)]}
        answer = refusal(
            one.put_bucket_lifecycle_configuration, **BUCKET, LifecycleConfiguration=configuration
        )
        assert answer == DENIED


def record(**fields: Any) -> ObjectRecord:
    given = {"key": "k", "size": 10, "last_modified": 0.0, **fields}
    return ObjectRecord(etag="e", owner_id="o", owner=PosixOwner(0, 0), **given)


DAY = 86_400


@pytest.mark.parametrize(
    ("made", "given", "wanted"),
    [
        (LifecycleRule("r", True, expire_days=1), {"last_modified": 0.0}, 2 * DAY),
        (LifecycleRule("r", True, expire_days=1), {"last_modified": DAY - 1.0}, 2 * DAY),
        (LifecycleRule("r", True, expire_days=3), {"last_modified": DAY * 1.5}, 5 * DAY),
        (LifecycleRule("r", True, expire_date=7.0 * DAY), {"last_modified": 1e9}, 7 * DAY),
        (LifecycleRule("r", False, expire_days=1), {}, None),
        (LifecycleRule("r", True, abort_days=1), {}, None),
        (LifecycleRule("r", True, prefix="k/", expire_days=1), {}, None),
        (LifecycleRule("r", True, prefix="k/", expire_days=1), {"key": "k/1"}, 2 * DAY),
        (LifecycleRule("r", True, tags={"a": "1"}, expire_days=1), {"tags": {"a": "2"}}, None),
        (LifecycleRule("r", True, tags={"a": "1"}, expire_days=1), {}, None),
        (
            LifecycleRule("r", True, tags={"a": "1"}, expire_days=1),
            {"tags": {"a": "1", "b": ""}},
            2 * DAY,
        ),
        (LifecycleRule("r", True, larger_than=10, expire_days=1), {}, None),
        (LifecycleRule("r", True, larger_than=9, expire_days=1), {}, 2 * DAY),
        (LifecycleRule("r", True, smaller_than=10, expire_days=1), {}, None),
        (LifecycleRule("r", True, smaller_than=11, expire_days=1), {}, 2 * DAY),
    ],
)
def test_what_falls_under_a_rule(
    made: LifecycleRule, given: dict[str, Any], wanted: int | None
) -> None:
    assert made.expires_at(record(**given), DAY) == wanted


def test_the_first_to_expire_is_named() -> None:
    rules = [LifecycleRule("late", True, expire_days=9), LifecycleRule("soon", True, expire_days=1)]
    ((name, value),) = expiration_headers(rules, record())
    assert name == "x-amz-expiration"
    assert value == 'expiry-date="Sat, 03 Jan 1970 00:00:00 GMT", rule-id="soon"'


@pytest.fixture(scope="module")
def fast(module_folder: Path) -> Iterator[StoreProcess]:
    """A store whose days last two seconds, with two workers."""
    environment = {"S3POSIXFS_TEST_DAY": "2"}
    folder = module_folder / "fast"
    with StoreProcess(folder, arguments=("--workers", "2"), environment=environment) as store:
        yield store
        assert store.stop() == 0
        assert "Traceback" not in store.log.read_text()


def keys_of(client: Any, bucket: str) -> set[str]:
    listing = client.list_objects_v2(Bucket=bucket)
    return {row["Key"] for row in listing.get("Contents", [])}


def wait_for(client: Any, bucket: str, wanted: set[str], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while keys_of(client, bucket) != wanted:
        assert time.monotonic() < end, keys_of(client, bucket)
        time.sleep(0.2)


def test_rules_are_done(fast: StoreProcess) -> None:
    client: Any = fast.s3(fast.admin())
    client.create_bucket(Bucket="ages")
    client.create_bucket(Bucket="stays")
    for key in ("logs/1", "logs/2", "keep/1"):
        client.put_object(Bucket="ages", Key=key, Body=b"x")
        client.put_object(Bucket="stays", Key=key, Body=b"x")
    client.put_object(Bucket="ages", Key="tagged", Body=b"x", Tagging="temp=yes")
    client.put_object(Bucket="ages", Key="big", Body=b"x" * 1000)
    for key in ("logs/upload", "keep/upload"):
        client.create_multipart_upload(Bucket="ages", Key=key)
    now = {"Days": 1}
    configure(
        client,
        rule("logs", Filter={"Prefix": "logs/"}, Expiration=now),
        rule("temp", Filter={"Tag": {"Key": "temp", "Value": "yes"}}, Expiration=now),
        rule("big", Filter={"ObjectSizeGreaterThan": 999}, Expiration=now),
        rule("off", Status="Disabled", Expiration=now),
        rule(
            "uploads",
            Filter={"Prefix": "logs/"},
            AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1},
        ),
        bucket="ages",
    )
    wait_for(client, "ages", {"keep/1"})
    end = time.monotonic() + 10
    while len(uploads := client.list_multipart_uploads(Bucket="ages")["Uploads"]) > 1:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert [upload["Key"] for upload in uploads] == ["keep/upload"]
    assert not (fast.root / "ages/logs").exists()
    assert keys_of(client, "stays") == {"logs/1", "logs/2", "keep/1"}
    # A date that has come removes everything that there is.
    past = datetime(2020, 1, 1, tzinfo=UTC)
    configure(client, rule("date", Expiration={"Date": past}), bucket="ages")
    wait_for(client, "ages", set())
    client.close()
    expired = {
        "logs/1": "logs", "logs/2": "logs", "tagged": "temp", "big": "big", "keep/1": "date",
    }  # fmt: skip
    wanted = {("lifecycle:ExpireObject", key, rule_id) for key, rule_id in expired.items()}
    wanted.add(("lifecycle:AbortMultipartUpload", "logs/upload", "uploads"))
    while (noted := lifecycle_lines(fast, "ages")) != wanted:
        assert time.monotonic() < end + 10, noted
        time.sleep(0.1)


def lifecycle_lines(store: StoreProcess, bucket: str) -> set[tuple[str, str, str]]:
    """What the audit log says that the store removed by itself."""
    lines = [json.loads(line) for line in (store.state / "audit.log").read_text().splitlines()]
    return {
        (line["operation"], line["key"], line["sid"])
        for line in lines
        if line.get("policy") == "lifecycle" and line["bucket"] == bucket
    }


def test_what_is_written_anew_stays(fast: StoreProcess) -> None:
    client: Any = fast.s3(fast.admin())
    client.create_bucket(Bucket="rewritten")
    configure(client, rule("all", Expiration={"Days": 1}), bucket="rewritten")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        client.put_object(Bucket="rewritten", Key="same", Body=b"the same bytes")
        assert keys_of(client, "rewritten") == {"same"}
        time.sleep(0.1)
    client.close()
