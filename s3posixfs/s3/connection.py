"""One HTTP/1.1 connection: one request and its whole answer at a time.

Cancellation, a time-out or any error closes the connection, so that a half-read answer can
never be taken for the answer to the next request.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from typing import NoReturn

import httptools
import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import FileRange
from s3posixfs.s3.body import Pieces
from s3posixfs.s3.errors import ConnectionFailed
from s3posixfs.s3.http import MAX_HEAD_BYTES, HeadParser, Response
from s3posixfs.s3.wire import PlainWire, Wire

# A body up to this size goes out in one packet train with its head.
JOIN_BYTES = 64 * 1024
HUGE_BYTES = 4 * 1024 * 1024
# How much is received at least before others get their turn.
TURN_BYTES = 2 * 1024 * 1024
_LOST = (OSError, trio.ClosedResourceError)


def receive_buffer(length: int) -> memoryview:
    """Memory to receive ``length`` bytes into; freed with the last view of it.

    Large ones are huge pages of their own: faulting in and clearing 8 MiB of small ones costs
    as much as receiving into them (measured: 3.8 ms against 1.6), and the pages go back to the
    system as soon as nobody looks at them. Raises S3Error (EntityTooLarge).
    """
    if length < HUGE_BYTES:
        return memoryview(bytearray(length))
    try:
        pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise S3Error("EntityTooLarge", f"no memory for {length} bytes") from None
    with contextlib.suppress(OSError):  # a kernel without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


class Connection:
    """A connection that is used by one task at a time."""

    __slots__ = ("_buffer", "_scope", "_timeout", "_wire", "closed", "idle_since", "used")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._buffer = bytearray(MAX_HEAD_BYTES)
        self._scope = trio.CancelScope()
        self._timeout = 0.0
        self.used = 0
        self.closed = False
        self.idle_since = 0.0

    def close(self) -> None:
        """Close at once. May be called again."""
        self.closed = True
        self._wire.close()

    def stale(self) -> bool:
        """Whether the peer has closed, or said something that nobody asked for."""
        return self.closed or self._wire.readable()

    async def exchange(
        self, method: str, head: bytes, body: Pieces | None, *, limit: int, timeout: float
    ) -> Response:
        """Send a request and receive its answer with a body of at most ``limit`` bytes.

        ``timeout`` is the number of seconds that may pass without a byte moving either way.
        Raises ConnectionFailed, and S3Error where the request's own body cannot be read. The
        connection is closed after any error; ask ``closed`` before using it again.
        """
        keep = False
        answered = False
        self._timeout = timeout
        try:
            with trio.CancelScope(deadline=trio.current_time() + timeout) as self._scope:
                await trio.lowlevel.checkpoint_if_cancelled()
                sent = await self._send(head, body)
                if not sent:
                    # An answer before the body's end: read it, and send no more on this wire.
                    self._moved()
                parser, status, filled, start = await self._receive_head(method, limit)
                answered = True
                content = await self._receive_body(method, status, parser, start, filled, limit)
                keep = sent and parser.keep_alive and self._framed(method, status, parser)
                self.used += 1
                return Response(status, parser.headers, content)
            raise ConnectionFailed("slow", f"no progress in {timeout:g} s")
        except _Ended as ended:
            stale = self.used > 0 and not answered and not ended.partial
            raise ConnectionFailed("lost", ended.message, stale=stale) from ended.__cause__
        except (httptools.HttpParserError, ValueError) as error:
            raise ConnectionFailed("garbled", f"no valid HTTP answer: {error}") from error
        finally:
            if not keep:
                self.close()

    async def exchange_heads(self, heads: Sequence[bytes], *, timeout: float) -> list[Response]:
        """Send HEAD requests one behind the other and receive their answers, in the same order.

        An answer has no body, so each begins where the one before ends. Fewer come where the
        connection breaks, says what is no HTTP, or is at its end; then it is closed.
        """
        answers: list[Response] = []
        keep = False
        self._timeout = timeout
        try:
            with trio.CancelScope(deadline=trio.current_time() + timeout) as self._scope:
                await trio.lowlevel.checkpoint_if_cancelled()
                await self._wire.send(b"".join(heads))
                keep = await self._receive_heads(len(heads), answers)
        except (_Ended, *_LOST, httptools.HttpParserError, ValueError):
            pass
        finally:
            self.used += len(answers)
            if not keep:
                self.close()
        return answers

    async def _receive_heads(self, count: int, answers: list[Response]) -> bool:
        """Whether all came, and the connection may be used again."""
        buffer = self._buffer
        view = memoryview(buffer)
        start = filled = 0
        while len(answers) < count:
            end = buffer.find(b"\r\n\r\n", start, filled) + 4
            if end < 4:
                buffer[: filled - start] = buffer[start:filled]
                start, filled = 0, filled - start
                if filled == len(buffer):
                    return False
                filled += await self._receive(view[filled:], partial=True)
                continue
            parser = HeadParser(limit=0)
            status = parser.feed_head(bytes(view[start:end]))
            start = end
            if status < 200:
                if status == 101:
                    return False
                continue
            answers.append(Response(status, parser.headers, memoryview(b"")))
            if not parser.keep_alive:
                return False
        return start == filled

    def _moved(self) -> None:
        # Moving it costs as much as receiving a little: not for every packet.
        deadline = trio.current_time() + self._timeout
        if deadline - self._scope.deadline > self._timeout / 64:
            self._scope.deadline = deadline

    # sending

    async def _send(self, head: bytes, body: Pieces | None) -> bool:
        """Whether all was sent; False when the answer came first."""
        try:
            if body is None or body.length == 0:
                await self._wire.send(head)
                return True
            if body.length <= JOIN_BYTES:
                piece = await body.next()
                first = [head]
                while piece is not None:
                    first.append(bytes(piece))
                    piece = await body.next()
                await self._wire.send(b"".join(first))
                return True
            return await self._send_long(head, body)
        except _LOST as error:
            # The peer may have answered (a refusal) before it closed: what it said is better
            # than "connection reset". Nothing there to read: the connection was lost.
            if self._wire.readable():
                return False
            self._lost(error)

    async def _send_long(self, head: bytes, body: Pieces) -> bool:
        done = False
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self._wire.wait_answer()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                await self._wire.send(head)
                if body.file is not None and isinstance(self._wire, PlainWire):
                    await self._send_file(self._wire, body.file, body.threads)
                else:
                    await self._send_pieces(body)
                done = True
            except Exception as error:  # re-raised below, outside the nursery's group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return done

    async def _send_pieces(self, body: Pieces) -> None:
        while (piece := await body.next()) is not None:
            for start in range(0, len(piece), 256 * 1024):
                await self._wire.send(piece[start : start + 256 * 1024])
                self._moved()
            await trio.lowlevel.checkpoint()  # where the peer takes all at once

    async def _send_file(
        self, wire: PlainWire, body: FileRange, threads: trio.CapacityLimiter
    ) -> None:
        done = 0
        while done < body.length:
            done += await wire.send_file(body.fd, body.offset + done, body.length - done, threads)
            self._moved()

    # receiving

    async def _receive(self, view: memoryview, *, partial: bool) -> int:
        try:
            count = await self._wire.receive_into(view)
        except _LOST as error:
            self._lost(error, partial=partial)
        if count == 0:
            raise _Ended("the store closed the connection", partial=partial)
        self._moved()
        return count

    def _lost(self, error: BaseException, *, partial: bool = False) -> NoReturn:
        reason = getattr(error, "strerror", None) or "the connection broke"
        raise _Ended(str(reason), partial=partial) from error

    async def _receive_head(self, method: str, limit: int) -> tuple[HeadParser, int, int, int]:
        """Parser, status, bytes in the buffer, and where in it the body starts."""
        buffer = self._buffer
        view = memoryview(buffer)
        filled = 0
        start = 0
        while True:
            end = buffer.find(b"\r\n\r\n", start, filled)
            if end >= 0:
                end += 4
                parser = HeadParser(limit=limit)
                status = parser.feed_head(bytes(view[start:end]))
                if status >= 200:
                    return parser, status, filled, end
                if status == 101:
                    raise ValueError("the store switched protocols")
                start = end  # 100 Continue and the like: the real head follows
                continue
            if filled == len(buffer):
                raise ValueError("the head of the answer is too long")
            filled += await self._receive(view[filled:], partial=filled > 0)

    @staticmethod
    def _framed(method: str, status: int, parser: HeadParser) -> bool:
        """Whether the end of the body is known without the connection's end."""
        return (
            method == "HEAD"
            or status in (204, 304)
            or parser.chunked
            or parser.content_length is not None
        )

    async def _receive_body(
        self, method: str, status: int, parser: HeadParser, start: int, filled: int, limit: int
    ) -> memoryview:
        extra = memoryview(self._buffer)[start:filled]
        if method == "HEAD" or status in (204, 304):
            if extra:
                raise ValueError("a body where none may be")
            return memoryview(b"")
        if parser.chunked:
            return await self._receive_chunked(parser, extra, limit)
        length = parser.content_length
        if length is None:
            return await self._receive_to_end(extra, limit)
        if length > limit:
            raise ValueError(f"an answer of {length} bytes, at most {limit} were asked for")
        if len(extra) > length:
            raise ValueError("more bytes than Content-Length says")
        if len(extra) == length:
            return memoryview(bytes(extra))
        body = receive_buffer(length)
        have = len(extra)
        body[:have] = extra
        turn = have + TURN_BYTES
        while have < length:
            have += await self._receive(body[have:], partial=True)
            if have >= turn:  # where the bytes come as fast as they are taken
                turn = have + TURN_BYTES
                await trio.lowlevel.checkpoint()
        return body

    async def _receive_chunked(
        self, parser: HeadParser, extra: memoryview, limit: int
    ) -> memoryview:
        if extra:
            parser.feed_body(bytes(extra))
        view = memoryview(self._buffer)
        while not parser.complete:
            count = await self._receive(view, partial=True)
            parser.feed_body(bytes(view[:count]))
            if parser.oversize:
                raise ValueError(f"an answer of more than {limit} bytes")
        if parser.oversize:
            raise ValueError(f"an answer of more than {limit} bytes")
        return memoryview(b"".join(parser.body))

    async def _receive_to_end(self, extra: memoryview, limit: int) -> memoryview:
        body = bytearray(extra)
        view = memoryview(self._buffer)
        while True:
            try:
                count = await self._wire.receive_into(view)
            except _LOST as error:
                self._lost(error, partial=True)
            if count == 0:
                return memoryview(body)
            self._moved()
            body += view[:count]
            if len(body) > limit:
                raise ValueError(f"an answer of more than {limit} bytes")


class _Ended(Exception):
    """The stream ended or broke; ``partial`` when some of the answer had come."""

    def __init__(self, message: str, *, partial: bool) -> None:
        super().__init__(message)
        self.message = message
        self.partial = partial
