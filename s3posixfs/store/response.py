"""An answer, and its head as bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

Headers = list[tuple[str, str]]

_REASONS = {status.value: status.phrase for status in HTTPStatus}
# A header value is one line of text, whatever a client once stored.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9110, 5.1. Names of metadata are what clients, and local programs, once chose.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def is_header_name(name: str) -> bool:
    """Whether HTTP has a header of this name: one line, no colon, ASCII."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class FileBody:
    """``length`` bytes at ``offset`` of an open file; the server closes ``fd`` after sending."""

    fd: int
    offset: int
    length: int
    close: Callable[[], None]


@dataclass(slots=True)
class Response:
    """One answer. ``length`` is what a HEAD says of the body it does not send."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | memoryview = b""
    file: FileBody | None = None
    length: int | None = None

    @property
    def size(self) -> int:
        """Bytes of body that GET would send."""
        if self.length is not None:
            return self.length
        return self.file.length if self.file is not None else len(self.body)

    def discard(self) -> None:
        """Give back what the body holds."""
        if self.file is not None:
            self.file.close()
            self.file = None


class HeadWriter:
    """Turns answers into bytes; remembers the Date line for the second it holds."""

    __slots__ = ("_date", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def write(self, response: Response, request_id: str, *, keep_alive: bool) -> bytes:
        """The status line and headers of ``response``, up to the empty line.

        A header that would end its line early, or begin another, is left out.
        """
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True)
        status = response.status
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n"
            f"Server: s3posixfs\r\nDate: {self._date}\r\n"
            f"x-amz-request-id: {request_id}\r\nx-amz-id-2: {request_id}\r\n"
        ]
        for name, value in response.headers:
            if not is_header_name(name):
                continue
            if not value.isprintable():
                value = _CONTROLS.sub(" ", value)
            lines.append(f"{name}: {value}\r\n")
        if status not in (204, 304):
            lines.append(f"Content-Length: {response.size}\r\n")
        lines.append("\r\n" if keep_alive else "Connection: close\r\n\r\n")
        return "".join(lines).encode("utf-8")
