"""Whatever bytes come: an S3Error or the right answer, never another exception."""

from __future__ import annotations

import contextlib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.canonical import canonical_query, canonical_request, normalised_path
from s3posixfs.sigv4.chunked import ChunkDecoder, ChunkEncoder
from s3posixfs.sigv4.constants import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
)
from s3posixfs.sigv4.encoding import (
    decode_query,
    recode_path,
    recode_query,
    uri_encode,
    wire_bytes,
    wire_text,
)
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.signing import Signer, SigningContext
from s3posixfs.sigv4.verifying import IncomingRequest, check_scope, check_time, parse, verify

SECRET, NOW = "s3cr3t/s3cr3t", 1_700_000_000.0
CONTEXT = SigningContext(b"k" * 32, "20231114/r/s3/aws4_request", "20231114T221320Z", "0" * 64)
MODES = [
    PayloadMode(value)
    for value in (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER)
]
CRC = "x-amz-checksum-crc32"

# Random bytes seldom get past the first check; these fragments do.
fragments = st.sampled_from(
    [
        b"X-Amz-Algorithm=",
        b"X-Amz-Credential=",
        b"X-Amz-Date=",
        b"X-Amz-Expires=",
        b"X-Amz-SignedHeaders=",
        b"X-Amz-Signature=",
        b"X-Amz-Security-Token=",
        b"AWS4-HMAC-SHA256",
        b"AWS4-HMAC-SHA256 ",
        b"Credential=",
        b"SignedHeaders=",
        b"Signature=",
        b"a/20231114/r/s3/aws4_request",
        b"host",
        b"x-amz-content-sha256;x-amz-date",
        b"20231114T221320Z",
        b"Tue, 14 Nov 2023 22:13:20 GMT",
        b"60",
        b"UNSIGNED-PAYLOAD",
        b"0" * 64,
        b"&",
        b"=",
        b";",
        b", ",
        b",",
        b"/",
        b"%",
        b"%2F",
        b"+",
        b"?",
    ]
)
wire = st.lists(st.one_of(fragments, st.binary(max_size=4)), max_size=14).map(b"".join)
header_names = st.sampled_from(
    ["host", "authorization", "x-amz-date", "date", "x-amz-content-sha256", "x-amz-security-token"]
)
headers = st.lists(st.tuples(header_names, wire.map(wire_text)), max_size=6)


@given(target=wire, headers=headers, s3=st.booleans())
@settings(max_examples=600, deadline=None)
def test_parse_and_verify_raise_only_s3_errors(
    target: bytes, headers: list[tuple[str, str]], s3: bool
) -> None:
    request = IncomingRequest("GET", b"/" + target, headers)
    with contextlib.suppress(S3Error):
        signed = parse(request)
        if signed is not None:
            with contextlib.suppress(S3Error):
                check_scope(signed, "r", "s3")
            with contextlib.suppress(S3Error):
                check_time(signed, NOW)
            verify(request, signed, SECRET, s3=s3, payload_hash="0" * 64)
            raise AssertionError("nothing here was signed with the secret")


@st.composite
def well_formed(draw: st.DrawFn) -> IncomingRequest:
    """All components are there, each of them anything."""

    def text() -> str:
        return wire_text(draw(wire)).replace(",", "")

    value = f"AWS4-HMAC-SHA256 Credential={text()}/20231114/r/s3/aws4_request, "
    value += (
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date{draw(st.sampled_from(['', ';a']))}"
    )
    value += f", Signature={text()}"
    return IncomingRequest(
        wire_text(draw(st.binary(max_size=5))),
        b"/" + draw(wire),
        [
            ("authorization", value),
            ("host", text()),
            ("x-amz-date", "20231114T221320Z"),
            ("x-amz-content-sha256", UNSIGNED_PAYLOAD),
            ("a", text()),
        ],
    )


@given(request=well_formed())
@settings(max_examples=300, deadline=None)
def test_verify_of_anything_raises_only_s3_errors(request: IncomingRequest) -> None:
    try:
        signed = parse(request)
        assert signed is not None
        verify(request, signed, SECRET, s3=True)
    except S3Error:
        return
    raise AssertionError("nothing here was signed with the secret")


