"""What S3 says to requests as such: signatures, dates, lengths, digests, methods, errors."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from lxml import etree

from tests.store.conformance_kit import Header, Site, Wire, amz_time, fields_of, md5_of, named
from tests.store_process import User

PUT = ("PUT", "/photos/headers")


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        ("", 403, "AccessDenied"),
        ("AWS HAHAHA", 400, "InvalidRequest"),
        ("AWS key:signature", 400, "InvalidRequest"),
        ("nonsense", 400, "InvalidArgument"),
        ("Basic YTpi", 400, "InvalidArgument"),
        ("AWS4-HMAC-SHA256", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential=alice", 400, "AuthorizationHeaderMalformed"),
        (
            "AWS4-HMAC-SHA256 Credential=alice/20260101/us-east-1/s3/aws4_request, "
            "SignedHeaders=host",
            400,
            "AuthorizationHeaderMalformed",
        ),
    ],
)
def test_authorization(wire: Wire, authorization: str, status: int, code: str) -> None:
    answer = wire.request(
        *PUT,
        ("authorization", authorization),
        ("x-amz-date", amz_time()),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        body=b"x",
        signed=False,
    )
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("{day}/eu-west-1/s3/aws4_request", "AuthorizationHeaderMalformed"),
        ("{day}/us-east-1/ec2/aws4_request", "AuthorizationHeaderMalformed"),
        ("{day}/us-east-1/s3/aws_request", "AuthorizationHeaderMalformed"),
        ("2026/us-east-1/s3/aws4_request", "AuthorizationHeaderMalformed"),
        ("20000101/us-east-1/s3/aws4_request", "AuthorizationHeaderMalformed"),
    ],
)
def test_scope(wire: Wire, scope: str, code: str) -> None:
    now = amz_time()
    answer = wire.request(
        "GET",
        "/photos",
        (
            "authorization",
            f"AWS4-HMAC-SHA256 Credential=alice/{scope.format(day=now[:8])}, "
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={'0' * 64}",
        ),
        ("x-amz-date", now),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        signed=False,
    )
    assert (answer.status, answer.code) == (400, code)
    if "eu-west-1" in scope:
        assert fields_of(answer)["Region"] == "us-east-1"


@pytest.mark.parametrize(
    ("date", "status", "code"),
    [
        (None, 403, "AccessDenied"),
        ("", 403, "AccessDenied"),
        ("Bad Date", 403, "AccessDenied"),
        ("20140707T215304Z", 403, "RequestTimeTooSkewed"),
        ("20500707T215304Z", 403, "RequestTimeTooSkewed"),
    ],
)
def test_dates(wire: Wire, date: str | None, status: int, code: str) -> None:
    day = (date or "")[:8] if date and date[0] == "2" else amz_time()[:8]
    headers: list[Header] = [
        (
            "authorization",
            f"AWS4-HMAC-SHA256 Credential=alice/{day}/us-east-1/s3/aws4_request, "
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={'0' * 64}",
        ),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ]
    if date is not None:
        headers.append(("x-amz-date", date))
    answer = wire.request("GET", "/photos", *headers, signed=False)
    assert (answer.status, answer.code) == (status, code)


def test_unknown_keys_and_wrong_secrets(site: Site, refusal: Any) -> None:
    def listing(**credentials: str) -> tuple[str, int]:
        client = site.s3(User("x", credentials["key"], credentials["secret"], 0, 0))
        try:
            answer: tuple[str, int] = refusal(client.list_buckets)
        finally:
            client.close()
        return answer

    assert listing(key="nobody-here", secret="x" * 40) == ("InvalidAccessKeyId", 403)
    assert listing(key="alice", secret="x" * 40) == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize(
    ("digest", "code"),
    [
        ("YWJyYWNhZGFicmE=", "InvalidDigest"),
        ("", "InvalidDigest"),
        ("not base64!", "InvalidDigest"),
        ("rL0Y20xC+Fzt72VPzMSk2A==", "BadDigest"),
        (md5_of(b"bar"), ""),
    ],
)
def test_content_md5(wire: Wire, digest: str, code: str) -> None:
    answer = wire.request(*PUT, ("content-md5", digest), body=b"bar")
    assert (answer.status, answer.code) == ((400, code) if code else (200, ""))
    if code == "BadDigest":
        fields = fields_of(answer)
        assert fields["ExpectedDigest"] == digest
        assert fields["CalculatedDigest"] == md5_of(b"bar")


@pytest.mark.parametrize(
    ("lengths", "status", "code"),
    [
        ((), 411, "MissingContentLength"),
        (("",), 400, "BadRequest"),
        (("-1",), 400, "BadRequest"),
        (("abc",), 400, "BadRequest"),
        (("5368709121",), 400, "EntityTooLarge"),
    ],
)
def test_content_length(wire: Wire, lengths: tuple[str, ...], status: int, code: str) -> None:
    unsigned = tuple(("content-length", text) for text in lengths)
    wire.send(wire.head(*PUT, unsigned=unsigned))
    answer = wire.answer()
    assert (answer.status, answer.code) == (status, code)


def test_no_length_where_there_is_no_body(wire: Wire) -> None:
    wire.send(wire.head("PUT", "/bucket-without-length"))
    assert wire.answer().status == 200
    wire.send(wire.head("PUT", "/photos", ("x-amz-acl", "private"), query="acl="))
    assert wire.answer().status == 200


@pytest.mark.parametrize("expect", ["200", "", "100-continue"])
def test_expect(wire: Wire, expect: str) -> None:
    """Only 100-continue means anything; the rest is nothing that S3 would stumble over."""
    wire.send(wire.head(*PUT, unsigned=(("expect", expect), ("content-length", "3"))) + b"bar")
    if expect == "100-continue":
        assert wire.line() in (b"HTTP/1.1 100 Continue", b"HTTP/1.1 200 OK")
        wire.socket.close()
        return
    assert wire.answer().status == 200


@pytest.mark.parametrize("agent", ["", "x\tz", "curl/8"])
def test_user_agents(wire: Wire, agent: str) -> None:
    assert wire.request(*PUT, body=b"x", unsigned=[("user-agent", agent)]).status == 200


def test_empty_content_type(wire: Wire) -> None:
    assert wire.request(*PUT, ("content-type", ""), body=b"x").status == 200
    assert wire.request("GET", PUT[1]).headers["content-type"] == "binary/octet-stream"


@pytest.mark.parametrize(
    ("sha256", "status", "code"),
    [
        ("0" * 64, 400, "XAmzContentSHA256Mismatch"),
        ("STREAMING-NOTHING", 400, "InvalidArgument"),
        ("abc", 400, "InvalidArgument"),
        ("UNSIGNED-PAYLOAD", 200, ""),
    ],
)
def test_payload_hash(wire: Wire, sha256: str, status: int, code: str) -> None:
    answer = wire.request(*PUT, body=b"bar", payload=sha256)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_header_of_amz_must_be_signed(wire: Wire, method: str) -> None:
    answer = wire.request(method, "/photos/none", unsigned=[("x-amz-meta-a", "b")])
    assert answer.status == 403
    if method != "HEAD":
        assert answer.code == "AccessDenied"
        assert fields_of(answer)["HeadersNotSigned"] == "x-amz-meta-a"


# --- methods and sub-resources


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "code", "kind", "allow"),
    [
        ("PUT", "/", "", 405, "MethodNotAllowed", "SERVICE", ""),
        ("DELETE", "/", "", 405, "MethodNotAllowed", "SERVICE", ""),
        ("POST", "/photos/key", "", 405, "MethodNotAllowed", "OBJECT", ""),
        (
            "PUT",
            "/photos/key",
            "uploadId=x",
            405,
            "MethodNotAllowed",
            "UPLOAD",
            "DELETE, POST, GET",
        ),
        ("PUT", "/photos/key", "partNumber=1", 400, "InvalidArgument", "", ""),
        ("GET", "/photos/key", "uploads=", 400, "InvalidRequest", "", ""),
        ("GET", "/photos/key", "versions=", 400, "InvalidRequest", "", ""),
        ("PUT", "/photos/key", "uploads=", 501, "NotImplemented", "", ""),
        ("POST", "/photos", "nonsense=", 501, "NotImplemented", "", ""),
        ("GET", "/photos", "nonsense=", 501, "NotImplemented", "", ""),
        ("POST", "/photos", "restore=", 501, "NotImplemented", "", ""),
    ],
)
def test_methods(
    wire: Wire, method: str, path: str, query: str, status: int, code: str, kind: str, allow: str
) -> None:
    answer = wire.request(method, path, query=query)
    assert (answer.status, answer.code) == (status, code)
    if kind:
        fields = fields_of(answer)
        assert (fields["Method"], fields["ResourceType"]) == (method, kind)
        assert answer.headers.get("allow", "") == allow


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", ["/photos", "/photos/key"])
def test_a_copy_source_belongs_to_copies(wire: Wire, method: str, path: str) -> None:
    answer = wire.request(method, path, ("x-amz-copy-source", "photos/other"))
    assert answer.status == 400
    if method != "HEAD":
        assert answer.code == "InvalidArgument"
        assert fields_of(answer)["ArgumentName"] == "x-amz-copy-source"


# --- what errors look like


@pytest.mark.parametrize(
    ("method", "path", "query", "code", "details"),
    [
        ("GET", "/photos/no-such-key", "", "NoSuchKey", {"Key": "no-such-key"}),
        ("GET", "/no-such-bucket/key", "", "NoSuchBucket", {"BucketName": "no-such-bucket"}),
        ("GET", "/no-such-bucket", "", "NoSuchBucket", {"BucketName": "no-such-bucket"}),
        ("DELETE", "/no-such-bucket", "", "NoSuchBucket", {"BucketName": "no-such-bucket"}),
        ("GET", "/photos", "policy=", "NoSuchBucketPolicy", {"BucketName": "photos"}),
        ("GET", "/photos", "tagging=", "NoSuchTagSet", {"BucketName": "photos"}),
        ("GET", "/photos", "lifecycle=", "NoSuchLifecycleConfiguration", {"BucketName": "photos"}),
        ("GET", "/photos", "cors=", "NoSuchCORSConfiguration", {"BucketName": "photos"}),
        ("GET", "/photos", "website=", "NoSuchWebsiteConfiguration", {"BucketName": "photos"}),
        ("GET", "/Bad_Name", "", "InvalidBucketName", {"BucketName": "Bad_Name"}),
        ("GET", "/photos/k", "uploadId=none", "NoSuchUpload", {"UploadId": "none"}),
        ("DELETE", "/photos/k", "uploadId=none", "NoSuchUpload", {"UploadId": "none"}),
        (
            "GET",
            f"/photos/{'k' * 1025}",
            "",
            "KeyTooLongError",
            {"Size": "1025", "MaxSizeAllowed": "1024"},
        ),
        (
            "GET",
            "/photos",
            "max-keys=x",
            "InvalidArgument",
            {"ArgumentName": "max-keys", "ArgumentValue": "x"},
        ),
        (
            "GET",
            "/photos/k",
            "versionId=",
            "InvalidArgument",
            {"ArgumentName": "versionId", "ArgumentValue": ""},
        ),
        (
            "GET",
            "/photos/k",
            "versionId=made-up",
            "InvalidArgument",
            {"ArgumentName": "versionId", "ArgumentValue": "made-up"},
        ),
        (
            "GET",
            "/photos/k",
            "response-nonsense=x",
            "InvalidArgument",
            {"ArgumentName": "response-nonsense", "ArgumentValue": "x"},
        ),
    ],
)
def test_details(
    wire: Wire, method: str, path: str, query: str, code: str, details: dict[str, str]
) -> None:
    answer = wire.request(method, path, query=query)
    assert answer.code == code
    fields = fields_of(answer)
    assert {name: fields[name] for name in details} == details
    assert fields["Message"]
    assert fields["RequestId"] == answer.headers["x-amz-request-id"]
    assert fields["HostId"] == answer.headers["x-amz-id-2"]
    assert answer.headers["content-type"] == "application/xml"
    assert etree.fromstring(answer.body).tag == "Error"
    assert answer.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')


@pytest.mark.parametrize(
    ("path", "status"),
    [("/photos/none", 404), ("/no-such-bucket/none", 404), ("/no-such-bucket", 404), ("/A_B", 400)],
)
def test_head_errors_have_no_body(wire: Wire, path: str, status: int) -> None:
    answer = wire.request("HEAD", path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/xml"
    assert wire.request("HEAD", "/photos").status == 200


def test_every_answer_says_who_when_and_which(wire: Wire) -> None:
    for method, path in (("GET", "/"), ("HEAD", "/photos"), ("DELETE", "/photos/none")):
        headers = wire.request(method, path).headers
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
        assert {"server", "x-amz-request-id", "x-amz-id-2"} <= headers.keys()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/photos/%FF", "InvalidURI"),
        ("/photos/a%00b", "InvalidURI"),
        ("/photos/%C3%28", "InvalidURI"),
    ],
)
def test_keys_that_are_no_text(wire: Wire, path: str, code: str) -> None:
    answer = wire.request("GET", path)
    assert (answer.status, answer.code) == (400, code)


@pytest.mark.parametrize(
    "path",
    [
        "/photos/dir/",
        "/photos//double//slashes",
        "/photos/a/../b",
        "/photos/./dot",
        "/photos/%20blank%20",
        "/photos/tail.",
        "/photos/percent%25",
        "/photos/plus+plus",
        "/photos/colon:name",
        "/photos/back%5Cslash",
        "/photos/" + "k" * 1024,
        "/photos/%E2%82%AC/%F0%9F%98%80",
        "/photos/new%0Aline",
    ],
)
def test_keys_that_are_text(wire: Wire, path: str) -> None:
    assert wire.request("PUT", path, body=path.encode()).status == 200
    answer = wire.request("GET", path)
    assert (answer.status, answer.body) == (200, path.encode())
    assert wire.request("DELETE", path).status == 204
    assert wire.request("GET", path).status == 404


# --- presigned


@pytest.fixture
def present(wire: Wire) -> str:
    assert wire.request("PUT", "/photos/presigned", body=b"signed before").status == 200
    return "/photos/presigned"


def presigned(wire: Wire, path: str, query: str = "", **change: str) -> str:
    """A presigned query, some of whose parameters were exchanged, or taken out, after signing."""
    signed = wire.signer.presign("GET", path, query, wire.host, time.time(), 600)
    for name, value in change.items():
        pattern = rf"&?(X-Amz-{name}=)[^&]*"
        signed = re.sub(pattern, "" if value == "gone" else rf"&\g<1>{value}", signed)
    return signed.lstrip("&")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({}, 200, ""),
        ({"Expires": "604801"}, 400, "AuthorizationQueryParametersError"),
        ({"Expires": "-7"}, 400, "AuthorizationQueryParametersError"),
        ({"Expires": "soon"}, 400, "AuthorizationQueryParametersError"),
        ({"Expires": "0"}, 403, "AccessDenied"),
        ({"Expires": "gone"}, 400, "AuthorizationQueryParametersError"),
        ({"Date": "gone"}, 400, "AuthorizationQueryParametersError"),
        ({"Date": "yesterday"}, 400, "AuthorizationQueryParametersError"),
        ({"Algorithm": "AWS4-HMAC-SHA1"}, 400, "AuthorizationQueryParametersError"),
        ({"Signature": "0" * 64}, 403, "SignatureDoesNotMatch"),
        ({"Signature": "gone"}, 400, "AuthorizationQueryParametersError"),
        ({"Credential": "alice"}, 400, "AuthorizationQueryParametersError"),
        ({"SignedHeaders": "gone"}, 400, "AuthorizationQueryParametersError"),
    ],
)
def test_presigned(
    wire: Wire, present: str, change: dict[str, str], status: int, code: str
) -> None:
    query = presigned(wire, present, **change)
    answer = wire.request("GET", present, query=query, signed=False)
    assert (answer.status, answer.code) == (status, code)


def test_presigned_more(wire: Wire, present: str) -> None:
    query = presigned(wire, present)
    assert wire.request("PUT", present, query=query, signed=False).code == "SignatureDoesNotMatch"
    extra = ("x-amz-meta-a", "b")
    assert wire.request("GET", present, extra, query=query, signed=False).code == "AccessDenied"
    other = wire.request("GET", "/photos/other", query=query, signed=False)
    assert other.code == "SignatureDoesNotMatch"
    query = presigned(wire, present, "response-content-type=text%2Fx")
    answer = wire.request("GET", present, query=query, signed=False)
    assert answer.headers["content-type"] == "text/x"
    both = ("authorization", "AWS4-HMAC-SHA256 x")
    assert wire.request("GET", present, both, query=query, signed=False).code == "InvalidArgument"


def test_signature_version_2_is_refused(wire: Wire, present: str) -> None:
    query = "AWSAccessKeyId=alice&Expires=4102444800&Signature=AAAA"
    answer = wire.request("GET", present, query=query, signed=False)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert "AWS4-HMAC-SHA256" in named(answer, "Message")


def test_without_a_signature(wire: Wire, present: str) -> None:
    for method, path, query in (
        ("GET", present, ""),
        ("GET", "/photos", ""),
        ("GET", "/", ""),
        ("PUT", present, ""),
        ("DELETE", present, ""),
        ("GET", "/photos", "acl="),
    ):
        answer = wire.request(method, path, query=query, signed=False)
        assert (answer.status, answer.code) == (403, "AccessDenied")


def test_connection_close(wire: Wire) -> None:
    wire.send(wire.head("GET", "/photos", unsigned=(("connection", "close"),)))
    answer = wire.answer()
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    assert wire.closed()
