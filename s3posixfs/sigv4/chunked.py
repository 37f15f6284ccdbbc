"""The aws-chunked body: data in chunks, each signed or not, and trailing headers after them.

Source: *Signature calculations for the authorization header: transferring payload in multiple
chunks* and *… with trailing headers*, Amazon S3 API Reference. No I/O: bytes in, bytes out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto

from s3posixfs.core.errors import S3Error
from s3posixfs.sigv4.constants import CHUNK_ALGORITHM, EMPTY_SHA256, TRAILER_ALGORITHM
from s3posixfs.sigv4.encoding import wire_bytes, wire_text
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.problems import SignatureDoesNotMatch, SignatureProblem
from s3posixfs.sigv4.signing import SigningContext

MAX_LINE_BYTES = 4096
MAX_TRAILER_BYTES = 16 * 1024
MIN_CHUNK_BYTES = 8192
_TRAILER_SIGNATURE = "x-amz-trailer-signature"
_UNSIGNED_HEADER = re.compile(rb"([0-9a-fA-F]{1,16})")
_SIGNED_HEADER = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-fA-F]{64})")
_TRAILER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


class _State(Enum):
    HEADER = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    DONE = auto()
    FAILED = auto()


class ChunkSignatures:
    """The chain of signatures of one body: each covers the one before it."""

    __slots__ = ("_context", "_previous")

    def __init__(self, context: SigningContext) -> None:
        self._context = context
        self._previous = context.seed_signature

    def chunk(self, sha256: str) -> str:
        """The signature of the next chunk, whose data has this hash (hex)."""
        return self._next(CHUNK_ALGORITHM, f"{EMPTY_SHA256}\n{sha256}")

    def trailer(self, trailers: Mapping[str, str]) -> str:
        """The signature of the trailing headers (names in lower case), after the last chunk."""
        text = "".join([f"{name}:{value}\n" for name, value in sorted(trailers.items())])
        return self._next(TRAILER_ALGORITHM, hashlib.sha256(wire_bytes(text)).hexdigest())

    def _next(self, algorithm: str, what: str) -> str:
        context = self._context
        text = f"{algorithm}\n{context.timestamp}\n{context.scope}\n{self._previous}\n{what}"
        self._previous = hmac.digest(context.key, wire_bytes(text), "sha256").hex()
        return self._previous


class ChunkDecoder:
    """Takes the framing off a body and checks its signatures as it streams.

    What :meth:`feed` returns is not proven until :attr:`finished`: keep it unpublished until
    :meth:`finish` has returned. Memory held is that of one header line or the trailer.
    After an error the decoder stays failed. ``trailers`` (names in lower case) are complete
    when finished; whether a checksum among them is right is for the caller to check.

    ``decoded_length`` is ``x-amz-decoded-content-length`` in bytes, ``None`` where not given;
    ``trailer_names`` are those that ``x-amz-trailer`` announced: no other may come, and all
    must. Raises S3Error: SignatureDoesNotMatch (403), InvalidChunkSizeError (403),
    IncompleteBody and MalformedTrailerError (400). A mode with signed chunks but no
    ``context``, or one that is not chunked, is a ValueError.
    """

    __slots__ = (
        "_announced",
        "_buffer",
        "_decoded_length",
        "_given_signature",
        "_hash",
        "_mode",
        "_number",
        "_received",
        "_remaining",
        "_signatures",
        "_size",
        "_state",
        "_trailer_bytes",
        "trailers",
    )

    def __init__(
        self,
        mode: PayloadMode,
        context: SigningContext | None,
        decoded_length: int | None,
        trailer_names: Sequence[str] = (),
    ) -> None:
        if not mode.chunked:
            raise ValueError("the body of this request is not chunked")
        self._signatures: ChunkSignatures | None = None
        if mode.chunks_signed:
            if context is None:
                raise ValueError("signed chunks need a signing context")
            self._signatures = ChunkSignatures(context)
        self._mode = mode
        self._decoded_length = decoded_length
        self._announced = {name.strip().lower() for name in trailer_names} - {""}
        self._state = _State.HEADER
        self._buffer = bytearray()  # a line, or the end of a chunk, that is not whole yet
        self._received = 0
        self._remaining = 0
        self._size: int | None = None  # of the chunk before the one to come
        self._number = 0
        self._hash = hashlib.sha256()
        self._given_signature = b""
        self._trailer_bytes = 0
        self.trailers: dict[str, str] = {}

    @property
    def finished(self) -> bool:
        """Whether the last chunk and the trailer have come and were right."""
        return self._state is _State.DONE

    def feed(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        """The payload in these bytes, as views of ``data``, in order.

        The views are only good for as long as ``data`` is left alone.
        """
        if self._state is _State.FAILED:
            raise _incomplete()
        try:
            return self._feed(memoryview(data).cast("B"))
        except S3Error:
            self._state = _State.FAILED
            self._buffer.clear()
            raise

    def finish(self) -> None:
        """Say that no more bytes come; raises IncompleteBody unless the body was whole."""
        if self._state is not _State.DONE or bytes(self._buffer) not in (b"", b"\r\n"):
            self._state = _State.FAILED
            raise _incomplete()

    def _feed(self, view: memoryview) -> list[memoryview]:
        payload: list[memoryview] = []
        position = 0
        while position < len(view):
            if self._state is _State.DATA:
                piece = view[position : position + self._remaining]
                position += len(piece)
                self._remaining -= len(piece)
                payload.append(piece)
                if self._signatures is not None:
                    self._hash.update(piece)
                if not self._remaining:
                    self._state = _State.DATA_END
            elif self._state is _State.DATA_END:
                position += self._take_chunk_end(view[position : position + 2])
            elif self._state is _State.DONE:
                position += self._take_excess(view[position:])
            else:
                line, used = self._take_line(view[position:])
                position += used
                if line is None:
                    break
                if self._state is _State.HEADER:
                    self._begin_chunk(line)
                else:
                    self._take_trailer_line(line)
        return payload

    def _take_line(self, view: memoryview) -> tuple[bytes | None, int]:
        """A whole line without its line feed (``None`` if it has not ended), and bytes used."""
        window = bytes(view[: MAX_LINE_BYTES - len(self._buffer) + 1])
        end = window.find(b"\n")
        if end < 0:
            self._buffer += window
            if len(self._buffer) > MAX_LINE_BYTES:
                raise _incomplete()
            return None, len(window)
        self._buffer += window[:end]
        line = bytes(self._buffer)
        self._buffer.clear()
        if self._state is _State.TRAILER:
            self._trailer_bytes += len(line) + 1
            if self._trailer_bytes > MAX_TRAILER_BYTES:
                raise _malformed_trailer()
        return line, end + 1

    def _begin_chunk(self, line: bytes) -> None:
        if not line.endswith(b"\r"):
            raise _incomplete()
        pattern = _SIGNED_HEADER if self._signatures is not None else _UNSIGNED_HEADER
        match = pattern.fullmatch(line[:-1])
        if match is None:
            raise _incomplete()
        size = int(match[1], 16)
        self._given_signature = match[2] if self._signatures is not None else b""
        self._number += 1
        # Only the last chunk with data may be small: one that another follows may not.
        if size and self._size is not None and self._size < MIN_CHUNK_BYTES:
            raise SignatureProblem(
                "InvalidChunkSizeError",
                "Only the last chunk is allowed to have a size less than 8192 bytes",
                403,
                {"Chunk": str(self._number - 1), "BadChunkSize": str(self._size)},
            )
        self._received += size
        wanted = self._decoded_length
        if wanted is not None and (
            self._received > wanted or (not size and self._received < wanted)
        ):
            raise S3Error(
                "IncompleteBody",
                "You did not provide the number of bytes specified by the "
                "x-amz-decoded-content-length HTTP header",
                status=400,
            )
        self._size = size
        self._remaining = size
        if size:
            self._state = _State.DATA
            return
        self._check_chunk()
        self._state = _State.TRAILER if self._mode.trailer else _State.DATA_END

    def _take_chunk_end(self, view: memoryview) -> int:
        used = 2 - len(self._buffer)
        piece = bytes(view[:used])
        self._buffer += piece
        if not b"\r\n".startswith(self._buffer):
            raise _incomplete()
        if len(self._buffer) == 2:
            self._buffer.clear()
            if self._size:
                self._check_chunk()
                self._state = _State.HEADER
            else:
                self._state = _State.DONE
        return len(piece)

    def _check_chunk(self) -> None:
        if self._signatures is None:
            return
        expected = self._signatures.chunk(self._hash.hexdigest())
        if not hmac.compare_digest(expected.encode("ascii"), self._given_signature):
            raise SignatureDoesNotMatch
        self._hash = hashlib.sha256()

    def _take_trailer_line(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        if not line:
            # The documentation's example and minio-go have an empty line before the signature.
            if self._signatures is None:
                self._check_announced()
                self._state = _State.DONE
            return
        name, colon, value = wire_text(line).partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if not colon or not _TRAILER_NAME.fullmatch(name):
            raise _malformed_trailer()
        if name == _TRAILER_SIGNATURE and self._signatures is not None:
            expected = self._signatures.trailer(self.trailers)
            if not hmac.compare_digest(expected.encode("ascii"), wire_bytes(value)):
                raise SignatureDoesNotMatch
            self._check_announced()
            # What is left is the empty line that ends the body, as after a last chunk.
            self._state = _State.DATA_END
        elif name in self.trailers or name not in self._announced:
            raise _malformed_trailer()
        else:
            self.trailers[name] = value

    def _check_announced(self) -> None:
        if self.trailers.keys() != self._announced:
            raise _malformed_trailer()

    def _take_excess(self, view: memoryview) -> int:
        """An unsigned trailer may be ended twice (minio-go does); nothing else may follow."""
        self._buffer += bytes(view[:3])
        if self._signatures is not None or not b"\r\n".startswith(self._buffer):
            raise _incomplete()
        return len(view[:3])


class ChunkEncoder:
    """Puts the framing on: :meth:`chunk` for each piece of the body, then :meth:`end`.

    For signed modes ``context`` is what
    :meth:`~s3posixfs.sigv4.signing.Signer.sign_with_context` gave with the request's head.
    """

    __slots__ = ("_mode", "_signatures")

    def __init__(self, mode: PayloadMode, context: SigningContext | None) -> None:
        if not mode.chunked:
            raise ValueError("the body of this request is not chunked")
        if mode.chunks_signed and context is None:
            raise ValueError("signed chunks need a signing context")
        self._mode = mode
        self._signatures = (
            ChunkSignatures(context) if mode.chunks_signed and context is not None else None
        )

    def chunk(self, data: bytes | bytearray | memoryview) -> tuple[bytes, bytes]:
        """What to send before and after ``data``, which must not be empty.

        All but the last must have at least 8,192 bytes.
        """
        if not data:
            raise ValueError("an empty chunk ends the body")
        return self._header(data), b"\r\n"

    def end(self, trailers: Mapping[str, str] | None = None) -> bytes:
        """The last chunk and the trailing headers (names in lower case)."""
        last = self._header(b"")
        if not self._mode.trailer:
            return last + b"\r\n"
        lines = [f"{name}:{value}\r\n" for name, value in (trailers or {}).items()]
        if self._signatures is not None:
            lines.append(f"{_TRAILER_SIGNATURE}:{self._signatures.trailer(trailers or {})}\r\n")
        return last + wire_bytes("".join(lines)) + b"\r\n"

    def _header(self, data: bytes | bytearray | memoryview) -> bytes:
        size = f"{memoryview(data).nbytes:x}"
        if self._signatures is None:
            return f"{size}\r\n".encode("ascii")
        signature = self._signatures.chunk(hashlib.sha256(data).hexdigest())
        return f"{size};chunk-signature={signature}\r\n".encode("ascii")


def encoded_length(mode: PayloadMode, sizes: Sequence[int], trailers: Mapping[str, str]) -> int:
    """The Content-Length (bytes) of a body sent in chunks of these sizes, with these trailers."""
    signature = len(";chunk-signature=") + 64 if mode.chunks_signed else 0
    total = sum(len(f"{size:x}") + signature + 2 + size + 2 for size in sizes)
    total += 1 + signature + 2 + 2
    if mode.trailer:
        total += sum(len(wire_bytes(f"{name}:{value}")) + 2 for name, value in trailers.items())
        if mode.chunks_signed:
            total += len(_TRAILER_SIGNATURE) + 1 + 64 + 2
    return total


def _incomplete() -> S3Error:
    return S3Error("IncompleteBody", "The request body terminated unexpectedly", status=400)


def _malformed_trailer() -> S3Error:
    return S3Error(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to "
        "our published schema.",
        status=400,
    )
