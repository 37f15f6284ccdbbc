"""Fuzzing over sockets: requests bent at random, and what every answer to them must be like.

A generator gives :class:`Probe`s; :class:`Wire` sends them, many on one connection, and
:func:`check` says what is wrong with the answers. The same seed gives the same requests.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from tests.store.raw import Answer

# S3 answers so; anything else (500 above all) is the server's fault.
_REFUSALS = frozenset({400, 403, 404, 405, 409, 411, 412, 416, 417, 501, 503, 505})
_SUCCESSES = frozenset({200, 201, 204, 206, 303, 304})
# XML 1.0 has no way to write a control character; S3 writes this, and so do we.
_UNWRITABLE = re.compile(rb"&#x[0-9a-f]+;")
_SECONDS = 15.0

INTERESTING = (
    b"", b"\x00", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"\t", b" ", b"\x7f", b"\x80", b"\xff",
    b"\xc3\xa9", b"\xed\xa0\x80", b"%", b"%00", b"%2", b"%2F", b"%2f", b"%ff", b"%FF%FE", b"%0d%0a",
    b"+", b"&", b"=", b"&&", b";", b",", b"/", b"//", b"/../", b"..", b"\\", b"?", b"#", b":",
    b"'", b'"', b"<", b">", b"&lt;", b"]]>", b"<!--", b"<![CDATA[", b"-1", b"0", b"1", b"9" * 20,
    b"0x10", b"1e3", b"NaN", b"true", b"A" * 300, b"%41" * 100, b"20130524", b"T", b"Z",
    b"\xef\xbc\x91", b"aws4_request", b"AWS4-HMAC-SHA256", b"UNSIGNED-PAYLOAD",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Probe:
    """One request as bytes. ``alone`` ones get a connection that is half-closed after them.

    ``may_succeed`` says whether an answer below 400 is right, and ``etag`` what that must have;
    ``head_only`` says that it has no body.
    """

    data: bytes
    may_succeed: bool = False
    alone: bool = False
    head_only: bool = False
    etag: str = ""


class Wire:
    """A connection to 127.0.0.1 that is made anew when the server has ended it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._received = b""
        self.connections = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, probe: Probe) -> list[Answer]:
        """Every answer to ``probe``: one, unless it stands alone. A hang is a TimeoutError."""
        if probe.alone:
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._received = b""
            self.connections += 1
        try:
            self._socket.sendall(probe.data)
            if probe.alone:
                self._socket.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
        answers = []
        while (answer := self._answer(probe.head_only)) is not None:
            answers.append(answer)
            if not probe.alone:
                break
        if probe.alone or not answers or answers[-1].headers.get("connection") == "close":
            self.close()
        return answers

    def _answer(self, head_only: bool) -> Answer | None:
        while b"\r\n\r\n" not in self._received:
            if not self._more():
                assert not self._received, f"half an answer: {self._received[:200]!r}"
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.decode("utf-8").split("\r\n")
        assert re.fullmatch(r"HTTP/1\.1 \d{3} [\w' -]+", status), status
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._received) < length:
            assert self._more(), "the body of an answer is cut"
        body, self._received = self._received[:length], self._received[length:]
        number = int(status.split()[1])
        return self._answer(head_only) if number == 100 else Answer(number, headers, body)

    def _more(self) -> bool:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            return False
        self._received += data
        return bool(data)


def check(probe: Probe, answers: list[Answer]) -> None:
    """Fail unless ``answers`` are clean: AWS's XML under a right status, no wrong success."""
    assert answers or probe.alone, f"no answer to {probe.data[:600]!r}"
    for answer in answers:
        told = f"{answer.status} {answer.body[:300]!r}\nto {probe.data[:1500]!r}"
        assert answer.status in _REFUSALS | _SUCCESSES, told
        if answer.status in _SUCCESSES:
            assert probe.may_succeed, f"a wrong success: {told}"
            assert not probe.etag or answer.headers.get("etag") == f'"{probe.etag}"', told
            continue
        assert "x-amz-request-id" in answer.headers, told
        if probe.head_only:
            continue
        try:
            root = etree.fromstring(_UNWRITABLE.sub(b"?", answer.body))
        except etree.XMLSyntaxError as error:
            raise AssertionError(f"no XML ({error}): {told}") from None
        assert etree.QName(root).localname in ("Error", "ErrorResponse"), told
        assert answer.code, told


def run(port: int, generator: Callable[[random.Random], Probe], count: int, seed: int) -> Wire:
    """Send ``count`` probes and check every answer."""
    chance = random.Random(seed)
    wire = Wire(port)
    try:
        for _ in range(count):
            probe = generator(chance)
            try:
                answers = wire.exchange(probe)
            except TimeoutError:
                raise AssertionError(f"no answer in time to {probe.data[:1500]!r}") from None
            check(probe, answers)
    finally:
        wire.close()
    return wire


def bend(data: bytes, chance: random.Random, times: int = 1) -> bytes:
    """``data`` with one or more places changed; it may come out the same."""
    for _ in range(times):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 0, 1, 1, 2, 8, 40)))
        kind = chance.randrange(5)
        if kind == 0:
            new = chance.choice(INTERESTING)
        elif kind == 1:
            new = chance.randbytes(end - at or 1)
        elif kind == 2:
            new = b""
        elif kind == 3:
            start = chance.randrange(len(data) + 1)
            new = data[start : start + chance.randrange(1, 60)]
        else:
            new = data[at:end] * chance.choice((2, 3, 50))
        data = data[:at] + new + data[end:]
    return data


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    assert match is not None
    return int(match[1])
