"""Answers GET /metrics on a port of this host or a unix socket: HTTP for one program, no more."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import httptools
import trio

from s3posixfs.core.errors import OperatorError
from s3posixfs.metrics.address import Address
from s3posixfs.metrics.exposition import CONTENT_TYPE, Family, render

_MOST_HEAD_BYTES = 16 * 1024
_SECONDS = 10.0
_AT_ONCE = 4

Snapshot = Callable[[], Sequence[Family]]


def bind(address: Address) -> socket.socket:
    """A listening socket; one with a path is for its owner only (mode 0600).

    Raises OperatorError where the address cannot be had.
    """
    if isinstance(address, Path):
        return _bind_path(address)
    host, port = address
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OperatorError(
            f"cannot serve metrics on {host}:{port}: {error.strerror}; choose another port"
        ) from None
    listener.listen(16)
    return listener


def _bind_path(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()  # of a daemon that was killed
        listener.bind(os.fspath(path))
    except OSError as error:
        listener.close()
        raise OperatorError(
            f"cannot serve metrics on {path}: {error.strerror}; name a socket in a folder that "
            "this user may write to"
        ) from None
    finally:
        os.umask(before)
    listener.listen(16)
    return listener


def release(address: Address) -> None:
    """Remove the socket that :func:`bind` has made, where it is one with a path."""
    if isinstance(address, Path):
        with suppress(OSError):
            address.unlink()


class _Head:
    """Collects what httptools finds in a request."""

    def __init__(self) -> None:
        self.target = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        """Part of httptools' interface."""
        self.target += url

    def on_headers_complete(self) -> None:
        """Part of httptools' interface."""
        self.complete = True


async def _target(stream: trio.SocketStream) -> tuple[bytes, bytes] | None:
    head, received = _Head(), 0
    parser = httptools.HttpRequestParser(head)
    async for data in stream:
        received += len(data)
        try:
            parser.feed_data(bytes(data))
        except httptools.HttpParserError:
            return None
        if head.complete:
            return parser.get_method(), head.target.partition(b"?")[0]
        if received > _MOST_HEAD_BYTES:
            return None
    return None


def _answer(status: str, kind: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def serve(
    listener: socket.socket,
    snapshot: Snapshot,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled; ``snapshot`` gives what there is at that moment, quickly."""
    places = trio.CapacityLimiter(_AT_ONCE)
    # One at a time: a text takes milliseconds of Python, which the daemon wants for itself.
    threads = trio.CapacityLimiter(1)

    async def handler(stream: trio.SocketStream) -> None:
        with trio.move_on_after(_SECONDS), suppress(trio.BrokenResourceError):
            async with places:
                await stream.send_all(await respond(stream))

    async def respond(stream: trio.SocketStream) -> bytes:
        asked = await _target(stream)
        if asked is None:
            return _answer("400 Bad Request", "text/plain", b"not a request\n")
        method, target = asked
        if target != b"/metrics":
            return _answer("404 Not Found", "text/plain", b"metrics are at /metrics\n")
        if method not in (b"GET", b"HEAD"):
            return _answer("405 Method Not Allowed", "text/plain", b"GET only\n")
        text = await trio.to_thread.run_sync(render, snapshot(), limiter=threads)
        answer = _answer("200 OK", CONTENT_TYPE, text)
        return answer.removesuffix(text) if method == b"HEAD" else answer

    stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handler, [stream])
        task_status.started()
