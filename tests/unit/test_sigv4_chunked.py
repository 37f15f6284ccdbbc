"""aws-chunked bodies: AWS's examples, other clients' habits, and everything that is not right."""

from __future__ import annotations

import hmac
import io

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum

from s3posixfs.core.checksums import create
from s3posixfs.core.errors import S3Error
from s3posixfs.sigv4.canonical import canonical_request
from s3posixfs.sigv4.chunked import (
    MAX_LINE_BYTES,
    ChunkDecoder,
    ChunkEncoder,
    ChunkSignatures,
    encoded_length,
)
from s3posixfs.sigv4.constants import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
)
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.problems import SignatureDoesNotMatch
from s3posixfs.sigv4.signing import SigningContext, signing_key, string_to_sign

SIGNED = PayloadMode(STREAMING_SIGNED)
SIGNED_TRAILER = PayloadMode(STREAMING_SIGNED_TRAILER)
UNSIGNED_TRAILER = PayloadMode(STREAMING_UNSIGNED_TRAILER)
MODES = [SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER]
TIMESTAMP = "20130524T000000Z"
SCOPE = "20130524/us-east-1/s3/aws4_request"
DATA = b"a" * 66_560
CRC = {"x-amz-checksum-crc32c": "sOO8/Q=="}


def example_context(mode: PayloadMode, extra: list[tuple[str, str]]) -> SigningContext:
    """The seed of AWS's two examples, whose requests sign Content-Length and all the rest."""
    headers = [
        ("host", "s3.amazonaws.com"),
        ("x-amz-date", TIMESTAMP),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-content-sha256", mode.value),
        *extra,
    ]
    names = [name for name, _ in headers]
    path = "/examplebucket/chunkObject.txt"
    canonical = canonical_request("PUT", path, "", headers, names, mode.value)
    key = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3")
    text = string_to_sign(TIMESTAMP, SCOPE, canonical)
    return SigningContext(key, SCOPE, TIMESTAMP, hmac.digest(key, text.encode(), "sha256").hex())


CONTEXTS = {
    SIGNED: example_context(SIGNED, [("content-length", "66824")]),
    SIGNED_TRAILER: example_context(SIGNED_TRAILER, [("x-amz-trailer", "x-amz-checksum-crc32c")]),
    UNSIGNED_TRAILER: None,
}
SIGNATURES = {
    SIGNED: (
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ),
    SIGNED_TRAILER: (
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ),
}
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def encode(mode: PayloadMode, pieces: list[bytes], trailers: dict[str, str]) -> bytes:
    encoder = ChunkEncoder(mode, CONTEXTS[mode])
    body = b""
    for piece in pieces:
        before, after = encoder.chunk(piece)
        body += before + piece + after
    return body + encoder.end(trailers)


def example(mode: PayloadMode) -> bytes:
    return encode(mode, [DATA[:65_536], DATA[65_536:]], CRC if mode.trailer else {})


def decoder(
    mode: PayloadMode, length: int | None = len(DATA), names: list[str] | None = None
) -> ChunkDecoder:
    announced = list(CRC) if names is None and mode.trailer else names or []
    return ChunkDecoder(mode, CONTEXTS[mode], length, announced)


def decode(it: ChunkDecoder, body: bytes, step: int = 1 << 20) -> bytes:
    payload = b""
    for start in range(0, len(body), step):
        payload += b"".join(it.feed(body[start : start + step]))
    it.finish()
    assert it.finished
    return payload


def refuse(it: ChunkDecoder, body: bytes) -> S3Error:
    with pytest.raises(S3Error) as caught:
        decode(it, body)
    assert not it.finished
    return caught.value


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER])
def test_documented_example(mode: PayloadMode) -> None:
    context = CONTEXTS[mode]
    assert context is not None
    seed, first, second, last = SIGNATURES[mode]
    assert context.seed_signature == seed
    body = b"".join(
        [
            f"10000;chunk-signature={first}\r\n".encode() + DATA[:65_536] + b"\r\n",
            f"400;chunk-signature={second}\r\n".encode() + DATA[65_536:] + b"\r\n",
            f"0;chunk-signature={last}\r\n".encode(),
        ]
    )
    if mode.trailer:
        body += b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
        body += f"x-amz-trailer-signature:{TRAILER_SIGNATURE}\r\n".encode()
    body += b"\r\n"
    assert example(mode) == body
    it = decoder(mode)
    assert decode(it, body) == DATA
    assert it.trailers == (CRC if mode.trailer else {})
    if not mode.trailer:
        assert len(body) == 66_824


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", [1, 7, 8191, 65_537])
def test_bytes_may_come_in_any_pieces(mode: PayloadMode, step: int) -> None:
    assert decode(decoder(mode), example(mode), step) == DATA


