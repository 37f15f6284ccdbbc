"""Requests of other clients, taken off the wire: C++ (pyarrow), Rust (obstore), boto3."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import obstore
import pyarrow.fs
import pytest
from botocore.config import Config
from obstore.store import S3Store

from s3posixfs.core.checksums import algorithm_of_header, create
from s3posixfs.sigv4.chunked import ChunkDecoder
from s3posixfs.sigv4.parsing import IncomingRequest
from s3posixfs.sigv4.verifying import check_scope, check_time, parse, verify

if TYPE_CHECKING:
    from obstore.store import S3Config

KEY, SECRET, TOKEN = "alice", "correct/horse+battery=staple", "token/with+odd=signs=="
ODD_KEYS = ["plain", "a b+c%2Fd", "$&,:=@;!*'()", "café/日本語", "a//b/./c"]


class Recorder(ThreadingHTTPServer):
    """Answers every request with 200 and keeps what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[IncomingRequest, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def handle_any(self) -> None:
        target = self.path.encode("latin-1")
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        body = b""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((IncomingRequest(self.command, target, headers), body))
        self.send_response(200)
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Wed, 01 May 2024 00:00:00 GMT")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def accept_all(recorder: Recorder, token: str | None) -> list[tuple[IncomingRequest, bytes]]:
    assert recorder.seen
    for request, body in recorder.seen:
        signed = parse(request)
        assert signed is not None, request.raw_target
        check_scope(signed, "us-east-1", "s3")
        check_time(signed, time.time())
        assert (signed.access_key, signed.session_token) == (KEY, token)
        context = verify(request, signed, SECRET, s3=True)
        if signed.payload.chunked:
            length = int(request.values("x-amz-decoded-content-length")[0])
            names = request.values("x-amz-trailer")
            decoder = ChunkDecoder(signed.payload, context, length, names)
            data = b"".join(decoder.feed(body))
            decoder.finish()
            for name, value in decoder.trailers.items():
                checksum = create(algorithm_of_header(name) or "")
                checksum.update(data)
                assert checksum.b64() == value
    return recorder.seen


def by_boto3(url: str, token: str | None) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    for key in ODD_KEYS:
        client.put_object(Bucket="b", Key=key, Body=b"data" * 5000, Metadata={"a": "x  y"})
        client.head_object(Bucket="b", Key=key)
    client.close()


def by_pyarrow(url: str, token: str | None) -> None:
    filesystem = pyarrow.fs.S3FileSystem(
        access_key=KEY,
        secret_key=SECRET,
        session_token=token,
        endpoint_override=url,
        region="us-east-1",
        allow_delayed_open=True,
        request_timeout=5,
        connect_timeout=5,
    )
    for key in ODD_KEYS[:-1]:  # it refuses empty segments itself
        with filesystem.open_output_stream(f"b/{key}") as stream:
            stream.write(b"data" * 5000)
        filesystem.get_file_info(f"b/{key}")


def by_obstore(url: str, token: str | None) -> None:
    config: S3Config = {
        "endpoint": url,
        "region": "us-east-1",
        "access_key_id": KEY,
        "secret_access_key": SECRET,
    }
    if token is not None:
        config["session_token"] = token
    store = S3Store("b", config=config, client_options={"allow_http": True})
    for key in ODD_KEYS[:-1]:  # it normalises such paths itself
        obstore.put(store, key, b"data" * 5000, use_multipart=False)
        obstore.head(store, key)


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("client", [by_boto3, by_pyarrow, by_obstore])
def test_other_clients_are_verified(
    recorder: Recorder, client: Callable[[str, str | None], None], token: str | None
) -> None:
    client(recorder.url, token)
    seen = accept_all(recorder, token)
    assert {request.method for request, _ in seen} >= {"PUT", "HEAD"}
