"""HTTP/1.1 heads: written as bytes, read by httptools. No I/O.

Only heads go through the parser; a body of known length is received straight into its buffer
by the connection. RFC 9112 is the reference.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import httptools

from s3posixfs.core.errors import S3Error

MAX_HEAD_BYTES = 64 * 1024

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


@dataclass(slots=True, unsafe_hash=True)
class Response:
    """An answer: status, headers (names in lower case, repeated ones joined by a comma), body."""

    status: Final[int]
    headers: Final[dict[str, str]]
    body: Final[memoryview] = field(repr=False)

    @property
    def date(self) -> float:
        """The store's clock when it answered, seconds since the epoch; 0.0 where not said."""
        return parse_http_date(self.headers.get("date", ""))


def parse_http_date(text: str) -> float:
    """Seconds since the epoch of an IMF-fixdate (RFC 9110 §5.6.7); 0.0 for anything else."""
    try:
        _, day, month, year, clock, _ = text.split(" ")
        hour, minute, second = clock.split(":")
        return float(
            calendar.timegm(
                (int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second))
            )
        )
    except (ValueError, KeyError):
        return 0.0


def request_head(method: str, target: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """The head of a request as it goes on the wire.

    Raises S3Error (InvalidArgument) when a header or the target holds a line break or NUL:
    such a value could end the head early and begin another request.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    text = "\r\n".join(lines) + "\r\n\r\n"
    ends = len(lines) + 1
    if text.count("\n") != ends or text.count("\r") != ends or "\0" in text:
        raise S3Error("InvalidArgument", "a header may not hold a line break or NUL", status=400)
    return text.encode("utf-8", "surrogateescape")


class HeadParser:
    """Parses one response: its head, and the body only where that is chunked.

    Use: :meth:`feed_head` with the bytes up to and including the blank line; then, when
    ``chunked``, :meth:`feed_body` until ``complete``.
    """

    __slots__ = ("_limit", "_parser", "_size", "body", "complete", "headers")

    def __init__(self, *, limit: int) -> None:
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.complete = False
        self._limit = limit
        self._size = 0
        self._parser = httptools.HttpResponseParser(self)

    # callbacks of httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("utf-8", "surrogateescape").strip(" \t")
        if key in self.headers:
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = True

    # what the connection asks

    def feed_head(self, head: bytes) -> int:
        """The status. Raises httptools.HttpParserError when this is no HTTP head."""
        self._parser.feed_data(head)
        return int(self._parser.get_status_code())

    def feed_body(self, data: bytes | memoryview) -> None:
        """Take more of a chunked body. Raises httptools.HttpParserError."""
        self._parser.feed_data(data)

    @property
    def oversize(self) -> bool:
        """Whether the chunked body is larger than the caller wants to hold."""
        return self._size > self._limit

    @property
    def keep_alive(self) -> bool:
        """Whether the server means to keep the connection (of a message that has a length)."""
        connection = self.headers.get("connection", "").lower()
        if "close" in connection:
            return False
        return self._parser.get_http_version() != "1.0" or "keep-alive" in connection

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def content_length(self) -> int | None:
        """The announced length in bytes; ValueError where it is not one number."""
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"Content-Length {text[:40]!r}")
        return int(text)
