"""Listings as S3 gives them: delimiters, markers, pages, encodings, owners."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from tests.store.conformance_kit import Wire, named, texts
from tests.store.conftest import Refusal

BOTH = pytest.mark.parametrize("call", ["list_objects", "list_objects_v2"])


@pytest.fixture(scope="module")
def filled(s3: Any) -> Any:
    """Makes a bucket with keys, the same one for the same name."""
    known: dict[str, None] = {}

    def fill(name: str, *keys: str) -> str:
        if name not in known:
            s3.create_bucket(Bucket=name)
            for key in keys:
                s3.put_object(Bucket=name, Key=key, Body=key.encode())
            known[name] = None
        return name

    return fill


def rows(page: Any) -> tuple[list[str], list[str]]:
    return (
        [row["Key"] for row in page.get("Contents", [])],
        [row["Prefix"] for row in page.get("CommonPrefixes", [])],
    )


TREE = ("asdf", "boo/bar", "boo/baz/xyzzy", "cquux/thud", "cquux/bla")
CASES: list[tuple[tuple[str, ...], dict[str, str], list[str], list[str]]] = [
    (
        ("foo/bar", "foo/bar/xyzzy", "quux/thud", "asdf"),
        {"Delimiter": "/"},
        ["asdf"],
        ["foo/", "quux/"],
    ),
    (("bar", "baz", "cab", "foo"), {"Delimiter": "a"}, ["foo"], ["ba", "ca"]),
    (("b%ar", "b%az", "c%ab", "foo"), {"Delimiter": "%"}, ["foo"], ["b%", "c%"]),
    (("b ar", "b az", "c ab", "foo"), {"Delimiter": " "}, ["foo"], ["b ", "c "]),
    (("b.ar", "b.az", "c.ab", "foo"), {"Delimiter": "."}, ["foo"], ["b.", "c."]),
    (
        ("one--two", "one--three", "four-five", "six--"),
        {"Delimiter": "--"},
        ["four-five"],
        ["one--", "six--"],
    ),
    (("bar", "baz", "cab", "foo"), {"Delimiter": "\x0a"}, ["bar", "baz", "cab", "foo"], []),
    (("bar", "baz", "cab", "foo"), {"Delimiter": "/"}, ["bar", "baz", "cab", "foo"], []),
    (("bar", "baz", "cab", "foo"), {"Delimiter": ""}, ["bar", "baz", "cab", "foo"], []),
    (("ü/1", "ü/2", "日本語x"), {"Delimiter": "語"}, ["ü/1", "ü/2"], ["日本語"]),
    (("foo/bar", "foo/baz", "quux"), {"Prefix": "foo/"}, ["foo/bar", "foo/baz"], []),
    (("bar", "baz", "foo"), {"Prefix": "ba"}, ["bar", "baz"], []),
    (("foo/bar", "foo/baz", "quux"), {"Prefix": ""}, ["foo/bar", "foo/baz", "quux"], []),
    (("foo/bar", "foo/baz", "quux"), {"Prefix": "d"}, [], []),
    (("foo/bar", "foo/baz", "quux"), {"Prefix": "\x0a"}, [], []),
    (
        ("foo/bar", "foo/baz/xyzzy", "quux/thud", "asdf"),
        {"Prefix": "foo/", "Delimiter": "/"},
        ["foo/bar"],
        ["foo/baz/"],
    ),
    (("bar", "bazar", "cab", "foo"), {"Prefix": "ba", "Delimiter": "a"}, ["bar"], ["baza"]),
    (("b/a/r", "b/a/c", "b/a/g", "g"), {"Prefix": "d", "Delimiter": "/"}, [], []),
    (
        ("b/a/r", "b/a/c", "b/a/g", "g"),
        {"Prefix": "b", "Delimiter": "z"},
        ["b/a/c", "b/a/g", "b/a/r"],
        [],
    ),
    (("b/a/r", "b/a/c", "b/a/g", "g"), {"Prefix": "y", "Delimiter": "z"}, [], []),
    (("a/", "a/b", "a/c/"), {"Prefix": "a/", "Delimiter": "/"}, ["a/", "a/b"], ["a/c/"]),
    (("a//b", "a//c", "a/d"), {"Prefix": "a/", "Delimiter": "/"}, ["a/d"], ["a//"]),
    (
        ("_obj1_", "_under1/bar", "_under1/baz/xyzzy", "_under2/thud"),
        {"Delimiter": "/"},
        ["_obj1_"],
        ["_under1/", "_under2/"],
    ),
    (("Bla/1", "abc", "bla/1", "foo/1", "foo/"), {"Prefix": "foo/"}, ["foo/", "foo/1"], []),
]


@BOTH
@pytest.mark.parametrize("number", range(len(CASES)))
def test_prefix_and_delimiter(s3: Any, filled: Any, call: str, number: int) -> None:
    keys, arguments, wanted, prefixes = CASES[number]
    bucket = filled(f"case-{number:03d}", *keys)
    page = getattr(s3, call)(Bucket=bucket, **arguments)
    assert rows(page) == (wanted, prefixes)
    # boto3 decodes the prefix of version 2 only.
    assert unquote(page["Prefix"]) == arguments.get("Prefix", "")
    assert page.get("Delimiter") == (arguments.get("Delimiter") or None)
    assert page["IsTruncated"] is False
    assert "NextMarker" not in page
    assert "NextContinuationToken" not in page
    if call == "list_objects_v2":
        assert page["KeyCount"] == len(wanted) + len(prefixes)


@BOTH
@pytest.mark.parametrize(
    ("prefix", "steps"),
    [
        ("", [(["asdf"], []), ([], ["boo/"]), ([], ["cquux/"])]),
        ("boo/", [(["boo/bar"], []), ([], ["boo/baz/"])]),
    ],
)
def test_pages_of_one(
    s3: Any, filled: Any, call: str, prefix: str, steps: list[tuple[list[str], list[str]]]
) -> None:
    bucket = filled("tree", *TREE)
    follow: dict[str, str] = {}
    for number, step in enumerate(steps):
        page = getattr(s3, call)(Bucket=bucket, Delimiter="/", Prefix=prefix, MaxKeys=1, **follow)
        last = number == len(steps) - 1
        assert rows(page) == step
        assert page["IsTruncated"] is not last
        if call == "list_objects":
            assert page.get("NextMarker") == (None if last else (step[0] + step[1])[0])
            follow = {"Marker": page.get("NextMarker", "")}
        elif not last:
            follow = {"ContinuationToken": page["NextContinuationToken"]}


def test_next_marker_only_with_a_delimiter(s3: Any, filled: Any) -> None:
    page = s3.list_objects(Bucket=filled("tree", *TREE), MaxKeys=2)
    assert page["IsTruncated"] is True
    assert "NextMarker" not in page


@pytest.mark.parametrize(
    ("marker", "wanted"),
    [
        ("", ["bar", "baz", "foo", "quxx"]),
        ("\x0a", ["bar", "baz", "foo", "quxx"]),
        ("bar", ["baz", "foo", "quxx"]),
        ("blah", ["foo", "quxx"]),
        ("zzz", []),
        ("fo", ["foo", "quxx"]),
    ],
)
def test_markers(s3: Any, filled: Any, marker: str, wanted: list[str]) -> None:
    bucket = filled("marked", "bar", "baz", "foo", "quxx")
    page = s3.list_objects(Bucket=bucket, Marker=marker)
    assert rows(page)[0] == wanted
    assert page["Marker"] == marker
    page = s3.list_objects_v2(Bucket=bucket, StartAfter=marker)
    assert rows(page)[0] == wanted
    assert page.get("StartAfter", "") == marker


def test_a_token_goes_before_start_after(s3: Any, filled: Any) -> None:
    bucket = filled("marked", "bar", "baz", "foo", "quxx")
    first = s3.list_objects_v2(Bucket=bucket, StartAfter="bar", MaxKeys=1)
    assert rows(first)[0] == ["baz"]
    token = first["NextContinuationToken"]
    page = s3.list_objects_v2(Bucket=bucket, StartAfter="bar", ContinuationToken=token)
    assert rows(page)[0] == ["foo", "quxx"]
    assert (page["StartAfter"], page["ContinuationToken"]) == ("bar", token)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("max-keys=-1", 400, "InvalidArgument"),
        ("max-keys=blah", 400, "InvalidArgument"),
        ("max-keys=2147483648", 400, "InvalidArgument"),
        ("list-type=2&max-keys=blah", 400, "InvalidArgument"),
        ("list-type=2&continuation-token=", 200, ""),
        ("list-type=2&continuation-token=%20", 400, "InvalidArgument"),
        ("list-type=1", 501, "NotImplemented"),
        ("encoding-type=utf8", 400, "InvalidArgument"),
        ("max-keys=", 200, ""),
        ("list-type=2&max-keys=5000", 200, ""),
    ],
)
def test_arguments(wire: Wire, query: str, status: int, code: str) -> None:
    answer = wire.request("GET", "/photos", query=query)
    assert (answer.status, answer.code) == (status, code)
    if status == 200:
        assert named(answer, "MaxKeys") == "1000"


@BOTH
def test_no_keys_wanted(s3: Any, filled: Any, call: str) -> None:
    page = getattr(s3, call)(Bucket=filled("marked", "bar", "baz", "foo", "quxx"), MaxKeys=0)
    assert (rows(page), page["IsTruncated"], page["MaxKeys"]) == (([], []), False, 0)


ODD = ("foo+1/bar", "foo/bar/xyzzy", "quux ab/thud", "asdf+b", "é", "a&<b>", 'q"uote', "tilde~*")


def test_what_is_encoded(wire: Wire, filled: Any) -> None:
    bucket = filled("encoded", *ODD)
    answer = wire.request("GET", f"/{bucket}", query="delimiter=%2F&encoding-type=url")
    assert texts(answer, "Contents/Key") == [
        "a%26%3Cb%3E",
        "asdf%2Bb",
        "q%22uote",
        "tilde~*",
        "%C3%A9",
    ]
    assert texts(answer, "CommonPrefixes/Prefix") == ["foo%2B1/", "foo/", "quux%20ab/"]
    assert texts(answer, "EncodingType") == ["url"]
    plain = wire.request("GET", f"/{bucket}", query="delimiter=%2F")
    assert texts(plain, "Contents/Key") == ["a&<b>", "asdf+b", 'q"uote', "tilde~*", "é"]
    assert texts(plain, "EncodingType") == []
    echoed = wire.request(
        "GET", f"/{bucket}", query="encoding-type=url&marker=a%20b&prefix=a%2Bb&delimiter=%26"
    )
    assert [texts(echoed, name) for name in ("Marker", "Prefix", "Delimiter")] == [
        ["a%20b"],
        ["a%2Bb"],
        ["%26"],
    ]


def test_what_a_row_says(s3: Any, wire: Wire, filled: Any) -> None:
    bucket = filled("marked", "bar", "baz", "foo", "quxx")
    row = s3.list_objects(Bucket=bucket)["Contents"][0]
    head = s3.head_object(Bucket=bucket, Key="bar")
    assert row["ETag"] == head["ETag"]
    assert row["Size"] == head["ContentLength"] == 3
    assert row["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert (row["StorageClass"], row["Owner"]["ID"]) == ("STANDARD", "alice")
    assert row["ChecksumType"] == "FULL_OBJECT"
    assert "Owner" not in s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert "Owner" in s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"][0]
    assert "Owner" not in s3.list_objects_v2(Bucket=bucket, FetchOwner=False)["Contents"][0]
    page = s3.list_objects_v2(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])
    assert "RestoreStatus" not in page["Contents"][0]
    answer = wire.request("GET", f"/{bucket}", query="list-type=2")
    assert answer.headers["x-amz-bucket-region"] == "us-east-1"


@BOTH
def test_no_such_bucket(s3: Any, refusal: Refusal, call: str) -> None:
    assert refusal(getattr(s3, call), Bucket="no-such-bucket") == ("NoSuchBucket", 404)


def test_versions_of_a_bucket_without(s3: Any, filled: Any) -> None:
    bucket = filled("tree", *TREE)
    page = s3.list_object_versions(Bucket=bucket, Delimiter="/")
    assert [(v["Key"], v["VersionId"], v["IsLatest"]) for v in page["Versions"]] == [
        ("asdf", "null", True)
    ]
    assert [row["Prefix"] for row in page["CommonPrefixes"]] == ["boo/", "cquux/"]
    assert "DeleteMarkers" not in page
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    assert [v["Key"] for page in pages for v in page.get("Versions", [])] == sorted(TREE)
