"""Buckets as S3 has them: names, regions, owners, and what a listing of them says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer
from tests.store.conformance_kit import Site, Wire, fields_of, texts
from tests.store.conftest import Refusal
from tests.store_process import StoreProcess


@pytest.mark.parametrize(
    "name",
    [
        "aa",
        "a" * 64,
        "Capitals",
        "under_score",
        "-first",
        "last-",
        "192.168.5.123",
        "two..dots",
        "dot.-dash",
        "dash-.dot",
        ".gitignore",
        "my-bucket.",
        "xn--idn",
        "mine-s3alias",
        "mine--ol-s3",
        "per%25cent",
        "a%20b",
        "a!b",
        "sthree-x",
        "mine.mrap",
        "mine--x-s3",
        "mine--table-s3",
    ],
)
def test_names_that_are_none(wire: Wire, name: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        answer = wire.request(method, f"/{name}")
        assert (answer.status, answer.code) == (400, "InvalidBucketName"), method
    assert wire.request("HEAD", f"/{name}").status == 400


@pytest.mark.parametrize(
    "name", ["aaa", "0start", "b" * 60, "c" * 63, "has.dots.in", "has-dashes", "1.2.3", "a1-b2.c3"]
)
def test_names(wire: Wire, name: str) -> None:
    answer = wire.request("PUT", f"/{name}")
    assert (answer.status, answer.headers["location"]) == (200, f"/{name}")
    assert wire.request("HEAD", f"/{name}").headers["x-amz-bucket-region"] == "us-east-1"
    assert wire.request("DELETE", f"/{name}").status == 204
    assert wire.request("HEAD", f"/{name}").status == 404
    assert wire.request("DELETE", f"/{name}").code == "NoSuchBucket"


def test_created_again(site: Site, s3: Any, refusal: Refusal) -> None:
    """In S3's oldest region an owner may create a bucket again, and nothing happens to it."""
    s3.put_object(Bucket="photos", Key="kept", Body=b"x")
    assert s3.create_bucket(Bucket="photos")["Location"] == "/photos"
    assert s3.get_object(Bucket="photos", Key="kept")["Body"].read() == b"x"
    s3.delete_object(Bucket="photos", Key="kept")
    other = site.store.add_user("carol", 1003, policy="readwrite")
    client = site.s3(other)
    assert refusal(client.create_bucket, Bucket="photos") == ("BucketAlreadyExists", 409)
    client.close()


def location(region: str, extra: str = "") -> bytes:
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{region}</LocationConstraint>{extra}</CreateBucketConfiguration>"
    ).encode()


TAGS = "<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"
LONG = f"<Tags><Tag><Key>{'k' * 129}</Key><Value>b</Value></Tag></Tags>"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 200, ""),
        (location(""), 200, ""),
        (location("us-east-1"), 200, ""),
        (location("", TAGS), 200, ""),
        (location("eu-west-1"), 400, "IllegalLocationConstraintException"),
        (location("nowhere"), 400, "InvalidLocationConstraint"),
        (location("", LONG), 400, "InvalidTag"),
        (location("", "<Bucket><Type>Directory</Type></Bucket>"), 501, "NotImplemented"),
        (b"<CreateBucketConfiguration/>", 200, ""),
        (b"<SomethingElse/>", 400, "MalformedXML"),
        (b"no xml", 400, "MalformedXML"),
    ],
)
def test_where(wire: Wire, body: bytes, status: int, code: str) -> None:
    answer = wire.request("PUT", "/somewhere", body=body)
    assert (answer.status, answer.code) == (status, code)
    if status == 200:
        if b"Tags" in body:
            assert texts(wire.request("GET", "/somewhere", query="tagging="), "TagSet/Tag/Key")
        assert wire.request("DELETE", "/somewhere").status == 204
    else:
        assert wire.request("HEAD", "/somewhere").status == 404


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (("x-amz-acl", "private"), 200, ""),
        (("x-amz-acl", "public-read"), 400, "InvalidBucketAclWithObjectOwnership"),
        (("x-amz-acl", "authenticated-read"), 400, "InvalidBucketAclWithObjectOwnership"),
        (("x-amz-acl", "public-ready"), 400, "InvalidArgument"),
        (("x-amz-grant-read", 'id="alice"'), 400, "InvalidBucketAclWithObjectOwnership"),
        (("x-amz-object-ownership", "BucketOwnerEnforced"), 200, ""),
        (("x-amz-object-ownership", "ObjectWriter"), 501, "NotImplemented"),
        (("x-amz-object-ownership", "Nobody"), 400, "InvalidArgument"),
        (("x-amz-bucket-object-lock-enabled", "true"), 501, "NotImplemented"),
        (("x-amz-bucket-object-lock-enabled", "false"), 200, ""),
    ],
)
def test_headers_of_creation(wire: Wire, header: tuple[str, str], status: int, code: str) -> None:
    answer = wire.request("PUT", "/with-header", header)
    assert (answer.status, answer.code) == (status, code)
    assert wire.request("DELETE", "/with-header").status == (204 if status == 200 else 404)


