"""Request bodies: hashed for the signature, then sent, without a copy in memory.

A range of a file is read with ``preadv`` in a thread, into one small buffer that is reused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Protocol

import trio

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body, FileRange

READ_BYTES = 1024 * 1024
# What is hashed at a time: it stays in the processor's cache between reading and hashing.
HASHED_BYTES = 128 * 1024
# Below this, hashing costs less than handing it to a thread (measured: ~100 µs).
INLINE_HASH_BYTES = 192 * 1024


def length_of(body: Body) -> int:
    """Bytes in ``body``."""
    if isinstance(body, FileRange):
        return body.length
    if isinstance(body, memoryview):
        return body.nbytes
    return len(body)


def as_view(body: bytes | bytearray | memoryview) -> memoryview:
    """``body`` as a flat view of bytes."""
    view = memoryview(body)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


async def sha256_hex(body: Body, threads: trio.CapacityLimiter) -> str:
    """SHA-256 of the body; large ones in a thread.

    Raises S3Error (IncompleteBody) when the file is shorter than the range.
    """
    return (await _digest(body, threads, lambda: hashlib.sha256())).hex()


async def crc64nvme_base64(body: Body, threads: trio.CapacityLimiter) -> str:
    """CRC-64/NVME of the body, as ``x-amz-checksum-crc64nvme`` has it."""
    return checksums.encode(await _digest(body, threads, lambda: checksums.create("crc64nvme")))


async def md5_hex(body: Body, threads: trio.CapacityLimiter) -> str:
    """MD5 of the body, which is the ETag that S3 gives a plain object."""
    return (await _digest(body, threads, lambda: hashlib.md5(usedforsecurity=False))).hex()


class _Digest(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


async def _digest(
    body: Body, threads: trio.CapacityLimiter, create: Callable[[], _Digest]
) -> bytes:
    def run() -> bytes:
        state = create()
        if isinstance(body, FileRange):
            buffer = bytearray(min(HASHED_BYTES, max(body.length, 1)))
            done = 0
            while done < body.length:
                view = _read(body, done, buffer)
                state.update(view)
                done += len(view)
        else:
            state.update(body)
        return state.digest()

    if not isinstance(body, FileRange) and length_of(body) <= INLINE_HASH_BYTES:
        return run()
    return await trio.to_thread.run_sync(run, limiter=threads)


def _read(body: FileRange, done: int, buffer: bytearray) -> memoryview:
    """The next bytes of the range after ``done``, in ``buffer``: blocking."""
    want = min(len(buffer), body.length - done)
    view = memoryview(buffer)[:want]
    try:
        got = os.preadv(body.fd, [view], body.offset + done)
    except OSError as error:
        raise unreadable(error) from error
    if got == 0:
        raise unreadable(None)
    return view[:got]


def unreadable(error: OSError | None) -> S3Error:
    """Why a body cannot be sent (IncompleteBody); ``None`` where its file ended before it.

    Not an error of the network, which an OSError would be taken for where the body is sent.
    """
    if error is not None:
        return S3Error("IncompleteBody", f"the file cannot be read: {error.strerror}")
    return S3Error("IncompleteBody", "the file is shorter than what was to be sent")


class Pieces:
    """The body one piece after the other; a piece is valid until the next is asked for."""

    __slots__ = ("_body", "_buffer", "_done", "_threads", "length")

    def __init__(self, body: Body, threads: trio.CapacityLimiter) -> None:
        self.length = length_of(body)
        self._body = body if isinstance(body, FileRange) else as_view(body)
        self._buffer = bytearray()
        self._done = 0
        self._threads = threads

    @property
    def file(self) -> FileRange | None:
        """The range of a file that this is, if it is one."""
        return self._body if isinstance(self._body, FileRange) else None

    @property
    def threads(self) -> trio.CapacityLimiter:
        """For reading that may wait for the disk."""
        return self._threads

    async def next(self) -> memoryview | None:
        """The next piece (at most 1 MiB), or None after the last."""
        if self._done >= self.length:
            return None
        body = self._body
        if isinstance(body, FileRange):
            if not self._buffer:
                self._buffer = bytearray(min(READ_BYTES, self.length))
            piece = await trio.to_thread.run_sync(
                _read, body, self._done, self._buffer, limiter=self._threads
            )
        else:
            piece = body[self._done : self._done + READ_BYTES]
        self._done += len(piece)
        return piece
