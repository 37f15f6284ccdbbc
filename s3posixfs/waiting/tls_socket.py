"""TLS on a socket that does not block.

OpenSSL reads and writes the socket itself. trio's SSLStream passes each record through two buffers
in memory and several checkpoints: three times the processor time for a MB.

One task at a time may send or receive. Errors are OSError, of which ssl.SSLError is one.
"""

from __future__ import annotations

import socket
import ssl

import trio

RECORD_BYTES = 16 * 1024  # of data in a full record
# Received in one call at most: it keeps the loop busy.
_TURN_BYTES = 256 * 1024


class TlsSocket:
    """Takes over a connected socket. Shake hands before anything else."""

    __slots__ = ("_socket",)

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        sock.setblocking(False)
        self._socket = context.wrap_socket(
            sock,
            server_side=server_side,
            server_hostname=server_hostname,
            do_handshake_on_connect=False,
        )

    def fileno(self) -> int:
        """The file descriptor, -1 once it is closed."""
        return self._socket.fileno()

    async def handshake(self) -> None:
        """Agree with the peer. ssl.SSLCertVerificationError where it is not who it should be."""
        while True:
            try:
                return self._socket.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                await self.ready(wanted)

    async def receive_into(self, view: memoryview) -> int:
        """At least one byte and at most the view; 0 at the end, also where it is not said."""
        while True:
            try:
                got = last = self._socket.recv_into(view)
                break
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                await self.ready(wanted)
        # After a full record there are often more, which are had without a turn of the loop.
        most = min(len(view), _TURN_BYTES)
        while last == RECORD_BYTES and got < most:
            try:
                last = self._socket.recv_into(view[got:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            got += last
        return got

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while True:
            rest, wanted = self.send_now(rest)
            if wanted is None:
                return
            await self.ready(wanted)

    def send_now(
        self, data: memoryview
    ) -> tuple[memoryview, ssl.SSLWantReadError | ssl.SSLWantWriteError | None]:
        """Send what can be sent without waiting, also in a thread: what is left, to be given again
        once it is ``ready``, and for what to wait; ``None`` where all was sent."""
        while len(data):
            try:
                data = data[self._socket.send(data) :]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                return data, wanted
        return data, None

    async def ready(self, wanted: ssl.SSLWantReadError | ssl.SSLWantWriteError) -> None:
        """Wait for what TLS wants of the socket: to be read, or to be written."""
        if isinstance(wanted, ssl.SSLWantReadError):
            await trio.lowlevel.wait_readable(self._socket)
        else:
            await trio.lowlevel.wait_writable(self._socket)

    def send_no_more(self) -> None:
        """Say so by TCP. What is received from now on is not decrypted: to be thrown away."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close at once. May be called again."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
