"""Who sent a request: the one function that every request passes before anything else.

The order is fixed: one kind of authentication, a well-formed one, scope, time, key, token,
signature. What is not proven here is anonymous, or refused.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.problems import SignatureDoesNotMatch
from s3posixfs.sigv4.signing import SigningContext
from s3posixfs.sigv4.verifying import (
    IncomingRequest,
    SignedRequest,
    check_scope,
    check_time,
    parse,
    payload_of_anonymous,
    verify,
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
    session: SessionRecord | None = None
    user: UserRecord | None = None
    secret = _UNKNOWN_SECRET
    key = state.key(signed.access_key)
    if key is not None:
        if key.enabled and key.user.enabled:
            user, secret = key.user, key.secret
    else:
        session = state.session(signed.access_key)
        if session is not None and session.user.enabled:
            user, secret = session.user, session.secret
    s3 = service == "s3"
    if user is None:
        with suppress(SignatureDoesNotMatch):
            verify(incoming, signed, secret, s3=s3, payload_hash=body_hash)
        raise S3Error(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            status=403,
        )
    _check_token(signed, session, now)
    context = verify(incoming, signed, secret, s3=s3, payload_hash=body_hash)
    return Caller(signed.payload, user, signed.access_key, session, signed, context)


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
