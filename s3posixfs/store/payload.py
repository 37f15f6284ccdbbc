"""What a request says of its body, and the proof that the body is so.

Everything a client claims of a body (its signature, length, SHA-256, MD5, checksum) is compared
before anything is published. Source: the S3 user guide, "Checking object integrity".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_PART_BYTES
from s3posixfs.sigv4.chunked import ChunkDecoder
from s3posixfs.store.errors import DetailedError, invalid_argument, invalid_request
from s3posixfs.store.request import Request

DEFAULT_ALGORITHM = "crc64nvme"
_MAX_TRAILERS = 16


@dataclass(frozen=True, slots=True)
class Claims:
    """What the head says of the body. ``size`` is the payload's bytes, ``None`` if not said.

    ``algorithm`` is the checksum to compute; ``checksum`` its value (base64) where the head
    has it, while ``in_trailer`` says that the value comes after the body. ``further`` is an
    algorithm to compute besides.
    """

    size: int | None
    sha256: str | None
    md5: bytes | None
    algorithm: str
    checksum: str | None
    in_trailer: bool
    trailer_names: tuple[str, ...] = ()
    further: str | None = None


@dataclass(frozen=True, slots=True)
class Proven:
    """A body that is what was claimed: its size, the MD5 that is its ETag, its checksum."""

    size: int
    etag: str
    checksums: dict[str, str] = field(default_factory=dict)


def claims_of(
    request: Request,
    *,
    default_algorithm: str | None = None,
    further: str | None = None,
    checksum_of_body: bool = True,
) -> Claims:
    """Read the claims; S3Error where they are missing, malformed or contradict each other.

    Without ``checksum_of_body`` the x-amz-checksum-… headers are about something else.
    """
    headers = request.headers
    payload = request.who.payload
    size = request.body.length
    if payload.chunked:
        text = headers.get("x-amz-decoded-content-length", "")
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise S3Error(
                "MissingContentLength",
                "You must provide the x-amz-decoded-content-length HTTP header.",
                status=411,
            )
        size = int(text)
    elif size is not None and "content-length" not in headers:
        raise S3Error(
            "MissingContentLength", "You must provide the Content-Length HTTP header.", status=411
        )
    if size is not None and size > MAX_PART_BYTES:
        raise too_large(size)
    trailers = tuple(
        name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip()
    )
    if len(trailers) > _MAX_TRAILERS or (trailers and not payload.trailer):
        raise invalid_request("The value specified in the x-amz-trailer header is not supported")
    algorithm, value, in_trailer = None, None, False
    if checksum_of_body:
        algorithm, value, in_trailer = _checksum_claim(request, trailers)
    return Claims(
        size=size,
        sha256=payload.sha256,
        md5=_content_md5(headers.get("content-md5")),
        algorithm=algorithm or default_algorithm or DEFAULT_ALGORITHM,
        checksum=value,
        in_trailer=in_trailer,
        trailer_names=trailers,
        further=further
        if further != (algorithm or default_algorithm or DEFAULT_ALGORITHM)
        else None,
    )


def _checksum_claim(
    request: Request, trailers: Sequence[str]
) -> tuple[str | None, str | None, bool]:
    headers = request.headers
    given = [
        (algorithm, value)
        for name, value in headers.items()
        if (algorithm := checksums.algorithm_of_header(name)) is not None
    ]
    trailing = [a for name in trailers if (a := checksums.algorithm_of_header(name)) is not None]
    if len(given) + len(trailing) > 1:
        raise invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    wanted = headers.get(checksums.HEADER_SDK_ALGORITHM)
    algorithm = given[0][0] if given else trailing[0] if trailing else None
    if wanted is not None:
        if wanted.lower() not in checksums.DIGEST_BYTES:
            raise invalid_request("Checksum algorithm provided is unsupported.")
        if algorithm is None:
            raise invalid_request(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
                "x-amz-trailer headers were found."
            )
        if algorithm != wanted.lower():
            raise invalid_request("Value for x-amz-sdk-checksum-algorithm header is invalid.")
    value = None
    if given:
        value = given[0][1]
        check_checksum_value(given[0][0], value)
    return algorithm, value, bool(trailing)


def check_checksum_value(algorithm: str, value: str) -> None:
    """Raise InvalidRequest unless ``value`` is the base64 of such a digest."""
    try:
        checksums.decode(algorithm, value)
    except ValueError:
        raise invalid_request(
            f"Value for {checksums.HEADER_NAMES[algorithm]} header is invalid."
        ) from None


def _content_md5(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified is not valid.", status=400)
    return digest


def too_large(size: int) -> S3Error:
    return DetailedError(
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed size",
        status=400,
        details={"ProposedSize": str(size), "MaxSizeAllowed": str(MAX_PART_BYTES)},
    )


class Verifier:
    """Takes a body's bytes as they come and says at the end whether it is what was claimed."""

    __slots__ = ("_checksum", "_claims", "_decoder", "_further", "_md5", "_sha256", "_size")

    def __init__(self, request: Request, claims: Claims) -> None:
        caller = request.who
        self._claims = claims
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if claims.sha256 is not None else None
        self._checksum = checksums.create(claims.algorithm)
        self._further = checksums.create(claims.further) if claims.further is not None else None
        self._size = 0
        self._decoder: ChunkDecoder | None = None
        if caller.payload.chunked:
            self._decoder = ChunkDecoder(
                caller.payload, caller.signing, claims.size, claims.trailer_names
            )

    def decode(self, data: memoryview) -> Sequence[memoryview]:
        """The payload in ``data``: what is left when the chunks' framing is off."""
        pieces: Sequence[memoryview] = (data,)
        if self._decoder is not None:
            pieces = self._decoder.feed(data)
        self._size += sum(map(len, pieces))
        if self._size > MAX_PART_BYTES:
            raise too_large(self._size)
        return pieces

    def hash_md5(self, pieces: Sequence[memoryview]) -> None:
        """The slowest hash, by itself so that it can run beside the others."""
        for piece in pieces:
            self._md5.update(piece)

    def hash_others(self, pieces: Sequence[memoryview]) -> None:
        """The hashes that are not MD5."""
        for piece in pieces:
            if self._sha256 is not None:
                self._sha256.update(piece)
            self._checksum.update(piece)
            if self._further is not None:
                self._further.update(piece)

    def finish(self) -> Proven:
        """The facts of the body; S3Error when any claim is wrong. Nothing is published before."""
        claims = self._claims
        trailers: dict[str, str] = {}
        if self._decoder is not None:
            self._decoder.finish()
            trailers = self._decoder.trailers
        if claims.size is not None and self._size != claims.size:
            raise S3Error(
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP "
                "header.",
                status=400,
            )
        if self._sha256 is not None and claims.sha256 is not None:
            check_sha256(claims.sha256, self._sha256.hexdigest())
        if claims.md5 is not None and not hmac.compare_digest(claims.md5, self._md5.digest()):
            raise DetailedError(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                status=400,
                details={
                    "ExpectedDigest": base64.b64encode(claims.md5).decode("ascii"),
                    "CalculatedDigest": base64.b64encode(self._md5.digest()).decode("ascii"),
                },
            )
        computed = self._checksum.b64()
        claimed = claims.checksum
        if claims.in_trailer:
            claimed = trailers.get(checksums.HEADER_NAMES[claims.algorithm])
            if claimed is None:
                raise S3Error(
                    "MalformedTrailerError",
                    "The request contained trailing data that was not well-formed or did not "
                    "conform to our published schema.",
                    status=400,
                )
            check_checksum_value(claims.algorithm, claimed)
        if claimed is not None and claimed != computed:
            raise S3Error(
                "BadDigest",
                f"The {claims.algorithm.upper()} you specified did not match the calculated "
                "checksum.",
                status=400,
            )
        found = {claims.algorithm: computed}
        if self._further is not None:
            found[self._further.algorithm] = self._further.b64()
        return Proven(self._size, self._md5.hexdigest(), found)