@pytest.mark.parametrize("mode", MODES)
def test_empty_body(mode: PayloadMode) -> None:
    body = encode(mode, [], CRC if mode.trailer else {})
    assert decode(decoder(mode, 0), body, 3) == b""
    assert len(body) == encoded_length(mode, [], CRC)


@pytest.mark.parametrize("mode", MODES)
def test_encoded_length(mode: PayloadMode) -> None:
    assert len(example(mode)) == encoded_length(mode, [65_536, 1024], CRC)


@pytest.mark.parametrize("mode", MODES)
def test_feed_gives_views_not_copies(mode: PayloadMode) -> None:
    body = bytearray(example(mode))
    views = decoder(mode).feed(memoryview(body))
    assert all(view.obj is body for view in views)
    assert [len(view) for view in views] == [65_536, 1024]


@pytest.mark.parametrize("size", [0, 1, 8192, 3_000_000])
def test_botocores_chunked_body(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    wrapper = AwsChunkedWrapper(
        io.BytesIO(data), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32"
    )
    it = decoder(UNSIGNED_TRAILER, size, ["X-Amz-Checksum-Crc32"])
    assert decode(it, wrapper.read(), 100_000) == data
    checksum = create("crc32")
    checksum.update(data)
    assert it.trailers == {"x-amz-checksum-crc32": checksum.b64()}


def test_trailer_as_the_documentation_prints_it_and_minio_go_sends_it() -> None:
    signed = example(SIGNED_TRAILER).replace(b"sOO8/Q==\r\n", b"sOO8/Q==\n\r\n")
    assert decode(decoder(SIGNED_TRAILER), signed, 5) == DATA
    unsigned = example(UNSIGNED_TRAILER).replace(b"sOO8/Q==\r\n\r\n", b"sOO8/Q==\n\r\n\r\n")
    for step in (1, 1 << 20):
        it = decoder(UNSIGNED_TRAILER)
        assert decode(it, unsigned, step) == DATA
        assert it.trailers == CRC


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER])
@pytest.mark.parametrize("at", [200, 65_536, 66_000])
def test_changed_data_is_noticed_at_the_end_of_its_chunk(mode: PayloadMode, at: int) -> None:
    body = bytearray(example(mode))
    body[at] ^= 1
    it = decoder(mode)
    with pytest.raises(SignatureDoesNotMatch) as caught:
        decode(it, bytes(body))
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)
    with pytest.raises(S3Error):
        it.feed(b"more")
    with pytest.raises(S3Error):
        it.finish()


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER])
def test_chunks_cannot_be_dropped_swapped_or_taken_from_another_request(mode: PayloadMode) -> None:
    pieces = [b"a" * 8192, b"b" * 8192, b"c" * 10]
    trailers = CRC if mode.trailer else {}
    whole = encode(mode, pieces, trailers)
    encoder = ChunkEncoder(mode, CONTEXTS[mode])
    chunks = []
    for piece in pieces:
        before, after = encoder.chunk(piece)
        chunks.append(before + piece + after)
    end = encoder.end(trailers)
    assert b"".join([*chunks, end]) == whole
    one, two, three = chunks
    for forged in ([two, one, three], [one, one, three], [one, three], [one, two], []):
        error = refuse(decoder(mode, None), b"".join([*forged, end]))
        assert error.code == "SignatureDoesNotMatch"
    context = CONTEXTS[mode]
    assert context is not None
    other = SigningContext(context.key, context.scope, context.timestamp, "0" * 64)
    assert refuse(ChunkDecoder(mode, other, None, list(trailers)), whole).status == 403


def test_trailers_are_signed() -> None:
    body = example(SIGNED_TRAILER)
    for old, new in (
        (b"sOO8/Q==", b"sOO8/R=="),
        (b"signature:d81f", b"signature:d81e"),
        (b"x-amz-trailer-signature:", b"x-amz-trailer-signature:\xff"),
    ):
        assert old in body
        assert refuse(decoder(SIGNED_TRAILER), body.replace(old, new)).code == (
            "SignatureDoesNotMatch"
        )


def test_a_signed_trailer_cannot_be_left_out() -> None:
    body = example(SIGNED_TRAILER)
    cut = body[: body.index(b"x-amz-checksum")]
    for ending in (b"", b"\r\n", b"x-amz-checksum-crc32c:sOO8/Q==\r\n\r\n"):
        assert refuse(decoder(SIGNED_TRAILER), cut + ending).code == "IncompleteBody"


def test_a_trailer_signature_covers_the_chunks_before_it() -> None:
    context = CONTEXTS[SIGNED_TRAILER]
    assert context is not None
    assert ChunkSignatures(context).trailer(CRC) != TRAILER_SIGNATURE


