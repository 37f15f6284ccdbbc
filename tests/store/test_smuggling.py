"""Requests hidden in requests: each carries a well-signed PUT that must never be done.

What follows a broken head or body is not a request, however well it is signed. Cases after
"HTTP Desync Attacks" (Kettle, 2019) and RFC 9112, 11.2.
"""

from __future__ import annotations

import select
from typing import Any

import pytest

from tests.store.raw import RawClient
from tests.store_process import StoreProcess, User


def hidden(raw: RawClient) -> bytes:
    """A PUT that would be done if it were read as a request."""
    return raw.head("PUT", "/photos/hidden", unsigned=(("content-length", "0"),))


def outer(raw: RawClient, *lines: bytes) -> bytes:
    """A well-signed PUT of /photos/outer with these header lines, unsigned as in real life."""
    head = raw.head("PUT", "/photos/outer")
    return head[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


FRAMINGS: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    # what is wrong: the lines that say how long the body is, and what stands before the hidden
    "CL.TE": ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), b"0\r\n\r\n"),
    "TE.CL": ((b"Transfer-Encoding: chunked", b"Content-Length: 4"), b"0\r\n\r\n"),
    "TE.TE": ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), b"0\r\n\r\n"),
    "two TE in one": ((b"Transfer-Encoding: identity, chunked",), b"0\r\n\r\n"),
    "TE with a tab": ((b"Transfer-Encoding:\tx\tchunked",), b"0\r\n\r\n"),
    "TE with VT": ((b"Transfer-Encoding: \x0bchunked",), b"0\r\n\r\n"),
    "TE quoted": ((b'Transfer-Encoding: "chunked"',), b"0\r\n\r\n"),
    "TE with a parameter": ((b"Transfer-Encoding: chunked;q=1",), b"0\r\n\r\n"),
    "TE folded": ((b"Transfer-Encoding:", b" chunked"), b"0\r\n\r\n"),
    "TE before a colon": ((b"Transfer-Encoding : chunked",), b"0\r\n\r\n"),
    "TE after a bare LF": ((b"X: y\nTransfer-Encoding: chunked",), b"0\r\n\r\n"),
    "TE after a bare CR": ((b"X: y\rTransfer-Encoding: chunked",), b"0\r\n\r\n"),
    "two CL": ((b"Content-Length: 0", b"Content-Length: 5"), b"hello"),
    "two equal CL": ((b"Content-Length: 5", b"Content-Length: 5"), b"hello"),
    "CL list": ((b"Content-Length: 5, 5",), b"hello"),
    "CL negative": ((b"Content-Length: -1",), b""),
    "CL signed": ((b"Content-Length: +5",), b"hello"),
    "CL hex": ((b"Content-Length: 0x5",), b"hello"),
    "CL fraction": ((b"Content-Length: 5.0",), b"hello"),
    "CL underscore": ((b"Content-Length: 1_0",), b"hello"),
    "CL empty": ((b"Content-Length:",), b""),
    "CL blank": ((b"Content-Length: 5 5",), b"hello"),
    "CL overflow": ((b"Content-Length: 18446744073709551621",), b"hello"),
    "CL other digits": ((b"Content-Length: \xd9\xa5",), b"hello"),
    "CL folded": ((b"Content-Length:", b" 5"), b"hello"),
    "CL with NUL": ((b"Content-Length: 5\x00",), b"hello"),
    "header without colon": ((b"Content-Length: 5", b"nothing"), b"hello"),
    "header without name": ((b"Content-Length: 5", b": x"), b"hello"),
    "header name with blank": ((b"Content-Length: 5", b"a b: x"), b"hello"),
    "header name with NUL": ((b"Content-Length: 5", b"a\x00b: x"), b"hello"),
    "header name not ASCII": ((b"Content-Length: 5", b"\xc3\xa9: x"), b"hello"),
    "huge head": ((b"Content-Length: 5", b"X: " + b"a" * 40_000), b"hello"),
    "many headers": ((b"Content-Length: 5", *[b"X: a"] * 8000), b"hello"),
    "chunk size too large": ((b"Transfer-Encoding: chunked",), b"ffffffffffffffff1\r\n"),
    "chunk size negative": ((b"Transfer-Encoding: chunked",), b"-1\r\n\r\n"),
    "chunk size empty": ((b"Transfer-Encoding: chunked",), b"\r\n\r\n"),
    "chunk size 0x": ((b"Transfer-Encoding: chunked",), b"0x0\r\n\r\n"),
    "chunk size with a blank before": ((b"Transfer-Encoding: chunked",), b" 0\r\n\r\n"),
    "chunk size with LF": ((b"Transfer-Encoding: chunked",), b"0\n\n"),
    "chunk size with CR": ((b"Transfer-Encoding: chunked",), b"0\r\r\n"),
    "chunk extension with LF": ((b"Transfer-Encoding: chunked",), b"0;a\nb\r\n\r\n"),
    "chunk extension without end": ((b"Transfer-Encoding: chunked",), b"0;" + b"a" * 9000),
    "chunk end missing": ((b"Transfer-Encoding: chunked",), b"1\r\nab\r\n0\r\n\r\n"),
    "trailer with LF": ((b"Transfer-Encoding: chunked",), b"0\r\na: b\n\r\n"),
    "trailer without end": ((b"Transfer-Encoding: chunked",), b"0\r\n" + b"a: b\r\n" * 4000),
}  # fmt: skip


