"""The reading half of the state: what every request asks, answered from memory.

An answer is cached until any process commits a change; asking whether one did costs a few
microseconds. Compiled policies are kept by their text and so survive changes of other things.
"""

from __future__ import annotations

from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.policy import (
    ADMINISTRATOR,
    ADMINISTRATOR_NAME,
    PREDEFINED,
    PolicyDocument,
    parse_policy,
)
from s3posixfs.store.state_database import Database, Row
from s3posixfs.store.state_records import (
    KeyRecord,
    PolicyRecord,
    Refused,
    SessionRecord,
    UserRecord,
)
from s3posixfs.store.state_secrets import Sealer

# More than this many entries, and a cache begins anew: memory stays bounded.
_CACHED = 20_000
_COMPILED = 4_096

_USER = "u.name, u.role, u.uid, u.gid, u.enabled, u.created"

NamedPolicy = tuple[str, PolicyDocument]


def _user(row: Row) -> UserRecord:
    name, role, uid, gid, enabled, created = row
    return UserRecord(name, role, PosixOwner(uid, gid), bool(enabled), created)


class StateReader:
    """Lookups; safe to call from any thread. Unknown names give ``None`` where it says so."""

    def __init__(self, database: Database, sealer: Sealer, *, cached: int = _CACHED) -> None:
        self._database = database
        self._cached = cached  # entries of each kind
        self._sealer = sealer
        self._version = -1
        self._users: dict[str, UserRecord] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._sessions: dict[str, SessionRecord] = {}
        self._attached: dict[str, NamedPolicy | None] = {}
        self._names_by_uid: dict[int, str | None] = {}
        self._compiled: dict[str, PolicyDocument] = {}

    def _forget_if_changed(self) -> None:
        version = self._database.version()
        if version == self._version:
            return
        self._version = version
        for cache in (
            self._users,
            self._keys,
            self._sessions,
            self._attached,
            self._names_by_uid,
        ):
            cache.clear()

    def _compile(self, text: str) -> PolicyDocument:
        document = self._compiled.get(text)
        if document is None:
            document = parse_policy(text)
            if len(self._compiled) >= _COMPILED:
                self._compiled.clear()
            self._compiled[text] = document
        return document

    # --- requests -------------------------------------------------------------------------

    def key(self, access_key: str) -> KeyRecord | None:
        """A long-term key; ``None`` where there is none of that name."""
        with self._database.lock:
            self._forget_if_changed()
            record = self._keys.get(access_key)
            if record is None:
                # No key has the name of a session, and a session is asked for as a key first.
                if access_key in self._sessions:
                    return None
                rows = self._read_keys("k.access_key = ?", access_key)
                if not rows:
                    return None
                record = rows[0]
                if len(self._keys) >= self._cached:
                    self._keys.clear()
                self._keys[access_key] = record
            return record

    def session(self, access_key: str) -> SessionRecord | None:
        """A temporary key, also for a day after it expired (compare ``expires_at``).

        ``None`` where there is none, or where it has ended: its user, or the key that made it
        or that key's user, was removed or is disabled.
        """
        with self._database.lock:
            self._forget_if_changed()
            record = self._sessions.get(access_key)
            if record is None:
                record = self._read_session(access_key)
                if record is None:
                    return None
                if len(self._sessions) >= self._cached:
                    self._sessions.clear()
                self._sessions[access_key] = record
            return record

    def policy_of(self, user: str) -> NamedPolicy | None:
        """The policy a user has, attached or of its own; ``None``: none (or no such user)."""
        with self._database.lock:
            self._forget_if_changed()
            try:
                return self._attached[user]
            except KeyError:
                pass
            rows = self._database.read(
                "SELECT a.policy, p.document FROM attachments a"
                " LEFT JOIN policies p ON p.name = a.policy WHERE a.user = ?"
                " UNION ALL SELECT name, document FROM inline_policies WHERE user = ?",
                (user, user),
            )
            found: NamedPolicy | None = None
            if rows:
                name, text = rows[0]
                found = (name, PREDEFINED[name] if text is None else self._compile(text))
            if len(self._attached) >= self._cached:
                self._attached.clear()
            self._attached[user] = found
            return found

    def attached_policy(self, user: str) -> str | None:
        """The name of the policy attached to a user; ``None`` where it has none or its own."""
        with self._database.lock:
            rows = self._database.read("SELECT policy FROM attachments WHERE user = ?", (user,))
        return str(rows[0][0]) if rows else None

    def inline_policy(self, user: str) -> NamedPolicy | None:
        """The policy that a user has to itself (IAM: inline), by name; ``None``: it has none."""
        with self._database.lock:
            rows = self._database.read(
                "SELECT name, document FROM inline_policies WHERE user = ?", (user,)
            )
            return (rows[0][0], self._compile(rows[0][1])) if rows else None

    def policies_for(self, user: UserRecord) -> tuple[NamedPolicy, ...]:
        """What :func:`decide` takes as ``identity``: everything for the role admin."""
        if user.is_admin:
            return ((ADMINISTRATOR_NAME, ADMINISTRATOR),)
        attached = self.policy_of(user.name)
        return () if attached is None else (attached,)

    def find_user(self, name: str) -> UserRecord | None:
        """A user by name; ``None`` where there is none."""
        with self._database.lock:
            self._forget_if_changed()
            record = self._users.get(name)
            if record is None:
                rows = self._database.read(
                    f"SELECT {_USER} FROM users u WHERE u.name = ?",  # noqa: S608 (a constant)
                    (name,),
                )
                if not rows:
                    return None
                record = _user(rows[0])
                if len(self._users) >= self._cached:
                    self._users.clear()
                self._users[name] = record
            return record

    def user_of_uid(self, uid: int) -> str | None:
        """The name of the user with this uid, the first made where several have it."""
        with self._database.lock:
            self._forget_if_changed()
            try:
                return self._names_by_uid[uid]
            except KeyError:
                pass
            rows = self._database.read(
                "SELECT name FROM users WHERE uid = ? ORDER BY created, rowid LIMIT 1", (uid,)
            )
            name: str | None = rows[0][0] if rows else None
            if len(self._names_by_uid) >= self._cached:
                self._names_by_uid.clear()
            self._names_by_uid[uid] = name
            return name

    # --- administration -------------------------------------------------------------------

    def user(self, name: str) -> UserRecord:
        """A user by name; raises OperatorError where there is none."""
        record = self.find_user(name)
        if record is None:
            raise no_such_user(name)
        return record

    def users(self) -> list[UserRecord]:
        """All users, by name."""
        with self._database.lock:
            rows = self._database.read(f"SELECT {_USER} FROM users u ORDER BY u.name")  # noqa: S608
        return [_user(row) for row in rows]

    def keys(self, user: str) -> list[KeyRecord]:
        """A user's long-term keys, the oldest first; OperatorError: no such user."""
        self.user(user)
        with self._database.lock:
            return self._read_keys("k.user = ?", user)

    def access_keys(self) -> dict[str, tuple[str, ...]]:
        """Every user's access keys by user name, the oldest first; no secret is read."""
        with self._database.lock:
            rows = self._database.read("SELECT user, access_key FROM keys ORDER BY created, rowid")
        found: dict[str, list[str]] = {}
        for user, access_key in rows:
            found.setdefault(user, []).append(access_key)
        return {user: tuple(names) for user, names in found.items()}

    def policies(self) -> list[PolicyRecord]:
        """The predefined policies, then the others by name."""
        with self._database.lock:
            rows = self._database.read(
                "SELECT name, document, created, description FROM policies ORDER BY name"
            )
            attached = self._database.read("SELECT policy, user FROM attachments ORDER BY user")
            users: dict[str, list[str]] = {}
            for name, user in attached:
                users.setdefault(name, []).append(user)
            own = [
                PolicyRecord(name, self._compile(text), False, tuple(users.get(name, ())), *more)
                for name, text, *more in rows
            ]
        predefined = [
            PolicyRecord(name, document, True, tuple(users.get(name, ())))
            for name, document in PREDEFINED.items()
        ]
        return [*predefined, *own]

    def find_policy(self, name: str) -> PolicyRecord | None:
        """A policy by name; ``None`` where there is none."""
        return next((record for record in self.policies() if record.name == name), None)

    def policy(self, name: str) -> PolicyRecord:
        """A policy by name; raises OperatorError where there is none."""
        record = self.find_policy(name)
        if record is None:
            raise no_such_policy(name)
        return record

    # --- rows -----------------------------------------------------------------------------

    def _read_keys(self, condition: str, parameter: str) -> list[KeyRecord]:
        rows = self._database.read(
            f"SELECT {_USER}, k.access_key, k.secret, k.enabled, k.created"  # noqa: S608
            f" FROM keys k JOIN users u ON u.name = k.user WHERE {condition}"
            " ORDER BY k.created, k.rowid",
            (parameter,),
        )
        records: list[KeyRecord] = []
        for row in rows:
            user = _user(row[:6])
            access_key, sealed, enabled, created = row[6:]
            secret = self._sealer.open(sealed, access_key)
            records.append(
                KeyRecord(access_key, secret, user, bool(enabled) and user.enabled, created)
            )
        return records

    def _read_session(self, access_key: str) -> SessionRecord | None:
        rows = self._database.read(
            f"SELECT {_USER}, s.secret, s.parent_key, s.name, s.policy, s.created,"  # noqa: S608
            " s.expires_at, s.token_digest"
            " FROM sessions s JOIN users u ON u.name = s.user"
            " JOIN keys k ON k.access_key = s.parent_key JOIN users p ON p.name = k.user"
            " WHERE s.access_key = ? AND u.enabled AND k.enabled AND p.enabled",
            (access_key,),
        )
        if not rows:
            return None
        sealed, parent_key, name, policy, created, expires_at, token_digest = rows[0][6:]
        return SessionRecord(
            access_key,
            self._sealer.open(sealed, access_key),
            _user(rows[0][:6]),
            parent_key,
            name,
            None if policy is None else self._compile(policy),
            created,
            expires_at,
            token_digest,
        )


def no_such_user(name: str) -> Refused:
    return Refused(
        "NoSuchEntity", f"there is no user named {name!r}: `s3posixfs user list` shows them"
    )


def no_such_policy(name: str) -> Refused:
    return Refused(
        "NoSuchEntity", f"there is no policy named {name!r}: `s3posixfs policy list` shows them"
    )
