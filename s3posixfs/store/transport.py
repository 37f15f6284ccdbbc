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
from s3posixfs.waiting.tls_socket import TlsSocket

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

    __slots__ = ("_bulk", "_socket", "_stall", "peer")
    secure = True

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        bulk: Bulk,
        stall: float,
        context: ssl.SSLContext,
    ) -> None:
        """OSError where the client has left already."""
        self._socket = TlsSocket(sock, context, server_side=True)
        self._bulk = bulk
        self._stall = stall
        self.peer = peer

    async def handshake(self) -> None:
        """Raise unless the client completes TLS within the stall time."""
        with trio.fail_after(self._stall):
            await self._socket.handshake()

    async def receive_into(self, view: memoryview) -> int:
        with trio.fail_after(self._stall):
            return await self._socket.receive_into(view)

    async def send(self, *pieces: bytes | memoryview) -> None:
        # One record for head and small body together.
        rest = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        while True:
            rest, wanted = self._socket.send_now(rest)
            if wanted is None:
                return
            with trio.fail_after(self._stall):
                await self._socket.ready(wanted)

    async def send_file(self, fd: int, offset: int, length: int) -> None:
        end = offset + length
        rest = memoryview(b"")
        while offset < end or len(rest):
            # In a thread: reading the file may wait for the disk, and encrypting takes its time.
            offset, rest, wanted = await self._bulk.run(self._send_some, fd, offset, end, rest)
            if wanted is not None:
                with trio.fail_after(self._stall):
                    await self._socket.ready(wanted)

    def _send_some(
        self, fd: int, offset: int, end: int, rest: memoryview
    ) -> tuple[int, memoryview, ssl.SSLWantReadError | ssl.SSLWantWriteError | None]:
        """Send what is left of what was read, and then of the file from the offset on."""
        limit = min(end, offset + _SENDFILE_BYTES)
        while True:
            rest, wanted = self._socket.send_now(rest)
            if wanted is not None or offset == limit:
                return offset, rest, wanted
            rest = memoryview(os.pread(fd, min(_TLS_READ_BYTES, limit - offset), offset))
            if not rest:
                raise OSError("the file became shorter while it was sent")
            offset += len(rest)

    async def finish(self) -> None:
        self._socket.send_no_more()

    async def aclose(self) -> None:
        self._socket.close()