@pytest.mark.parametrize("case", FRAMINGS)
def test_nothing_is_smuggled(running: StoreProcess, alice: User, client: Any, case: str) -> None:
    lines, before = FRAMINGS[case]
    with RawClient(running.port, alice) as raw:
        raw.send(outer(raw, *lines) + before + hidden(raw))
        answer = raw.answer()
        assert 400 <= answer.status < 506, answer
        assert answer.status != 500
        assert answer.code
        assert raw.closed(), "a request was read after one that has no end"
    assert client.list_objects_v2(Bucket="photos", Prefix="hidden")["KeyCount"] == 0


START_LINES = (
    b"PUT  /photos/outer HTTP/1.1",
    b"PUT\t/photos/outer\tHTTP/1.1",
    b" PUT /photos/outer HTTP/1.1",
    b"PUT /photos/outer  HTTP/1.1",
    b"PUT /photos/outer HTTP/1.1 ",
    b"PUT /photos/outer",
    b"PUT /photos/out er HTTP/1.1",
    b"PUT /photos/outer HTTP/1.1x",
    b"PUT /photos/outer HTTP/01.1",
    b"PUT /photos/outer HTTP/1.2",
    b"PUT /photos/outer HTTP/0.9",
    b"PUT /photos/outer http/1.1",
    b"put /photos/outer HTTP/1.1",
    b"PUT\x00/photos/outer HTTP/1.1",
    b"PUT /photos/\x00outer HTTP/1.1",
    b"PUT /photos/\xff HTTP/1.1",
    b"PUT /photos/outer\x7f HTTP/1.1",
    b"PUT http://127.0.0.1/photos/outer HTTP/1.1",
    b"PUT //127.0.0.1/photos/outer HTTP/1.1",
    b"PUT * HTTP/1.1",
    b"PUT photos/outer HTTP/1.1",
    b"PUT /photos/outer#part HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"CONNECT photos:443 HTTP/1.1",
    b"TRACE /photos/outer HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01",
    b"",
)


@pytest.mark.parametrize("line", START_LINES)
def test_start_lines(running: StoreProcess, alice: User, line: bytes) -> None:
    with RawClient(running.port, alice) as raw:
        _, _, rest = raw.head("PUT", "/photos/outer").partition(b"\r\n")
        raw.send(line + b"\r\n" + rest[:-2] + b"Content-Length: 0\r\n\r\n")
        answer = raw.answer()
        assert 400 <= answer.status < 506, answer
        assert answer.status != 500
        assert answer.code


def test_lines_before_a_request_are_skipped_but_not_for_ever(
    running: StoreProcess, alice: User
) -> None:
    with RawClient(running.port, alice) as raw:
        raw.send(b"\r\n\r\n" + raw.head("GET", "/photos"))
        assert raw.answer().status == 200


def test_a_head_in_single_bytes(running: StoreProcess, alice: User) -> None:
    with RawClient(running.port, alice) as raw:
        for byte in raw.head("GET", "/photos"):
            raw.send(bytes([byte]))
        assert raw.answer().status == 200


def test_slow_clients_hold_up_nobody(running: StoreProcess, alice: User) -> None:
    slow = [RawClient(running.port, alice) for _ in range(200)]
    try:
        for number, raw in enumerate(slow):
            if number % 2:
                raw.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ")
            else:
                length = (("content-length", "1000000"),)
                raw.send(raw.head("PUT", f"/photos/slow/{number}", unsigned=length) + b"x")
        with RawClient(running.port, alice) as quick:
            for _ in range(20):
                assert quick.put("/photos/quick", b"x").status == 200
        # The slow ones were not cut off to make room: they still wait, unanswered.
        answered, _, _ = select.select([raw.socket for raw in slow], [], [], 0)
        assert not answered
    finally:
        for raw in slow:
            raw.socket.close()
    with RawClient(running.port, alice) as raw:
        assert b"<KeyCount>0<" in raw.get("/photos", query="list-type=2&prefix=slow").body
