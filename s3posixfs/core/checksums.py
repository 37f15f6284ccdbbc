"""The checksums S3 knows, of whole objects and of objects put together from parts.

Source: *Checking object integrity in Amazon S3*, Amazon S3 User Guide.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from awscrt import checksums as crt

HEADER_PREFIX: Final = "x-amz-checksum-"
HEADER_ALGORITHM: Final = "x-amz-checksum-algorithm"
HEADER_SDK_ALGORITHM: Final = "x-amz-sdk-checksum-algorithm"
HEADER_TYPE: Final = "x-amz-checksum-type"
COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"

# Digest length in bytes of each algorithm that has an x-amz-checksum header, strongest first.
DIGEST_BYTES: Final = {"sha256": 32, "sha1": 20, "crc64nvme": 8, "crc32c": 4, "crc32": 4}
# What S3 gives a multipart object whose upload did not ask for a type.
DEFAULT_TYPE: Final = {
    "sha256": COMPOSITE,
    "sha1": COMPOSITE,
    "crc64nvme": FULL_OBJECT,
    "crc32c": COMPOSITE,
    "crc32": COMPOSITE,
}
HEADER_NAMES: Final = {algorithm: HEADER_PREFIX + algorithm for algorithm in DIGEST_BYTES}

_Crc = Callable[[bytes | bytearray | memoryview, int], int]
_CRCS: Final[dict[str, tuple[_Crc, int]]] = {
    "crc32": (zlib.crc32, 4),
    "crc32c": (crt.crc32c, 4),
    "crc64nvme": (crt.crc64nvme, 8),
}
_COMBINE: Final[dict[str, Callable[[int, int, int], int]]] = {
    "crc32": crt.combine_crc32,
    "crc32c": crt.combine_crc32c,
    "crc64nvme": crt.combine_crc64nvme,
}


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC-32C (RFC 3720) of ``data``, after data whose CRC is ``before``."""
    return int(crt.crc32c(data, before))


def crc64nvme(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC-64/NVME of ``data``, after data whose CRC is ``before``."""
    return int(crt.crc64nvme(data, before))


class Checksum(Protocol):
    """A checksum that takes its data piece by piece."""

    @property
    def algorithm(self) -> str: ...

    def update(self, data: bytes | bytearray | memoryview) -> None: ...

    def digest(self) -> bytes:
        """The checksum of all data so far, CRCs in big-endian order; more may follow."""
        ...

    def b64(self) -> str:
        """The digest in base64, as S3's headers have it."""
        ...


class _CrcChecksum:
    __slots__ = ("_crc", "_size", "_value", "algorithm")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._crc, self._size = _CRCS[algorithm]
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._value = self._crc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")

    def b64(self) -> str:
        return encode(self.digest())


class _HashChecksum:
    __slots__ = ("_hash", "algorithm")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        # These guard against accidents; MD5 is also what an ETag is made of.
        self._hash = hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        return self._hash.digest()

    def b64(self) -> str:
        return encode(self.digest())


def create(algorithm: str) -> Checksum:
    """A checksum of nothing: crc32, crc32c, crc64nvme, sha1, sha256 or md5, in any case.

    Raises ValueError for another algorithm.
    """
    name = algorithm.lower()
    if name in _CRCS:
        return _CrcChecksum(name)
    if name in ("sha1", "sha256", "md5"):
        return _HashChecksum(name)
    raise ValueError(f"no checksum is called {algorithm!r}")


def algorithm_of_header(name: str) -> str | None:
    """The algorithm of an ``x-amz-checksum-…`` header; ``None`` for any other header."""
    algorithm = name.lower().removeprefix(HEADER_PREFIX)
    return algorithm if HEADER_NAMES.get(algorithm) == name.lower() else None


def encode(digest: bytes) -> str:
    """The value of a header for a digest: its base64."""
    return base64.b64encode(digest).decode("ascii")


def decode(algorithm: str, value: str) -> bytes:
    """The digest that a header value stands for.

    Raises ValueError unless it is the base64 of a digest of this algorithm's length.
    """
    try:
        digest = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"not a {algorithm} checksum in base64") from None
    if len(digest) != (16 if algorithm == "md5" else DIGEST_BYTES.get(algorithm)):
        raise ValueError(f"not a {algorithm} checksum in base64")
    return digest


def composite(algorithm: str, digests: Sequence[bytes]) -> str:
    """The checksum of a multipart object of type COMPOSITE: ``base64-N`` for N parts.

    It is the checksum of the parts' digests one after another. Raises ValueError where
    there are no parts.
    """
    if not digests:
        raise ValueError("a composite checksum needs at least one part")
    checksum = create(algorithm)
    checksum.update(b"".join(digests))
    return f"{checksum.b64()}-{len(digests)}"


def full_object(algorithm: str, parts: Sequence[tuple[bytes, int]]) -> str:
    """The CRC (base64) of a whole object from its parts' digests and sizes in bytes.

    Raises ValueError for algorithms that cannot be combined (SHA-1, SHA-256, MD5) and for
    digests of the wrong length.
    """
    combine = _COMBINE.get(algorithm.lower())
    if combine is None:
        raise ValueError(f"{algorithm} has no full-object checksum of a multipart object")
    size = _CRCS[algorithm.lower()][1]
    value = 0
    for digest, length in parts:
        if len(digest) != size:
            raise ValueError(f"not a {algorithm} digest")
        value = combine(value, int.from_bytes(digest, "big"), length)
    return encode(value.to_bytes(size, "big"))


def multipart_etag(md5_digests: Sequence[bytes]) -> str:
    """The ETag (no quotes) of a multipart object: MD5 of its parts' MD5 digests, ``-N``."""
    checksum = create("md5")
    checksum.update(b"".join(md5_digests))
    return f"{checksum.digest().hex()}-{len(md5_digests)}"
