"""botocore as an independent signer: what it signs is verified, what it computes is signed."""

from __future__ import annotations

import calendar
import hashlib
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.utils import percent_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.constants import EMPTY_SHA256, UNSIGNED_PAYLOAD
from s3posixfs.sigv4.encoding import uri_encode
from s3posixfs.sigv4.problems import SignatureDoesNotMatch
from s3posixfs.sigv4.signing import Signer
from s3posixfs.sigv4.verifying import (
    IncomingRequest,
    SignedRequest,
    check_scope,
    check_time,
    parse,
    verify,
)

KEY, SECRET, TOKEN = "alice", "correct/horse+battery=staple", "token/with+odd=signs=="
HOST = "127.0.0.1:9000"
NOW = 1_700_000_000.0
TIMESTAMP = "20231114T221320Z"

# Keys of every kind, not only those that a POSIX path can hold.
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# A query that itself asks for authentication is refused beside a header, and rightly so.
AUTHENTICATING = ("X-Amz-", "AWSAccessKeyId", "Signature")
names = words.filter(lambda name: bool(name) and not name.startswith(AUTHENTICATING))
queries = st.lists(st.tuples(names, words), max_size=4)
visible = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
metadata = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), visible.map(str.strip), max_size=3
)

ODD_KEYS = [
    "plain.txt",
    "a b/c+d",
    "a//b",
    "/leading",
    "trailing/",
    "./dots/../here",
    "per%cent%2Fslash",
    "café/日本語/🦀",
    "~tilde'()*!$&,;=:@",
    "tab\tnewline\n",
    "#?[]",
]


