"""The fixed strings of Signature Version 4.

Source: *Authenticating Requests (AWS Signature Version 4)*, Amazon S3 API Reference.
"""

from __future__ import annotations

from typing import Final

ALGORITHM: Final = "AWS4-HMAC-SHA256"
CHUNK_ALGORITHM: Final = "AWS4-HMAC-SHA256-PAYLOAD"
TRAILER_ALGORITHM: Final = "AWS4-HMAC-SHA256-TRAILER"
TERMINATOR: Final = "aws4_request"

# SHA-256 of nothing, in hex: the payload hash of a request without a body.
EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

# What x-amz-content-sha256 says besides a hash.
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

MAX_SKEW_SECONDS: Final = 900
MAX_EXPIRES_SECONDS: Final = 604_800

# A client leaves these unsigned: whoever carries the request on may change them, and none
# of them says what the request does. Content-Length is guarded by the payload hash.
UNSIGNED_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)
