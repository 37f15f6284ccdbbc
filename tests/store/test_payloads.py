"""Bodies and what is claimed of them: nothing is published before every claim is verified."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

import pytest

from s3posixfs.core import checksums
from s3posixfs.sigv4.chunked import ChunkEncoder
from s3posixfs.sigv4.constants import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
)
from s3posixfs.sigv4.payload import PayloadMode
from tests.store.conftest import Refusal
from tests.store.raw import Answer, RawClient

BODY = bytes(range(256)) * 800  # two large chunks and a rest
PIECES = (BODY[:65536], BODY[65536:131072], BODY[131072:])


def b64(algorithm: str, data: bytes) -> str:
    checksum = checksums.create(algorithm)
    checksum.update(data)
    return checksum.b64()


def put_chunked(
    raw: RawClient,
    mode: str,
    *,
    trailers: dict[str, str] | None = None,
    announced: str = "",
    decoded: int = len(BODY),
    damage: tuple[bytes, bytes] = (b"", b""),
    algorithm: str = "",
) -> Answer:
    """PUT BODY to /photos/chunky in an aws-chunked form; ``damage`` replaces sent bytes."""
    headers = [
        ("host", raw.host),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", str(decoded)),
    ]
    if announced:
        headers.append(("x-amz-trailer", announced))
    if algorithm:
        headers.append(("x-amz-sdk-checksum-algorithm", algorithm))
    path = "/photos/chunky"
    added, context = raw.signer.sign_with_context("PUT", path, "", headers, mode, time.time())
    encoder = ChunkEncoder(PayloadMode.parse(mode), context)
    body = b""
    for piece in PIECES:
        before, after = encoder.chunk(piece)
        body += before + piece + after
    body += encoder.end(trailers)
    old, new = damage
    if old:
        assert old in body
        body = body.replace(old, new, 1)
    lines = [f"PUT {path} HTTP/1.1", *(f"{n}: {v}" for n, v in (*headers, *added))]
    lines.append(f"content-length: {len(body)}")
    raw.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return raw.answer()


def forget(client: Any, key: str = "chunky") -> None:
    client.delete_object(Bucket="photos", Key=key)


@pytest.mark.parametrize(
    ("mode", "trailers"),
    [
        (STREAMING_SIGNED, {}),
        (STREAMING_SIGNED_TRAILER, {"x-amz-checksum-crc32c": b64("crc32c", BODY)}),
        (STREAMING_UNSIGNED_TRAILER, {"x-amz-checksum-sha256": b64("sha256", BODY)}),
        (STREAMING_UNSIGNED_TRAILER, {"x-amz-checksum-crc64nvme": b64("crc64nvme", BODY)}),
    ],
)
def test_chunked_forms(raw: RawClient, client: Any, mode: str, trailers: dict[str, str]) -> None:
    forget(client)
    answer = put_chunked(raw, mode, trailers=trailers, announced=",".join(trailers))
    assert answer.status == 200, answer.body
    for name, value in trailers.items():
        assert answer.headers[name] == value
    got = client.get_object(Bucket="photos", Key="chunky", ChecksumMode="ENABLED")
    assert got["Body"].read() == BODY
    assert "ContentEncoding" not in got
    assert got["ETag"] == f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'


@pytest.mark.parametrize(
    ("mode", "settings", "code"),
    [
        (STREAMING_SIGNED, {"damage": (BODY[:64], BODY[1:65])}, "SignatureDoesNotMatch"),
        (
            STREAMING_SIGNED,
            {"damage": (b"chunk-signature=", b"chunk-signaturE=")},
            "IncompleteBody",
        ),
        (STREAMING_SIGNED, {"decoded": len(BODY) - 1}, "IncompleteBody"),
        (STREAMING_SIGNED, {"decoded": len(BODY) + 1}, "IncompleteBody"),
        (
            STREAMING_SIGNED_TRAILER,
            {
                "trailers": {"x-amz-checksum-crc32c": b64("crc32c", BODY)},
                "announced": "x-amz-checksum-crc32c",
                "damage": (b"x-amz-trailer-signature:", b"x-amz-trailer-signature:0"),
            },
            "SignatureDoesNotMatch",
        ),
        (
            STREAMING_SIGNED_TRAILER,
            {
                "trailers": {"x-amz-checksum-crc32c": b64("crc32c", b"other")},
                "announced": "x-amz-checksum-crc32c",
            },
            "BadDigest",
        ),
        (
            STREAMING_UNSIGNED_TRAILER,
            {
                "trailers": {"x-amz-checksum-crc32": b64("crc32", BODY)},
                "announced": "x-amz-checksum-crc32",
                "damage": (BODY[:64], BODY[1:65]),
            },
            "BadDigest",
        ),
        (
            STREAMING_UNSIGNED_TRAILER,
            {"trailers": {}, "announced": "x-amz-checksum-crc32"},
            "MalformedTrailerError",
        ),
        (
            STREAMING_UNSIGNED_TRAILER,
            {"trailers": {"x-amz-checksum-crc32": "AAAAAA=="}, "announced": ""},
            "MalformedTrailerError",
        ),
        (
            STREAMING_UNSIGNED_TRAILER,
            {
                "trailers": {"x-amz-checksum-crc32": b64("crc32", BODY)},
                "announced": "x-amz-checksum-crc32",
                "algorithm": "SHA256",
            },
            "InvalidRequest",
        ),
    ],
)
def test_chunked_forms_that_are_not_what_they_claim(
    raw: RawClient, client: Any, mode: str, settings: dict[str, Any], code: str
) -> None:
    forget(client)
    answer = put_chunked(raw, mode, **settings)
    assert answer.code == code
    assert client.list_objects_v2(Bucket="photos", Prefix="chunky")["KeyCount"] == 0


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_the_signed_hash_must_be_the_bodys(raw: RawClient, client: Any, size: int) -> None:
    forget(client, "tampered")
    signed, sent = b"a" * size, b"a" * (size - 1) + b"b"
    digest = hashlib.sha256(signed).hexdigest()
    length = (("content-length", str(size)),)
    raw.send(raw.head("PUT", "/photos/tampered", payload=digest, unsigned=length) + sent)
    answer = raw.answer()
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert client.list_objects_v2(Bucket="photos", Prefix="tampered")["KeyCount"] == 0


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_verified_stored_and_returned(
    client: Any, refusal: Refusal, algorithm: str
) -> None:
    field = f"Checksum{algorithm}"
    value = b64(algorithm, b"body")
    arguments: dict[str, Any] = {"Bucket": "photos", "Key": f"sum-{algorithm}"}
    put = client.put_object(**arguments, Body=b"body", **{field: value})
    assert put[field] == value
    head = client.head_object(**arguments, ChecksumMode="ENABLED")
    assert head[field] == value
    assert head["ChecksumType"] == "FULL_OBJECT"
    assert field not in client.head_object(**arguments)
    wrong = {field: b64(algorithm, b"other")}
    assert refusal(client.put_object, **arguments, Body=b"body", **wrong) == ("BadDigest", 400)
    wrong = {field: "AAAA"}
    assert refusal(client.put_object, **arguments, Body=b"body", **wrong) == ("InvalidRequest", 400)


def test_an_object_without_a_checksum_gets_one(raw: RawClient, client: Any) -> None:
    assert raw.put("/photos/plain", b"body").status == 200
    head = client.head_object(Bucket="photos", Key="plain", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == b64("crc64nvme", b"body")


def test_content_md5(raw: RawClient) -> None:
    def md5(data: bytes) -> tuple[str, str]:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        return "content-md5", base64.b64encode(digest).decode()

    assert raw.put("/photos/md5", b"body", md5(b"body")).status == 200
    assert raw.put("/photos/md5", b"body", md5(b"else")).code == "BadDigest"
    assert raw.put("/photos/md5", b"body", ("content-md5", "AAAA")).code == "InvalidDigest"


def test_two_checksums_are_refused(raw: RawClient) -> None:
    answer = raw.put(
        "/photos/two",
        b"body",
        ("x-amz-checksum-crc32", b64("crc32", b"body")),
        ("x-amz-checksum-sha1", b64("sha1", b"body")),
    )
    assert answer.code == "InvalidRequest"
