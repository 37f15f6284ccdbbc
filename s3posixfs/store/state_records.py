"""What the store knows of users, keys, policies and sessions, and how names must look."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.policy import PolicyDocument

ROLES = ("s3", "admin")
SESSION_KEY_PREFIX = "ASIA"
MIN_SECRET = 8
MAX_SECRET = 256
# 2**32 - 1 is (uid_t) -1, which chown(2) takes to mean "leave as it is".
MAX_POSIX_ID = 2**32 - 2

MAX_USERS = 1_024
MAX_POLICIES = 1_024
MAX_KEYS_PER_USER = 16

_NAME = re.compile(r"[A-Za-z0-9_.@+-]{3,128}")
_POLICY_NAME = re.compile(r"[A-Za-z0-9_.@+=,-]{1,128}")


@dataclass(frozen=True, slots=True)
class UserRecord:
    """An S3 user. ``created`` is seconds since the epoch."""

    name: str
    role: str
    owner: PosixOwner
    enabled: bool
    created: float

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    @property
    def arn(self) -> str:
        """The user as a principal or as a role to assume."""
        return f"arn:aws:iam:::user/{self.name}"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A long-term access key. ``enabled`` is false also where its user is disabled."""

    access_key: str
    secret: str = field(repr=False)
    user: UserRecord
    enabled: bool
    created: float


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A temporary access key, as AssumeRole made it.

    ``user`` is whom the session acts as; ``parent_key`` is the long-term key that asked for
    it. ``expires_at`` is seconds since the epoch: the caller compares it, so that an expired
    session can be answered as such. ``policy`` limits the session, ``None``: it does not.
    """

    access_key: str
    secret: str = field(repr=False)
    user: UserRecord
    parent_key: str
    session_name: str
    policy: PolicyDocument | None
    created: float
    expires_at: float
    token_digest: bytes = field(repr=False)

    def token_matches(self, token: str) -> bool:
        """Compare a presented session token, in constant time."""
        return hmac.compare_digest(digest_of_token(token), self.token_digest)


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """A policy by name, and the users it is attached to. Predefined ones were made at 0."""

    name: str
    document: PolicyDocument
    predefined: bool
    users: tuple[str, ...]
    created: float = 0.0
    description: str = ""


class Refused(OperatorError):
    """A change that the state does not allow, with the code that IAM has for it.

    ``code`` is NoSuchEntity, EntityAlreadyExists, DeleteConflict, LimitExceeded,
    UnmodifiableEntity or ValidationError.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def digest_of_token(token: str) -> bytes:
    """What is kept of a session token. It has 256 random bits, so a plain hash will do."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def check_user_name(name: str) -> None:
    """Raises OperatorError unless ``name`` can be a user's."""
    if _NAME.fullmatch(name) is None:
        raise OperatorError(
            f"{name!r} is no user name: 3 to 128 of letters, digits and _ . @ + - are allowed"
        )


def check_access_key(access_key: str) -> None:
    """Raises OperatorError unless ``access_key`` can be a long-term key."""
    if _NAME.fullmatch(access_key) is None:
        raise OperatorError(
            f"{access_key!r} is no access key:"
            " 3 to 128 of letters, digits and _ . @ + - are allowed"
        )
    if access_key.startswith(SESSION_KEY_PREFIX):
        raise OperatorError(
            f"an access key can't begin with {SESSION_KEY_PREFIX}: those are temporary keys; "
            "choose another"
        )


def check_policy_name(name: str) -> None:
    """Raises OperatorError unless ``name`` can be a policy's."""
    if _POLICY_NAME.fullmatch(name) is None:
        raise OperatorError(
            f"{name!r} is no policy name: 1 to 128 of letters, digits and _ . @ + = , - are allowed"
        )


def check_secret(secret: str) -> None:
    """Raises OperatorError (which does not show it) unless ``secret`` can be a secret key."""
    if len(secret) < MIN_SECRET:
        raise OperatorError(f"the secret key is too short: at least {MIN_SECRET} characters")
    if len(secret) > MAX_SECRET:
        raise OperatorError(f"the secret key is too long: at most {MAX_SECRET} characters")
    if not secret.isprintable() or " " in secret:
        raise OperatorError("the secret key holds spaces or control characters; choose one without")


def check_role(role: str) -> None:
    """Raises OperatorError unless there is such a role."""
    if role not in ROLES:
        raise OperatorError(f"{role!r} is no role; give {' or '.join(ROLES)}")


def check_owner(owner: PosixOwner) -> None:
    """Raises OperatorError unless files can be given to ``owner``."""
    for kind, number in (("uid", owner.uid), ("gid", owner.gid)):
        if not 0 <= number <= MAX_POSIX_ID:
            raise OperatorError(f"{number} is no {kind}: 0 to {MAX_POSIX_ID} are allowed")