@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_trailers_must_be_those_announced(mode: PayloadMode) -> None:
    other = {"x-amz-checksum-sha1": "x"}
    for names, trailers in (
        ([], CRC),
        (list(CRC), {}),
        (list(CRC), other),
        (list(CRC), {**CRC, **other}),
        ([*CRC, *other], CRC),
    ):
        error = refuse(decoder(mode, 0, names), encode(mode, [], trailers))
        assert (error.code, error.status) == ("MalformedTrailerError", 400)


@pytest.mark.parametrize(
    "trailer",
    [
        b"x-amz-checksum-crc32c\r\n",
        b":sOO8/Q==\r\n",
        b" x-amz-checksum-crc32c:sOO8/Q==\r\n",
        b"x-amz-checksum-crc32c :sOO8/Q==\r\n",
        b"x-amz-checksum-crc32c:a\r\nx-amz-checksum-crc32c:a\r\n",
        b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n",
    ],
)
def test_malformed_trailers(trailer: bytes) -> None:
    error = refuse(decoder(UNSIGNED_TRAILER, 0), b"0\r\n" + trailer + b"\r\n")
    assert error.code == "MalformedTrailerError"


@pytest.mark.parametrize("mode", MODES)
def test_every_cut_is_incomplete(mode: PayloadMode) -> None:
    body = encode(mode, [b"x" * 20], CRC if mode.trailer else {})
    for end in range(len(body)):
        assert refuse(decoder(mode, 20), body[:end]).code == "IncompleteBody"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("excess", [b"x", b"\r\n0\r\n", b"0\r\n\r\n", b"\r\n\r\n"])
def test_nothing_may_follow_the_end(mode: PayloadMode, excess: bytes) -> None:
    assert refuse(decoder(mode), example(mode) + excess).code == "IncompleteBody"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [66_559, 66_561, 0])
def test_decoded_length_must_agree(mode: PayloadMode, length: int) -> None:
    error = refuse(decoder(mode, length), example(mode))
    assert (error.code, error.status) == ("IncompleteBody", 400)
    assert "x-amz-decoded-content-length" in error.message
    assert decode(decoder(mode, None), example(mode)) == DATA


@pytest.mark.parametrize("mode", MODES)
def test_only_the_last_chunk_may_be_small(mode: PayloadMode) -> None:
    trailers = CRC if mode.trailer else {}
    assert len(decode(decoder(mode, None), encode(mode, [b"x" * 8192, b"y"], trailers))) == 8193
    error = refuse(decoder(mode, None), encode(mode, [b"x" * 8191, b"y"], trailers))
    assert (error.code, error.status) == ("InvalidChunkSizeError", 403)
    assert error.message == "Only the last chunk is allowed to have a size less than 8192 bytes"


@pytest.mark.parametrize(
    "header",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1\n",
        b"1_0\r\n",
        b"1;chunk-signature=" + b"0" * 64 + b"\r\n",
        b"11111111111111111\r\n",
        b"\xd9\xa1\r\n",
    ],
)
def test_malformed_unsigned_chunk_headers(header: bytes) -> None:
    error = refuse(decoder(UNSIGNED_TRAILER, None), header + b"x" * 17 + b"\r\n0\r\n\r\n")
    assert error.code == "IncompleteBody"


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER])
def test_signed_chunks_cannot_come_unsigned(mode: PayloadMode) -> None:
    for body in (
        b"1\r\nx\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"0;chunk-signature=\r\n\r\n",
        b"0;chunk-signature=" + b"0" * 63 + b"\r\n\r\n",
    ):
        assert refuse(decoder(mode, None, []), body).code == "IncompleteBody"


@pytest.mark.parametrize("mode", MODES)
def test_memory_is_bounded(mode: PayloadMode) -> None:
    def feed_often(it: ChunkDecoder, data: bytes, times: int) -> None:
        for _ in range(times):
            it.feed(data)

    with pytest.raises(S3Error):
        feed_often(decoder(mode, None), b"1", MAX_LINE_BYTES + 2)
    endless = decoder(mode, 0)
    body = encode(mode, [], {})
    endless.feed(body[: body.index(b"\r\n") + 2])
    with pytest.raises(S3Error):
        feed_often(endless, b"x-a:b\r\n" if mode is UNSIGNED_TRAILER else b"\r\n", 20_000)


def test_modes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="not chunked"):
        ChunkDecoder(PayloadMode(UNSIGNED_PAYLOAD), None, None)
    with pytest.raises(ValueError, match="not chunked"):
        ChunkEncoder(PayloadMode(UNSIGNED_PAYLOAD), None)
    for mode in (SIGNED, SIGNED_TRAILER):
        with pytest.raises(ValueError, match="context"):
            ChunkDecoder(mode, None, None)
        with pytest.raises(ValueError, match="context"):
            ChunkEncoder(mode, None)
    with pytest.raises(ValueError, match="empty chunk"):
        ChunkEncoder(UNSIGNED_TRAILER, None).chunk(b"")
