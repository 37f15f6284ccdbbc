"""Listings: order, prefixes, paging, encodings, owners and metadata."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree

from tests.store.conftest import Refusal
from tests.store.raw import RawClient

KEYS = sorted(
    ["a", "a/b", "a/c/d", "a-b", "z", "ü", "日本/x", "b/1", "b/2", "b/3/4", "c d+e", "q&<>\"'"],
    key=lambda key: key.encode(),
)


@pytest.fixture(scope="module")
def listed(client: Any) -> str:
    client.create_bucket(Bucket="listed")
    for key in KEYS:
        client.put_object(Bucket="listed", Key=key, Body=b"x", Metadata={"mtime": "12.5"})
    return "listed"


def all_pages(method: Any, **arguments: Any) -> tuple[list[str], list[str]]:
    """Keys and prefixes of all pages of two."""
    keys: list[str] = []
    prefixes: list[str] = []
    follow: dict[str, Any] = {}
    while True:
        page = method(**arguments, **follow, MaxKeys=2)
        rows = [row["Key"] for row in page.get("Contents", [])]
        commons = [row["Prefix"] for row in page.get("CommonPrefixes", [])]
        assert 1 <= len(rows) + len(commons) <= 2
        keys += rows
        prefixes += commons
        if not page["IsTruncated"]:
            return keys, prefixes
        if "NextContinuationToken" in page:
            follow = {"ContinuationToken": page["NextContinuationToken"]}
        elif "NextMarker" in page:
            follow = {"Marker": page["NextMarker"]}
        else:
            follow = {"Marker": rows[-1]}


@pytest.mark.parametrize("version", ["list_objects_v2", "list_objects"])
def test_pages(client: Any, listed: str, version: str) -> None:
    method = getattr(client, version)
    assert all_pages(method, Bucket=listed) == (KEYS, [])
    keys, prefixes = all_pages(method, Bucket=listed, Delimiter="/")
    assert keys == [key for key in KEYS if "/" not in key]
    assert prefixes == ["a/", "b/", "日本/"]
    keys, prefixes = all_pages(method, Bucket=listed, Prefix="a", Delimiter="/")
    assert (keys, prefixes) == (["a", "a-b"], ["a/"])
    keys, prefixes = all_pages(method, Bucket=listed, Prefix="a/", Delimiter="/")
    assert (keys, prefixes) == (["a/b"], ["a/c/"])
    keys, prefixes = all_pages(method, Bucket=listed, Delimiter="-")
    assert prefixes == ["a-"]


def test_start_after(client: Any, listed: str) -> None:
    page = client.list_objects_v2(Bucket=listed, StartAfter="b/2")
    assert [row["Key"] for row in page["Contents"]] == [
        key for key in KEYS if key.encode() > b"b/2"
    ]
    assert page["StartAfter"] == "b/2"


def test_no_keys_wanted(client: Any, listed: str) -> None:
    page = client.list_objects_v2(Bucket=listed, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)


def test_bad_arguments(client: Any, refusal: Refusal, raw: RawClient, listed: str) -> None:
    bad = refusal(client.list_objects_v2, Bucket=listed, ContinuationToken="made up")
    assert bad == ("InvalidArgument", 400)
    for query in ("list-type=2&max-keys=-1", "list-type=2&max-keys=a", "encoding-type=base64"):
        assert raw.get(f"/{listed}", query=query).code == "InvalidArgument"
    assert raw.get(f"/{listed}", query="list-type=3").code == "NotImplemented"
    assert raw.get(f"/{listed}", query="list-type=2&unheard-of=1").code == "NotImplemented"
    assert raw.get(f"/{listed}", query="list-type=2&prefix=a&prefix=b").code == "InvalidArgument"


def test_owners_only_when_asked_for(client: Any, listed: str) -> None:
    page = client.list_objects_v2(Bucket=listed, MaxKeys=1)
    assert "Owner" not in page["Contents"][0]
    page = client.list_objects_v2(Bucket=listed, MaxKeys=1, FetchOwner=True)
    assert page["Contents"][0]["Owner"] == {"ID": "alice", "DisplayName": "alice"}


def test_control_characters_under_url_encoding(client: Any) -> None:
    key = "odd/\x01\x1f\n\r\t end"
    client.put_object(Bucket="photos", Key=key, Body=b"x")
    page = client.list_objects_v2(Bucket="photos", Prefix="odd/")
    assert [row["Key"] for row in page["Contents"]] == [key]
    client.delete_object(Bucket="photos", Key=key)


def test_metadata_in_the_listing(raw: RawClient, listed: str) -> None:
    answer = raw.get(f"/{listed}", query="list-type=2&max-keys=1&metadata=true")
    root = etree.fromstring(answer.body)
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    row = root.find(f"{space}Contents")
    assert row is not None
    metadata = row.find(f"{space}UserMetadata")
    assert metadata is not None
    assert metadata.findtext(f"{space}X-Amz-Meta-Mtime") == "12.5"
    assert metadata.findtext(f"{space}content-type") == "binary/octet-stream"
    assert row.findtext(f"{space}Owner/{space}ID") == "alice"
