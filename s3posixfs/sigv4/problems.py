"""Refusals of a signature, each with AWS's code, status and message.

Source: *Error responses*, Amazon S3 API Reference, and the answers S3 gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from s3posixfs.core.errors import S3Error

# What XML 1.0 cannot hold; a client may send any of it, and the answer quotes the client.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_COMPONENTS_MISSING = (
    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
    "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
)
_ONE_KIND = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature "
    "query string parameter or the Authorization header should be specified"
)
_PAYLOAD_VALUES = (
    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, "
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER "
    "or a valid sha256 value."
)


class SignatureProblem(S3Error):
    """A request that is not proven to be from whom it says.

    ``details`` are the elements AWS adds to ``<Error>``, in order (``Region``,
    ``HeadersNotSigned``, ``StringToSign``, …). No signature, secret or token is among them.
    Whatever XML cannot hold is replaced, in them and in the message.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, _xml_text(message), status=status)
        self.details: Mapping[str, str] = {
            name: _xml_text(value) for name, value in (details or {}).items()
        }


class SignatureDoesNotMatch(SignatureProblem):
    """The signature is not the one the secret key gives for this request.

    ``string_to_sign`` and ``canonical_request`` are the store's own, for the client to
    compare; a session token in them is blotted out. Both are empty for a chunk.
    """

    def __init__(
        self, access_key: str = "", string_to_sign: str = "", canonical_request: str = ""
    ) -> None:
        details = {}
        if string_to_sign:
            details = {
                "AWSAccessKeyId": access_key,
                "StringToSign": string_to_sign,
                "StringToSignBytes": _hex(string_to_sign),
                "CanonicalRequest": canonical_request,
                "CanonicalRequestBytes": _hex(canonical_request),
            }
        super().__init__(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
            403,
            details,
        )
        self.string_to_sign = string_to_sign
        self.canonical_request = canonical_request


def clipped(text: str) -> str:
    """As much of a client's text as a message has room for."""
    return text if len(text) <= 100 else text[:100] + "…"


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _hex(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").hex(" ")


def malformed_header(what: str, details: Mapping[str, str] | None = None) -> SignatureProblem:
    return SignatureProblem(
        "AuthorizationHeaderMalformed",
        f"The authorization header is malformed; {what}",
        400,
        details,
    )


def malformed_query(message: str, details: Mapping[str, str] | None = None) -> SignatureProblem:
    return SignatureProblem("AuthorizationQueryParametersError", message, 400, details)


def malformed_credential(
    kind: str, what: str, details: Mapping[str, str] | None = None
) -> SignatureProblem:
    """A fault in the credential scope, in the words for where it was: header or query."""
    if kind == "presigned":
        return malformed_query(f"Error parsing the X-Amz-Credential parameter; {what}", details)
    return malformed_header(what, details)


def form_field_missing(name: str) -> SignatureProblem:
    return SignatureProblem(
        "InvalidArgument",
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the "
        "order of the fields.",
        400,
        {"ArgumentName": name, "ArgumentValue": ""},
    )


def parameters_missing() -> SignatureProblem:
    return malformed_query(_COMPONENTS_MISSING)


def more_than_one_kind() -> SignatureProblem:
    return SignatureProblem("InvalidArgument", _ONE_KIND, 400, {"ArgumentName": "Authorization"})


def unsupported_mechanism() -> SignatureProblem:
    return SignatureProblem(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. "
        "Please use AWS4-HMAC-SHA256.",
        400,
    )


def unsupported_authorization_type() -> SignatureProblem:
    return SignatureProblem(
        "InvalidArgument",
        "Unsupported Authorization Type",
        400,
        {"ArgumentName": "Authorization"},
    )


def date_missing() -> SignatureProblem:
    return SignatureProblem(
        "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header", 403
    )


def headers_not_signed(names: str) -> SignatureProblem:
    return SignatureProblem(
        "AccessDenied",
        "There were headers present in the request which were not signed",
        403,
        {"HeadersNotSigned": names},
    )


def payload_hash_missing() -> SignatureProblem:
    return SignatureProblem(
        "InvalidRequest", "Missing required header for this request: x-amz-content-sha256", 400
    )


def payload_hash_invalid() -> SignatureProblem:
    return SignatureProblem(
        "InvalidArgument", _PAYLOAD_VALUES, 400, {"ArgumentName": "x-amz-content-sha256"}
    )


def too_skewed(request_time: str, server_time: str, max_skew: int) -> SignatureProblem:
    return SignatureProblem(
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        403,
        {
            "RequestTime": request_time,
            "ServerTime": server_time,
            "MaxAllowedSkewMilliseconds": str(max_skew * 1000),
        },
    )


def expired(expires: int, expiry_time: str, server_time: str) -> SignatureProblem:
    return SignatureProblem(
        "AccessDenied",
        "Request has expired",
        403,
        {"X-Amz-Expires": str(expires), "Expires": expiry_time, "ServerTime": server_time},
    )


def not_yet_valid() -> SignatureProblem:
    return SignatureProblem("AccessDenied", "Request is not valid yet", 403)
