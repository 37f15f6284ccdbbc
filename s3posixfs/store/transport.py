"""Bytes to and from one client: a bare non-blocking socket, or TLS over one.

Both move bodies without needless copies: received straight into the caller's buffer, and sent
from the file by the kernel where there is no TLS.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Protocol

import trio

from s3posixfs.core.types import MIB
from s3posixfs.store.threads import Bulk

_SENDFILE_BYTES = 8 * MIB
_TLS_READ_BYTES = 256 * 1024


class Transport(Protocol):
    """One connection. Every method raises ``OSError`` or trio's resource errors when it broke.

    A call without progress for ``stall`` seconds raises :class:`trio.TooSlowError`.
    """

    @property
    def peer(self) -> str:
        """The client's IP address."""
        ...

    @property
    def secure(self) -> bool:
        """Whether the connection is TLS."""
        ...

    async def receive_into(self, view: memoryview) -> int:
        """Receive at most ``len(view)`` bytes; 0 when the client has closed its side."""
        ...

    async def send(self, *pieces: bytes | memoryview) -> None:
        """Send all of ``pieces``."""
        ...

    async def send_file(self, fd: int, offset: int, length: int) -> None:
        """Send ``length`` bytes at ``offset`` of a file; ``OSError`` if it has fewer."""
        ...

    async def finish(self) -> None:
        """Tell the client that no more will come, where the protocol can say so."""
        ...

    async def aclose(self) -> None: ...


class PlainTransport:
    """HTTP without TLS."""

    __slots__ = ("_bulk", "_socket", "_stall", "peer")
    secure = False

    def __init__(self, sock: socket.socket, peer: str, bulk: Bulk, stall: float) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._bulk = bulk
        self._stall = stall
        self.peer = peer

    async def receive_into(self, view: memoryview) -> int:
        while True:
            try:
                return self._socket.recv_into(view)
            except BlockingIOError:
                with trio.fail_after(self._stall):
                    await trio.lowlevel.wait_readable(self._socket)

    async def send(self, *pieces: bytes | memoryview) -> None:
        remaining = [memoryview(piece) for piece in pieces if len(piece)]
        while remaining:
            try:
                sent = self._socket.sendmsg(remaining)
            except BlockingIOError:
                with trio.fail_after(self._stall):
                    await trio.lowlevel.wait_writable(self._socket)
                continue
            while remaining and sent >= len(remaining[0]):
                sent -= len(remaining.pop(0))
            if sent:
                remaining[0] = remaining[0][sent:]

    async def send_file(self, fd: int, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            # In a thread, because reading the file may wait for the disk. It stops where the
            # socket is full, so that a slow client occupies no thread.
            offset, full = await self._bulk.run(self._send_some, fd, offset, end)
            if full:
                with trio.fail_after(self._stall):
                    await trio.lowlevel.wait_writable(self._socket)

    def _send_some(self, fd: int, offset: int, end: int) -> tuple[int, bool]:
        limit = min(end, offset + _SENDFILE_BYTES)
        while offset < limit:
            try:
                sent = os.sendfile(self._socket.fileno(), fd, offset, limit - offset)
            except BlockingIOError:
                return offset, True
            if sent == 0:
                raise OSError("the file became shorter while it was sent")
            offset += sent
        return offset, False

    async def finish(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class TlsTransport:
    """HTTPS."""

    __slots__ = ("_bulk", "_stall", "_stream", "peer")
    secure = True

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        bulk: Bulk,
        stall: float,
        context: ssl.SSLContext,
    ) -> None:
        sock.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._stream: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
            stream, context, server_side=True, https_compatible=True
        )
        self._bulk = bulk
        self._stall = stall
        self.peer = peer

    async def handshake(self) -> None:
        """Raise unless the client completes TLS within the stall time."""
        with trio.fail_after(self._stall):
            await self._stream.do_handshake()

    async def receive_into(self, view: memoryview) -> int:
        with trio.fail_after(self._stall):
            data = await self._stream.receive_some(len(view))
        view[: len(data)] = data
        return len(data)

    async def send(self, *pieces: bytes | memoryview) -> None:
        # One record for head and small body together.
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        view = memoryview(data)
        for start in range(0, len(view), _TLS_READ_BYTES):
            with trio.fail_after(self._stall):
                await self._stream.send_all(view[start : start + _TLS_READ_BYTES])

    async def send_file(self, fd: int, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            data = await self._bulk.run(os.pread, fd, min(_TLS_READ_BYTES, end - offset), offset)
            if not data:
                raise OSError("the file became shorter while it was sent")
            await self.send(data)
            offset += len(data)

    async def finish(self) -> None:
        with trio.fail_after(self._stall):
            await self._stream.transport_stream.send_eof()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)
