"""CORS: the configuration, preflights, and headers on what a page may read."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from tests.store.conftest import Refusal
from tests.store.raw import RawClient
from tests.store.test_policies import DENIED, allow, policy, somebody
from tests.store_process import StoreProcess

BUCKET = {"Bucket": "photos"}
RULES: list[dict[str, Any]] = [
    {
        "ID": "app",
        "AllowedMethods": ["GET", "PUT"],
        "AllowedOrigins": ["https://app.example", "https://*.shop.example"],
        "AllowedHeaders": ["x-amz-*", "Content-Type"],
        "ExposeHeaders": ["ETag", "x-amz-request-id"],
        "MaxAgeSeconds": 3000,
    },
    {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*"]},
]
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


@pytest.fixture
def rules(client: Any) -> Iterator[None]:
    client.put_object(**BUCKET, Key="page", Body=b"data")
    client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": RULES})
    yield
    client.delete_bucket_cors(**BUCKET)


def ask(
    store: StoreProcess, method: str, path: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One unsigned request; underscores in header names stand for dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    body = answer.read()
    connection.close()
    return answer.status, found, body


def preflight(
    store: StoreProcess, origin: str, method: str, path: str = "/photos/page", **more: str
) -> tuple[int, dict[str, str], bytes]:
    headers = {"Origin": origin, "Access_Control_Request_Method": method, **more}
    return ask(store, "OPTIONS", path, **headers)


def test_configuration_comes_back(client: Any, refusal: Refusal, rules: None) -> None:
    assert client.get_bucket_cors(**BUCKET)["CORSRules"] == RULES
    answer = client.delete_bucket_cors(**BUCKET)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(client.get_bucket_cors, **BUCKET) == ("NoSuchCORSConfiguration", 404)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"AllowedMethods": ["PATCH"]}, "InvalidRequest"),
        ({"AllowedMethods": []}, "MalformedXML"),
        ({"AllowedOrigins": []}, "MalformedXML"),
        ({"AllowedOrigins": ["http://*.a.*"]}, "InvalidRequest"),
        ({"AllowedHeaders": ["*x*"]}, "InvalidRequest"),
        ({"ExposeHeaders": ["x-*"]}, "InvalidRequest"),
        ({"ID": "i" * 256}, "InvalidRequest"),
    ],
)
def test_what_is_refused(client: Any, refusal: Refusal, change: dict[str, Any], code: str) -> None:
    configuration = {"CORSRules": [{**RULES[0], **change}]}
    answer = refusal(client.put_bucket_cors, **BUCKET, CORSConfiguration=configuration)
    assert answer == (code, 400)


def test_at_most_100_rules(client: Any, refusal: Refusal) -> None:
    rule = RULES[1]
    over = {"CORSRules": [rule] * 101}
    answer = refusal(client.put_bucket_cors, **BUCKET, CORSConfiguration=over)
    assert answer == ("InvalidRequest", 400)
    client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": [rule] * 100})
    client.delete_bucket_cors(**BUCKET)


def test_preflight(running: StoreProcess, rules: None) -> None:
    status, headers, body = preflight(
        running,
        "https://app.example",
        "PUT",
        Access_Control_Request_Headers="X-Amz-Meta-A, content-type",
    )
    assert (status, body) == (200, b"")
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert headers["access-control-allow-methods"] == "GET, PUT"
    assert headers["access-control-allow-headers"] == "x-amz-meta-a, content-type"
    assert headers["access-control-expose-headers"] == "ETag, x-amz-request-id"
    assert headers["access-control-max-age"] == "3000"
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["vary"] == VARY
    assert preflight(running, "https://eu.shop.example", "GET")[0] == 200
    status, headers, _ = preflight(running, "https://anybody", "HEAD")
    assert (status, headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in headers
    # Also for a presigned URL, whose signature is not for this method.
    signed = "/photos/page?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"
    assert preflight(running, "https://app.example", "GET", signed)[0] == 200
    assert preflight(running, "https://app.example", "GET", "/photos")[0] == 200


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example", "GET", ""),
        ("https://app.example.evil", "GET", ""),
        ("https://APP.example", "GET", ""),
        ("https://.shop.exampl", "GET", ""),
        ("https://app.example", "DELETE", ""),
        ("https://app.example", "get", ""),
        ("https://app.example", "GET", "authorization"),
        ("https://anybody", "HEAD", "x-amz-date"),
    ],
)
def test_preflight_refused(
    running: StoreProcess, rules: None, origin: str, method: str, headers: str
) -> None:
    more = {"Access_Control_Request_Headers": headers} if headers else {}
    status, found, body = preflight(running, origin, method, **more)
    assert status == 403
    assert b"<Code>AccessForbidden</Code>" in body
    assert f"<Method>{method}</Method>".encode() in body
    assert b"<ResourceType>OBJECT</ResourceType>" in body
    assert not any(name.startswith("access-control-") for name in found)


def test_preflight_that_says_too_little(running: StoreProcess, rules: None) -> None:
    status, _, body = ask(running, "OPTIONS", "/photos/page")
    assert (status, b"Origin request header needed" in body) == (400, True)
    status, _, body = ask(running, "OPTIONS", "/photos/page", Origin="https://app.example")
    assert (status, b"Access-Control-Request-Method: null" in body) == (400, True)


def test_preflight_without_rules(running: StoreProcess) -> None:
    status, _, body = preflight(running, "https://app.example", "GET")
    assert (status, b"CORS is not enabled for this bucket" in body) == (403, True)
    status, _, body = preflight(running, "https://app.example", "GET", "/no-such-bucket/k")
    assert (status, b"CORSResponse: Bucket not found" in body) == (403, True)
    assert b"<ResourceType>BUCKET</ResourceType>" in body


def test_answers_and_refusals_carry_the_headers(
    running: StoreProcess, raw: RawClient, rules: None
) -> None:
    answer = raw.get("/photos/page", ("origin", "https://app.example"))
    assert (answer.status, answer.body) == (200, b"data")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-methods"] == "GET, PUT"
    assert answer.headers["access-control-expose-headers"] == "ETag, x-amz-request-id"
    assert answer.headers["vary"] == VARY
    assert "access-control-allow-headers" not in answer.headers
    status, headers, _ = ask(running, "GET", "/photos/page", Origin="https://app.example")
    assert (status, headers["access-control-allow-origin"]) == (403, "https://app.example")
    for other in (
        raw.get("/photos/page"),
        raw.get("/photos/page", ("origin", "https://evil.example")),
    ):
        assert other.status == 200
        assert "access-control-allow-origin" not in other.headers
    status, headers, _ = ask(running, "DELETE", "/photos/page", Origin="https://app.example")
    assert (status, "access-control-allow-origin" in headers) == (403, False)


def test_each_needs_its_action(running: StoreProcess, refusal: Refusal) -> None:
    with somebody(running, "corsless", policy(allow("s3:GetBucketPolicy"))) as one:
        assert refusal(one.get_bucket_cors, **BUCKET) == DENIED
        assert refusal(one.delete_bucket_cors, **BUCKET) == DENIED
        configuration = {"CORSRules": RULES}
        answer = refusal(one.put_bucket_cors, **BUCKET, CORSConfiguration=configuration)
        assert answer == DENIED
