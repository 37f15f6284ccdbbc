"""The HTTP/1.1 server: accepts connections, reads requests one by one, sends the answers.

It knows nothing of S3 but how an error looks. A connection carries any number of requests,
pipelined or not; each is answered before the next is read. :meth:`HttpServer.drain` lets
what is in flight finish and ends the rest.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.store.http_body import BodyReader, Incoming, Pace
from s3posixfs.store.http_head import (
    HEAD_END,
    MAX_HEAD_BYTES,
    RequestHead,
    bad_request,
    parse_head,
)
from s3posixfs.store.response import HeadWriter, Response
from s3posixfs.store.threads import Bulk
from s3posixfs.store.transport import PlainTransport, TlsTransport, Transport

log = logging.getLogger(__name__)

_CONNECTIONS = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    idle: float = 75.0  # between requests on one connection
    head: float = 20.0  # from the first byte of a head to its last
    stall: float = 60.0  # without any progress on a body or an answer
    pace: Pace = Pace()  # noqa: RUF009 (frozen): of a body that does progress
    drain: float = 30.0  # for what is in flight when the server ends
    linger: float = 2.0  # for a client to read its error before the connection goes
    discard: int = 256 * 1024  # of a body nobody wanted, to keep the connection
    connections: int = _CONNECTIONS

    @classmethod
    def within(cls, descriptors: int) -> Limits:
        """Limits for a process that may have so many files open.

        A request in flight holds its socket, its file and a folder: a flood of connections
        must not leave those that are served without.
        """
        return cls(connections=max(1, min(_CONNECTIONS, descriptors // 3)))


class Exchange(Protocol):
    """One request's life after its answer is known."""

    response: Response
    request_id: str

    def finished(self, sent: int) -> None:
        """The answer has gone, ``sent`` bytes of body with it; also after a broken connection."""
        ...


class Application(Protocol):
    """What the server serves. Neither method raises but for cancellation."""

    async def handle(
        self, head: RequestHead, body: BodyReader, peer: str, *, secure: bool
    ) -> Exchange: ...

    def refuse(self, error: S3Error, peer: str) -> Exchange:
        """The answer to what was not even a request."""
        ...


