"""Verifying the signature of a request, in steps that the store takes in this order.

:func:`parse` (which also refuses a second kind of authentication and anything left unsigned),
:func:`check_scope`, :func:`check_time`, the look-up of the key, :func:`verify`. Where the key
is unknown, call :func:`verify` with any secret and refuse whatever it says: an answer then
takes as long as one for a known key.

Source: *Authenticating Requests (AWS Signature Version 4)*, Amazon S3 API Reference.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime

from s3posixfs.sigv4 import problems
from s3posixfs.sigv4.canonical import canonical_request
from s3posixfs.sigv4.constants import MAX_SKEW_SECONDS
from s3posixfs.sigv4.encoding import wire_bytes
from s3posixfs.sigv4.parsing import (
    IncomingRequest,
    SignedRequest,
    parse,
    parse_form,
    payload_of_anonymous,
)
from s3posixfs.sigv4.problems import SignatureDoesNotMatch
from s3posixfs.sigv4.signing import SigningContext, signing_key, string_to_sign

__all__ = [
    "IncomingRequest",
    "SignedRequest",
    "SigningContext",
    "check_scope",
    "check_time",
    "parse",
    "parse_form",
    "payload_of_anonymous",
    "verify",
    "verify_form",
]

_TOKEN_VALUE = re.compile(r"(x-amz-security-token:|X-Amz-Security-Token=)[^\n&]+")


def check_scope(signed: SignedRequest, region: str, service: str) -> None:
    """Refuse a scope that is for another day than the signing time, region or service.

    Raises AuthorizationHeaderMalformed or AuthorizationQueryParametersError; a wrong region
    comes with the right one in ``details``.
    """
    if signed.day != signed.timestamp[:8]:
        what = (
            f'Invalid credential date "{signed.day}". This date is not the same as X-Amz-Date: '
            f'"{signed.timestamp[:8]}".'
        )
        if signed.kind == "presigned":
            raise problems.malformed_query(what)
        raise problems.malformed_header(what)
    if signed.region != region:
        raise problems.malformed_credential(
            signed.kind,
            f"the region '{problems.clipped(signed.region)}' is wrong; expecting '{region}'",
            {"Region": region},
        )
    if signed.service != service:
        raise problems.malformed_credential(
            signed.kind,
            f'incorrect service "{problems.clipped(signed.service)}". '
            f'This endpoint belongs to "{service}".',
        )


def check_time(signed: SignedRequest, now: float, *, max_skew: int = MAX_SKEW_SECONDS) -> None:
    """Refuse a request signed too long ago or ahead of now (seconds since the epoch).

    Raises RequestTimeTooSkewed; for a presigned one AccessDenied, when it has expired or
    was signed more than ``max_skew`` seconds in the future.
    """
    if signed.expires is None:
        if abs(now - signed.signed_at) > max_skew:
            raise problems.too_skewed(signed.timestamp, _iso(now), max_skew)
        return
    if signed.signed_at - now > max_skew:
        raise problems.not_yet_valid()
    if now > signed.signed_at + signed.expires:
        raise problems.expired(signed.expires, _iso(signed.signed_at + signed.expires), _iso(now))


def verify(
    request: IncomingRequest,
    signed: SignedRequest,
    secret_key: str,
    *,
    s3: bool,
    payload_hash: str | None = None,
) -> SigningContext:
    """Compute the signature anew and compare it, in time that does not depend on either.

    ``payload_hash`` is the body's SHA-256 in hex, needed only where the request did not
    declare it (``signed.payload.declared``), which only services other than S3 allow. That
    the body has the declared hash is for the caller to check once it has read it.
    Raises SignatureDoesNotMatch; returns what chunk signatures go on from.
    """
    covered = signed.payload.value if signed.payload.declared else payload_hash
    if covered is None:
        raise problems.payload_hash_missing()
    key = signing_key(secret_key, signed.day, signed.region, signed.service)
    raw_query = request.raw_query
    shown: tuple[str, str] | None = None
    # Clients sign a path and query either in AWS's spelling or in the one they send. Each
    # decodes to this very request, so to take both lets no other request pass.
    for verbatim in (False, True):
        canonical = canonical_request(
            request.method,
            request.raw_path,
            raw_query,
            request.headers,
            signed.signed_headers,
            covered,
            s3=s3,
            verbatim=verbatim,
        )
        if shown is not None and canonical == shown[1]:
            break
        text = string_to_sign(signed.timestamp, signed.scope, canonical)
        expected = hmac.digest(key, wire_bytes(text), "sha256").hex()
        given = signed.signature.encode("ascii", "replace")
        if hmac.compare_digest(expected.encode("ascii"), given):
            return SigningContext(key, signed.scope, signed.timestamp, expected)
        if shown is None:
            shown = (text, canonical)
    assert shown is not None  # noqa: S101  the first turn of the loop set it
    raise SignatureDoesNotMatch(
        signed.access_key, shown[0], _TOKEN_VALUE.sub(r"\1(not shown)", shown[1])
    )


def verify_form(signed: SignedRequest, policy: str, secret_key: str) -> None:
    """The same for a form, whose signature is over its policy as sent (base64).

    Raises SignatureDoesNotMatch.
    """
    key = signing_key(secret_key, signed.day, signed.region, signed.service)
    expected = hmac.digest(key, wire_bytes(policy), "sha256").hex()
    given = signed.signature.encode("ascii", "replace")
    if not hmac.compare_digest(expected.encode("ascii"), given):
        raise SignatureDoesNotMatch(signed.access_key, policy)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
