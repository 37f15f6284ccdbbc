"""Making temporary credentials, within limits that keep room for everyone."""

from __future__ import annotations

import sqlite3

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials
from s3posixfs.identity.policy import PolicyDocument
from s3posixfs.store.state_policies import PolicyState
from s3posixfs.store.state_records import SESSION_KEY_PREFIX, digest_of_token
from s3posixfs.store.state_secrets import new_access_key, new_secret_key, new_session_token

MAX_SESSIONS = 5_000
# Live sessions that the keys of one user without the role admin can have made.
MAX_SESSIONS_PER_USER = 1_000
# The last ones are the administrators', so that a mount can act for its users at any time.
_KEPT_FOR_ADMINS = 500
# An expired session is remembered this long, so that its user is told that it expired.
_EXPIRED_KEPT_SECONDS = 86_400.0
_EXPIRED_KEPT = 5_000


class SessionState(PolicyState):
    """Lookups, changes of policies, and making sessions."""

    def create_session(
        self,
        user: str,
        parent_key: str,
        session_name: str,
        policy: PolicyDocument | None,
        seconds: float,
        now: float,
    ) -> Credentials:
        """Make temporary credentials for ``user``, at the request of the key ``parent_key``.

        ``parent_key`` is a long-term key. A session must not be let make a session of more
        than its own policy allows: that is for the caller to see to. Raises S3Error:
        AccessDenied where user or key are gone or disabled, LimitExceeded where there are
        5,000 sessions, or 1,000 that keys of the same user made.
        """
        access_key = new_access_key(SESSION_KEY_PREFIX, self._random)
        secret = new_secret_key(self._random)
        token = new_session_token(self._random)
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "SELECT p.name, p.role FROM keys k JOIN users p ON p.name = k.user JOIN users u"
                " WHERE k.access_key = ? AND u.name = ? AND k.enabled AND p.enabled AND u.enabled",
                (parent_key, user),
            ).fetchone()
            if row is None:
                raise S3Error("AccessDenied", "the user or its key is disabled", status=403)
            _forget_expired(cursor, now)
            _check_limits(cursor, row[0], row[1] == "admin", now)
            cursor.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    access_key,
                    user,
                    parent_key,
                    session_name,
                    self._sealer.seal(secret, access_key),
                    digest_of_token(token),
                    None if policy is None else policy.compact,
                    now,
                    now + seconds,
                ),
            )
        return Credentials(access_key, secret, token, now + seconds)


def _forget_expired(cursor: sqlite3.Cursor, now: float) -> None:
    cursor.execute("DELETE FROM sessions WHERE expires_at < ?", (now - _EXPIRED_KEPT_SECONDS,))
    cursor.execute(
        "DELETE FROM sessions WHERE expires_at <= (SELECT expires_at FROM sessions"
        " WHERE expires_at <= ? ORDER BY expires_at DESC LIMIT 1 OFFSET ?)",
        (now, _EXPIRED_KEPT),
    )


def _check_limits(cursor: sqlite3.Cursor, maker: str, is_admin: bool, now: float) -> None:
    (live,) = cursor.execute(
        "SELECT count(*) FROM sessions WHERE expires_at > ?", (now,)
    ).fetchone()
    most = MAX_SESSIONS if is_admin else MAX_SESSIONS - _KEPT_FOR_ADMINS
    if live >= most:
        raise _limit(f"{most:,} sessions are live, which is the most there can be")
    if is_admin:
        return
    (own,) = cursor.execute(
        "SELECT count(*) FROM sessions s JOIN keys k ON k.access_key = s.parent_key"
        " WHERE k.user = ? AND s.expires_at > ?",
        (maker, now),
    ).fetchone()
    if own >= MAX_SESSIONS_PER_USER:
        raise _limit(
            f"{maker} has {MAX_SESSIONS_PER_USER:,} live sessions, which is the most for one user:"
            " use those it has, or let them expire"
        )


def _limit(message: str) -> S3Error:
    return S3Error("LimitExceeded", message, status=400)