def test_a_bucket_that_is_not_empty(wire: Wire) -> None:
    assert wire.request("PUT", "/photos/in/it", body=b"x").status == 200
    answer = wire.request("DELETE", "/photos")
    assert (answer.status, answer.code) == (409, "BucketNotEmpty")
    assert fields_of(answer)["BucketName"] == "photos"
    assert wire.request("DELETE", "/photos/in/it").status == 204


@pytest.fixture(scope="module")
def listed(s3: Any) -> list[str]:
    names = [f"listed-{number}" for number in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    return names


def test_list_buckets(s3: Any, listed: list[str]) -> None:
    everything = s3.list_buckets()
    names = [bucket["Name"] for bucket in everything["Buckets"]]
    assert names == sorted(names)
    assert set(listed) < set(names)
    assert everything["Owner"] == {"ID": "alice", "DisplayName": "alice"}
    assert "ContinuationToken" not in everything
    assert "Prefix" not in everything
    page = s3.list_buckets(Prefix="listed-", MaxBuckets=2)
    assert page["Prefix"] == "listed-"
    assert [bucket["Name"] for bucket in page["Buckets"]] == listed[:2]
    assert {bucket["BucketRegion"] for bucket in page["Buckets"]} == {"us-east-1"}
    rest = s3.list_buckets(Prefix="listed-", ContinuationToken=page["ContinuationToken"])
    assert [bucket["Name"] for bucket in rest["Buckets"]] == listed[2:]
    assert s3.list_buckets(BucketRegion="us-east-1", Prefix="listed-")["Buckets"]
    assert s3.list_buckets(Prefix="none-such")["Buckets"] == []
    everywhere = s3.get_paginator("list_buckets").paginate(
        Prefix="listed-", PaginationConfig={"PageSize": 2}
    )
    assert [b["Name"] for page in everywhere for b in page["Buckets"]] == listed


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("max-buckets=0", 400, "InvalidArgument"),
        ("max-buckets=-3", 400, "InvalidArgument"),
        ("max-buckets=10001", 400, "InvalidArgument"),
        ("max-buckets=x", 400, "InvalidArgument"),
        ("continuation-token=made-up", 400, "InvalidArgument"),
        ("bucket-region=eu-west-1", 200, ""),
        ("max-buckets=10000", 200, ""),
        ("surprise=1", 501, "NotImplemented"),
    ],
)
def test_arguments_of_list_buckets(wire: Wire, query: str, status: int, code: str) -> None:
    answer = wire.request("GET", "/", query=query)
    assert (answer.status, answer.code) == (status, code)
    if query == "bucket-region=eu-west-1":
        assert texts(answer, "Buckets/Bucket/Name") == []


def test_head_bucket(wire: Wire, site: Site) -> None:
    answer = wire.request("HEAD", "/photos")
    assert answer.status == 200
    assert answer.headers["x-amz-access-point-alias"] == "false"
    with site.wire(site.bob) as bob:
        assert bob.request("HEAD", "/photos").status == 403
        assert bob.request("HEAD", "/no-such-bucket").status in (403, 404)
    with site.wire() as anonymous:
        assert anonymous.request("HEAD", "/photos", signed=False).status == 403


def test_location(wire: Wire) -> None:
    answer = wire.request("GET", "/photos", query="location=")
    assert b"<LocationConstraint" in answer.body
    assert b"us-east-1" not in answer.body


@pytest.mark.parametrize(
    ("owner", "status"), [("alice", 200), ("bob", 403), ("111122223333", 403), ("", 400)]
)
def test_expected_owner(wire: Wire, owner: str, status: int) -> None:
    header = ("x-amz-expected-bucket-owner", owner)
    assert wire.request("GET", "/photos", header).status == status
    assert wire.request("PUT", "/photos/owned", header, body=b"x").status == status
    source = ("x-amz-copy-source", "photos/source")
    assert wire.request("PUT", "/photos/source", body=b"x").status == 200
    header = ("x-amz-source-expected-bucket-owner", owner)
    assert wire.request("PUT", "/photos/copy", source, header).status == status


def test_who_pays_changes_nothing(wire: Wire) -> None:
    payer = ("x-amz-request-payer", "requester")
    assert wire.request("PUT", "/photos/paid", payer, body=b"x").status == 200
    assert wire.request("GET", "/photos/paid", payer).body == b"x"


def test_another_region(module_folder: Path) -> None:
    arguments = ["--region", "eu-central-1"]
    with StoreProcess(module_folder / "elsewhere", arguments=arguments) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        with Wire(store.port, alice, None) as wire:
            refused = wire.request("PUT", "/photos")
            assert fields_of(refused)["Region"] == "eu-central-1"
            wire.signer = Signer(Credentials(alice.access_key, alice.secret_key), "eu-central-1")
            assert wire.request("PUT", "/photos", body=location("eu-central-1")).status == 200
            again = wire.request("PUT", "/photos")
            assert (again.status, again.code) == (409, "BucketAlreadyOwnedByYou")
            answer = wire.request("GET", "/photos", query="location=")
            assert b">eu-central-1</LocationConstraint>" in answer.body
