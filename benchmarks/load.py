"""The least that a client of a store can do: requests signed beforehand, many sockets, one epoll.

A client that takes longer for a request than a good store would hide it. One thread drives all
connections; what is sent was made before the clock runs, save where a request follows from the
answer before it (the pages of a listing).
"""

from __future__ import annotations

import hashlib
import select
import socket
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer

_BLOCK = 1024 * 1024
_KEPT = 4 * _BLOCK  # a longer body of an answer is received and let go
_PATIENCE = 300.0  # seconds for any one answer
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a store is, and the key pair that it lets in."""

    name: str
    port: int
    region: str
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes to send. ``counts`` says that its answer ends one unit of the work."""

    head: bytes
    body: bytes | memoryview = b""
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the lower-cased header lines, and the body if it was short."""

    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """A header's value, in lower case; empty where there is none."""
        start = self.head.find(f"\n{name}:".encode())
        if start < 0:
            return ""
        return self.head[start + len(name) + 2 :].split(b"\r\n", 1)[0].strip().decode()


Script = Generator[Request, Answer, None]


@dataclass(frozen=True, slots=True)
class Work:
    """What a run of scripts came to; ``client_cpu`` is this process's own, in seconds."""

    units: int
    seconds: float
    client_cpu: float


class Maker:
    """Makes signed requests for a target, path style."""

    def __init__(self, target: Target) -> None:
        self._signer = Signer(Credentials(target.access_key, target.secret_key), target.region)
        self._host = f"127.0.0.1:{target.port}"

    def request(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | memoryview = b"",
        *,
        digest: str = "",
        headers: Sequence[tuple[str, str]] = (),
        counts: bool = True,
    ) -> Request:
        """A request; ``digest``, the body's SHA-256 in hex, saves hashing a large one again."""
        text = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query)
        )
        digest = digest or (hashlib.sha256(body).hexdigest() if body else _EMPTY)
        named = [("host", self._host), *headers]
        named += self._signer.sign(method, path, text, named, digest, time.time())
        if method in ("PUT", "POST"):
            named.append(("content-length", str(len(body))))
        lines = [f"{method} {path}{'?' if text else ''}{text} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in named]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if 0 < len(body) < 65536:
            return Request(head + bytes(body), b"", counts)
        return Request(head, body, counts)


class _Connection:
    """One socket and the script that speaks over it."""

    __slots__ = (
        "_address",
        "_head",
        "_kept",
        "_left",
        "_sending",
        "counts",
        "script",
        "socket",
        "waiting_to_send",
    )

    def __init__(self, address: tuple[str, int], script: Script) -> None:
        self._address = address
        self.script = script
        self.socket = self._connect()
        self._sending: list[memoryview] = []
        self._kept = bytearray()
        self._head: bytes | None = None
        self._left: int | None = None  # bytes of the body that are missing; None: chunked
        self.counts = False
        self.waiting_to_send = False

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, _PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        return connection

    def reconnect(self) -> None:
        self.socket.close()
        self.socket = self._connect()

    def begin(self, request: Request) -> None:
        """Start a request; what the socket does not take now is left to :meth:`send`."""
        self.counts = request.counts
        self._kept.clear()
        self._head = None
        self._sending = [memoryview(request.head)]
        if len(request.body):
            self._sending.append(memoryview(request.body))
        self.send()

    def send(self) -> None:
        """Send what the socket takes; ``waiting_to_send`` says whether something is left."""
        sending = self._sending
        try:
            while sending:
                sent = self.socket.send(sending[0])
                if sent == len(sending[0]):
                    sending.pop(0)
                else:
                    sending[0] = sending[0][sent:]
        except BlockingIOError:
            pass
        self.waiting_to_send = bool(sending)

    def receive(self, buffer: memoryview) -> Answer | None:
        """Take what has come; the answer once it is whole."""
        try:
            count = self.socket.recv_into(buffer)
        except BlockingIOError:
            return None
        if count == 0:
            raise RuntimeError(f"the store closed the connection; so far: {self._kept[:300]!r}")
        if self._head is None:
            self._kept += buffer[:count]
            at = self._kept.find(b"\r\n\r\n")
            if at < 0:
                return None
            self._head = bytes(self._kept[: at + 2])
            del self._kept[: at + 4]
            self._head = self._head.replace(b"HTTP", b"http", 1)
            answer = Answer(self._head.lower(), b"")
            length = answer.header("content-length")
            chunked = answer.header("transfer-encoding") == "chunked"
            if self._head[:16].split()[1] not in (b"200", b"204", b"206"):
                raise RuntimeError(f"the store refused: {self._head!r} {self._kept!r}")
            if not length and not chunked and b" 204 " not in self._head[:16]:
                raise RuntimeError(f"an answer without a length: {self._head!r}")
            self._left = None if chunked else int(length or 0) - len(self._kept)
        elif self._left is None:
            self._kept += buffer[:count]
        else:
            self._left -= count
            if len(self._kept) < _KEPT:
                self._kept += buffer[:count]
            else:
                self._kept[_KEPT:] = b""
        if self._left is None:
            body = _whole(self._kept)
            return None if body is None else Answer(self._head.lower(), body)
        if self._left > 0:
            return None
        return Answer(self._head.lower(), bytes(self._kept) if len(self._kept) < _KEPT else b"")


def _whole(data: bytearray) -> bytes | None:
    """The body of a chunked answer, or None while some of it is missing."""
    if not data.endswith(b"0\r\n\r\n"):
        return None
    body, at = bytearray(), 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(bytes(data[at:end]).split(b";")[0], 16)
        if size == 0:
            return bytes(body)
        body += data[end + 2 : end + 2 + size]
        at = end + 4 + size


def drive(port: int, scripts: Sequence[Script], seconds: float | None = None) -> Work:
    """Run each script over a connection of its own, all at once.

    After ``seconds`` no new request is begun. Raises RuntimeError where the store refuses one.
    """
    buffer = memoryview(bytearray(_BLOCK))
    connections: dict[int, _Connection] = {}
    units = 0
    with select.epoll() as poll:

        def begin(connection: _Connection, request: Request) -> None:
            connection.begin(request)
            number = connection.socket.fileno()
            mask = select.EPOLLIN | (select.EPOLLOUT if connection.waiting_to_send else 0)
            if connections.get(number) is not connection:
                connections[number] = connection
                poll.register(number, mask)
            elif connection.waiting_to_send:
                poll.modify(number, mask)

        opened = [(_Connection(("127.0.0.1", port), script), next(script)) for script in scripts]
        cpu, began = time.process_time(), time.perf_counter()
        end = None if seconds is None else began + seconds
        for connection, request in opened:
            begin(connection, request)
        while connections:
            events = poll.poll(_PATIENCE)
            if not events:
                raise RuntimeError(f"no answer within {_PATIENCE:.0f} s")
            for number, event in events:
                connection = connections[number]
                if event & select.EPOLLOUT:
                    connection.send()
                    if not connection.waiting_to_send:
                        poll.modify(number, select.EPOLLIN)
                if not event & ~select.EPOLLOUT:
                    continue
                answer = connection.receive(buffer)
                if answer is None:
                    continue
                units += connection.counts
                following = _following(connection.script, answer, end)
                closes = answer.header("connection") == "close" or b"http/1.0" in answer.head[:9]
                if following is None or closes:
                    del connections[number]
                    poll.unregister(number)
                if following is None:
                    connection.socket.close()
                    continue
                if closes:
                    connection.reconnect()
                begin(connection, following)
        spent = time.perf_counter() - began
    return Work(units, spent, time.process_time() - cpu)


def _following(script: Script, answer: Answer, end: float | None) -> Request | None:
    if end is not None and time.perf_counter() >= end:
        script.close()
        return None
    try:
        return script.send(answer)
    except StopIteration:
        return None
