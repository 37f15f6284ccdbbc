"""Reading what a request says of its signature: header or query, never both.

Source: *Authenticating Requests (AWS Signature Version 4)*, Amazon S3 API Reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from s3posixfs.sigv4 import problems
from s3posixfs.sigv4.constants import (
    ALGORITHM,
    MAX_EXPIRES_SECONDS,
    TERMINATOR,
    UNSIGNED_PAYLOAD,
)
from s3posixfs.sigv4.encoding import decode_query, wire_text
from s3posixfs.sigv4.payload import PayloadMode

_TIMESTAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_DAY = re.compile(r"[0-9]{8}")
_HEADER_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")
_NUMBER = re.compile(r"[0-9]{1,18}")
_COMPONENTS = ("Credential", "SignedHeaders", "Signature")
_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_OPTIONAL_PARAMETERS = ("X-Amz-Security-Token", "X-Amz-Content-Sha256")
_FORM_FIELDS = ("policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
_VERSION_2_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature"})

Kind = Literal["header", "presigned", "form"]


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request's head as it came: target undecoded, header names in lower case, in order.

    Header values are text as :func:`~s3posixfs.sigv4.encoding.wire_text` makes it.
    """

    method: str
    raw_target: bytes = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(repr=False)

    @property
    def raw_path(self) -> bytes:
        return self.raw_target.partition(b"?")[0]

    @property
    def raw_query(self) -> str:
        return wire_text(self.raw_target.partition(b"?")[2])

    def values(self, name: str) -> list[str]:
        """All values of a header (lower-case name), without blanks at their ends."""
        return [value.strip(" \t") for found, value in self.headers if found == name]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a request says of its signature; nothing of it is proven yet.

    ``day`` is ``YYYYMMDD`` of the scope, ``timestamp`` the signing time as signed,
    ``signed_at`` the same in seconds since the epoch, ``expires`` seconds after it
    (presigned only).
    """

    access_key: str
    day: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str = field(repr=False)
    timestamp: str
    signed_at: float
    session_token: str | None = field(repr=False)
    payload: PayloadMode
    kind: Kind
    expires: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/{TERMINATOR}"


def parse(request: IncomingRequest) -> SignedRequest | None:
    """What the request says of its signature; ``None`` where it is anonymous.

    Raises :class:`~s3posixfs.sigv4.problems.SignatureProblem`: InvalidArgument for more than
    one kind of authentication, InvalidRequest for another kind than version 4,
    AuthorizationHeaderMalformed, AuthorizationQueryParametersError, and AccessDenied where
    ``host`` or an ``x-amz-*`` header is not covered by the signature.
    """
    authorizations = [value for value in request.values("authorization") if value]
    parameters = decode_query(request.raw_query)
    names = {name for name, _ in parameters}
    presigned = not names.isdisjoint(_PARAMETERS)
    version_2 = not names.isdisjoint(_VERSION_2_PARAMETERS)
    kinds = len(authorizations) + presigned + version_2
    if kinds > 1:
        raise problems.more_than_one_kind()
    if version_2:
        raise problems.unsupported_mechanism()
    if authorizations:
        signed = _parse_header(request, authorizations[0])
    elif presigned:
        signed = _parse_query(request, parameters)
    else:
        return None
    covered = set(signed.signed_headers)
    required = {name for name, _ in request.headers if name.startswith("x-amz-")} | {"host"}
    if not required <= covered:
        raise problems.headers_not_signed(", ".join(sorted(required - covered)))
    return signed


def parse_form(fields: Mapping[str, str]) -> SignedRequest | None:
    """What a browser's form (names in lower case) says of its signature, which is over its policy.

    ``None`` for a form without any. Raises SignatureProblem: InvalidArgument for a field that is
    missing, InvalidRequest for another kind than version 4, AuthorizationHeaderMalformed.
    """
    if {"awsaccesskeyid", "signature"} & fields.keys():
        raise problems.unsupported_mechanism()
    if not any(name in fields for name in _FORM_FIELDS):
        return None
    for name in _FORM_FIELDS:
        if not fields.get(name):
            raise problems.form_field_missing(name)
    if fields["x-amz-algorithm"] != ALGORITHM:
        raise problems.unsupported_mechanism()
    access_key, day, region, service = _credential("form", fields["x-amz-credential"])
    timestamp = fields["x-amz-date"]
    signed_at = _seconds(timestamp)
    if signed_at is None:
        raise problems.date_missing()
    return SignedRequest(
        access_key=access_key,
        day=day,
        region=region,
        service=service,
        signed_headers=(),
        signature=fields["x-amz-signature"],
        timestamp=timestamp,
        signed_at=signed_at,
        session_token=fields.get("x-amz-security-token"),
        payload=PayloadMode(UNSIGNED_PAYLOAD),
        kind="form",
    )


def payload_of_anonymous(request: IncomingRequest) -> PayloadMode:
    """How the body of a request without a signature comes; it cannot have signed chunks."""
    mode = _payload(request.values("x-amz-content-sha256"), UNSIGNED_PAYLOAD)
    if mode.chunks_signed:
        raise problems.payload_hash_invalid()
    return mode


def _parse_header(request: IncomingRequest, authorization: str) -> SignedRequest:
    scheme, _, rest = authorization.partition(" ")
    if scheme != ALGORITHM:
        if scheme == "AWS" or scheme.startswith("AWS4-"):
            raise problems.unsupported_mechanism()
        raise problems.unsupported_authorization_type()
    components: dict[str, str] = {}
    pieces = rest.split(",")
    if len(pieces) != len(_COMPONENTS):
        raise problems.malformed_header(
            "the authorization header requires three components: Credential, SignedHeaders, "
            "and Signature."
        )
    for piece in pieces:
        name, equals, value = piece.strip(" \t").partition("=")
        if not equals or name not in _COMPONENTS or name in components:
            # The value may be a signature: only the name is said.
            raise problems.malformed_header(
                f'the authorization component "{problems.clipped(name)}" is malformed.'
            )
        components[name] = value
    timestamp, signed_at = _signing_time(request)
    access_key, day, region, service = _credential("header", components["Credential"])
    tokens = request.values("x-amz-security-token")
    if len(tokens) > 1:
        raise problems.malformed_header("x-amz-security-token is given more than once.")
    hashes = request.values("x-amz-content-sha256")
    if not hashes and service == "s3":
        raise problems.payload_hash_missing()
    return SignedRequest(
        access_key=access_key,
        day=day,
        region=region,
        service=service,
        signed_headers=_header_names("header", components["SignedHeaders"]),
        signature=components["Signature"],
        timestamp=timestamp,
        signed_at=signed_at,
        session_token=tokens[0] if tokens else None,
        payload=_payload(hashes, None),
        kind="header",
    )


def _parse_query(request: IncomingRequest, parameters: Sequence[tuple[str, str]]) -> SignedRequest:
    found: dict[str, str] = {}
    for name, value in parameters:
        if name in _PARAMETERS or name in _OPTIONAL_PARAMETERS:
            if name in found:
                raise problems.malformed_query(f"{name} is given more than once.")
            found[name] = value
    if not all(found.get(name) for name in _PARAMETERS):
        raise problems.parameters_missing()
    if found["X-Amz-Algorithm"] != ALGORITHM:
        raise problems.malformed_query(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    access_key, day, region, service = _credential("presigned", found["X-Amz-Credential"])
    timestamp = found["X-Amz-Date"]
    signed_at = _seconds(timestamp)
    if signed_at is None:
        raise problems.malformed_query(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        )
    expires = _expires(found["X-Amz-Expires"])
    hashes = request.values("x-amz-content-sha256")
    if "X-Amz-Content-Sha256" in found:
        hashes.append(found["X-Amz-Content-Sha256"])
    tokens = {*request.values("x-amz-security-token")}
    if "X-Amz-Security-Token" in found:
        tokens.add(found["X-Amz-Security-Token"])
    if len(tokens) > 1:
        raise problems.malformed_query("X-Amz-Security-Token is given more than once.")
    return SignedRequest(
        access_key=access_key,
        day=day,
        region=region,
        service=service,
        signed_headers=_header_names("presigned", found["X-Amz-SignedHeaders"]),
        signature=found["X-Amz-Signature"],
        timestamp=timestamp,
        signed_at=signed_at,
        session_token=tokens.pop() if tokens else None,
        payload=_payload(hashes, UNSIGNED_PAYLOAD if service == "s3" else None),
        kind="presigned",
        expires=expires,
    )


def _credential(kind: Kind, text: str) -> tuple[str, str, str, str]:
    """Access key, day, region and service of ``KEY/YYYYMMDD/REGION/SERVICE/aws4_request``."""
    pieces = text.rsplit("/", 4)
    if len(pieces) != 5 or not all(pieces):
        raise problems.malformed_credential(
            kind,
            "the Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
        )
    access_key, day, region, service, terminator = pieces
    if terminator != TERMINATOR:
        raise problems.malformed_credential(
            kind,
            f'incorrect terminal "{problems.clipped(terminator)}". '
            f'This endpoint uses "{TERMINATOR}".',
        )
    if not _DAY.fullmatch(day):
        raise problems.malformed_credential(
            kind,
            f'incorrect date format "{problems.clipped(day)}". '
            'This date in the credential must be in the format "yyyyMMdd".',
        )
    return access_key, day, region, service


def _header_names(kind: Kind, text: str) -> tuple[str, ...]:
    names = text.split(";")
    if not _HEADER_NAMES.fullmatch(text) or len(set(names)) != len(names):
        if kind == "presigned":
            raise problems.malformed_query("X-Amz-SignedHeaders is malformed.")
        raise problems.malformed_header(
            f'the authorization component "SignedHeaders={problems.clipped(text)}" is malformed.'
        )
    return tuple(names)


def _signing_time(request: IncomingRequest) -> tuple[str, float]:
    """Timestamp as signed and in seconds: of ``x-amz-date``, else of ``Date``."""
    given = request.values("x-amz-date")
    if len(given) == 1:
        signed_at = _seconds(given[0])
        if signed_at is not None:
            return given[0], signed_at
    dates = request.values("date")
    if not given and len(dates) == 1:
        signed_at = _seconds(dates[0])
        if signed_at is not None:
            return dates[0], signed_at
        try:
            moment = parsedate_to_datetime(dates[0]).astimezone(UTC)
        except (ValueError, OverflowError, TypeError, IndexError):
            raise problems.date_missing() from None
        if moment.year < 1000:
            raise problems.date_missing()
        return moment.strftime("%Y%m%dT%H%M%SZ"), moment.timestamp()
    raise problems.date_missing()


def _seconds(timestamp: str) -> float | None:
    """Seconds since the epoch of ``YYYYMMDDTHHMMSSZ``; ``None`` for anything else."""
    if not _TIMESTAMP.fullmatch(timestamp):
        return None
    try:
        moment = datetime(
            int(timestamp[:4]),
            int(timestamp[4:6]),
            int(timestamp[6:8]),
            int(timestamp[9:11]),
            int(timestamp[11:13]),
            int(timestamp[13:15]),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return moment.timestamp()


def _expires(text: str) -> int:
    if text.startswith("-") and _NUMBER.fullmatch(text[1:]):
        raise problems.malformed_query("X-Amz-Expires must be non-negative")
    if not _NUMBER.fullmatch(text):
        raise problems.malformed_query("X-Amz-Expires should be a number")
    expires = int(text)
    if expires > MAX_EXPIRES_SECONDS:
        raise problems.malformed_query(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given "
            "X-Amz-Expires must be less than 604800 seconds"
        )
    return expires


def _payload(given: Sequence[str], default: str | None) -> PayloadMode:
    if not given:
        return PayloadMode(default or "")
    if len(set(given)) != 1:
        raise problems.payload_hash_invalid()
    return PayloadMode.parse(given[0])
