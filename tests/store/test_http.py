"""The HTTP server by bytes: framing, keep-alive, limits, and what must not be believed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.store.raw import RawClient
from tests.store_process import StoreProcess, User

MIB = 1024 * 1024


def test_requests_in_one_packet_are_answered_in_order(raw: RawClient) -> None:
    assert raw.put("/photos/pipelined", b"here").status == 200
    raw.send(
        raw.head("GET", "/photos/pipelined")
        + raw.head("GET", "/photos/absent")
        + raw.head("GET", "/photos/pipelined")
    )
    answers = [raw.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 404, 200]
    assert answers[2].body == b"here"


def test_every_answer_has_the_headers_of_s3(raw: RawClient) -> None:
    answer = raw.get("/photos/absent")
    assert answer.code == "NoSuchKey"
    assert answer.headers["x-amz-request-id"].encode() in answer.body
    assert {"date", "server", "x-amz-id-2"} <= answer.headers.keys()


def test_head_has_no_body_even_in_an_error(raw: RawClient) -> None:
    raw.send(raw.head("HEAD", "/photos/absent"))
    assert raw.answer(head_only=True).status == 404
    assert raw.put("/photos/after-head", b"x").status == 200


@pytest.mark.parametrize(
    "broken",
    [
        b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /photos/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"PUT /photos/a HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n",
        b"PUT /photos/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        b"PUT /photos/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"PUT /photos/a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: h\n\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
        b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
    ],
)
def test_an_ambiguous_head_is_refused_and_the_connection_closed(
    raw: RawClient, broken: bytes
) -> None:
    raw.send(broken)
    answer = raw.answer()
    assert 400 <= answer.status < 506
    assert answer.code
    assert answer.headers["connection"] == "close"
    assert raw.closed()


def test_the_client_is_told_to_continue_only_when_its_body_is_wanted(
    raw: RawClient, running: StoreProcess, bob: User
) -> None:
    expect = (("content-length", "4"), ("expect", "100-continue"))
    raw.send(raw.head("PUT", "/photos/expected", unsigned=expect))
    assert raw.line() == b"HTTP/1.1 100 Continue"
    assert raw.line() == b""
    raw.send(b"body")
    assert raw.answer().status == 200
    with RawClient(running.port, bob) as refused:
        refused.send(refused.head("PUT", "/photos/expected", unsigned=expect))
        answer = refused.answer()
        assert (answer.status, answer.code) == (403, "AccessDenied")
        # The client may send the body or not: what follows can't be told apart from a request.
        assert refused.closed()


def test_a_small_unwanted_body_is_read_over(running: StoreProcess, bob: User) -> None:
    with RawClient(running.port, bob) as raw:
        assert raw.put("/photos/refused", b"x" * 1000).code == "AccessDenied"
        assert raw.put("/photos/refused", b"x" * 1000).code == "AccessDenied"


def test_a_large_unwanted_body_ends_the_connection_but_the_answer_arrives(
    running: StoreProcess, bob: User
) -> None:
    with RawClient(running.port, bob) as raw:
        answer = raw.put("/photos/refused", b"x" * MIB)
        assert answer.code == "AccessDenied"
        assert raw.closed()


def test_chunked_transfer_of_any_split(raw: RawClient) -> None:
    framed = b"5;name=value\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: ignored\r\n\r\n"
    coding = (("transfer-encoding", "chunked"),)
    head = raw.head("PUT", "/photos/chunked", unsigned=coding)
    for size in (1, 7, 1000):
        raw.send(head)
        for start in range(0, len(framed), size):
            raw.send(framed[start : start + size])
        assert raw.answer().status == 200
        assert raw.get("/photos/chunked").body == b"hello world"


@pytest.mark.parametrize(
    "framed",
    [b"5\r\nhelloX\r\n0\r\n\r\n", b"-5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"5\nhello\n0\n\n"],
)
def test_broken_chunks_store_nothing(raw: RawClient, framed: bytes) -> None:
    coding = (("transfer-encoding", "chunked"),)
    raw.send(raw.head("PUT", "/photos/broken-chunks", unsigned=coding) + framed)
    assert raw.answer().status == 400
    assert raw.closed()


def test_a_body_that_ends_early_stores_nothing(
    running: StoreProcess, raw: RawClient, alice: User
) -> None:
    raw.send(
        raw.head("PUT", "/photos/cut", unsigned=(("content-length", "2000000"),)) + b"x" * 1_500_000
    )
    raw.socket.shutdown(1)
    assert raw.answer().code == "IncompleteBody"
    with RawClient(running.port, alice) as other:
        assert other.get("/photos/cut").code == "NoSuchKey"


def test_a_put_needs_a_length(raw: RawClient) -> None:
    raw.send(raw.head("PUT", "/photos/no-length"))
    assert (answer := raw.answer()).status == 411
    assert answer.code == "MissingContentLength"


def test_header_values_do_not_become_headers(raw: RawClient) -> None:
    answer = raw.get("/photos/x", query="response-content-type=a%0D%0AInjected%3A%20yes")
    assert "injected" not in answer.headers


def test_sigterm_finishes_what_is_in_flight(open_folder: Path) -> None:
    with StoreProcess(open_folder) as store:
        user = store.add_user("alice", 1001, policy="readwrite")
        with RawClient(store.port, user) as raw, RawClient(store.port, user) as idle:
            raw.send(raw.head("PUT", "/photos", unsigned=(("content-length", "0"),)))
            assert raw.answer().status == 200
            length = (("content-length", str(2 * MIB)),)
            raw.send(raw.head("PUT", "/photos/late", unsigned=length) + b"x" * MIB)
            time.sleep(0.3)
            pid = store.pid
            status: list[int] = []
            ender = threading.Thread(target=lambda: status.append(store.stop()))
            ender.start()
            assert idle.closed()
            os.kill(pid, 0)
            raw.send(b"y" * MIB)
            answer = raw.answer()
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            ender.join(20)
            assert status == [0]
        assert (store.root / "photos" / "late").stat().st_size == 2 * MIB


def test_workers_share_the_port_and_end_together(open_folder: Path) -> None:
    with StoreProcess(open_folder, arguments=["--workers", "2"]) as store:
        user = store.add_user("alice", 1001, policy="readwrite")
        client = store.s3(user)
        client.create_bucket(Bucket="photos")
        for number in range(20):
            with RawClient(store.port, user) as raw:
                assert raw.put(f"/photos/{number}", b"x").status == 200
        assert client.list_objects_v2(Bucket="photos")["KeyCount"] == 20
        client.close()
        children = Path(f"/proc/{store.pid}/task/{store.pid}/children").read_text().split()
        assert len(children) == 2
        assert store.stop() == 0
        for child in children:
            with pytest.raises(ProcessLookupError):
                os.kill(int(child), 0)
