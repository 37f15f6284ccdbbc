"""An HTTP server on a real loopback socket that does just what a test tells it, faults included."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived; ``connection`` counts the connections from 0."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    connection: int


# One answer; returns whether the connection stays open.
Step = Callable[[Stream, Seen], Awaitable[bool]]


async def forever() -> bool:
    """Wait until the server is torn down."""
    await trio.Event().wait()
    return False


def reply(
    status: int = 200,
    body: bytes = b"",
    *,
    keep: bool = True,
    length: int | None = None,
    **headers: str,
) -> Step:
    """A plain answer; header names with ``_`` for ``-``. ``length`` lies about the body's."""

    async def step(stream: Stream, seen: Seen) -> bool:
        lines = [f"HTTP/1.1 {status} Whatever"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body) if length is None else length}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        await stream.send_all(head + (b"" if seen.method == "HEAD" else body))
        return keep

    return step


def error(status: int, code: str, message: str = "", extra: str = "", **headers: str) -> Step:
    """An S3 error answer."""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    return reply(status, text.encode(), keep=True, length=None, **headers)


def raw(data: bytes, *, keep: bool = False) -> Step:
    """Exactly these bytes."""

    async def step(stream: Stream, seen: Seen) -> bool:
        if data:
            await stream.send_all(data)
        return keep

    return step


def stall(data: bytes = b"") -> Step:
    """These bytes, and then nothing more."""

    async def step(stream: Stream, seen: Seen) -> bool:
        if data:
            await stream.send_all(data)
        return await forever()

    return step


def dribble(data: bytes, pause: float) -> Step:
    """These bytes, one after the other."""

    async def step(stream: Stream, seen: Seen) -> bool:
        for index in range(len(data)):
            await stream.send_all(data[index : index + 1])
            await trio.sleep(pause)
        return True

    return step


drop = raw(b"")


class ScriptedServer:
    """Answers request after request by its steps, over however many connections."""

    def __init__(self, *steps: Step, read_bodies: bool = True) -> None:
        self.steps = list(steps)
        self.seen: list[Seen] = []
        self.connections = 0
        self.port = 0
        self.pipelines = True  # not: what comes behind a request is lost
        self._read_bodies = read_bodies
        self._context: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}"

    async def start(self, nursery: trio.Nursery, context: ssl.SSLContext | None = None) -> None:
        """Listen on a port of the system's choice, in the nursery."""
        self._context = context
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, self._serve, listeners)

    def answer(self, seen: Seen) -> Step:
        """How to answer this request."""
        return self.steps.pop(0) if self.steps else error(400, "ScriptEnded")

    async def _serve(self, plain: trio.SocketStream) -> None:
        number = self.connections
        self.connections += 1
        plain.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream: Stream = plain
        if self._context is not None:
            stream = trio.SSLStream(plain, self._context, server_side=True, https_compatible=True)
        try:
            rest = bytearray()
            while (seen := await self._receive(stream, number, rest)) is not None:
                self.seen.append(seen)
                if not await self.answer(seen)(stream, seen):
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _receive(self, stream: Stream, number: int, rest: bytearray) -> Seen | None:
        """The next request; ``rest`` is what came of the one behind it."""
        data = bytes(rest)
        rest.clear()
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some(65536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        wanted = int(headers.get("content-length", "0")) if self._read_bodies else 0
        while len(body) < wanted:
            more = await stream.receive_some(65536)
            if not more:
                return None
            body += more
        if self.pipelines:
            rest += body[wanted:]
            body = body[:wanted]
        return Seen(method, target, headers, body, number)