@given(path=st.binary(max_size=30), query=st.binary(max_size=30), value=st.binary(max_size=20))
@settings(max_examples=300, deadline=None)
def test_whatever_the_signer_signs_is_verified(path: bytes, query: bytes, value: bytes) -> None:
    raw_path = "/" + uri_encode(path, slash=False)
    raw_query = f"x-id={uri_encode(query, slash=True)}"
    headers = [("host", "h:1"), ("x-amz-meta-a", wire_text(value.replace(b"\n", b"")))]
    signer = Signer(Credentials("alice", SECRET), "r")
    added = signer.sign("PUT", raw_path, raw_query, headers, UNSIGNED_PAYLOAD, NOW)
    everything = [(name.lower(), text) for name, text in [*headers, *added]]
    request = IncomingRequest("PUT", f"{raw_path}?{raw_query}".encode(), everything)
    signed = parse(request)
    assert signed is not None
    verify(request, signed, SECRET, s3=True)


def named(query: str) -> list[tuple[str, str]]:
    """The parameters that have a name or a value: of nothing between two "&" the canonical form
    makes "=", as signers do, and it means nothing still."""
    return sorted(pair for pair in decode_query(query) if pair != ("", ""))


@example(data=b"-&")
@given(data=st.binary(max_size=40))
@settings(max_examples=300)
def test_encodings_are_stable_and_mean_the_same(data: bytes) -> None:
    assert wire_bytes(wire_text(data)) == data
    once = recode_path(data)
    assert recode_path(once) == once
    text = wire_text(data)
    canonical = canonical_query(text)
    assert canonical_query(canonical) == canonical
    if "X-Amz-Signature" not in text:
        assert named(canonical) == named(text)
    assert recode_query(canonical) == [
        (name, value)
        for name, _, value in (piece.partition("=") for piece in canonical.split("&") if piece)
    ]
    assert "//" not in normalised_path(data)
    canonical_request("GET", data, text, [("a", text)], ["a"], "", verbatim=True)


@given(
    mode=st.sampled_from(MODES),
    pieces=st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"\r\n",
                    b"\n",
                    b"0\r\n",
                    b"5\r\nabcde\r\n",
                    b"ffffffffffffffff",
                    b"0;chunk-signature=" + b"0" * 64 + b"\r\n",
                    CRC.encode() + b":AAAAAA==\r\n",
                    b"x-amz-trailer-signature:",
                ]
            ),
            st.binary(max_size=6),
        ),
        max_size=10,
    ),
    length=st.one_of(st.none(), st.integers(0, 20)),
)
@settings(max_examples=500, deadline=None)
def test_decoder_raises_only_s3_errors(
    mode: PayloadMode, pieces: list[bytes], length: int | None
) -> None:
    decoder = ChunkDecoder(mode, CONTEXT, length, [CRC])
    with contextlib.suppress(S3Error):
        for piece in pieces:
            decoder.feed(piece)
        decoder.finish()
        assert mode is MODES[2], "nothing here was signed"


@given(
    mode=st.sampled_from(MODES),
    sizes=st.lists(st.integers(8192, 8200), max_size=2),
    last=st.integers(0, 30),
    cuts=st.lists(st.integers(0, 17_000), max_size=5),
    at=st.integers(0, 1 << 20),
    bit=st.integers(0, 7),
)
@settings(max_examples=300, deadline=None)
def test_one_flipped_bit_never_passes_for_other_data(
    mode: PayloadMode, sizes: list[int], last: int, cuts: list[int], at: int, bit: int
) -> None:
    encoder = ChunkEncoder(mode, CONTEXT)
    trailers = {CRC: "AAAAAA=="} if mode.trailer else {}
    body = b""
    data = b""
    for number, size in enumerate([*sizes, *([last] if last else [])]):
        piece = bytes([number]) * size
        before, after = encoder.chunk(piece)
        body += before + piece + after
        data += piece
    body += encoder.end(trailers)
    ends = sorted({*cuts, len(body)})
    whole = ChunkDecoder(mode, CONTEXT, len(data), list(trailers))
    got = b""
    start = 0
    for end in ends:
        got += b"".join(whole.feed(body[start:end]))
        start = max(start, end)
    whole.finish()
    assert (got, whole.trailers) == (data, trailers)

    flipped = bytearray(body)
    flipped[at % len(body)] ^= 1 << bit
    decoder = ChunkDecoder(mode, CONTEXT, len(data), list(trailers))
    with contextlib.suppress(S3Error):
        got = b"".join(decoder.feed(flipped))
        decoder.finish()
        # Unsigned data is guarded by its checksum, which the store compares.
        if mode.chunks_signed:
            assert (got, decoder.trailers) == (data, trailers)