def request_of(prepared: Any, extra: dict[str, str] | None = None) -> IncomingRequest:
    parts = urlsplit(prepared.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = [("host", parts.netloc)]
    headers += [(name.lower(), value) for name, value in prepared.headers.items()]
    headers += list((extra or {}).items())
    return IncomingRequest(prepared.method, target.encode(), headers)


def accept(
    request: IncomingRequest, service: str = "s3", token: str | None = None
) -> SignedRequest:
    signed = parse(request)
    assert signed is not None
    check_scope(signed, "eu-west-1", service)
    check_time(signed, time.time())
    assert signed.access_key == KEY
    assert signed.session_token == token
    verify(request, signed, SECRET, s3=service == "s3", payload_hash=EMPTY_SHA256)
    with pytest.raises(SignatureDoesNotMatch):
        verify(request, signed, "wrong", s3=service == "s3", payload_hash=EMPTY_SHA256)
    return signed


def url_of(key: str, query: list[tuple[str, str]]) -> str:
    text = "&".join(f"{percent_encode(n)}={percent_encode(v)}" for n, v in query)
    return f"http://{HOST}/bucket/{percent_encode(key, safe='/~')}" + (f"?{text}" if text else "")


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_botocore_header_signature(key: str, token: str | None) -> None:
    credentials = BotocoreCredentials(KEY, SECRET, token)
    request = AWSRequest("PUT", url_of(key, []), data=b"body", headers={"x-amz-meta-a": "1  2"})
    S3SigV4Auth(credentials, "s3", "eu-west-1").add_auth(request)
    signed = accept(request_of(request.prepare()), token=token)
    assert signed.payload.sha256 == (
        "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"
    )


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_botocore_presigned(key: str, token: str | None) -> None:
    credentials = BotocoreCredentials(KEY, SECRET, token)
    request = AWSRequest("GET", url_of(key, [("versionId", "null"), ("response-expires", "a b")]))
    S3SigV4QueryAuth(credentials, "s3", "eu-west-1", expires=60).add_auth(request)
    signed = accept(request_of(request.prepare()), token=token)
    assert (signed.kind, signed.expires) == ("presigned", 60)
    assert signed.payload.value == UNSIGNED_PAYLOAD


@given(key=keys, query=queries, meta=metadata)
@settings(max_examples=150, deadline=None)
def test_any_request_botocore_signs_is_verified(
    key: str, query: list[tuple[str, str]], meta: dict[str, str]
) -> None:
    headers = {f"x-amz-meta-{name}": value for name, value in meta.items()}
    request = AWSRequest("GET", url_of(key, query), headers=headers)
    S3SigV4Auth(BotocoreCredentials(KEY, SECRET), "s3", "eu-west-1").add_auth(request)
    accept(request_of(request.prepare()))


@given(key=keys, query=queries, meta=metadata)
@settings(max_examples=150, deadline=None)
def test_signer_computes_what_botocore_computes(
    key: str, query: list[tuple[str, str]], meta: dict[str, str]
) -> None:
    path = f"/bucket/{uri_encode(key, slash=False)}"
    text = "&".join(f"{uri_encode(n, slash=True)}={uri_encode(v, slash=True)}" for n, v in query)
    headers = [("host", HOST), *((f"x-amz-meta-{name}", value) for name, value in meta.items())]
    signer = Signer(Credentials(KEY, SECRET), "eu-west-1")
    added = signer.sign("GET", path, text, headers, EMPTY_SHA256, NOW)

    theirs = AWSRequest("GET", f"http://{HOST}{path}" + (f"?{text}" if text else ""))
    for name, value in (*headers, *added[:-1]):
        theirs.headers[name] = value
    theirs.context["timestamp"] = TIMESTAMP
    auth = S3SigV4Auth(BotocoreCredentials(KEY, SECRET), "s3", "eu-west-1")
    expected = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert added[-1][1].endswith(f"Signature={expected}")


@pytest.mark.parametrize("token", [None, TOKEN])
def test_presign_is_accepted(token: str | None) -> None:
    signer = Signer(Credentials(KEY, SECRET, token), "eu-west-1")
    query = signer.presign("PUT", "/bucket/a%20b", "x-id=PutObject", HOST, time.time(), 60)
    request = IncomingRequest("PUT", f"/bucket/a%20b?{query}".encode(), [("host", HOST)])
    accept(request, token=token)
    for changed in (query.replace("PutObject", "GetObject"), query.replace("=60&", "=61&")):
        assert changed != query
        forged = IncomingRequest("PUT", f"/bucket/a%20b?{changed}".encode(), [("host", HOST)])
        signed = parse(forged)
        assert signed is not None
        with pytest.raises(SignatureDoesNotMatch):
            verify(forged, signed, SECRET, s3=True)


@pytest.mark.parametrize("expires", [-1, 604_801])
def test_presign_refuses_expiry_out_of_range(expires: int) -> None:
    with pytest.raises(ValueError, match="604800"):
        Signer(Credentials(KEY, SECRET), "r").presign("GET", "/", "", HOST, NOW, expires)


def test_sts_post_as_botocore_signs_it() -> None:
    body = urlencode({"Action": "AssumeRole", "Version": "2011-06-15"})
    request = AWSRequest(
        "POST",
        f"http://{HOST}/",
        data=body,
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    SigV4Auth(BotocoreCredentials(KEY, SECRET), "sts", "eu-west-1").add_auth(request)
    incoming = request_of(request.prepare())
    signed = parse(incoming)
    assert signed is not None
    assert not signed.payload.declared
    check_scope(signed, "eu-west-1", "sts")
    verify(
        incoming, signed, SECRET, s3=False, payload_hash=hashlib.sha256(body.encode()).hexdigest()
    )


def test_sts_presigned_as_botocore_signs_it() -> None:
    url = f"http://{HOST}/?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("GET", url)
    SigV4QueryAuth(BotocoreCredentials(KEY, SECRET, TOKEN), "sts", "eu-west-1").add_auth(request)
    accept(request_of(request.prepare()), service="sts", token=TOKEN)


def test_sts_signer_is_verified_without_payload_header() -> None:
    signer = Signer(Credentials(KEY, SECRET), "eu-west-1", "sts")
    headers = [("host", HOST)]
    added = signer.sign("POST", "/", "", headers, EMPTY_SHA256, time.time())
    assert [name for name, _ in added] == ["x-amz-date", "Authorization"]
    request = IncomingRequest("POST", b"/", [(n.lower(), v) for n, v in [*headers, *added]])
    accept(request, service="sts")


@pytest.mark.parametrize(
    ("wire", "signed_as"),
    [
        # The C++ SDK (pyarrow) leaves these bare on the wire and signs them encoded.
        ("/b/a$b&c,d:e=f@g", "/b/a%24b%26c%2Cd%3Ae%3Df%40g"),
        ("/b/(x)!*'", "/b/%28x%29%21%2A%27"),
        ("/b/%7Etilde", "/b/~tilde"),
        ("/b/caf\u00e9", "/b/caf%C3%A9"),
        ("/b/%2f", "/b/%2F"),
        ("/b//a/../c", "/b//a/../c"),
    ],
)
def test_path_in_the_clients_spelling_and_in_awss(wire: str, signed_as: str) -> None:
    for spelling in (wire, signed_as):
        theirs = AWSRequest("GET", f"http://{HOST}{spelling}")
        S3SigV4Auth(BotocoreCredentials(KEY, SECRET), "s3", "eu-west-1").add_auth(theirs)
        headers = [("host", HOST), *((n.lower(), v) for n, v in theirs.headers.items())]
        accept(IncomingRequest("GET", wire.encode(), headers))


@pytest.mark.parametrize(
    ("signed_as", "wire"),
    [
        ("/b/a%2Fb", "/b/a/b"),
        ("/b/a/b", "/b/a%2Fb"),
        ("/b//a", "/b/a"),
        ("/b/a/../c", "/b/c"),
        ("/b/a?prefix=x%2By", "/b/a?prefix=x+y"),
        ("/b/a?prefix=x+y", "/b/a?prefix=x%2By"),
        ("/b/a?acl", "/b/a"),
        ("/b/a?a=1&a=2", "/b/a?a=2"),
        ("/b/a%25", "/b/a%2525"),
        ("/b/a?x=%26y%3D1", "/b/a?x=&y=1"),
    ],
)
def test_a_signature_is_good_for_one_meaning_only(signed_as: str, wire: str) -> None:
    theirs = AWSRequest("GET", f"http://{HOST}{signed_as}")
    S3SigV4Auth(BotocoreCredentials(KEY, SECRET), "s3", "eu-west-1").add_auth(theirs)
    headers = [("host", HOST), *((n.lower(), v) for n, v in theirs.headers.items())]
    accept(IncomingRequest("GET", signed_as.encode(), headers))
    forged = IncomingRequest("GET", wire.encode(), headers)
    signed = parse(forged)
    assert signed is not None
    with pytest.raises(SignatureDoesNotMatch):
        verify(forged, signed, SECRET, s3=True)


@pytest.mark.parametrize(
    ("wire", "signed_as"),
    [
        ("acl", "acl="),
        ("prefix=a+b", "prefix=a%20b"),
        ("prefix=a/b&delimiter=/", "delimiter=%2F&prefix=a%2Fb"),
        ("b=2&a=1&a=0&a-=3", "a=0&a=1&a-=3&b=2"),
        ("&&a=1&", "a=1"),
    ],
)
def test_query_in_awss_spelling(wire: str, signed_as: str) -> None:
    theirs = AWSRequest("GET", f"http://{HOST}/b?{signed_as}")
    S3SigV4Auth(BotocoreCredentials(KEY, SECRET), "s3", "eu-west-1").add_auth(theirs)
    headers = [("host", HOST), *((n.lower(), v) for n, v in theirs.headers.items())]
    accept(IncomingRequest("GET", f"/b?{wire}".encode(), headers))


def test_key_is_derived_anew_each_day() -> None:
    signer = Signer(Credentials(KEY, SECRET), "eu-west-1")
    midnight = float(calendar.timegm((2024, 2, 29, 0, 0, 0)))
    for now in (midnight - 1, midnight, midnight + 0.9, midnight - 1):
        fresh = Signer(Credentials(KEY, SECRET), "eu-west-1")
        arguments = ("GET", "/", "", [("host", HOST)], EMPTY_SHA256, now)
        assert signer.sign(*arguments) == fresh.sign(*arguments)
