"""A request's body as it comes off the connection: framing, ``100 Continue``, limits on time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.store.transport import Transport

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RECEIVE_BYTES = 16 * 1024
_MAX_CHUNK_LINE = 256
_MAX_TRAILER_BYTES = 8 * 1024
# RFC 9112, 7.1: a size in hex, then perhaps extensions, which mean nothing here.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class Incoming:
    """What a connection has received and nobody has consumed yet."""

    __slots__ = ("_scratch", "_transport", "data")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._scratch = memoryview(bytearray(_RECEIVE_BYTES))
        self.data = bytearray()

    async def more(self) -> bool:
        """Receive something; ``False`` when the client has closed its side."""
        count = await self._transport.receive_into(self._scratch)
        self.data += self._scratch[:count]
        return count > 0

    def take_into(self, view: memoryview) -> int:
        """Move up to ``len(view)`` buffered bytes into ``view``."""
        count = min(len(view), len(self.data))
        view[:count] = self.data[:count]
        del self.data[:count]
        return count

    async def receive_into(self, view: memoryview) -> int:
        """Buffered bytes first, else straight from the connection into ``view``."""
        if self.data:
            return self.take_into(view)
        return await self._transport.receive_into(view)


class Body(Protocol):
    """What a request brings besides its head, to be read at most once.

    ``length`` is how many bytes that is, ``None`` where it is not known before; ``received``
    counts those taken off the connection.
    """

    @property
    def length(self) -> int | None: ...

    @property
    def received(self) -> int: ...

    async def receive_into(self, view: memoryview) -> int:
        """Receive up to ``len(view)`` bytes; 0 at the end, and only there."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole of it, of at most ``limit`` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a client may send: ``grace`` seconds of waiting in all, and one more for every
    ``rate`` bytes that came. What the store itself takes its time for does not count.
    """

    grace: float = 30.0
    rate: int = 500


class BodyReader:
    """One request's body, to be read at most once.

    ``length`` is the framed length in bytes, ``None`` for a chunked body. :meth:`receive_into`
    raises S3Error ``IncompleteBody`` when the client stops early and ``RequestTimeout`` when
    it stalls or is slower than ``pace``. Cancellation leaves the connection in the middle of
    the body: it must be closed.
    """

    __slots__ = (
        "_chunk_left",
        "_ended",
        "_expecting",
        "_first_chunk",
        "_incoming",
        "_pace",
        "_remaining",
        "_transport",
        "_waited",
        "_waiting_since",
        "length",
        "received",
    )

    def __init__(
        self,
        transport: Transport,
        incoming: Incoming,
        length: int | None,
        *,
        expecting: bool,
        pace: Pace,
    ) -> None:
        self._transport = transport
        self._incoming = incoming
        self._expecting = expecting
        self._remaining = length or 0
        self._chunk_left = 0
        self._first_chunk = True
        self._pace = pace
        self._waited = 0.0
        self._waiting_since = 0.0
        self._ended = length == 0
        self.length = length
        self.received = 0

    @property
    def finished(self) -> bool:
        """Whether the whole body has been read, so that another request can follow."""
        return self._ended

    async def receive_into(self, view: memoryview) -> int:
        """Receive up to ``len(view)`` bytes of the body; 0 at its end, and only there."""
        if self._ended or not len(view):
            return 0
        self._waiting_since = trio.current_time()
        try:
            if self._expecting:
                self._expecting = False
                if not self._incoming.data:
                    await self._transport.send(_CONTINUE)
            if self.length is None:
                count = await self._chunked(view)
            else:
                count = await self._incoming.receive_into(view[: self._remaining])
                if not count:
                    raise _incomplete()
                self._remaining -= count
                self._ended = self._remaining == 0
            if not self._ended:
                self._waited += self._check_pace()
        except trio.TooSlowError:
            raise S3Error(
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within "
                "the timeout period. Idle connections will be closed.",
                status=400,
            ) from None
        self.received += count
        return count

    def _check_pace(self) -> float:
        """How long this call has waited, in seconds; TooSlowError where that is too much."""
        waiting = trio.current_time() - self._waiting_since
        if self._waited + waiting > self._pace.grace + self.received / self._pace.rate:
            raise trio.TooSlowError
        return waiting

    async def _chunked(self, view: memoryview) -> int:
        if not self._chunk_left:
            if not self._first_chunk and await self._line(2) != b"":
                raise _malformed("A chunk does not end where its size says.")
            self._first_chunk = False
            match = _CHUNK_LINE.fullmatch(await self._line(_MAX_CHUNK_LINE))
            if match is None:
                raise _malformed("A chunk's size is not valid.")
            self._chunk_left = int(match[1], 16)
            if not self._chunk_left:
                await self._trailer()
                self._ended = True
                return 0
        count = await self._incoming.receive_into(view[: self._chunk_left])
        if not count:
            raise _incomplete()
        self._chunk_left -= count
        return count

    async def _line(self, limit: int) -> bytes:
        """One line without its CR LF, of at most ``limit`` bytes with it."""
        data = self._incoming.data
        while (end := data.find(b"\n")) < 0:
            if len(data) >= limit:
                raise _malformed("A line of the chunked body is too long.")
            if not await self._incoming.more():
                raise _incomplete()
            self._check_pace()
        line = bytes(data[: end + 1])
        del data[: end + 1]
        if len(line) > limit or not line.endswith(b"\r\n"):
            raise _malformed("A line of the chunked body is not valid.")
        return line[:-2]

    async def _trailer(self) -> None:
        """Read past the trailer: nothing of HTTP's own trailer is used."""
        left = _MAX_TRAILER_BYTES
        while line := await self._line(left):
            left -= len(line) + 2

    async def read(self, limit: int) -> bytes:
        """The whole body of at most ``limit`` bytes; else S3Error MaxMessageLengthExceeded."""
        if self.length is not None and self.length > limit:
            raise _too_long()
        buffer = bytearray(self.length if self.length is not None else limit + 1)
        view = memoryview(buffer)
        filled = 0
        while count := await self.receive_into(view[filled:]):
            filled += count
        if filled > limit:
            raise _too_long()
        return bytes(view[:filled])

    def discardable(self, limit: int) -> bool:
        """Whether reading on to the end is worth it to keep the connection.

        Not so where the client waits for leave to send: it may send the body or not.
        """
        if self._ended:
            return True
        return not self._expecting and (self.length is None or self._remaining <= limit)

    async def discard(self, limit: int) -> None:
        """Read on to the end, but no more than ``limit`` bytes."""
        scratch = memoryview(bytearray(_RECEIVE_BYTES))
        left = limit
        while not self._ended and left > 0:
            left -= await self.receive_into(scratch[: min(left, _RECEIVE_BYTES)])


def _incomplete() -> S3Error:
    return S3Error(
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
        status=400,
    )


def _malformed(message: str) -> S3Error:
    return S3Error("InvalidRequest", message, status=400)


def _too_long() -> S3Error:
    return S3Error("MaxMessageLengthExceeded", "Your request was too large.", status=400)
