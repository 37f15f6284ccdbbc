"""Who sent a request: the one function that every request passes before anything else.

The order is fixed: one kind of authentication, a well-formed one, scope, time, key, token,
signature. What is not proven here is anonymous, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.sigv4.constants import UNSIGNED_PAYLOAD
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.problems import SignatureDoesNotMatch
from s3posixfs.sigv4.signing import SigningContext
from s3posixfs.sigv4.verifying import (
    IncomingRequest,
    SignedRequest,
    check_scope,
    check_time,
    parse,
    parse_form,
    payload_of_anonymous,
    verify,
    verify_form,
)
from s3posixfs.store.request import Request
from s3posixfs.store.state import SessionRecord, State, UserRecord

# AWS's canonical ID of everybody who did not sign ("Access control list overview").
ANONYMOUS_ID = "65a011a29cdf8ec533ec3d1ccaae921c"
ANONYMOUS_OWNER = PosixOwner(65534, 65534)
_MOST_KEY_CHARACTERS = 128
# Verifying against it takes as long as against a real one, and never succeeds for the caller.
_UNKNOWN_SECRET = "0" * 40


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from. ``user`` is ``None`` for the anonymous.

    ``signing`` is what the signatures of the body's chunks go on from.
    """

    payload: PayloadMode
    user: UserRecord | None = None
    access_key: str | None = None
    session: SessionRecord | None = None
    signed: SignedRequest | None = None
    signing: SigningContext | None = field(default=None, repr=False)

    @property
    def name(self) -> str | None:
        """The user's name; ``None`` for the anonymous."""
        return self.user.name if self.user is not None else None

    @property
    def owner_id(self) -> str:
        """The owner of what this caller makes, as S3 shows it."""
        return self.user.name if self.user is not None else ANONYMOUS_ID

    @property
    def owner(self) -> PosixOwner:
        """The owner of what this caller makes, as the host shows it."""
        return self.user.owner if self.user is not None else ANONYMOUS_OWNER

    @property
    def is_admin(self) -> bool:
        """Whether the user may do everything (a session policy can still reduce that)."""
        return self.user is not None and self.user.is_admin


def authenticate(
    request: Request,
    state: State,
    *,
    region: str,
    service: str,
    clock: Clock,
    body_hash: str | None = None,
) -> Caller:
    """Who sent ``request``; S3Error with AWS's code where that is claimed but not proven.

    ``body_hash`` is the SHA-256 (hex) of the body for a service whose requests need not
    declare it. Blocks only where the state must be read from its file.
    """
    target = request.raw_path + (f"?{request.raw_query}" if request.raw_query else "")
    incoming = IncomingRequest(request.method, target.encode("ascii"), request.header_list)
    signed = parse(incoming)
    if signed is None:
        return Caller(payload_of_anonymous(incoming))
    request.audit.access_key = signed.access_key[:_MOST_KEY_CHARACTERS]
    now = clock.time()
    check_scope(signed, region, service)
    check_time(signed, now)
    user, secret, session = _holder(state, signed.access_key)
    s3 = service == "s3"
    if user is None:
        with suppress(SignatureDoesNotMatch):
            verify(incoming, signed, secret, s3=s3, payload_hash=body_hash)
        raise _unknown_key()
    _check_token(signed, session, now)
    context = verify(incoming, signed, secret, s3=s3, payload_hash=body_hash)
    return Caller(signed.payload, user, signed.access_key, session, signed, context)


def authenticate_form(
    request: Request, fields: Mapping[str, str], state: State, *, region: str, clock: Clock
) -> Caller:
    """Who sent a browser's form (field names in lower case); the same, but for the time.

    How long a form may be sent is for its policy to say, which is what was signed: the caller
    checks it.
    """
    signed = parse_form(fields)
    if signed is None:
        return Caller(PayloadMode(UNSIGNED_PAYLOAD))
    request.audit.access_key = signed.access_key[:_MOST_KEY_CHARACTERS]
    check_scope(signed, region, "s3")
    user, secret, session = _holder(state, signed.access_key)
    if user is None:
        with suppress(SignatureDoesNotMatch):
            verify_form(signed, fields["policy"], secret)
        raise _unknown_key()
    _check_token(signed, session, clock.time())
    verify_form(signed, fields["policy"], secret)
    return Caller(signed.payload, user, signed.access_key, session, signed)


def _holder(state: State, access_key: str) -> tuple[UserRecord | None, str, SessionRecord | None]:
    """User, secret and session of an access key; no user where the key counts for nothing."""
    key = state.key(access_key)
    if key is not None:
        if key.enabled and key.user.enabled:
            return key.user, key.secret, None
        return None, _UNKNOWN_SECRET, None
    session = state.session(access_key)
    if session is not None and session.user.enabled:
        return session.user, session.secret, session
    return None, _UNKNOWN_SECRET, session


def _unknown_key() -> S3Error:
    return S3Error(
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
        status=403,
    )


def _check_token(signed: SignedRequest, session: SessionRecord | None, now: float) -> None:
    """The token belongs to temporary credentials, and only to them."""
    token = signed.session_token
    if session is None:
        if token is not None:
            raise _invalid_token()
        return
    if token is None or not session.token_matches(token):
        raise _invalid_token()
    if session.expires_at <= now:
        raise S3Error("ExpiredToken", "The provided token has expired.", status=400)


def _invalid_token() -> S3Error:
    return S3Error(
        "InvalidToken", "The provided token is malformed or otherwise invalid.", status=400
    )
