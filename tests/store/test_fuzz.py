"""Bent requests at a real store: only clean refusals, no traceback, no hang, no growth.

``S3POSIXFS_FUZZ=1000000 pytest tests/store/test_fuzz.py`` sends that many of each kind, and
``S3POSIXFS_FUZZ_SEED`` starts somewhere else. ``S3POSIXFS_FUZZ_REPORT`` names a file that is
given a line for each kind: how many, and the store's resident memory before and after.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.chunked import ChunkEncoder
from s3posixfs.sigv4.constants import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
)
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.signing import Signer
from tests.store.conformance_kit import md5_of
from tests.store.fuzzing import INTERESTING, Probe, Wire, bend, check, resident_kib, run
from tests.store.test_payloads import b64
from tests.store.test_post_form import BOUNDARY, form, signed, timestamp
from tests.store_process import REGION, StoreProcess, User, secret_of

COUNT = int(os.environ.get("S3POSIXFS_FUZZ", "1500"))
SEED = int(os.environ.get("S3POSIXFS_FUZZ_SEED", "20130524"))
REPORT = os.environ.get("S3POSIXFS_FUZZ_REPORT")
Generator = Callable[[random.Random], Probe]
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    """A store of its own, whose log must stay empty of tracebacks and whose memory bounded."""
    with StoreProcess(module_folder / "store") as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        client = store.s3(alice)
        client.create_bucket(Bucket="photos")
        client.put_object(Bucket="photos", Key="there", Body=b"here")
        client.close()
        yield store
        assert store.stop() == 0
    log = store.log.read_text()
    assert "Traceback" not in log, log[-5000:]
    assert secret_of("alice") not in log
    outside = {path.name for path in store.folder.iterdir()}
    assert outside == {"objects", "state", "serve.log"}
    assert {path.name for path in store.root.iterdir()} <= {".s3posixfs", "photos", "forms"}


@pytest.fixture(scope="module")
def alice() -> User:
    return User("alice", "alice", secret_of("alice"), 1001, 1001)


class Requests:
    """Well-signed requests to bend."""

    def __init__(self, port: int, user: User, *, service: str = "s3") -> None:
        self.host = f"127.0.0.1:{port}"
        self.port = port
        credentials = Credentials(user.access_key, user.secret_key)
        self.signer = Signer(credentials, REGION, service)
        self.other = Signer(Credentials(user.access_key, "not-the-secret-of-alice"), REGION)

    def head(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        headers: tuple[tuple[str, str], ...] = (),
        payload: str = EMPTY,
        length: int | None = None,
        wrongly: bool = False,
    ) -> bytes:
        given = [("host", self.host), *headers]
        signer = self.other if wrongly else self.signer
        given += signer.sign(method, path, query, given, payload, time.time())
        if length is not None:
            given.append(("content-length", str(length)))
        target = f"{path}?{query}" if query else path
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in given)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def whole(
        self,
        method: str,
        path: str,
        body: bytes,
        query: str = "",
        *,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> bytes:
        digest = hashlib.sha256(body).hexdigest()
        head = self.head(method, path, query, headers=headers, payload=digest, length=len(body))
        return head + body


def signature_headers(requests: Requests) -> Generator:
    """Signed with a wrong secret, then bent anywhere in the head: never a success."""

    def probe(chance: random.Random) -> Probe:
        method = chance.choice(("GET", "PUT", "DELETE"))
        path = chance.choice(("/", "/photos", "/photos/there"))
        head = requests.head(method, path, wrongly=True)
        return Probe(bend(head, chance, chance.choice((0, 1, 1, 2, 5))), alone=True)

    return probe


def authorization(requests: Requests) -> Generator:
    """Only the value of one header of the signature is bent: the connection stays."""

    def probe(chance: random.Random) -> Probe:
        head = requests.head("GET", "/photos/there", wrongly=True)
        lines = head.split(b"\r\n")
        at = chance.randrange(2, len(lines) - 2)
        name, _, value = lines[at].partition(b": ")
        value = bend(value, chance, chance.choice((1, 1, 3)))
        value = value.replace(b"\r", b"").replace(b"\n", b"")
        lines[at] = name + b": " + value
        if chance.random() < 0.1:
            lines.insert(at, chance.choice(lines[1:-2]))
        return Probe(b"\r\n".join(lines))

    return probe


def tampered(requests: Requests) -> Generator:
    """Rightly signed, then one letter or digit of what is signed becomes another."""

    def probe(chance: random.Random) -> Probe:
        head = requests.head(
            "GET",
            "/photos/there",
            "partNumber=1&response-content-type=text",
            headers=(("x-amz-expected-bucket-owner", "alice"),),
        )
        end = head.index(b"\r\n\r\n")
        places = [
            index
            for index in range(4, end)
            if chr(head[index]).isalnum() and not head[:index].endswith(b"HTTP/1.")
        ]
        # Names of headers and "HTTP/1.1" have another meaning when bent, not a wrong signature.
        values = [index for index in places if _in_value(head, index)]
        at = chance.choice(values)
        new = chance.choice([c for c in b"abcdefXYZ0123456789" if c != head[at]])
        return Probe(head[:at] + bytes([new]) + head[at + 1 :])

    return probe


def _in_value(head: bytes, index: int) -> bool:
    start = head.rfind(b"\r\n", 0, index) + 2
    line = head[start : head.index(b"\r\n", index)]
    if start < 2 or start == 1:
        return index < head.index(b" HTTP/1.1")
    return index - start > line.index(b": ") + 1


PARAMETERS = (
    "list-type", "prefix", "delimiter", "max-keys", "marker", "start-after", "encoding-type",
    "continuation-token", "fetch-owner", "metadata", "uploads", "uploadId", "partNumber",
    "max-parts", "part-number-marker", "key-marker", "upload-id-marker", "max-uploads", "acl",
    "tagging", "policy", "cors", "lifecycle", "versioning", "versions", "versionId", "location",
    "renameObject", "delete", "attributes", "response-content-type", "response-expires",
    "response-content-disposition", "x-id", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date",
    "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token",
    "AWSAccessKeyId", "Signature", "s3posixfs-identities", "max-buckets", "object-lock",
    "policyStatus", "restore", "select", "torrent", "legal-hold", "retention", "website",
)  # fmt: skip
VALUES = (
    "", "0", "1", "2", "-1", "1000", "10001", "99999999999999999999", "url", "true", "there", "%2F",
    "%00", "%ff", "%F0%9F%98%80", "a%0D%0Ab: c", "..%2F..", "null", "e30", "AAAA", "%EF%BC%91",
    "alice%2F20130524%2Fus-east-1%2Fs3%2Faws4_request", "a" * 2000, "%E2%80%A8", "+", "%",
)  # fmt: skip


def queries(requests: Requests) -> Generator:
    """Any parameters with any values, signed rightly and not, on buckets and objects."""

    def probe(chance: random.Random) -> Probe:
        method = chance.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
        path = chance.choice(("/", "/photos", "/photos/", "/photos/there", "/photos/fuzz/new"))
        names = [chance.choice(PARAMETERS) for _ in range(chance.choice((1, 1, 2, 3, 6)))]
        parts = [
            f"{name}={value}" if (value := chance.choice(VALUES)) or chance.random() < 0.5 else name
            for name in names
        ]
        query = "&".join(parts)
        if chance.random() < 0.2:
            text = bend(query.encode(), chance).decode("latin-1")
            query = quote(text, safe="%&=/+;,-_.~!'()*:@", encoding="latin-1")
        ranged = (
            ("range", chance.choice(("bytes=0-1", "bytes=-0", "bytes=9-", "x", "bytes=1-0"))),
        )
        headers = ranged if chance.random() < 0.2 else ()
        if method == "DELETE" and path != "/photos/fuzz/new":
            method = "GET"  # the bucket and its object must stay
        head = requests.head(
            method,
            path,
            query,
            headers=headers,
            length=0 if method in ("PUT", "POST") else None,
            wrongly=chance.random() < 0.1,
        )
        return Probe(head, may_succeed=True, head_only=method == "HEAD")

    return probe


def paths(requests: Requests) -> Generator:
    """Keys that would leave the root, if anything could, put and read back."""
    pieces = (
        "..", ".", "", "%2e%2e", "%2E", "a", "there", ".s3posixfs", "%2F", "%5C", "%00", "%01",
        "%FF", "%C0%AE%C0%AE", "~", "etc", "a" * 256, "%E2%80%AE", "%0A", "%", "%zz", "+", "%25",
        "proc", "self", "\\", "'", "*", "?", ";", "%3F", "%23", "tmp", "objects", "state",
    )  # fmt: skip

    def probe(chance: random.Random) -> Probe:
        segments = [chance.choice(pieces) for _ in range(chance.randrange(1, 7))]
        path = "/photos/" * (chance.random() < 0.8) + "/".join(segments).replace("?", "%3F")
        path = path if path.startswith("/") else "/" + path
        method = chance.choice(("GET", "PUT", "PUT", "DELETE", "HEAD"))
        if path.count("/") < 2 or path.rstrip("/").count("/") < 2:
            method = "GET"  # about a bucket: none shall come or go
        head = requests.head(method, path, length=0 if method == "PUT" else None)
        return Probe(head, may_succeed=True, head_only=method == "HEAD")

    return probe


DOCUMENTS: tuple[tuple[str, str, str, bytes], ...] = (
    ("POST", "/photos", "delete=", b"<Delete><Quiet>true</Quiet><Object><Key>k1</Key></Object>"
     b"<Object><Key>k2</Key><VersionId>null</VersionId></Object></Delete>"),
    ("POST", "/photos/fuzz/parts", "uploadId=AAAA",
     b'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part>'
     b"<PartNumber>1</PartNumber><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>"
     b"</Part></CompleteMultipartUpload>"),
    ("PUT", "/photos", "", b"<CreateBucketConfiguration><LocationConstraint>us-east-1"
     b"</LocationConstraint></CreateBucketConfiguration>"),
    ("PUT", "/photos", "policy=", b'{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":'
     b'"Allow","Principal":{"AWS":["arn:aws:iam:::user/alice"]},"Action":["s3:GetObject"],'
     b'"Resource":"arn:aws:s3:::photos/fuzz/*","Condition":{"StringLike":{"s3:prefix":["a*"]},'
     b'"NumericLessThan":{"s3:max-keys":"10"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}'),
    ("PUT", "/photos/there", "tagging=",
     b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"),
    ("PUT", "/photos", "cors=", b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>"
     b"<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"),
    ("PUT", "/photos", "lifecycle=", b"<LifecycleConfiguration><Rule><ID>a</ID><Filter><Prefix>"
     b"none/</Prefix></Filter><Status>Disabled</Status><Expiration><Days>1</Days></Expiration>"
     b"</Rule></LifecycleConfiguration>"),
    ("PUT", "/photos", "publicAccessBlock=", b"<PublicAccessBlockConfiguration><BlockPublicAcls>"
     b"true</BlockPublicAcls></PublicAccessBlockConfiguration>"),
)  # fmt: skip
NASTY = (
    b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>', b"&e;", b"&#0;", b"&#xD800;",
    b"<a>" * 300, b'<?xml version="1.0" encoding="UTF-16"?>', b"<?pi?>", b"<a xmlns:b=''/>",
    b'<?xml version="1.1"?>', b"\xfe\xff", b"\xef\xbb\xbf", b'"\\ud800"', b"[" * 2000, b"1e999",
    b"1" * 5000, b'"a":1,"a":2', b"null", b"{}", b"[]", b"\\u0000", b"${aws:username}", b"${",
    b"-0", b'{"AWS":"*"}', b"<Part/>", b"<Object/>", b"<Key/>", b"<Key>" + b"k" * 1100 + b"</Key>",
)  # fmt: skip


def documents(requests: Requests) -> Generator:
    """XML and JSON bodies, rightly signed and bent."""

    def probe(chance: random.Random) -> Probe:
        method, path, query, body = chance.choice(DOCUMENTS)
        if chance.random() < 0.4:
            at = chance.randrange(len(body))
            body = body[:at] + chance.choice(NASTY) + body[at:]
        if chance.random() < 0.3:
            # A whole token becomes another: bending bytes seldom passes the parser.
            old, new = (chance.choice(TOKENS) for _ in range(2))
            body = body.replace(old, new)
        else:
            body = bend(body, chance, chance.choice((0, 1, 1, 2, 4)))
        digest = (("content-md5", md5_of(body)),)
        whole = requests.whole(method, path, body, query, headers=digest)
        return Probe(whole, may_succeed=True)

    return probe


TOKENS = (
    b"us-east-1", b"1", b"k1", b"null", b'"s3:GetObject"', b'"Allow"', b"Object", b"Part", b"10",
    b'"10"', b'["a*"]', b'"10.0.0.0/8"', b"StringLike", b"NumericLessThan", b"Condition", b"true",
    b'"arn:aws:s3:::photos/fuzz/*"', b'{"AWS":["arn:aws:iam:::user/alice"]}', b"Statement", b"[]",
    b"{}", b"Sid", b"Effect", b"GET", b"Disabled", b"<Days>1</Days>", b"ETag", b"-5", b"\xc2\x85",
    b"Tag", b"Key", b"Value",
)  # fmt: skip


def forms(requests: Requests) -> Generator:
    """STS forms."""
    policy = quote(
        DOCUMENTS[3][3].replace(b'"Principal":{"AWS":["arn:aws:iam:::user/alice"]},', b"")
    )
    base = (
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A%3Auser%2Falice"
        f"&RoleSessionName=fuzz&DurationSeconds=900&Policy={policy}"
    ).encode()
    content = (("content-type", "application/x-www-form-urlencoded"),)

    def probe(chance: random.Random) -> Probe:
        body = bend(base, chance, chance.choice((1, 1, 2, 3)))
        if chance.random() < 0.3:
            body = body.replace(b"&Policy=", b"&Policy=" + quote(chance.choice(NASTY)).encode())
        # A session that is made stays in the state: most probes must fail for their form.
        if b"RoleSessionName=fuzz&" in body and chance.random() < 0.95:
            body = body.replace(b"RoleSessionName=fuzz&", b"RoleSessionName=%&")
        return Probe(requests.whole("POST", "/", body, headers=content), may_succeed=True)

    return probe


IAM_FORMS = (
    "Action=GetUser&UserName=somebody",
    "Action=ListUsers&PathPrefix=/&Marker=AAAA&MaxItems=10",
    "Action=TagUser&UserName=somebody&Tags.member.1.Key=posix-uid&Tags.member.1.Value=1001",
    "Action=UntagUser&UserName=somebody&TagKeys.member.1=posix-uid",
    "Action=UpdateAccessKey&UserName=somebody&AccessKeyId=somebody&Status=Active",
    "Action=ListAccessKeys&UserName=somebody",
    "Action=PutUserPolicy&UserName=somebody&PolicyName=own&PolicyDocument={policy}",
    "Action=GetUserPolicy&UserName=somebody&PolicyName=own",
    "Action=DeleteUserPolicy&UserName=somebody&PolicyName=own",
    "Action=CreatePolicy&PolicyName=fuzz&PolicyDocument={policy}",
    "Action=GetPolicy&PolicyArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Apolicy%2Ffuzz",
    "Action=DeletePolicy&PolicyArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Apolicy%2Ffuzz",
    "Action=AttachUserPolicy&UserName=somebody&PolicyArn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2Freadonly",
    "Action=ListAttachedUserPolicies&UserName=somebody",
)


def administration(requests: Requests) -> Generator:
    """IAM forms of an administrator."""
    policy = quote(
        DOCUMENTS[3][3].replace(b'"Principal":{"AWS":["arn:aws:iam:::user/alice"]},', b"")
    )
    content = (("content-type", "application/x-www-form-urlencoded"),)

    def probe(chance: random.Random) -> Probe:
        form = chance.choice(IAM_FORMS).format(policy=policy) + "&Version=2010-05-08"
        body = bend(form.encode(), chance, chance.choice((1, 1, 2, 3)))
        if chance.random() < 0.3:
            name, equals, _ = chance.choice(form.split("&")).partition("=")
            value = quote(chance.choice((*NASTY, *INTERESTING)))
            body = f"{form}&{name}.x={value}".encode() if chance.random() < 0.3 else body
            body = form.replace(f"{name}{equals}", f"{name}={value}", 1).encode()
        return Probe(requests.whole("POST", "/", body, headers=content), may_succeed=True)

    return probe


def uploads(requests: Requests, user: User) -> Generator:
    """Browser forms whose policy lets them put small files below ``allowed/`` and nothing else."""
    names = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-meta-a", "Content-Type")
    document = {
        "expiration": timestamp(time.time() + 3600),
        "conditions": [
            {"bucket": "forms"},
            ["starts-with", "$key", "allowed/"],
            ["content-length-range", 1, 100],
            *(["starts-with", f"${name}", ""] for name in names),
        ],
    }
    fields = [
        ("key", "allowed/${filename}"),
        *signed(user, document),
        ("x-amz-meta-a", "value"),
        ("Content-Type", "text/plain"),
    ]
    base = form(fields, b"data of the file")
    markers = (b"allowed/", b"name=", b"key", b"filename=", b"; ", b"form-data", b"--", b"x-amz-")

    def probe(chance: random.Random) -> Probe:
        body = base
        if chance.random() < 0.5:
            # Where it counts: names, delimiters and the key.
            marker = chance.choice(markers)
            at = chance.choice([match.start() for match in re.finditer(re.escape(marker), body)])
            body = body[:at] + bend(body[at : at + 40], chance) + body[at + 40 :]
        else:
            body = bend(body, chance, chance.choice((1, 1, 2, 4)))
        kind = f"multipart/form-data; boundary={BOUNDARY}".encode()
        if chance.random() < 0.1:
            kind = bend(kind, chance).replace(b"\r", b"").replace(b"\n", b"")
        lines = [
            b"POST /forms HTTP/1.1",
            f"host: {requests.host}".encode(),
            b"content-type: " + kind,
            f"content-length: {len(body)}".encode(),
        ]
        return Probe(b"\r\n".join(lines) + b"\r\n\r\n" + body, may_succeed=True)

    return probe


BODY = bytes(range(256)) * 40
PIECES = (BODY[:8192], BODY[8192:])


def chunks(requests: Requests) -> Generator:
    """aws-chunked bodies, bent after they were signed: never a success with other bytes."""
    md5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()

    def probe(chance: random.Random) -> Probe:
        mode = chance.choice(
            (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER)
        )
        trailing = mode != STREAMING_SIGNED
        trailers = {"x-amz-checksum-crc32": b64("crc32", BODY)} if trailing else {}
        headers = [
            ("host", requests.host),
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", str(len(BODY))),
        ]
        if trailing:
            headers.append(("x-amz-trailer", "x-amz-checksum-crc32"))
        path = "/photos/fuzz/chunks"
        added, context = requests.signer.sign_with_context(
            "PUT", path, "", headers, mode, time.time()
        )
        encoder = ChunkEncoder(PayloadMode.parse(mode), context)
        whole = b""
        for piece in PIECES:
            before, after = encoder.chunk(piece)
            whole += before + piece + after
        framing = [0, 90, 8192, 8290, len(whole) + 8192 - len(BODY)]
        whole += encoder.end(trailers)
        kind = chance.randrange(4)
        if kind == 0:
            body = bend(whole, chance)
        elif kind == 1:
            # Near the framing, where it counts.
            at = min(len(whole), max(0, chance.choice(framing) + chance.randrange(-90, 90)))
            body = whole[:at] + bend(whole[at : at + 90], chance) + whole[at + 90 :]
        elif kind == 2:
            tail = len(whole) - 300
            body = whole[:tail] + bend(whole[tail:], chance)
        else:
            body = whole[: chance.randrange(len(whole))]
        lines = [f"PUT {path} HTTP/1.1", *(f"{n}: {v}" for n, v in (*headers, *added))]
        lines.append(f"content-length: {len(body)}")
        data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        return Probe(data, may_succeed=True, etag=md5)

    return probe


KINDS: dict[str, Callable[[Requests], Generator]] = {
    "signature-headers": signature_headers,
    "authorization": authorization,
    "tampered": tampered,
    "queries": queries,
    "paths": paths,
    "documents": documents,
    "chunks": chunks,
}


def send(store: StoreProcess, generator: Generator, count: int, seed: int, kind: str) -> int:
    """Send ``count`` probes; by how many KiB the store's memory has grown."""
    before = resident_kib(store.pid)
    run(store.port, generator, count, seed)
    after = resident_kib(store.pid)
    if REPORT is not None:
        with Path(REPORT).open("a") as report:
            report.write(f"{kind} {count} {before} {after}\n")
    assert "Traceback" not in (log := store.log.read_text()), log[-3000:]
    return after - before


