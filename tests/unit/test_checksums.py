"""Checksums against their published check values, and of objects put together from parts."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3posixfs.core.checksums import (
    DIGEST_BYTES,
    HEADER_NAMES,
    algorithm_of_header,
    composite,
    create,
    decode,
    full_object,
    multipart_etag,
)

# The check value of each algorithm: that of the ASCII digits 123456789 (CRC catalogue, NIST).
CHECK = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "md5": "25f9e794323b453885f5181f1b624d0b",
}
CRCS = ("crc32", "crc32c", "crc64nvme")


@pytest.mark.parametrize("algorithm", CHECK)
def test_check_value_however_the_data_comes(algorithm: str) -> None:
    whole: list[bytes | bytearray | memoryview] = [b"123456789"]
    split: list[bytes | bytearray | memoryview]
    split = [b"", b"1", bytearray(b"2345"), memoryview(b"x6789")[1:]]
    for pieces in (whole, split):
        checksum = create(algorithm.upper())
        for piece in pieces:
            checksum.update(piece)
        assert checksum.algorithm == algorithm
        assert checksum.digest().hex() == CHECK[algorithm]
        assert base64.b64decode(checksum.b64()).hex() == CHECK[algorithm]


def test_the_documentations_trailer_example() -> None:
    checksum = create("crc32c")
    checksum.update(b"a" * 66_560)
    assert checksum.b64() == "sOO8/Q=="


def test_unknown_algorithm() -> None:
    with pytest.raises(ValueError, match="'crc16'"):
        create("crc16")


def test_header_names() -> None:
    assert algorithm_of_header("X-Amz-Checksum-CRC64NVME") == "crc64nvme"
    for other in (
        "x-amz-checksum-type",
        "x-amz-checksum-algorithm",
        "crc32",
        "x-amz-checksum-md5",
        "x-amz-checksum-x-amz-checksum-crc32",
    ):
        assert algorithm_of_header(other) is None
    assert set(HEADER_NAMES) == set(DIGEST_BYTES)


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
def test_decode_takes_what_b64_gives_and_nothing_else(algorithm: str) -> None:
    checksum = create(algorithm)
    checksum.update(b"data")
    assert decode(algorithm, checksum.b64()) == checksum.digest()
    for bad in ("", "AA==", checksum.b64() + "\n", checksum.b64() + "AAAA", "é", "!" * 8):
        with pytest.raises(ValueError, match=algorithm):
            decode(algorithm, bad)


def test_composite() -> None:
    digests = [hashlib.sha256(part).digest() for part in (b"one", b"two", b"three")]
    whole = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    assert composite("sha256", digests) == f"{whole}-3"
    with pytest.raises(ValueError, match="one part"):
        composite("sha256", [])


def test_multipart_etag() -> None:
    digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in (b"one", b"two")]
    whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    assert multipart_etag(digests) == f"{whole}-2"


@pytest.mark.parametrize("algorithm", CRCS)
@given(parts=st.lists(st.binary(max_size=200), max_size=6))
def test_full_object_crc_of_parts_is_that_of_the_whole(algorithm: str, parts: list[bytes]) -> None:
    whole = create(algorithm)
    facts = []
    for part in parts:
        whole.update(part)
        single = create(algorithm)
        single.update(part)
        facts.append((single.digest(), len(part)))
    assert full_object(algorithm, facts) == whole.b64()


def test_full_object_refuses_what_cannot_be_combined() -> None:
    with pytest.raises(ValueError, match="sha256"):
        full_object("sha256", [(b"\0" * 32, 1)])
    with pytest.raises(ValueError, match="crc32"):
        full_object("crc32", [(b"\0" * 8, 1)])
