"""No secret, token or signature is in the audit log, on stderr or in the body of an error.

A run of requests of every kind, proven and refused; every sensitive text that was sent or given
out is remembered, and then looked for.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.chunked import ChunkEncoder
from s3posixfs.sigv4.constants import STREAMING_SIGNED, STREAMING_SIGNED_TRAILER
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.signing import Signer
from tests.store.fuzzing import Probe, Wire
from tests.store.raw import Answer
from tests.store.test_access_matrix import CALLS, Call
from tests.store.test_post_form import BOUNDARY, form, signed
from tests.store_process import REGION, StoreProcess, User

FORM = (("content-type", "application/x-www-form-urlencoded"),)
IAM_CALLS = (
    "Action=GetCallerIdentity&Version=2011-06-15",
    "Action=GetSessionToken&Version=2011-06-15",
    "Action=AssumeRole&Version=2011-06-15&RoleSessionName=x1&RoleArn=arn:aws:iam::0:role/anybody",
    "Action=AssumeRole&Version=2011-06-15&RoleSessionName=x1&RoleArn=arn:aws:iam:::user/absent",
    "Action=CreateUser&Version=2010-05-08&UserName=somebody",
    "Action=CreateAccessKey&Version=2010-05-08&UserName=somebody",
    "Action=ListAccessKeys&Version=2010-05-08&UserName=somebody",
    "Action=Nonsense&Version=2010-05-08",
)


class Collector:
    """Sends requests and remembers what must not be seen again."""

    def __init__(self, store: StoreProcess) -> None:
        self.wire = Wire(store.port)
        self.host = f"127.0.0.1:{store.port}"
        self.sensitive: set[str] = set()
        self.statuses: set[int] = set()

    def send(
        self,
        who: Credentials | None,
        call: Call,
        *,
        service: str = "s3",
        skew: float = 0.0,
        presigned: bool = False,
        trailer: str = "",
    ) -> Answer:
        """Send a call; ``trailer`` is appended to the signature, which makes it wrong."""
        query, digest = call.query, hashlib.sha256(call.body).hexdigest()
        headers = [("host", self.host), *call.headers]
        now = time.time() + skew
        if who is not None:
            self.sensitive.add(who.secret_key)
            if who.session_token:
                self.sensitive.add(who.session_token)
            signer = Signer(who, REGION, service)
            if presigned:
                query = signer.presign(call.method, call.path, query, self.host, now, 60) + trailer
                found = re.search(r"X-Amz-Signature=([0-9a-f]{64})", query)
            else:
                added = signer.sign(call.method, call.path, query, headers, digest, now)
                headers += [
                    (name, value + trailer * (name.lower() == "authorization"))
                    for name, value in added
                ]
                found = re.search(r"Signature=([0-9a-f]{64})", dict(headers)["Authorization"])
            assert found is not None
            self.sensitive.add(found[1])
        target = f"{call.path}?{query}" if query else call.path
        lines = [f"{call.method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers)]
        lines.append(f"content-length: {len(call.body)}")
        data = "\r\n".join(lines).encode() + b"\r\n\r\n" + call.body
        return self._exchange(Probe(data, head_only=call.method == "HEAD"))

    def chunked(self, who: Credentials, mode: str, damage: bytes) -> Answer:
        """PUT in signed chunks; ``damage`` replaces the last bytes of the body."""
        headers = [("host", self.host), ("x-amz-decoded-content-length", "9000")]
        trailers = {}
        if mode == STREAMING_SIGNED_TRAILER:
            headers.append(("x-amz-trailer", "x-amz-checksum-crc32"))
            trailers = {"x-amz-checksum-crc32": "AAAAAA=="}
        added, context = Signer(who, REGION).sign_with_context(
            "PUT", "/photos/chunks", "", headers, mode, time.time()
        )
        encoder = ChunkEncoder(PayloadMode.parse(mode), context)
        before, after = encoder.chunk(b"c" * 9000)
        body = before + b"c" * 9000 + after + encoder.end(trailers)
        self.sensitive |= set(re.findall("[0-9a-f]{64}", body.decode()))
        self.sensitive.add(context.seed_signature)
        self.sensitive.add(context.key.hex())
        body = body[: len(body) - len(damage)] + damage
        lines = ["PUT /photos/chunks HTTP/1.1", *(f"{n}: {v}" for n, v in (*headers, *added))]
        lines.append(f"content-length: {len(body)}")
        return self._exchange(Probe("\r\n".join(lines).encode() + b"\r\n\r\n" + body))

    def form(self, who: Credentials, wrong: str) -> Answer:
        """POST a browser's form, with ``wrong`` as its signature where there is one."""
        fields = dict(signed(User("", who.access_key, who.secret_key, 0, 0), '{"conditions": []}'))
        self.sensitive.add(fields["x-amz-signature"])
        if who.session_token:
            fields["x-amz-security-token"] = who.session_token
        if wrong:
            fields["x-amz-signature"] = wrong
            self.sensitive.add(wrong)
        body = form([("key", "form"), *fields.items()], b"data")
        lines = ["POST /photos HTTP/1.1", f"host: {self.host}", f"content-length: {len(body)}"]
        lines.append(f"content-type: multipart/form-data; boundary={BOUNDARY}")
        return self._exchange(Probe("\r\n".join(lines).encode() + b"\r\n\r\n" + body))

    def _exchange(self, probe: Probe) -> Answer:
        (answer,) = self.wire.exchange(probe)
        self.statuses.add(answer.status)
        text = answer.body.decode("utf-8", "replace")
        if answer.status >= 400:
            assert self.leaked(text) == [], f"{text}\nto {probe.data!r}"
        else:
            # What a success gives out is secret from now on.
            for name in ("SecretAccessKey", "SessionToken"):
                self.sensitive |= set(re.findall(f"<{name}>(.*?)</{name}>", text))
        for name, value in answer.headers.items():
            assert self.leaked(value) == [], name
        return answer

    def leaked(self, text: str) -> list[str]:
        """The sensitive texts in ``text``, as they are or as bytes in hex."""
        return [
            secret
            for secret in self.sensitive
            if secret in text or secret.encode().hex(" ") in text or secret.encode().hex() in text
        ]


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    environment = {"S3POSIXFS_TEST_MIN_SESSION": "1"}
    with StoreProcess(module_folder / "store", environment=environment) as store:
        yield store


