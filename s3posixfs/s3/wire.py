"""A byte stream to a store: plain TCP or TLS, with one small interface over both."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from pathlib import Path
from typing import Protocol

import trio

from s3posixfs.core.errors import OperatorError
from s3posixfs.s3.body import unreadable
from s3posixfs.s3.errors import ConnectionFailed
from s3posixfs.waiting.tls_socket import TlsSocket

# How much one call of a thread sends of a file at most.
SENDFILE_BYTES = 4 * 1024 * 1024
_OF_THE_NETWORK = frozenset(
    {
        *(errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ETIMEDOUT),
        *(errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
    }
)
_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Wire(Protocol):
    """What a connection needs of its stream. Errors are OSError and trio's."""

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive at least one byte, at most the buffer; 0 at the end of the stream."""
        ...

    async def wait_answer(self) -> None:
        """Return when the peer has sent something that is not read yet; or never."""
        ...

    def readable(self) -> bool:
        """Whether anything, or the end of the stream, waits to be read."""
        ...

    def close(self) -> None:
        """Close at once, without a farewell. May be called again."""
        ...


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class PlainWire:
    """TCP; received bytes go straight into the caller's buffer, and files out of the page cache.

    A call that need not wait is no checkpoint: trio's own sockets make one of each, which costs
    more than the call. Nor is the kernel asked for an answer before it says that there is one.
    """

    __slots__ = ("_answering", "_socket")

    def __init__(self, sock: socket.socket) -> None:
        """``sock`` is connected and does not block."""
        self._socket = sock
        self._answering = False

    async def send(self, data: bytes | memoryview) -> None:
        self._answering = False
        view = memoryview(data)
        while True:
            try:
                sent = self._socket.send(view)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
                continue
            if sent == len(view):
                return
            view = view[sent:]

    async def send_file(
        self, fd: int, offset: int, length: int, threads: trio.CapacityLimiter
    ) -> int:
        """Send some of a range of a file, at least a byte of it, without a copy in memory.

        In a thread, as reading the file may wait for the disk. S3Error (IncompleteBody) where the
        file cannot be read or ends before.
        """
        self._answering = False
        while True:
            try:
                return await trio.to_thread.run_sync(
                    self._send_some, fd, offset, min(length, SENDFILE_BYTES), limiter=threads
                )
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    def _send_some(self, fd: int, offset: int, length: int) -> int:
        done = 0
        while done < length:
            try:
                sent = os.sendfile(self._socket.fileno(), fd, offset + done, length - done)
            except BlockingIOError:
                if done:
                    break
                raise
            except OSError as error:
                if error.errno in _OF_THE_NETWORK:
                    raise
                raise unreadable(error) from error
            if not sent:
                raise unreadable(None)
            done += sent
        return done

    async def receive_into(self, buffer: memoryview) -> int:
        if not self._answering:
            await trio.lowlevel.wait_readable(self._socket)
            self._answering = True
        while True:
            try:
                return self._socket.recv_into(buffer)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)

    async def wait_answer(self) -> None:
        await trio.lowlevel.wait_readable(self._socket)

    def readable(self) -> bool:
        return _readable(self._socket.fileno())

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class TlsWire(TlsSocket):
    """TLS over TCP; received records are decrypted into the caller's buffer."""

    __slots__ = ()

    async def wait_answer(self) -> None:
        # Readable means little here: a TLS 1.3 server sends session tickets unasked.
        await trio.sleep_forever()

    def readable(self) -> bool:
        return _readable(self.fileno())


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that verifies the store by the system's authorities, or by ``ca_file``.

    Raises OperatorError when the file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except FileNotFoundError:
        raise OperatorError(
            f"no such CA file: {ca_file}; give ca_file=FILE that is there"
        ) from None
    except (OSError, ssl.SSLError):
        raise OperatorError(
            f"{ca_file} holds no PEM certificate that can be read; give ca_file=FILE that does"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def dial(host: str, port: int, context: ssl.SSLContext | None, timeout: float) -> Wire:
    """Connect within ``timeout`` seconds. Raises ConnectionFailed; leaves nothing open."""
    opened: socket.socket | TlsWire | None = None
    try:
        with trio.fail_after(timeout):
            stream = await trio.open_tcp_stream(host, port)
            # trio keeps less than 16 KiB unsent, which makes one large send into many small.
            stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)
            family, kind = stream.socket.family, stream.socket.type
            opened = sock = socket.socket(family, kind, fileno=stream.socket.detach())
            sock.setblocking(False)
            if context is None:
                return PlainWire(sock)
            opened = secure = TlsWire(sock, context, server_hostname=host)
            await secure.handshake()
            return secure
    except BaseException as error:
        if opened is not None:
            opened.close()
        if isinstance(error, (OSError, trio.TooSlowError)):
            raise _dial_failure(host, port, error, opened is not None) from error
        raise


def _dial_failure(host: str, port: int, error: Exception, connected: bool) -> ConnectionFailed:
    if isinstance(error, trio.TooSlowError) and connected:
        return ConnectionFailed("tls", f"{host}:{port} does not answer the TLS handshake")
    if isinstance(error, trio.TooSlowError):
        return ConnectionFailed("connect", f"{host}:{port} does not answer")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            "tls", f"the certificate of {host}:{port} is not trusted: {error.verify_message}"
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, _ENDED):
        reason = (error.reason or "handshake failed").replace("_", " ").lower()
        return ConnectionFailed("tls", f"no TLS with {host}:{port}: {reason}")
    if connected:
        return ConnectionFailed("tls", f"{host}:{port} ended the TLS handshake")
    if isinstance(error, trio.socket.gaierror):
        return ConnectionFailed("resolve", f"the name {host} cannot be resolved")
    # open_tcp_stream groups one OSError per address it tried.
    inner: BaseException | None = error.__cause__
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    reason = getattr(inner, "strerror", None) or str(inner or error)
    return ConnectionFailed("connect", f"{host}:{port}: {reason}")
