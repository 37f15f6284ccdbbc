"""Multipart uploads as S3 has them: every order, every error, every checksum."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

import pytest

from tests.store.conformance_kit import Wire, fields_of, named, texts
from tests.store.conftest import Refusal

MIB = 1024 * 1024
FULL = b"p" * (5 * MIB)
THERE: dict[str, Any] = {"Bucket": "photos", "Key": "parts"}
PATH = "/photos/parts"


@pytest.fixture
def upload(wire: Wire) -> str:
    return named(wire.request("POST", PATH, query="uploads="), "UploadId")


def part(wire: Wire, upload: str, number: int, body: bytes) -> str:
    answer = wire.request("PUT", PATH, query=f"partNumber={number}&uploadId={upload}", body=body)
    assert answer.status == 200
    return answer.headers["etag"]


def listed(*parts: tuple[object, str], extra: str = "") -> bytes:
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{extra}</Part>"
        for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


def complete(wire: Wire, upload: str, body: bytes, *headers: tuple[str, str]) -> Any:
    return wire.request("POST", PATH, *headers, query=f"uploadId={upload}", body=body)


@pytest.mark.parametrize("number", ["0", "-1", "10001", "2300000", "x", ""])
def test_part_numbers(wire: Wire, upload: str, number: str) -> None:
    query = f"partNumber={number}&uploadId={upload}"
    answer = wire.request("PUT", PATH, query=query, body=b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert fields_of(answer)["ArgumentValue"] == number


def test_an_upload_that_is_not(wire: Wire, upload: str) -> None:
    for method, path, query, body in (
        ("PUT", PATH, "partNumber=1&uploadId=none", b"x"),
        ("PUT", "/photos/other", f"partNumber=1&uploadId={upload}", b"x"),
        ("GET", PATH, "uploadId=none", b""),
        ("GET", PATH, "uploadId=", b""),
        ("DELETE", PATH, "uploadId=none", b""),
        ("POST", PATH, "uploadId=none", listed((1, "x"))),
        ("POST", PATH, "uploadId=", listed((1, "x"))),
    ):
        answer = wire.request(method, path, query=query, body=body)
        assert (answer.status, answer.code) == (404, "NoSuchUpload"), (method, query)


def test_abort_twice(wire: Wire, upload: str) -> None:
    part(wire, upload, 1, b"x")
    assert wire.request("DELETE", PATH, query=f"uploadId={upload}").status == 204
    assert wire.request("DELETE", PATH, query=f"uploadId={upload}").code == "NoSuchUpload"


def test_completions_that_are_refused(wire: Wire, upload: str) -> None:
    one, two = part(wire, upload, 1, FULL), part(wire, upload, 2, b"small")
    part(wire, upload, 3, b"last")
    for body, code in (
        (b"", "MalformedXML"),
        (b"<CompleteMultipartUpload/>", "MalformedXML"),
        (b"<Complete", "MalformedXML"),
        (listed(("x", one)), "MalformedXML"),
        (listed((0, one)), "InvalidArgument"),
        (listed((2, two), (1, one)), "InvalidPartOrder"),
        (listed((1, one), (1, one)), "InvalidPartOrder"),
        (listed((1, one), (9, two)), "InvalidPart"),
        (listed((1, "ffffffffffffffffffffffffffffffff")), "InvalidPart"),
        (listed((2, two), (3, two)), "InvalidPart"),
    ):
        answer = complete(wire, upload, body)
        assert (answer.status, answer.code) == (400, code), body
    fields = fields_of(complete(wire, upload, listed((1, "gibberish"))))
    assert (fields["UploadId"], fields["PartNumber"], fields["ETag"]) == (
        upload,
        "1",
        "gibberish",
    )
    three = part(wire, upload, 3, b"last again")
    answer = complete(wire, upload, listed((1, one), (2, two), (3, three)))
    assert (answer.status, answer.code) == (400, "EntityTooSmall")
    assert complete(wire, upload, listed((1, one), (3, three))).status == 200


def test_uploaded_again_and_completed_again(wire: Wire, upload: str) -> None:
    first = part(wire, upload, 1, FULL)
    again = part(wire, upload, 1, b"q" * len(FULL))
    assert complete(wire, upload, listed((1, first))).code == "InvalidPart"
    done = complete(wire, upload, listed((1, again.strip('"'))))
    assert done.status == 200
    assert named(done, "Location").endswith("/photos/parts")
    etag = f'"{hashlib.md5(bytes.fromhex(again.strip(chr(34)))).hexdigest()}-1"'  # noqa: S324
    assert fields_of(done)["ETag"] == etag
    repeated = complete(wire, upload, listed((1, again)))
    assert (repeated.status, fields_of(repeated)["ETag"]) == (200, etag)
    assert wire.request("GET", PATH, query=f"uploadId={upload}").code == "NoSuchUpload"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            "4",
            "The provided 'x-amz-mp-object-size' header value 4 does not match what was "
            "computed: 5",
        ),
        ("-4", "Value for x-amz-mp-object-size header is less than zero: '-4'"),
        ("size", "Value for x-amz-mp-object-size header is invalid: 'size'"),
        ("5", ""),
    ],
)
def test_size_of_the_whole(wire: Wire, upload: str, size: str, message: str) -> None:
    body = listed((1, part(wire, upload, 1, b"whole")))
    answer = complete(wire, upload, body, ("x-amz-mp-object-size", size))
    assert (answer.status, answer.code) == ((400, "InvalidRequest") if message else (200, ""))
    if message:
        assert fields_of(answer)["Message"] == message


# --- checksums

KINDS = [
    ("CRC32", "FULL_OBJECT"), ("CRC32C", "FULL_OBJECT"), ("CRC64NVME", "FULL_OBJECT"),
    ("CRC32", "COMPOSITE"), ("CRC32C", "COMPOSITE"), ("SHA1", "COMPOSITE"), ("SHA256", "COMPOSITE"),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "kind"), KINDS)
def test_checksums(s3: Any, algorithm: Any, kind: Any) -> None:
    made = s3.create_multipart_upload(**THERE, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert (made["ChecksumAlgorithm"], made["ChecksumType"]) == (algorithm, kind)
    where = {**THERE, "UploadId": made["UploadId"]}
    name = f"Checksum{algorithm}"
    parts = []
    for number, body in ((1, FULL), (2, b"end")):
        up = s3.upload_part(**where, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": up["ETag"], name: up[name]})
    rows = s3.list_parts(**where)
    assert (rows["ChecksumAlgorithm"], rows["ChecksumType"]) == (algorithm, kind)
    assert [row[name] for row in rows["Parts"]] == [row[name] for row in parts]
    done = s3.complete_multipart_upload(
        **where, MultipartUpload={"Parts": parts}, ChecksumType=kind
    )
    assert done["ChecksumType"] == kind
    assert done[name].endswith("-2") is (kind == "COMPOSITE")
    head = s3.head_object(**THERE, ChecksumMode="ENABLED")
    assert (head[name], head["ChecksumType"]) == (done[name], kind)
    got = s3.get_object(**THERE, PartNumber=2)
    assert (got["PartsCount"], got["Body"].read()) == (2, b"end")
    assert got["ContentRange"] == f"bytes {len(FULL)}-{len(FULL) + 2}/{len(FULL) + 3}"
    attributes = s3.get_object_attributes(**THERE, ObjectAttributes=["Checksum", "ObjectParts"])
    assert attributes["Checksum"][name] == done[name]
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2


@pytest.mark.parametrize(
    ("algorithm", "kind", "message"),
    [
        (
            "SHA1",
            "FULL_OBJECT",
            "The FULL_OBJECT checksum type cannot be used with the sha1 checksum algorithm.",
        ),
        (
            "CRC64NVME",
            "COMPOSITE",
            "The COMPOSITE checksum type cannot be used with the crc64nvme checksum algorithm.",
        ),
        ("CRC32", "NONSENSE", "Value for x-amz-checksum-type header is invalid."),
        (
            None,
            "COMPOSITE",
            "The x-amz-checksum-type header can only be used with the "
            "x-amz-checksum-algorithm header.",
        ),
    ],
)
def test_kinds_that_are_none(wire: Wire, algorithm: str | None, kind: str, message: str) -> None:
    headers = [("x-amz-checksum-type", kind)]
    if algorithm is not None:
        headers.append(("x-amz-checksum-algorithm", algorithm))
    answer = wire.request("POST", PATH, *headers, query="uploads=")
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert fields_of(answer)["Message"] == message


def begun(wire: Wire, algorithm: str, kind: str) -> str:
    headers = (("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind))
    return named(wire.request("POST", PATH, *headers, query="uploads="), "UploadId")


SHA = base64.b64encode(hashlib.sha256(b"body").digest()).decode()
CRC = base64.b64encode(zlib.crc32(b"body").to_bytes(4, "big")).decode()


def test_parts_of_a_composite_need_their_checksums(wire: Wire) -> None:
    upload = begun(wire, "SHA256", "COMPOSITE")
    where: dict[str, Any] = {"query": f"partNumber=1&uploadId={upload}", "body": b"body"}
    answer = wire.request("PUT", PATH, **where)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert fields_of(answer)["Message"] == (
        "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: "
        "null"
    )
    other = wire.request("PUT", PATH, ("x-amz-checksum-crc32", CRC), **where)
    assert (other.status, other.code) == (400, "InvalidRequest")
    right = wire.request("PUT", PATH, ("x-amz-checksum-sha256", SHA), **where)
    assert right.headers["x-amz-checksum-sha256"] == SHA
    etag = right.headers["etag"]
    for extra, code in (
        ("", "InvalidRequest"),
        ("<ChecksumSHA256>nonsense</ChecksumSHA256>", "InvalidArgument"),
        (
            f"<ChecksumSHA256>{SHA}</ChecksumSHA256><ChecksumCRC32>{CRC}</ChecksumCRC32>",
            "InvalidArgument",
        ),
        (f"<ChecksumSHA256>{'A' * 43}=</ChecksumSHA256>", "InvalidPart"),
        (f"<ChecksumCRC32>{CRC}</ChecksumCRC32>", "BadDigest"),
    ):
        answer = complete(wire, upload, listed((1, etag), extra=extra))
        assert (answer.status, answer.code) == (400, code), extra
    body = listed((1, etag), extra=f"<ChecksumSHA256>{SHA}</ChecksumSHA256>")
    for header, code in (
        (("x-amz-checksum-type", "FULL_OBJECT"), "InvalidRequest"),
        (("x-amz-checksum-type", "nonsense"), "InvalidRequest"),
        (("x-amz-checksum-sha256", "nonsense"), "InvalidRequest"),
        (("x-amz-checksum-sha256", SHA), "BadDigest"),
    ):
        answer = complete(wire, upload, body, header)
        assert (answer.status, answer.code) == (400, code), header
    both = (("x-amz-checksum-sha256", SHA), ("x-amz-checksum-crc32", CRC))
    assert complete(wire, upload, body, *both).code == "InvalidRequest"
    whole = base64.b64encode(hashlib.sha256(hashlib.sha256(b"body").digest()).digest()).decode()
    done = complete(wire, upload, body, ("x-amz-checksum-sha256", f"{whole}-1"))
    assert fields_of(done)["ChecksumSHA256"] == f"{whole}-1"


def test_parts_of_a_whole_may_come_without(wire: Wire) -> None:
    upload = begun(wire, "CRC32", "FULL_OBJECT")
    query = f"partNumber=1&uploadId={upload}"
    answer = wire.request("PUT", PATH, query=query, body=b"body")
    assert answer.headers["x-amz-checksum-crc32"] == CRC
    wrong = wire.request("PUT", PATH, ("x-amz-checksum-crc32", "AAAAAA=="), query=query, body=b"b")
    assert (wrong.status, wrong.code) == (400, "BadDigest")
    done = complete(
        wire, upload, listed((1, answer.headers["etag"])), ("x-amz-checksum-crc32", CRC)
    )
    assert fields_of(done)["ChecksumCRC32"] == CRC


# --- lists


def test_parts_are_listed_by_the_page(wire: Wire, upload: str) -> None:
    for number in (1, 3, 5, 7):
        part(wire, upload, number, b"x" * number)
    base = f"uploadId={upload}"
    page = wire.request("GET", PATH, query=f"max-parts=2&{base}")
    assert texts(page, "Part/PartNumber") == ["1", "3"]
    assert (named(page, "IsTruncated"), named(page, "NextPartNumberMarker")) == ("true", "3")
    page = wire.request("GET", PATH, query=f"part-number-marker=3&{base}")
    assert texts(page, "Part/PartNumber") == ["5", "7"]
    assert (named(page, "IsTruncated"), named(page, "PartNumberMarker")) == ("false", "3")
    assert named(wire.request("GET", PATH, query=f"max-parts=5000&{base}"), "MaxParts") == "1000"
    for wrong in ("max-parts=-1", "max-parts=x", "part-number-marker=-1", "part-number-marker=x"):
        answer = wire.request("GET", PATH, query=f"{wrong}&{base}")
        assert (answer.status, answer.code) == (400, "InvalidArgument"), wrong


@pytest.fixture(scope="module")
def many(s3: Any) -> list[tuple[str, str]]:
    s3.create_bucket(Bucket="uploads")
    keys = ("abc/something", "foo/bar/baz", "foo/quxx", "xyz/hello", "xyz/hello", "zzz")
    return [
        (key, s3.create_multipart_upload(Bucket="uploads", Key=key)["UploadId"]) for key in keys
    ]


def test_uploads_are_listed(s3: Any, refusal: Refusal, many: list[tuple[str, str]]) -> None:
    def listing(**arguments: Any) -> tuple[list[str], list[str]]:
        page = s3.list_multipart_uploads(Bucket="uploads", **arguments)
        return (
            [row["Key"] for row in page.get("Uploads", [])],
            [row["Prefix"] for row in page.get("CommonPrefixes", [])],
        )

    keys = [key for key, _ in many]
    assert listing() == (keys, [])
    assert listing(Prefix="foo/") == (["foo/bar/baz", "foo/quxx"], [])
    assert listing(Delimiter="/") == (["zzz"], ["abc/", "foo/", "xyz/"])
    assert listing(Prefix="foo/", Delimiter="/") == (["foo/quxx"], ["foo/bar/"])
    assert listing(KeyMarker="foo/quxx") == (["xyz/hello", "xyz/hello", "zzz"], [])
    marker = {"KeyMarker": "xyz/hello", "UploadIdMarker": many[3][1]}
    assert listing(**marker) == (["xyz/hello", "zzz"], [])
    # Without a key marker the other one says nothing.
    page = s3.list_multipart_uploads(Bucket="uploads", UploadIdMarker="nonsense")
    assert len(page["Uploads"]) == len(many)
    assert page.get("UploadIdMarker", "") == ""
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket="uploads", PaginationConfig={"PageSize": 1}
    )
    found = [(row["Key"], row["UploadId"]) for page in pages for row in page["Uploads"]]
    assert found == many
    wrong = {"KeyMarker": "xyz/hello", "UploadIdMarker": "nonsense"}
    refused = refusal(s3.list_multipart_uploads, Bucket="uploads", **wrong)
    assert refused == ("InvalidArgument", 400)
    assert refusal(s3.list_multipart_uploads, Bucket="uploads", MaxUploads=-1) == (
        "InvalidArgument",
        400,
    )
    page = s3.list_multipart_uploads(Bucket="uploads", MaxUploads=5000)
    assert page["MaxUploads"] == 1000


# --- copied parts


@pytest.mark.parametrize(
    ("span", "code"),
    [
        (None, ""),
        ("bytes=0-4", ""),
        ("bytes=2-3", ""),
        ("bytes=0-5", "InvalidArgument"),
        ("bytes=5-5", "InvalidArgument"),
        ("bytes=3-2", "InvalidArgument"),
        ("bytes=0-", "InvalidArgument"),
        ("bytes=-3", "InvalidArgument"),
        ("0-2", "InvalidArgument"),
        ("bytes=0", "InvalidArgument"),
        ("bytes=hello-world", "InvalidArgument"),
        ("bytes=0-1,3-4", "InvalidArgument"),
    ],
)
def test_copied_ranges(wire: Wire, upload: str, span: str | None, code: str) -> None:
    assert wire.request("PUT", "/photos/source", body=b"01234").status == 200
    headers = [("x-amz-copy-source", "photos/source")]
    if span is not None:
        headers.append(("x-amz-copy-source-range", span))
    answer = wire.request("PUT", PATH, *headers, query=f"partNumber=1&uploadId={upload}")
    assert (answer.status, answer.code) == ((400, code) if code else (200, ""))
    if not code:
        assert named(answer, "ETag")
        assert named(answer, "LastModified")