def session_of(collector: Collector, user: Credentials, seconds: int) -> Credentials:
    """Temporary credentials, also shorter ones than boto3 lets one ask for."""
    form = (
        "Action=AssumeRole&Version=2011-06-15&RoleSessionName=secret"
        f"&RoleArn=arn:aws:iam::0:role/any-at-all&DurationSeconds={seconds}"
    )
    answer = collector.send(
        user, Call("POST", "/", body=form.encode(), headers=FORM), service="sts"
    )
    assert answer.status == 200, answer.body
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    values = [re.search(f"<{name}>(.*?)</{name}>", answer.body.decode()) for name in names]
    key, secret, token = (value[1] for value in values if value is not None)
    return Credentials(key, secret, token)


def test_nothing_secret_is_told(store: StoreProcess) -> None:
    alice = store.add_user("alice", 1001, policy="readwrite")
    bob = store.add_user("bob", 1002)
    admin = store.admin()
    client = store.s3(alice)
    client.create_bucket(Bucket="photos")
    client.close()
    collector = Collector(store)
    own = Credentials(alice.access_key, alice.secret_key)
    bobs = Credentials(bob.access_key, bob.secret_key)
    expired = session_of(collector, own, 1)
    session = session_of(collector, own, 900)
    others = session_of(collector, bobs, 900)
    callers = {
        "alice": own,
        "bob": bobs,
        "admin": Credentials(admin.access_key, admin.secret_key),
        "session": session,
        "expired": expired,
        "wrong secret": Credentials(alice.access_key, "a-secret-that-is-not-the-one-of-alice"),
        "unknown key": Credentials("nobody-at-all", "a-secret-that-opens-nothing-here-or-there"),
        "no token": Credentials(session.access_key, session.secret_key),
        "a token too many": Credentials(own.access_key, own.secret_key, session.session_token),
        "another's token": Credentials(
            session.access_key, session.secret_key, others.session_token
        ),
        "a token of no one": Credentials(
            session.access_key, session.secret_key, "FwoGZXIvYXdzEBYaDHqa0AP1lXw7bQz/not+given=="
        ),
    }
    time.sleep(1.2)
    for call in CALLS.values():
        for who in (*callers.values(), None):
            collector.send(who, call)
        collector.send(own, call, trailer="0")
        collector.send(session, call, skew=-3600)
        for who in (own, session, expired, callers["wrong secret"]):
            collector.send(who, call, presigned=True)
        collector.send(session, call, presigned=True, skew=-3600)
        collector.send(session, call, presigned=True, trailer="0")
        collector.send(session, call, presigned=True, trailer="&X-Amz-Algorithm=AWS4-HMAC-SHA256")
    for bad in ("/photos/%ff", "/NO-BUCKET/x"):
        collector.send(session, Call("GET", bad))
        collector.send(session, Call("GET", bad), presigned=True)
    for text in IAM_CALLS:
        call = Call("POST", "/", body=text.encode(), headers=FORM)
        service = "iam" if "2010" in text else "sts"
        for who in (*callers.values(), None):
            collector.send(who, call, service=service)
    for mode in (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER):
        for damage in (b"", b"0\r\n\r\n", b"x" * 40):
            for who in (own, session, callers["wrong secret"]):
                collector.chunked(who, mode, damage)
    for who, wrong in ((own, ""), (own, "0" * 64), (session, ""), (expired, ""), (others, "")):
        collector.form(who, wrong)
    collector.wire.close()
    assert {200, 204, 400, 403, 404} <= collector.statuses
    assert len(collector.sensitive) > 500
    # boto3's old presigned form puts the signature where other versions do.
    old = boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        region_name=REGION,
        aws_access_key_id=alice.access_key,
        aws_secret_access_key=alice.secret_key,
    )
    url = old.generate_presigned_url("get_object", Params={"Bucket": "photos", "Key": "x"})
    old.close()
    signature = re.search("Signature=([^&]+)", url)
    assert signature is not None
    collector.sensitive.add(signature[1])
    wire = Wire(store.port)
    target = url.removeprefix(store.endpoint.rstrip("/"))
    (answer,) = wire.exchange(Probe(f"GET {target} HTTP/1.1\r\nhost: h\r\n\r\n".encode()))
    wire.close()
    assert answer.status == 400
    assert collector.leaked(answer.body.decode()) == []
    assert store.stop() == 0
    audit = (store.state / "audit.log").read_text()
    assert audit.count("\n") > 1000
    log = store.log.read_text()
    assert "Traceback" not in log
    for text in (audit, log):
        assert collector.leaked(text) == []
        for word in ("Signature=", "AWS4-HMAC", "ecurity-Token", "<SessionToken"):
            assert word not in text
    # At rest, too, the state has no secret as it is, and no token at all.
    for path in store.state.iterdir():
        if path.name != "admin-credentials":
            data = path.read_bytes()
            assert not [secret for secret in collector.sensitive if secret.encode() in data], path
