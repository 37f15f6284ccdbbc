"""Signatures that others have published, and requests as they stand on the wire.

From the Amazon S3 API Reference (examples of 24 May 2013) and AWS's signing test suite
(20150830T123600Z, service "service").
"""

from __future__ import annotations

import calendar
import hashlib

import pytest

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.canonical import canonical_request
from s3posixfs.sigv4.constants import EMPTY_SHA256, UNSIGNED_PAYLOAD
from s3posixfs.sigv4.encoding import wire_text
from s3posixfs.sigv4.problems import SignatureDoesNotMatch
from s3posixfs.sigv4.signing import Signer, string_to_sign
from s3posixfs.sigv4.verifying import IncomingRequest, check_scope, check_time, parse, verify

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = float(calendar.timegm((2013, 5, 24, 0, 0, 0)))
HOST = ("host", "examplebucket.s3.amazonaws.com")
SIGNER = Signer(Credentials("AKIAIOSFODNN7EXAMPLE", SECRET), "us-east-1")
WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()

S3_EXAMPLES = {
    "get": (
        "GET",
        "/test.txt",
        "",
        [("Range", "bytes=0-9")],
        EMPTY_SHA256,
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put": (
        "PUT",
        "/test$file.text",
        "",
        [
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        WELCOME,
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "lifecycle": (
        "GET",
        "/",
        "lifecycle",
        [],
        EMPTY_SHA256,
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list": (
        "GET",
        "/",
        "max-keys=2&prefix=J",
        [],
        EMPTY_SHA256,
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize("name", S3_EXAMPLES)
def test_s3_example_is_signed_and_verified(name: str) -> None:
    method, path, query, headers, payload, expected = S3_EXAMPLES[name]
    added = SIGNER.sign(method, path, query, [HOST, *headers], payload, NOW)
    assert added[-1][0] == "Authorization"
    assert added[-1][1].endswith(f"Signature={expected}")
    request = IncomingRequest(
        method,
        f"{path}?{query}".encode() if query else path.encode(),
        [(header.lower(), value) for header, value in [HOST, *headers, *added]],
    )
    signed = parse(request)
    assert signed is not None
    check_scope(signed, "us-east-1", "s3")
    check_time(signed, NOW)
    context = verify(request, signed, SECRET, s3=True)
    assert context.seed_signature == expected
    with pytest.raises(SignatureDoesNotMatch):
        verify(request, signed, SECRET + "x", s3=True)


def test_s3_example_canonical_request() -> None:
    canonical = canonical_request(
        "GET",
        "/test.txt",
        "",
        [
            ("Host", "examplebucket.s3.amazonaws.com"),
            ("Range", "bytes=0-9"),
            ("x-amz-content-sha256", EMPTY_SHA256),
            ("x-amz-date", "20130524T000000Z"),
        ],
        ["host", "range", "x-amz-content-sha256", "x-amz-date"],
        EMPTY_SHA256,
    )
    text = string_to_sign("20130524T000000Z", "20130524/us-east-1/s3/aws4_request", canonical)
    assert text == (
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    )


def test_s3_example_presigned() -> None:
    query = SIGNER.presign("GET", "/test.txt", "", HOST[1], NOW, 86400)
    assert query == (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    request = IncomingRequest("GET", f"/test.txt?{query}".encode(), [HOST])
    signed = parse(request)
    assert signed is not None
    assert (signed.kind, signed.expires, signed.payload.value) == (
        "presigned",
        86400,
        UNSIGNED_PAYLOAD,
    )
    check_scope(signed, "us-east-1", "s3")
    check_time(signed, NOW + 86400)
    verify(request, signed, SECRET, s3=True)


SUITE_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
FORM = ("content-type", "application/x-www-form-urlencoded")
SUITE = {
    "vanilla": (
        "/",
        [],
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "header-key-duplicate": (
        "/",
        [("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "header-value-order": (
        "/",
        [("my-header1", f"value{digit}") for digit in (4, 1, 3, 2)],
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    "header-value-trim": (
        "/",
        [("my-header1", " value1"), ("my-header2", ' "a   b   c"')],
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "vanilla-utf8-query": (
        "/?ሴ=bar",
        [],
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "space": (
        "/example space/",
        [],
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "utf8": (
        "/ሴ",
        [],
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "relative-relative": (
        "/example1/example2/../..",
        [],
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "slashes": (
        "//example//",
        [],
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    "slash-pointless-dot": (
        "/./example",
        [],
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    "query-order-encoded": (
        "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        [],
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    "query-order-key-case": (
        "/?Param2=value2&Param1=value1",
        [],
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "empty-query-key": (
        "/?Param1=value1",
        [],
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "unreserved": (
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        [],
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "session-token": (
        "/",
        [
            (
                "x-amz-security-token",
                "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
            )
        ],
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
}


@pytest.mark.parametrize("name", SUITE)
def test_signing_suite_verifies(name: str) -> None:
    target, headers, signature = SUITE[name]
    names = sorted({"host", "x-amz-date"} | {header for header, _ in headers})
    request = IncomingRequest(
        "GET",
        target.encode(),
        [
            ("host", "example.amazonaws.com"),
            *headers,
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                f"SignedHeaders={';'.join(names)}, Signature={signature}",
            ),
            ("x-amz-date", "20150830T123600Z"),
        ],
    )
    signed = parse(request)
    assert signed is not None
    assert not signed.payload.declared
    verify(request, signed, SUITE_SECRET, s3=False, payload_hash=EMPTY_SHA256)
    with pytest.raises(SignatureDoesNotMatch):
        verify(request, signed, SUITE_SECRET, s3=False, payload_hash=WELCOME)


def test_signing_suite_post_with_declared_hash() -> None:
    request = IncomingRequest(
        "POST",
        b"/",
        [
            FORM,
            ("host", "example.amazonaws.com"),
            ("content-length", "13"),
            ("x-amz-content-sha256", hashlib.sha256(b"Param1=value1").hexdigest()),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                "SignedHeaders=content-length;content-type;host;x-amz-content-sha256;x-amz-date, "
                "Signature=d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
            ("x-amz-date", "20150830T123600Z"),
        ],
    )
    signed = parse(request)
    assert signed is not None
    verify(request, signed, SUITE_SECRET, s3=False)


def test_signing_suite_presigned() -> None:
    request = IncomingRequest(
        "GET",
        b"/?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        b"&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request"
        b"&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Expires=3600"
        b"&X-Amz-Signature=e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d",
        [("host", "example.amazonaws.com")],
    )
    signed = parse(request)
    assert signed is not None
    verify(request, signed, SUITE_SECRET, s3=False, payload_hash=EMPTY_SHA256)


def test_header_text_that_is_not_utf8_survives() -> None:
    headers = [HOST, ("x-amz-meta-name", wire_text(b"caf\xe9"))]
    added = SIGNER.sign("GET", "/k", "", headers, EMPTY_SHA256, NOW)
    request = IncomingRequest("GET", b"/k", [(n.lower(), v) for n, v in [*headers, *added]])
    signed = parse(request)
    assert signed is not None
    verify(request, signed, SECRET, s3=True)
