"""Kept-alive connections to one endpoint: the last used is taken first, the rest age out."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from s3posixfs.s3.body import Pieces
from s3posixfs.s3.connection import Connection
from s3posixfs.s3.errors import ConnectionFailed
from s3posixfs.s3.http import Response
from s3posixfs.s3.wire import dial

# AWS closes idle connections after some 20 s; a shorter life here spares the race.
IDLE_SECONDS = 15.0


@dataclass(slots=True)
class ConnectionCounts:
    """How often the pool opened a connection, and found one that had been closed on it."""

    opened: int = 0
    stale: int = 0


class ConnectionPool:
    """At most ``max_connections`` at once; further requests wait their turn.

    Idle ones are a stack per host, so that few connections stay warm and the rest expire.
    """

    def __init__(
        self, *, context: ssl.SSLContext | None, max_connections: int, connect_timeout: float
    ) -> None:
        self._context = context
        self._connect_timeout = connect_timeout
        self._slots = trio.Semaphore(max_connections)
        self._idle: dict[tuple[str, int], list[Connection]] = {}
        self._closed = False
        self.counts = ConnectionCounts()

    @property
    def idle(self) -> int:
        """Connections kept open and unused."""
        return sum(len(stack) for stack in self._idle.values())

    async def exchange(
        self,
        host: str,
        port: int,
        method: str,
        head: bytes,
        body: Pieces | None,
        *,
        limit: int,
        timeout: float,
    ) -> Response:
        """One request and its answer; see :meth:`Connection.exchange`.

        A cancelled call closes its connection and gives its place to the next.
        """
        await self._place()
        try:
            connection = await self._connected(host, port)
            try:
                answer = await connection.exchange(method, head, body, limit=limit, timeout=timeout)
            except ConnectionFailed as error:
                if error.stale:
                    # The others have most likely been closed too: the store was restarted.
                    self.counts.stale += 1
                    self.discard_idle()
                raise
            self._put_back(host, port, connection)
            return answer
        finally:
            self._slots.release()

    async def exchange_heads(
        self, host: str, port: int, heads: Sequence[bytes], *, timeout: float
    ) -> list[Response]:
        """HEAD requests on one connection; see :meth:`Connection.exchange_heads`. Raises
        ConnectionFailed where there is no connection."""
        await self._place()
        try:
            connection = await self._connected(host, port)
            answers = await connection.exchange_heads(heads, timeout=timeout)
            self._put_back(host, port, connection)
            return answers
        finally:
            self._slots.release()

    async def _place(self) -> None:
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()

    async def _connected(self, host: str, port: int) -> Connection:
        connection = self._take(host, port)
        if connection is None:
            wire = await dial(host, port, self._context, self._connect_timeout)
            connection = Connection(wire)
            self.counts.opened += 1
        return connection

    def _put_back(self, host: str, port: int, connection: Connection) -> None:
        if self._closed:
            connection.close()
        elif not connection.closed:
            connection.idle_since = trio.current_time()
            self._idle.setdefault((host, port), []).append(connection)

    def _take(self, host: str, port: int) -> Connection | None:
        if self._closed:
            raise ConnectionFailed("connect", "the client is closed")
        stack = self._idle.get((host, port))
        if not stack:
            return None
        oldest_kept = trio.current_time() - IDLE_SECONDS
        while stack:
            connection = stack.pop()
            if connection.idle_since < oldest_kept:
                # Below it in the stack all are older still.
                connection.close()
                for other in stack:
                    other.close()
                stack.clear()
                return None
            if not connection.stale():
                if stack and stack[0].idle_since < oldest_kept:
                    stack.pop(0).close()
                return connection
            self.counts.stale += 1
            connection.close()
        return None

    def discard_idle(self) -> None:
        """Close every connection that is not in use."""
        for stack in self._idle.values():
            for connection in stack:
                connection.close()
        self._idle.clear()

    def close(self) -> None:
        """Close idle connections now, and those in use when their answer has come."""
        self._closed = True
        self.discard_idle()
