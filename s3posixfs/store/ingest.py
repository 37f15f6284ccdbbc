"""Takes a body off the connection into a file, hashed on the way, without holding it.

A small body is read whole and handled in one go by a thread. A large one passes through two
buffers: while one is hashed and written by threads, the other is filled from the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from s3posixfs.core.types import MIB
from s3posixfs.store.http_body import Body
from s3posixfs.store.payload import Claims, Proven, Verifier
from s3posixfs.store.request import Request
from s3posixfs.store.threads import Bulk, Threads

SMALL_BYTES = 256 * 1024
_BUFFER_BYTES = MIB
_CROWDED_BUFFER_BYTES = 128 * 1024
_CROWDED = 32  # bodies under way at once, from which on each gets smaller buffers

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Sink(Protocol):
    """Where a body goes: something of the backend that is committed or aborted."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def abort(self) -> None: ...


SinkType = TypeVar("SinkType", bound=Sink)


class Ingestor:
    """Receives bodies; counts those under way to keep their memory bounded."""

    def __init__(self, writing: Threads, bulk: Bulk) -> None:
        """Small bodies are taken by ``writing``, large ones by ``bulk``."""
        self._writing = writing
        self._bulk = bulk
        self._under_way = 0

    async def receive(
        self,
        request: Request,
        claims: Claims,
        begin: Callable[[], SinkType],
        commit: Callable[[SinkType, Proven], Result],
    ) -> Result:
        """Receive the body into ``begin()`` and, when it is proven, ``commit`` it.

        Both are called in a thread. Where anything fails the sink is aborted.
        """
        length = request.body.length
        if length is not None and length <= SMALL_BYTES:
            data = await request.body.read(SMALL_BYTES)
            return await self._writing.run(_small, request, claims, data, begin, commit)
        self._under_way += 1
        try:
            return await self._large(request, claims, begin, commit)
        finally:
            self._under_way -= 1

    async def in_bulk(
        self, function: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """Run in a thread what moves as many bytes as a large body has."""
        return await self._bulk.run(function, *arguments)

    async def _large(
        self,
        request: Request,
        claims: Claims,
        begin: Callable[[], SinkType],
        commit: Callable[[SinkType, Proven], Result],
    ) -> Result:
        size = _BUFFER_BYTES if self._under_way <= _CROWDED else _CROWDED_BUFFER_BYTES
        verifier = Verifier(request, claims)
        sink = await self._bulk.run(begin)
        try:
            full, empty = memoryview(bytearray(size)), memoryview(bytearray(size))
            count = await _fill(request.body, full)
            while count:
                count = await self._step(request.body, verifier, sink, full[:count], empty)
                full, empty = empty, full

            def finish() -> Result:
                return commit(sink, verifier.finish())

            return await self._bulk.run(finish)
        finally:
            with trio.CancelScope(shield=True):
                await self._bulk.run(sink.abort)

    async def _step(
        self,
        body: Body,
        verifier: Verifier,
        sink: Sink,
        data: memoryview,
        empty: memoryview,
    ) -> int:
        """Process ``data`` while ``empty`` is filled; how much of that is."""
        failures: list[Exception] = []
        count = 0

        async def attempt(function: Callable[[Sequence[memoryview]], None]) -> None:
            try:
                await self._bulk.run(function, pieces)
            except Exception as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        def others(parts: Sequence[memoryview]) -> None:
            verifier.hash_others(parts)
            for part in parts:
                sink.write(part)

        pieces = await self._bulk.run(verifier.decode, data)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, verifier.hash_md5)
            nursery.start_soon(attempt, others)
            try:
                count = await _fill(body, empty)
            except Exception as error:
                failures.append(error)
                nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]
        return count


async def _fill(body: Body, view: memoryview) -> int:
    filled = 0
    while filled < len(view):
        count = await body.receive_into(view[filled:])
        if not count:
            break
        filled += count
    await trio.lowlevel.checkpoint()
    return filled


def _small(
    request: Request,
    claims: Claims,
    data: bytes,
    begin: Callable[[], SinkType],
    commit: Callable[[SinkType, Proven], Result],
) -> Result:
    verifier = Verifier(request, claims)
    pieces = verifier.decode(memoryview(data))
    verifier.hash_md5(pieces)
    verifier.hash_others(pieces)
    proven = verifier.finish()
    sink = begin()
    try:
        for piece in pieces:
            sink.write(piece)
        return commit(sink, proven)
    finally:
        sink.abort()