class HttpServer:
    """Serves ``application`` on listening sockets until cancelled or drained."""

    def __init__(
        self,
        application: Application,
        *,
        bulk: Bulk,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        connected: Callable[[int], None] = lambda more: None,
    ) -> None:
        """``connected`` is told of one connection more (1) or less (-1)."""
        self._application = application
        self._bulk = bulk
        self._tls = tls
        self._limits = limits or Limits()
        self._connected = connected
        self._heads = HeadWriter()
        self._draining = False
        self._accepting: set[trio.CancelScope] = set()
        self._idle: set[trio.CancelScope] = set()
        # Connections from which a request is yet to come, the longest waiting first.
        self._waiting: dict[trio.CancelScope, None] = {}
        self._places = trio.CapacityLimiter(self._limits.connections)
        self._all = trio.CancelScope()

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on ``listeners`` (which it closes) and serve until :meth:`drain` is done."""
        with self._all:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    listener.setblocking(False)
                    nursery.start_soon(self._accept, listener, nursery)

    def drain(self) -> None:
        """Accept no more, close idle connections, give what is in flight its time to finish.

        Called again, it gives no more time.
        """
        time = 0.0 if self._draining else self._limits.drain
        self._draining = True
        self._all.deadline = trio.current_time() + time
        for scope in list(self._accepting | self._idle):
            scope.cancel()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        try:
            with trio.CancelScope() as scope:
                self._accepting.add(scope)
                while not self._draining:
                    # The place is taken before accept: what is too much waits in the backlog.
                    await trio.lowlevel.wait_readable(listener)
                    place = object()
                    self._make_place()
                    await self._places.acquire_on_behalf_of(place)
                    try:
                        found = await self._accept_one(listener)
                    except BaseException:
                        self._places.release_on_behalf_of(place)
                        raise
                    if found is None:
                        self._places.release_on_behalf_of(place)
                    else:
                        nursery.start_soon(self._connection, *found, place)
        finally:
            trio.lowlevel.notify_closing(listener)
            listener.close()

    def _make_place(self) -> None:
        """Where all places are taken, end the connection that has waited longest for a request.

        So neither idle clients nor a flood of half-sent heads keep others out.
        """
        if not self._places.available_tokens and self._waiting:
            scope = next(iter(self._waiting))
            del self._waiting[scope]
            scope.cancel()

    async def _accept_one(self, listener: socket.socket) -> tuple[socket.socket, str] | None:
        """The next connection; ``None`` where there is none after all."""
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                log.error("cannot accept a connection: %s; trying again", error.strerror)
                await trio.sleep(0.1)
            return None  # else that client left before it was met
        return sock, str(address[0])

    async def _connection(self, sock: socket.socket, peer: str, place: object) -> None:
        transport: PlainTransport | TlsTransport | None = None
        self._connected(1)
        try:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                transport = PlainTransport(sock, peer, self._bulk, self._limits.stall)
            else:
                transport = TlsTransport(sock, peer, self._bulk, self._limits.stall, self._tls)
                if not await self._handshake(transport):
                    return
            await self._requests(transport)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the client went away or stalled: nobody is left to tell
        except Exception:
            log.exception("a connection ended on an error of the server")
        finally:
            self._connected(-1)
            self._places.release_on_behalf_of(place)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                if transport is None:
                    sock.close()
                else:
                    await transport.aclose()

    async def _handshake(self, transport: TlsTransport) -> bool:
        with trio.move_on_after(self._limits.head) as scope:
            self._waiting[scope] = None
            try:
                await transport.handshake()
            finally:
                self._waiting.pop(scope, None)
        return not scope.cancelled_caught

    async def _requests(self, transport: Transport) -> None:
        incoming = Incoming(transport)
        while not self._draining:
            try:
                raw = await self._read_head(incoming)
                if raw is None:
                    return
                head = parse_head(raw)
            except S3Error as error:
                exchange = self._application.refuse(error, transport.peer)
                await self._answer(transport, exchange, None, keep_alive=False)
                await self._linger(transport)
                return
            body = BodyReader(
                transport,
                incoming,
                head.content_length,
                expecting=head.expect_continue,
                pace=self._limits.pace,
            )
            exchange = await self._application.handle(
                head, body, transport.peer, secure=transport.secure
            )
            keep_alive = await self._answer(
                transport,
                exchange,
                body,
                keep_alive=head.keep_alive,
                head_only=head.method == "HEAD",
            )
            if not keep_alive:
                if not body.finished:
                    await self._linger(transport)
                return

    async def _read_head(self, incoming: Incoming) -> bytes | None:
        """The next head; ``None`` when the client is done or the connection is no longer wanted."""
        started = False
        searched = 0
        with trio.move_on_after(self._limits.idle) as scope:
            self._idle.add(scope)
            self._waiting[scope] = None
            try:
                while True:
                    data = incoming.data
                    while data.startswith(b"\r\n"):  # RFC 9112, 2.2: lines before the request
                        del data[:2]
                    if data and not started:
                        started = True
                        self._idle.discard(scope)
                        scope.deadline = trio.current_time() + self._limits.head
                    end = data.find(HEAD_END, max(0, searched - len(HEAD_END)))
                    searched = len(data)
                    if end >= 0 and end + len(HEAD_END) <= MAX_HEAD_BYTES:
                        raw = bytes(data[: end + len(HEAD_END)])
                        del data[: end + len(HEAD_END)]
                        return raw
                    if end >= 0 or searched > MAX_HEAD_BYTES:
                        raise bad_request(
                            "Your request header section exceeds the maximum allowed.",
                            code="RequestHeaderSectionTooLarge",
                        )
                    if not await incoming.more():
                        return None
            except trio.TooSlowError:
                return None
            finally:
                self._idle.discard(scope)
                unwanted = scope not in self._waiting
                self._waiting.pop(scope, None)
        if started and scope.cancelled_caught and not unwanted and not self._draining:
            raise bad_request("The request head took too long.", code="RequestTimeout")
        return None

    async def _answer(
        self,
        transport: Transport,
        exchange: Exchange,
        body: BodyReader | None,
        *,
        keep_alive: bool,
        head_only: bool = False,
    ) -> bool:
        """Send the answer; whether another request may follow on this connection."""
        response = exchange.response
        sent = 0
        try:
            crowded = self._places.statistics().tasks_waiting > 0
            keep_alive = keep_alive and not self._draining and not crowded
            if body is not None:
                keep_alive = keep_alive and body.discardable(self._limits.discard)
            head = self._heads.write(response, exchange.request_id, keep_alive=keep_alive)
            if head_only or response.status in (204, 304):
                await transport.send(head)
            elif response.file is not None:
                await transport.send(head)
                await transport.send_file(
                    response.file.fd, response.file.offset, response.file.length
                )
                sent = response.size
            else:
                await transport.send(head, response.body)
                sent = response.size
        finally:
            response.discard()
            exchange.finished(sent)
        if keep_alive and body is not None and not body.finished:
            with contextlib.suppress(S3Error):
                await body.discard(self._limits.discard)
            keep_alive = body.finished
        await trio.lowlevel.cancel_shielded_checkpoint()
        return keep_alive

    async def _linger(self, transport: Transport) -> None:
        """Let the client read the answer: closing over unread data would take it back (RST)."""
        await transport.finish()
        scratch = memoryview(bytearray(64 * 1024))
        with trio.move_on_after(self._limits.linger):
            while await transport.receive_into(scratch):
                pass


def listen(host: str, port: int, *, backlog: int = 1024) -> list[socket.socket]:
    """Listening sockets for every address of ``host``; port 0 takes one that is free.

    Raises ``OSError`` when an address cannot be had.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            where = list(address)
            where[1] = where[1] or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)
            sock.bind(tuple(where))
            sock.listen(backlog)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets
