"""The store's state: users, keys, policies and sessions, and every change of them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Self

from s3posixfs.core.clock import Clock, SystemClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.types import Credentials, PosixOwner
from s3posixfs.identity.policy import PREDEFINED, PolicyDocument
from s3posixfs.store import state_database
from s3posixfs.store.state_database import Database
from s3posixfs.store.state_reader import StateReader, no_such_policy, no_such_user
from s3posixfs.store.state_records import (
    SESSION_KEY_PREFIX,
    KeyRecord,
    PolicyRecord,
    SessionRecord,
    UserRecord,
    check_access_key,
    check_owner,
    check_policy_name,
    check_role,
    check_secret,
    check_user_name,
    digest_of_token,
)
from s3posixfs.store.state_secrets import (
    MASTER_KEY_BYTES,
    RandomBytes,
    Sealer,
    new_access_key,
    new_secret_key,
    new_session_token,
    read_master_key,
    sync_directory,
    write_private_file,
)

__all__ = ["KeyRecord", "PolicyRecord", "SessionRecord", "State", "UserRecord"]

MASTER_KEY = "master.key"
ADMIN_CREDENTIALS = "admin-credentials"
ADMIN = "admin"
MAX_SESSIONS = 5_000
# An expired session is remembered this long, so that its user is told that it expired.
_EXPIRED_KEPT_SECONDS = 86_400.0
_SEAL_CHECK = "s3posixfs"


class State(StateReader):
    """An open state directory. Every change is on disk when its method returns.

    Methods block (a change fsyncs: call it from a thread) and are safe from several threads
    and processes. What a method refuses is an OperatorError.
    """

    def __init__(
        self, directory: Path, database: Database, sealer: Sealer, clock: Clock, random: RandomBytes
    ) -> None:
        super().__init__(database, sealer)
        self.directory = directory
        self.is_new = False  # whether opening it made it
        self._clock = clock
        self._random = random

    @classmethod
    def open(
        cls,
        path: Path,
        create: bool = False,
        *,
        clock: Clock | None = None,
        random: RandomBytes = os.urandom,
    ) -> State:
        """Open the state in the folder ``path``.

        With ``create`` a new one is made where there is none: the folder (0700), the master
        key, and the user ``admin`` whose key pair is left in ``admin-credentials`` (0600).
        Raises OperatorError where there is no state, or it can't be used.
        """
        clock = clock or SystemClock()
        try:
            fresh = not state_database.is_ready(path)
            if fresh:
                if not create:
                    raise OperatorError(
                        f"there is no store in {path}: start `s3posixfs serve` first, add a"
                        " first user with `s3posixfs user add`, or name another with --state"
                    )
                _create(path, clock, random)
            sealer = Sealer(read_master_key(path / MASTER_KEY), random)
            database = Database(path)
        except OSError as error:
            raise OperatorError(
                f"the state in {path} can't be opened: {error.strerror};"
                " run as the user who owns it (often root), or name another with --state"
            ) from error
        state = cls(path, database, sealer, clock, random)
        state.is_new = fresh
        try:
            state._check_seal()
        except BaseException:
            state.close()
            raise
        return state

    def _check_seal(self) -> None:
        with self._database.lock:
            rows = self._database.read("SELECT value FROM marks WHERE name = 'seal'")
        if not rows or self._sealer.open(rows[0][0], "seal") != _SEAL_CHECK:
            raise OperatorError(f"the state in {self.directory} is damaged: restore a backup")

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- users and keys -------------------------------------------------------------------

    def add_user(
        self,
        name: str,
        role: str = "s3",
        owner: PosixOwner = PosixOwner(0, 0),  # noqa: B008 (frozen)
        access_key: str | None = None,
        secret: str | None = None,
    ) -> tuple[str, str]:
        """Add a user with a first key; its access key and secret.

        By default the access key is the name, and the secret 40 random characters.
        """
        check_user_name(name)
        check_role(role)
        check_owner(owner)
        with self._database.transaction() as cursor:
            if _exists(cursor, "users", "name", name):
                raise OperatorError(f"there is a user named {name!r} already")
            cursor.execute(
                "INSERT INTO users VALUES (?, ?, ?, ?, 1, ?)",
                (name, role, owner.uid, owner.gid, self._clock.time()),
            )
            return self._insert_key(
                cursor, name, name if access_key is None else access_key, secret
            )

    def update_user(
        self,
        name: str,
        *,
        role: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        enabled: bool | None = None,
    ) -> UserRecord:
        """Change what is given. Disabling ends the user's sessions until enabled again."""
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "SELECT role, uid, gid, enabled FROM users WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                raise no_such_user(name)
            new_role = row[0] if role is None else role
            owner = PosixOwner(row[1] if uid is None else uid, row[2] if gid is None else gid)
            check_role(new_role)
            check_owner(owner)
            if new_role == "admin" and _exists(cursor, "attachments", "user", name):
                raise OperatorError(
                    f"{name} has a policy, which would not limit the role admin: detach it first"
                )
            cursor.execute(
                "UPDATE users SET role = ?, uid = ?, gid = ?, enabled = ? WHERE name = ?",
                (new_role, owner.uid, owner.gid, row[3] if enabled is None else enabled, name),
            )
        return self.user(name)

    def remove_user(self, name: str) -> None:
        """Remove a user with its keys, sessions and attachment; its objects stay."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM users WHERE name = ?", (name,))
            if cursor.rowcount == 0:
                raise no_such_user(name)

    def add_key(
        self, user: str, access_key: str | None = None, secret: str | None = None
    ) -> tuple[str, str]:
        """Add a further key to a user (generated where not given); access key and secret."""
        with self._database.transaction() as cursor:
            if not _exists(cursor, "users", "name", user):
                raise no_such_user(user)
            if access_key is None:
                access_key = new_access_key("AKIA", self._random)
            return self._insert_key(cursor, user, access_key, secret)

    def _insert_key(
        self, cursor: sqlite3.Cursor, user: str, access_key: str, secret: str | None
    ) -> tuple[str, str]:
        check_access_key(access_key)
        if secret is None:
            secret = new_secret_key(self._random)
        check_secret(secret)
        if _exists(cursor, "keys", "access_key", access_key):
            raise OperatorError(f"the access key {access_key!r} is taken: give another")
        cursor.execute(
            "INSERT INTO keys VALUES (?, ?, ?, 1, ?)",
            (access_key, user, self._sealer.seal(secret, access_key), self._clock.time()),
        )
        return access_key, secret

    def remove_key(self, user: str, access_key: str) -> None:
        """Remove one of a user's keys, which ends the sessions that it made."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM keys WHERE access_key = ? AND user = ?", (access_key, user))
            if cursor.rowcount == 0:
                raise self._no_such_key(cursor, user, access_key)

    def enable_key(self, user: str, access_key: str, *, enabled: bool) -> None:
        """Let one of a user's keys sign in, or not; its sessions follow it."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "UPDATE keys SET enabled = ? WHERE access_key = ? AND user = ?",
                (enabled, access_key, user),
            )
            if cursor.rowcount == 0:
                raise self._no_such_key(cursor, user, access_key)

    @staticmethod
    def _no_such_key(cursor: sqlite3.Cursor, user: str, access_key: str) -> OperatorError:
        if not _exists(cursor, "users", "name", user):
            return no_such_user(user)
        return OperatorError(
            f"{user} has no access key {access_key!r}: `s3posixfs user keys {user}` shows them"
        )

    # --- policies -------------------------------------------------------------------------

    def add_policy(self, name: str, document: PolicyDocument, *, replace: bool = False) -> None:
        """Keep a policy under a name. The same again is no error; another needs ``replace``.

        Replacing takes effect at once for every user it is attached to.
        """
        check_policy_name(name)
        if name in PREDEFINED:
            raise OperatorError(f"{name} is a predefined policy and stays as it is: choose a name")
        with self._database.transaction() as cursor:
            row = cursor.execute("SELECT document FROM policies WHERE name = ?", (name,)).fetchone()
            if row is not None and row[0] != document.compact and not replace:
                raise OperatorError(
                    f"there is another policy named {name!r} already: use --replace to change it"
                )
            cursor.execute(
                "INSERT INTO policies VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                (name, document.compact, self._clock.time()),
            )

    def remove_policy(self, name: str) -> None:
        """Remove a policy; refused while it is attached to a user."""
        if name in PREDEFINED:
            raise OperatorError(f"{name} is a predefined policy and can't be removed")
        with self._database.transaction() as cursor:
            if not _exists(cursor, "policies", "name", name):
                raise no_such_policy(name)
            users = [
                row[0]
                for row in cursor.execute(
                    "SELECT user FROM attachments WHERE policy = ? ORDER BY user", (name,)
                )
            ]
            if users:
                shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" * (len(users) > 5))
                raise OperatorError(f"the policy {name} is attached to {shown}: detach it first")
            cursor.execute("DELETE FROM policies WHERE name = ?", (name,))

    def attach(self, name: str, user: str) -> str | None:
        """Make a policy a user's one policy; the name of the one it takes the place of."""
        with self._database.transaction() as cursor:
            if name not in PREDEFINED and not _exists(cursor, "policies", "name", name):
                raise no_such_policy(name)
            row = cursor.execute("SELECT role FROM users WHERE name = ?", (user,)).fetchone()
            if row is None:
                raise no_such_user(user)
            if row[0] == "admin":
                raise OperatorError(
                    f"{user} has the role admin, which no policy limits:"
                    f" `s3posixfs user update {user} --role s3` first"
                )
            old = cursor.execute(
                "SELECT policy FROM attachments WHERE user = ?", (user,)
            ).fetchone()
            cursor.execute(
                "INSERT INTO attachments VALUES (?, ?)"
                " ON CONFLICT (user) DO UPDATE SET policy = excluded.policy",
                (user, name),
            )
        return None if old is None or old[0] == name else str(old[0])

    def detach(self, user: str) -> str:
        """Take a user's policy away, and with it all access; the policy's name."""
        with self._database.transaction() as cursor:
            if not _exists(cursor, "users", "name", user):
                raise no_such_user(user)
            row = cursor.execute(
                "SELECT policy FROM attachments WHERE user = ?", (user,)
            ).fetchone()
            if row is None:
                raise OperatorError(f"no policy is attached to {user}")
            cursor.execute("DELETE FROM attachments WHERE user = ?", (user,))
            return str(row[0])

    # --- sessions -------------------------------------------------------------------------

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
        AccessDenied where user or key are gone or disabled, LimitExceeded at 5,000 sessions.
        """
        access_key = new_access_key(SESSION_KEY_PREFIX, self._random)
        secret = new_secret_key(self._random)
        token = new_session_token(self._random)
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "SELECT 1 FROM keys k JOIN users p ON p.name = k.user JOIN users u"
                " WHERE k.access_key = ? AND u.name = ? AND k.enabled AND p.enabled AND u.enabled",
                (parent_key, user),
            ).fetchone()
            if row is None:
                raise S3Error("AccessDenied", "the user or its key is disabled", status=403)
            cursor.execute(
                "DELETE FROM sessions WHERE expires_at < ?", (now - _EXPIRED_KEPT_SECONDS,)
            )
            (live,) = cursor.execute(
                "SELECT count(*) FROM sessions WHERE expires_at > ?", (now,)
            ).fetchone()
            if live >= MAX_SESSIONS:
                raise S3Error(
                    "LimitExceeded",
                    f"{MAX_SESSIONS:,} sessions are live, which is the most there can be",
                    status=400,
                )
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


def _exists(cursor: sqlite3.Cursor, table: str, column: str, value: str) -> bool:
    query = f"SELECT 1 FROM {table} WHERE {column} = ?"  # noqa: S608 (constants of this module)
    return cursor.execute(query, (value,)).fetchone() is not None


def _create(path: Path, clock: Clock, random: RandomBytes) -> None:
    """Make what is missing of a state; a run that was cut short is taken up by the next."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with state_database.creation_lock(path):
        if state_database.is_ready(path):
            return
        key_file = path / MASTER_KEY
        if not key_file.exists():
            write_private_file(key_file, random(MASTER_KEY_BYTES))
        sealer = Sealer(read_master_key(key_file), random)
        secret = new_secret_key(random)

        def fill(cursor: sqlite3.Cursor) -> None:
            now = clock.time()
            cursor.execute(
                "INSERT INTO marks VALUES ('seal', ?)", (sealer.seal(_SEAL_CHECK, "seal"),)
            )
            cursor.execute("INSERT INTO users VALUES (?, 'admin', 0, 0, 1, ?)", (ADMIN, now))
            cursor.execute(
                "INSERT INTO keys VALUES (?, ?, ?, 1, ?)",
                (ADMIN, ADMIN, sealer.seal(secret, ADMIN), now),
            )
            # Before the commit: a state that has its admin has the admin's credentials too.
            write_private_file(
                path / ADMIN_CREDENTIALS,
                f"[{ADMIN}]\naws_access_key_id = {ADMIN}\n"
                f"aws_secret_access_key = {secret}\n".encode(),
            )

        state_database.create(path, fill)
        sync_directory(path)
        sync_directory(path.parent)