def check_sha256(claimed: str, computed: str) -> None:
    """Raise XAmzContentSHA256Mismatch unless the body has the hash that was signed."""
    if not hmac.compare_digest(claimed, computed):
        raise DetailedError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            status=400,
            details={
                "ClientComputedContentSHA256": claimed,
                "S3ComputedContentSHA256": computed,
            },
        )


def require_digest(request: Request) -> None:
    """Raise InvalidRequest unless the request says what its body's digest is.

    S3 asks for it where a body that was damaged on its way would do harm unnoticed.
    """
    headers = request.headers
    names = [
        *headers,
        *(name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",")),
    ]
    if "content-md5" in headers or any(checksums.algorithm_of_header(name) for name in names):
        return
    raise invalid_request(
        "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
    )


def verify_small(request: Request, data: bytes, *, checksum_of_body: bool = True) -> bytes:
    """The payload of a body that was read whole; S3Error where a claim about it is wrong.

    For XML and form bodies, where nothing but the bytes themselves is wanted. Without
    ``checksum_of_body`` the x-amz-checksum-… headers are about something else.
    """
    claims = None
    if data or request.who.payload.chunked:
        claims = claims_of(request, checksum_of_body=checksum_of_body)
    if claims is None:
        digest = request.who.payload.sha256
        if digest is not None:
            check_sha256(digest, hashlib.sha256(b"").hexdigest())
        return b""
    verifier = Verifier(request, claims)
    pieces = verifier.decode(memoryview(data))
    verifier.hash_md5(pieces)
    verifier.hash_others(pieces)
    verifier.finish()
    return b"".join(pieces)


def requested_algorithm(request: Request) -> str | None:
    """The algorithm of ``x-amz-checksum-algorithm`` (copies, multipart); ``None`` without one."""
    text = request.headers.get(checksums.HEADER_ALGORITHM)
    if text is None:
        return None
    if text.lower() not in checksums.DIGEST_BYTES:
        raise invalid_argument(
            "Checksum algorithm provided is unsupported.", checksums.HEADER_ALGORITHM, text
        )
    return text.lower()
