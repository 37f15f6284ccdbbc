"""Objects as S3 keeps and gives them: metadata, headers, ranges, conditions, copies, deletions."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from tests.store.conformance_kit import Header, Site, Wire, fields_of, md5_of, named, texts

PATH = "/photos/object"
HUNDRED = bytes(range(100))


# --- metadata and headers


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("value", "value"),
        ("", ""),
        ("  blanks  ", "blanks"),
        ("two  blanks", "two  blanks"),
        ("a,b", "a,b"),
        ("=?UTF-8?B?w6TDtsO8?=", "=?UTF-8?B?w6TDtsO8?="),
        ("äöü", "äöü"),
        ("日本", "日本"),
    ],
)
def test_metadata(wire: Wire, given: str, found: str) -> None:
    assert wire.request("PUT", PATH, ("x-amz-meta-Name", given), body=b"x").status == 200
    for method in ("GET", "HEAD"):
        assert wire.request(method, PATH).headers["x-amz-meta-name"] == found
    assert wire.request("PUT", PATH, body=b"x").status == 200
    assert "x-amz-meta-name" not in wire.request("HEAD", PATH).headers


def test_metadata_twice(wire: Wire) -> None:
    twice = (("x-amz-meta-a", "1"), ("x-amz-meta-a", "2"))
    assert wire.request("PUT", PATH, *twice, body=b"x").status == 200
    assert wire.request("HEAD", PATH).headers["x-amz-meta-a"] == "1,2"


def test_too_much_metadata(wire: Wire) -> None:
    fits = ("x-amz-meta-a", "v" * 2047)
    assert wire.request("PUT", PATH, fits, body=b"x").status == 200
    answer = wire.request("PUT", PATH, ("x-amz-meta-a", "v" * 2048), body=b"x")
    assert (answer.status, answer.code) == (400, "MetadataTooLarge")
    fields = fields_of(answer)
    assert (fields["Size"], fields["MaxSizeAllowed"]) == ("2049", "2048")


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("cache-control", "public, max-age=14400", "public, max-age=14400"),
        ("content-disposition", 'attachment; filename="a b.txt"', 'attachment; filename="a b.txt"'),
        ("content-language", "da", "da"),
        ("content-type", "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("content-encoding", "gzip", "gzip"),
        ("content-encoding", "aws-chunked", None),
        ("content-encoding", "gzip,aws-chunked", "gzip"),
        ("content-encoding", "aws-chunked,gzip,deflate", "gzip,deflate"),
        ("expires", "Thu, 01 Dec 2033 16:00:00 GMT", "Thu, 01 Dec 2033 16:00:00 GMT"),
    ],
)
def test_headers_that_are_kept(wire: Wire, name: str, given: str, found: str | None) -> None:
    assert wire.request("PUT", PATH, (name, given), body=b"x").status == 200
    for method in ("GET", "HEAD"):
        assert wire.request(method, PATH).headers.get(name) == found


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (("x-amz-storage-class", "STANDARD"), 200, ""),
        (("x-amz-storage-class", "GLACIER"), 400, "InvalidStorageClass"),
        (("x-amz-storage-class", "nonsense"), 400, "InvalidStorageClass"),
        (("x-amz-server-side-encryption", "AES256"), 501, "NotImplemented"),
        (("x-amz-server-side-encryption", "aws:kms"), 501, "NotImplemented"),
        (("x-amz-server-side-encryption-customer-algorithm", "AES256"), 501, "NotImplemented"),
        (("x-amz-website-redirect-location", "/x"), 501, "NotImplemented"),
        (("x-amz-object-lock-mode", "GOVERNANCE"), 501, "NotImplemented"),
        (("x-amz-object-lock-legal-hold", "ON"), 501, "NotImplemented"),
        (("if-none-match", '"other"'), 501, "NotImplemented"),
    ],
)
def test_headers_of_a_write(wire: Wire, header: Header, status: int, code: str) -> None:
    answer = wire.request("PUT", PATH, header, body=b"x")
    assert (answer.status, answer.code) == (status, code)


# --- ranges

WHOLE = ("", 100)
RANGES: list[tuple[str, tuple[str, int] | None]] = [
    *[(text, WHOLE) for text in (
        "bytes=,", "bytes= -1", "bytes=--1", "bytes=0 -1", "bytes=0--1", "bytes=10-5", "bytes=abc",
        "bytes=a-z", "foo=0-1", "bytes=100-x", "bytes=0-0,1-2", "bytes=102-0", "", "bytes",
    )],
    ("bytes=00-01", ("bytes 0-1/100", 2)),
    ("bytes=-1", ("bytes 99-99/100", 1)),
    ("bytes=-100", ("bytes 0-99/100", 100)),
    ("bytes=-101", ("bytes 0-99/100", 100)),
    ("bytes=0-0", ("bytes 0-0/100", 1)),
    ("bytes=0-999999", ("bytes 0-99/100", 100)),
    ("bytes=50-", ("bytes 50-99/100", 50)),
    ("bytes=99-99", ("bytes 99-99/100", 1)),
    ("bytes=-0", None),
    ("bytes=100-100", None),
    ("bytes=100-", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), RANGES)
def test_ranges(wire: Wire, text: str, found: tuple[str, int] | None) -> None:
    assert wire.request("PUT", "/photos/hundred", body=HUNDRED).status == 200
    for method in ("GET", "HEAD"):
        answer = wire.request(method, "/photos/hundred", ("range", text))
        if found is None:
            assert answer.status == 416
            assert answer.headers["content-range"] == "bytes */100"
            if method == "GET":
                fields = fields_of(answer)
                assert answer.code == "InvalidRange"
                assert (fields["RangeRequested"], fields["ActualObjectSize"]) == (text, "100")
            continue
        span, length = found
        assert answer.status == (206 if span else 200)
        assert answer.headers.get("content-range", "") == span
        assert answer.headers["content-length"] == str(length)
        assert answer.headers["accept-ranges"] == "bytes"


def test_ranges_of_nothing(wire: Wire) -> None:
    assert wire.request("PUT", "/photos/nothing", body=b"").status == 200
    assert wire.request("GET", "/photos/nothing", ("range", "bytes=0-4")).code == "InvalidRange"
    assert wire.request("GET", "/photos/nothing", ("range", "bytes=40-50")).status == 416
    assert wire.request("GET", "/photos/nothing", ("range", "nonsense")).status == 200


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [("1", 206, ""), ("2", 416, "InvalidPartNumber"), ("0", 400, "InvalidArgument"),
     ("10001", 400, "InvalidArgument"), ("x", 400, "InvalidArgument")],
)  # fmt: skip
def test_parts_of_what_has_none(wire: Wire, number: str, status: int, code: str) -> None:
    assert wire.request("PUT", PATH, body=b"one part").status == 200
    answer = wire.request("GET", PATH, query=f"partNumber={number}")
    assert (answer.status, answer.code) == (status, code)
    if status == 206:
        assert answer.body == b"one part"
        assert "x-amz-mp-parts-count" not in answer.headers


# --- conditions


@pytest.fixture(scope="module")
def dated(site: Site) -> dict[str, str]:
    """The ETag of an object, and times before and after it was written."""
    with site.wire() as wire:
        etag = wire.request("PUT", "/photos/dated", body=b"0123456789").headers["etag"]

    def moment(offset: float) -> str:
        return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + offset))

    # A time that is yet to come is no condition of If-Modified-Since.
    return {"etag": etag, "bare": etag.strip('"'), "before": moment(-86400), "after": moment(0)}


def test_conditions_together(site: Site, wire: Wire, dated: dict[str, str]) -> None:
    """Every combination of the four, against the rules of RFC 9110 as S3 applies them."""
    choices = (
        (None, dated["etag"], dated["bare"], '"other"', "*"),
        (None, dated["etag"], '"other"', "*"),
        (None, dated["before"], dated["after"], "no date"),
        (None, dated["before"], dated["after"], "no date"),
    )
    names = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
    time.sleep(1.1)
    for values in itertools.product(*choices):
        match, none_match, since, until = values
        headers = [(n, v) for n, v in zip(names, values, strict=True) if v is not None]
        if match == '"other"' or (match is None and until == dated["before"]):
            expected = 412
        elif none_match is not None:
            expected = 200 if none_match == '"other"' else 304
        else:
            expected = 304 if since == dated["after"] else 200
        answer = wire.request("HEAD", "/photos/dated", *headers)
        assert answer.status == expected, headers
        if expected == 304:
            assert answer.headers["etag"] == dated["etag"]
            assert "last-modified" in answer.headers


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ((("if-match", '"other"'),), 412, "PreconditionFailed"),
        ((("if-none-match", "*"),), 412, "PreconditionFailed"),
        ((("if-match", "{etag}"),), 200, ""),
        ((("if-match", "*"),), 200, ""),
    ],
)
def test_conditions_of_a_write(
    wire: Wire, headers: tuple[Header, ...], status: int, code: str
) -> None:
    etag = wire.request("PUT", PATH, body=b"first").headers["etag"]
    given = [(name, value.format(etag=etag)) for name, value in headers]
    answer = wire.request("PUT", PATH, *given, body=b"second")
    assert (answer.status, answer.code) == (status, code)
    if code:
        assert fields_of(answer)["Condition"].lower() == headers[0][0]
    absent = wire.request("PUT", "/photos/absent", ("if-match", etag), body=b"x")
    assert (absent.status, absent.code) == (404, "NoSuchKey")


# --- copies


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("photos/a%20source", 200, ""),
        ("/photos/a%20source", 200, ""),
        ("photos/a%20source?versionId=null", 200, ""),
        ("photos%2Fa%20source", 200, ""),
        ("photos/none", 404, "NoSuchKey"),
        ("no-such-bucket/none", 404, "NoSuchBucket"),
        ("photos", 400, "InvalidArgument"),
        ("photos/", 400, "InvalidArgument"),
        ("", 400, "InvalidArgument"),
        ("Bad_Bucket/key", 400, "InvalidArgument"),
        ("192.168.1.1/key", 400, "InvalidArgument"),
        ("photos/%ZZ", 400, "InvalidArgument"),
        ("photos/%", 400, "InvalidArgument"),
        ("photos/%C3%28", 400, "InvalidArgument"),
        ("photos/a%20source?versionId=nonsense", 400, "InvalidArgument"),
    ],
)
def test_sources(wire: Wire, source: str, status: int, code: str) -> None:
    assert wire.request("PUT", "/photos/a%20source", body=b"copied").status == 200
    answer = wire.request("PUT", "/photos/target", ("x-amz-copy-source", source))
    assert (answer.status, answer.code) == (status, code)
    if code == "NoSuchBucket":
        assert fields_of(answer)["BucketName"] == "no-such-bucket"
    if not code:
        assert wire.request("GET", "/photos/target").body == b"copied"


SELF = ("x-amz-copy-source", "photos/object")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((), "InvalidRequest"),
        ((("x-amz-metadata-directive", "COPY"),), "InvalidRequest"),
        ((("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-new", "1")), ""),
        ((("x-amz-metadata-directive", "nonsense"),), "InvalidArgument"),
        ((("x-amz-tagging-directive", "nonsense"),), "InvalidArgument"),
        ((("x-amz-tagging-directive", "REPLACE"), ("x-amz-tagging", "a=b")), ""),
        ((("x-amz-checksum-algorithm", "SHA256"),), ""),
    ],
)
def test_copies_onto_itself(wire: Wire, headers: tuple[Header, ...], code: str) -> None:
    old = ("x-amz-meta-old", "1")
    assert wire.request("PUT", PATH, old, body=b"stays").status == 200
    answer = wire.request("PUT", PATH, SELF, *headers)
    assert (answer.status, answer.code) == ((400, code) if code else (200, ""))
    found = wire.request("GET", PATH)
    assert found.body == b"stays"
    assert ("x-amz-meta-old" in found.headers) is (("x-amz-meta-new", "1") not in headers)
    if code == "InvalidArgument":
        kind = headers[0][0].split("-")[2]
        assert named(answer, "Message") == f"Unknown {kind} directive."


def test_what_a_copy_takes_along(wire: Wire) -> None:
    headers = (("x-amz-meta-color", "red"), ("content-type", "text/x"), ("cache-control", "none"))
    assert wire.request("PUT", "/photos/red", *headers, body=b"x").status == 200
    source = ("x-amz-copy-source", "photos/red")
    answer = wire.request("PUT", "/photos/also-red", source)
    assert named(answer, "ETag").replace("&quot;", '"')
    assert named(answer, "LastModified").endswith("Z")
    found = wire.request("HEAD", "/photos/also-red").headers
    assert {name: found[name] for name, _ in headers} == dict(headers)
    blue = (("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-color", "blue"))
    assert wire.request("PUT", "/photos/blue", source, *blue).status == 200
    found = wire.request("HEAD", "/photos/blue").headers
    assert (found["x-amz-meta-color"], found["content-type"]) == ("blue", "binary/octet-stream")
    # Without the directive new metadata is passed over.
    assert wire.request("PUT", "/photos/red2", source, ("x-amz-meta-color", "x")).status == 200
    assert wire.request("HEAD", "/photos/red2").headers["x-amz-meta-color"] == "red"


# --- deletions


def deletion(*keys: str, extra: str = "", more: str = "") -> bytes:
    rows = "".join(f"<Object><Key>{key}</Key>{extra}</Object>" for key in keys)
    return f"<Delete>{more}{rows}</Delete>".encode()


def test_delete_many(wire: Wire) -> None:
    for key in ("one", "two"):
        assert wire.request("PUT", f"/photos/{key}", body=b"x").status == 200

    def delete(body: bytes) -> Any:
        return wire.request("POST", "/photos", query="delete=", body=body, md5=True)

    answer = delete(deletion("one", "never-there", "one"))
    assert texts(answer, "Deleted/Key") == ["one", "never-there", "one"]
    quiet = delete(deletion("two", more="<Quiet>true</Quiet>"))
    assert texts(quiet, "Deleted/Key") == []
    assert wire.request("HEAD", "/photos/two").status == 404
    for body in (
        deletion(*[f"k{n}" for n in range(1001)]),
        deletion(),
        b"<Delete><Object/></Delete>",
        b"",
    ):
        answer = delete(body)
        assert (answer.status, answer.code) == (400, "MalformedXML")
    assert delete(deletion(*[f"k{n}" for n in range(1000)])).status == 200
    mixed = delete(deletion("x", extra="<VersionId>null</VersionId>"))
    assert texts(mixed, "Deleted/VersionId") == ["null"]
    wrong = wire.request(
        "POST", "/photos", ("content-md5", md5_of(b"else")), query="delete=", body=deletion("x")
    )
    assert wrong.code == "BadDigest"
    namespaced = deletion("x").replace(
        b"<Delete>", b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    )
    assert delete(namespaced).status == 200


def test_delete_says_nothing_new_twice(wire: Wire) -> None:
    assert wire.request("PUT", PATH, body=b"x").status == 200
    for _ in range(2):
        answer = wire.request("DELETE", PATH)
        assert (answer.status, answer.body) == (204, b"")
    answer = wire.request("DELETE", "/no-such-bucket/key")
    assert (answer.status, answer.code) == (404, "NoSuchBucket")
