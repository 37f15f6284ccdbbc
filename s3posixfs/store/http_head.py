"""The head of an HTTP/1.1 request: parsed by httptools, and stricter than RFC 9112 asks.

Two programs that disagree where a request ends let one request hide in another, so whatever
admits two readings is refused: bare CR or LF, further blanks in the request line, folded lines,
Content-Length together with Transfer-Encoding, any transfer coding but ``chunked``, a repeated
Host.
"""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from s3posixfs.core.errors import S3Error

MAX_HEAD_BYTES = 32 * 1024
HEAD_END = b"\r\n\r\n"
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class RequestHead:
    """One request's head. Header names are in lower case, in the order sent.

    ``target`` is the request target as on the wire, always in origin form (``/path?query``).
    ``content_length`` is 0 where no body was announced, ``None`` for a chunked one.
    """

    method: str
    target: bytes
    headers: tuple[tuple[str, str], ...]
    content_length: int | None
    expect_continue: bool
    keep_alive: bool


def bad_request(message: str, *, code: str = "BadRequest", status: int = 400) -> S3Error:
    """The answer to a request that is not HTTP as this server reads it."""
    return S3Error(code, message, status=status)


class _Callbacks:
    """What httptools calls while it parses."""

    __slots__ = ("completed", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.completed = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.completed += 1


def parse_head(data: bytes) -> RequestHead:
    """Parse exactly one head, its closing empty line included.

    Raises S3Error with status 400, 405, 501 or 505. Source: RFC 9112.
    """
    if data.count(b"\n") != data.count(b"\r\n") or data.count(b"\r") != data.count(b"\r\n"):
        raise bad_request("A line of the request head does not end in CR LF.")
    if data.count(b" ", 0, data.find(b"\r")) != 2:
        raise bad_request("The request line is not a method, a target and a version.")
    callbacks = _Callbacks()
    parser = httptools.HttpRequestParser(callbacks)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        # An upgrade is an offer (RFC 9110, 7.8): the request itself stands. CONNECT does not.
        if parser.get_method() == b"CONNECT":
            raise bad_request(
                "CONNECT is not served.", code="MethodNotAllowed", status=405
            ) from None
    except httptools.HttpParserInvalidMethodError:
        raise bad_request(
            "The specified method is not allowed.", code="MethodNotAllowed", status=405
        ) from None
    except httptools.HttpParserError:
        raise bad_request("The request head is not valid HTTP/1.1.") from None
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise bad_request("Only HTTP/1.1 is spoken here.", code="BadRequest", status=505)
    if callbacks.completed != 1:
        raise bad_request("The request head is not complete.")
    method = parser.get_method().decode("ascii")
    if method not in _METHODS:
        raise bad_request(
            "The specified method is not allowed against this resource.",
            code="MethodNotAllowed",
            status=405,
        )
    target = callbacks.target
    if not target.startswith(b"/") or b"#" in target:
        raise bad_request("The request target must be a path.", code="InvalidURI")
    return _assemble(method, target, callbacks.headers, version)


def _assemble(
    method: str, target: bytes, raw_headers: list[tuple[bytes, bytes]], version: str
) -> RequestHead:
    headers: list[tuple[str, str]] = []
    length: int | None = 0
    chunked = sized = expect = False
    hosts = 0
    keep_alive = version == "1.1"
    for raw_name, raw_value in raw_headers:
        name = raw_name.decode("ascii").lower()
        try:
            value = raw_value.decode("utf-8").strip(" \t")
        except UnicodeDecodeError:
            raise bad_request("A header is not UTF-8.", code="InvalidArgument") from None
        headers.append((name, value))
        if name == "content-length":
            if sized or not value.isascii() or not value.isdigit() or len(value) > 18:
                raise bad_request("Content-Length is not one whole number.")
            sized, length = True, int(value)
        elif name == "transfer-encoding":
            if chunked or value.lower() != "chunked" or version != "1.1":
                raise bad_request(
                    "No transfer coding but chunked is known here.",
                    code="NotImplemented",
                    status=501,
                )
            chunked = True
        elif name == "connection":
            if "close" in {token.strip() for token in value.lower().split(",")}:
                keep_alive = False
        elif name == "expect":
            # Any other expectation is passed over, as S3 does and RFC 9110, 10.1.1, allows.
            expect = version == "1.1" and value.lower() == "100-continue"
        elif name == "host":
            hosts += 1
    if chunked and sized:
        raise bad_request("Content-Length and Transfer-Encoding exclude each other.")
    if hosts != 1:
        raise bad_request("Exactly one Host header is needed.")
    return RequestHead(
        method, target, tuple(headers), None if chunked else length, expect, keep_alive
    )
