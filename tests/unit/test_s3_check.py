"""At mount start: one line that says what is wrong and what to do, over plain TCP and TLS."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import StaticProvider
from s3posixfs.s3.check import check
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.endpoint import parse_endpoint
from tests.unit.scripted_server import ScriptedServer, Step, error, raw, reply


def http_time(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


async def complaint(url: str, bucket: str | None = "photos", ca_file: Path | None = None) -> str:
    """What check says of the endpoint, or "" when it is content."""
    async with S3Client(url, clock=SystemClock(), ca_file=ca_file, random=lambda: 0.0) as client:
        store = client.acting_as(StaticProvider(Credentials("ak", "sk")), "alice")
        try:
            await check(store, bucket)
        except OperatorError as problem:
            text = str(problem)
            assert "\n" not in text
            assert "sk" not in text.split()
            return text
        return ""


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (reply(200, b"<ListBucketResult/>"), []),
        (error(404, "NoSuchBucket"), ["no bucket 'photos'", "create it"]),
        (error(403, "InvalidAccessKeyId"), ["does not know the access key", "'alice'"]),
        (error(403, "SignatureDoesNotMatch"), ["'alice'", "secret key is wrong"]),
        (error(403, "AccessDenied"), ["'alice'", "'photos'", "s3:ListBucket"]),
        (error(400, "ExpiredToken"), ["temporary credentials", "'alice'"]),
        (error(301, "PermanentRedirect"), ["another region"]),
        (reply(200, b"<html>nginx</html>"), ["not answer as an S3 store"]),
        (reply(404, b"<html>nginx</html>"), ["no bucket"]),
        (raw(b"220 mail ready\r\n\r\n"), ["not answer as an S3 store"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else None,
)
async def test_refusals_in_one_line(nursery: trio.Nursery, step: Step, words: list[str]) -> None:
    server = ScriptedServer(*[step] * 6)
    await server.start(nursery)
    text = await complaint(server.url)
    assert bool(text) == bool(words), text
    for word in words:
        assert word in text


async def test_a_clock_too_far_off(nursery: trio.Nursery) -> None:
    stamp = http_time(time.time() + 7200)
    server = ScriptedServer(*[error(403, "RequestTimeTooSkewed", Date=stamp)] * 2)
    await server.start(nursery)
    assert "clock" in await complaint(server.url)


async def test_all_buckets_need_another_action(nursery: trio.Nursery) -> None:
    server = ScriptedServer(error(403, "AccessDenied"))
    await server.start(nursery)
    assert "s3:ListAllMyBuckets" in await complaint(server.url, None)


async def test_nobody_listens() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with trio.fail_after(60):
        text = await complaint(f"http://127.0.0.1:{port}")
    assert f"cannot reach http://127.0.0.1:{port}" in text
    assert "refused" in text


async def test_name_that_does_not_resolve() -> None:
    assert "cannot be resolved" in await complaint("http://store.invalid:9000")


@pytest.mark.parametrize(
    "url",
    ["", "store:9000", "ftp://h", "http://", "http://h:99999", "http://h/bucket", "http://h?x"],
)
def test_endpoint_urls_that_are_none(url: str) -> None:
    with pytest.raises(OperatorError):
        parse_endpoint(url)


def test_endpoint_addresses() -> None:
    path = parse_endpoint("http://[::1]:9000/")
    assert path.url == "http://[::1]:9000"
    assert path.address("b", "k ü") == ("::1", "[::1]:9000", "/b/k%20%C3%BC")
    assert path.address("b", "") == ("::1", "[::1]:9000", "/b")
    assert path.address("", "") == ("::1", "[::1]:9000", "/")
    host = parse_endpoint("https://s3.example.com", path_style=False)
    assert host.address("b", "k") == ("b.s3.example.com", "b.s3.example.com", "/k")


# TLS


class Authority:
    """A CA in a file, and a server certificate for 127.0.0.1 that it has signed."""

    def __init__(self, folder: Path, address: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
        now = datetime.now(UTC)
        ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")]))
            .issuer_name(name)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        chain = folder / "server.pem"
        chain.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain)


@pytest.fixture
async def secure(nursery: trio.Nursery, tmp_path: Path) -> ScriptedServer:
    authority = Authority(tmp_path, "127.0.0.1")
    server = ScriptedServer(*[reply(200, b"<ListBucketResult/>")] * 3)
    await server.start(nursery, authority.context)
    return server


async def test_tls_with_the_ca_of_a_file(secure: ScriptedServer, tmp_path: Path) -> None:
    assert await complaint(secure.url, ca_file=tmp_path / "ca.pem") == ""


async def test_tls_without_it_is_refused(secure: ScriptedServer) -> None:
    text = await complaint(secure.url)
    assert "not trusted" in text
    assert "ca_file" in text
    assert secure.seen == [], "the request was sent to a store that is not proven"


async def test_tls_of_another_host_is_refused(nursery: trio.Nursery, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "127.0.0.2")
    server = ScriptedServer(reply(200))
    await server.start(nursery, authority.context)
    assert "not trusted" in await complaint(server.url, ca_file=authority.ca_file)
    assert server.seen == []


async def test_tls_to_a_plain_port(nursery: trio.Nursery) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, refuse, listeners)
    port = listeners[0].socket.getsockname()[1]
    text = await complaint(f"https://127.0.0.1:{port}")
    assert "TLS" in text
    assert "ca_file" in text


async def test_tls_bodies_of_all_sizes(nursery: trio.Nursery, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "127.0.0.1")
    body = bytes(range(256)) * 8192
    server = ScriptedServer(reply(200, body), reply(200), reply(200, b"x"))
    await server.start(nursery, authority.context)
    async with S3Client(server.url, clock=SystemClock(), ca_file=authority.ca_file) as client:
        store = client.acting_as(StaticProvider(Credentials("a", "s")))
        assert bytes((await store.get("b", "k"))[1]) == body
        await store.put("b", "k", body)
        assert bytes((await store.get("b", "k"))[1]) == b"x"
    assert server.seen[1].body == body
    assert server.connections == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_ca_file_that_is_none(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(OperatorError, match=r"ca\.pem"):
        S3Client("https://127.0.0.1", clock=SystemClock(), ca_file=ca_file)