@pytest.mark.parametrize("kind", KINDS)
def test_bent_requests(store: StoreProcess, alice: User, kind: str) -> None:
    generator = KINDS[kind](Requests(store.port, alice))
    # What grows with use in any case (caches, arenas) has grown after the first part.
    send(store, generator, COUNT // 3, SEED, kind)
    grown = send(store, generator, COUNT - COUNT // 3, SEED + 1, kind)
    assert grown < 20 * 1024, f"{grown} KiB more in {COUNT} requests"
    still_sound(store, alice)


def test_bent_forms(store: StoreProcess, alice: User) -> None:
    generator = forms(Requests(store.port, alice, service="sts"))
    send(store, generator, COUNT // 2, SEED, "sts")
    still_sound(store, alice)


def test_bent_administration(store: StoreProcess, alice: User) -> None:
    store.add_user("somebody", 1002)
    generator = administration(Requests(store.port, store.admin(), service="iam"))
    send(store, generator, COUNT // 2, SEED, "iam")
    still_sound(store, alice)


def test_bent_uploads(store: StoreProcess, alice: User) -> None:
    client = store.s3(alice)
    client.create_bucket(Bucket="forms")
    send(store, uploads(Requests(store.port, alice), alice), COUNT, SEED, "uploads")
    # Whatever was bent, the policy that was signed has held.
    found = [
        row
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="forms")
        for row in page.get("Contents", [])
    ]
    assert found
    assert [row["Key"] for row in found if not row["Key"].startswith("allowed/")] == []
    assert [row["Key"] for row in found if not 1 <= row["Size"] <= 100] == []
    client.close()
    still_sound(store, alice)


def still_sound(store: StoreProcess, alice: User) -> None:
    """What was there is as it was; what the fuzzing put may be anything but wrong."""
    client = store.s3(alice)
    client.delete_bucket_policy(Bucket="photos")
    answer = client.get_object(Bucket="photos", Key="there")
    assert answer["Body"].read() in (b"here", b"")
    found = client.list_objects_v2(Bucket="photos", Prefix="fuzz/chunks")
    if found["KeyCount"]:
        got = client.get_object(Bucket="photos", Key="fuzz/chunks")["Body"].read()
        assert got == BODY, "a bent body was stored"
        client.delete_object(Bucket="photos", Key="fuzz/chunks")
    client.close()


def test_interesting_bytes_in_every_signed_value(store: StoreProcess, alice: User) -> None:
    """Every header and parameter of the signature with every interesting value, one by one."""
    requests = Requests(store.port, alice)
    head = requests.head("GET", "/photos/there", wrongly=True).split(b"\r\n")
    wire = Wire(store.port)
    for at in range(2, len(head) - 2):
        name = head[at].partition(b": ")[0]
        for value in INTERESTING:
            if b"\r" in value or b"\n" in value or b"\0" in value:
                continue
            probe = Probe(b"\r\n".join([*head[:at], name + b": " + value, *head[at + 1 :]]))
            check(probe, wire.exchange(probe))
    given = requests.other.presign("GET", "/photos/there", "", requests.host, time.time(), 60)
    parts = given.split("&")
    for at in range(len(parts)):
        for text in VALUES:
            parameter = parts[at].partition("=")[0]
            query = "&".join([*parts[:at], f"{parameter}={text}", *parts[at + 1 :]])
            probe = Probe(
                f"GET /photos/there?{query} HTTP/1.1\r\nhost: {requests.host}\r\n\r\n".encode()
            )
            check(probe, wire.exchange(probe))
    wire.close()
