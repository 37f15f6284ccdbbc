"""The store's state: users, keys, policies and sessions, and every change of them."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Self

from s3posixfs.core.clock import Clock, SystemClock
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import PosixOwner
from s3posixfs.store import state_database
from s3posixfs.store.state_admins import keeping_an_admin
from s3posixfs.store.state_database import Database, exists
from s3posixfs.store.state_policies import has_policy
from s3posixfs.store.state_reader import no_such_user
from s3posixfs.store.state_records import (
    MAX_KEYS_PER_USER,
    MAX_USERS,
    KeyRecord,
    PolicyRecord,
    Refused,
    SessionRecord,
    UserRecord,
    check_access_key,
    check_owner,
    check_role,
    check_secret,
    check_user_name,
)
from s3posixfs.store.state_secrets import (
    MASTER_KEY_BYTES,
    RandomBytes,
    Sealer,
    new_access_key,
    new_secret_key,
    read_master_key,
    sync_directory,
    write_private_file,
)
from s3posixfs.store.state_sessions import MAX_SESSIONS, SessionState

__all__ = [
    "MAX_SESSIONS",
    "KeyRecord",
    "PolicyRecord",
    "Refused",
    "SessionRecord",
    "State",
    "UserRecord",
]

MASTER_KEY = "master.key"
ADMIN_CREDENTIALS = "admin-credentials"
ADMIN = "admin"
_SEAL_CHECK = "s3posixfs"


class State(SessionState):
    """An open state directory. Every change is on disk when its method returns.

    Methods block (a change fsyncs: call it from a thread) and are safe from several threads
    and processes. What a method refuses is an OperatorError.
    """

    def __init__(
        self, directory: Path, database: Database, sealer: Sealer, clock: Clock, random: RandomBytes
    ) -> None:
        super().__init__(database, sealer, clock, random)
        self.directory = directory
        self.is_new = False  # whether opening it made it

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
        with self._database.transaction() as cursor:
            self._insert_user(cursor, name, role, owner)
            return self._insert_key(
                cursor, name, name if access_key is None else access_key, secret
            )

    def add_user_without_key(self, name: str, owner: PosixOwner) -> UserRecord:
        """Add a user of the role s3 that can't sign in until it is given a key."""
        with self._database.transaction() as cursor:
            self._insert_user(cursor, name, "s3", owner)
        return self.user(name)

    def _insert_user(self, cursor: sqlite3.Cursor, name: str, role: str, owner: PosixOwner) -> None:
        check_user_name(name)
        check_role(role)
        check_owner(owner)
        if exists(cursor, "users", "name", name):
            raise Refused(
                "EntityAlreadyExists",
                f"there is a user named {name!r} already; choose another name",
            )
        (users,) = cursor.execute("SELECT count(*) FROM users").fetchone()
        if users >= MAX_USERS:
            raise Refused(
                "LimitExceeded",
                f"there are {MAX_USERS:,} users, which is the most there can be; remove one first",
            )
        cursor.execute(
            "INSERT INTO users VALUES (?, ?, ?, ?, 1, ?)",
            (name, role, owner.uid, owner.gid, self._clock.time()),
        )

    def update_user(
        self,
        name: str,
        *,
        role: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        enabled: bool | None = None,
        reown: bool = False,
    ) -> UserRecord:
        """Change what is given. Disabling ends the user's sessions until enabled again.

        ``reown`` notes what POSIX owner the user had so far, until :meth:`finish_reown`.
        """
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
            if new_role == "admin" and has_policy(cursor, name):
                raise Refused(
                    "LimitExceeded",
                    f"{name} has a policy, which would not limit the role admin: detach it first",
                )
            if reown:
                _note_owner(cursor, name, PosixOwner(row[1], row[2]))
            with keeping_an_admin(cursor):
                cursor.execute(
                    "UPDATE users SET role = ?, uid = ?, gid = ?, enabled = ? WHERE name = ?",
                    (new_role, owner.uid, owner.gid, row[3] if enabled is None else enabled, name),
                )
        return self.user(name)

    def remove_user(self, name: str, *, bare: bool = False) -> None:
        """Remove a user with its keys, sessions and policy; its objects stay.

        ``bare`` refuses, as IAM does, while it still has a key or a policy.
        """
        with self._database.transaction() as cursor:
            if bare and exists(cursor, "keys", "user", name):
                raise Refused(
                    "DeleteConflict", "Cannot delete entity, must delete access keys first."
                )
            if bare and has_policy(cursor, name):
                raise Refused(
                    "DeleteConflict", "Cannot delete entity, must remove its policy first."
                )
            with keeping_an_admin(cursor):
                cursor.execute("DELETE FROM users WHERE name = ?", (name,))
                if cursor.rowcount == 0:
                    raise no_such_user(name)
            cursor.execute("DELETE FROM marks WHERE name = ?", (_reown_mark(name),))

    def left_owners(self, name: str) -> tuple[PosixOwner, ...]:
        """The POSIX owners that a user had, whose files are not all given to it anew."""
        with self._database.lock:
            rows = self._database.read(
                "SELECT value FROM marks WHERE name = ?", (_reown_mark(name),)
            )
        return tuple(PosixOwner(*pair) for pair in json.loads(rows[0][0])) if rows else ()

    def finish_reown(self, name: str) -> None:
        """Forget the owners that a user had: all its files are given to it anew."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM marks WHERE name = ?", (_reown_mark(name),))

    def add_key(
        self, user: str, access_key: str | None = None, secret: str | None = None
    ) -> tuple[str, str]:
        """Add a further key to a user (generated where not given); access key and secret."""
        with self._database.transaction() as cursor:
            if not exists(cursor, "users", "name", user):
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
        if exists(cursor, "keys", "access_key", access_key):
            raise Refused(
                "EntityAlreadyExists", f"the access key {access_key!r} is taken: give another"
            )
        (keys,) = cursor.execute("SELECT count(*) FROM keys WHERE user = ?", (user,)).fetchone()
        if keys >= MAX_KEYS_PER_USER:
            raise Refused(
                "LimitExceeded",
                f"{user} has {MAX_KEYS_PER_USER} access keys, which is the most: remove one first",
            )
        cursor.execute(
            "INSERT INTO keys VALUES (?, ?, ?, 1, ?)",
            (access_key, user, self._sealer.seal(secret, access_key), self._clock.time()),
        )
        return access_key, secret

    def remove_key(self, user: str, access_key: str) -> None:
        """Remove one of a user's keys, which ends the sessions that it made."""
        with self._database.transaction() as cursor, keeping_an_admin(cursor):
            cursor.execute("DELETE FROM keys WHERE access_key = ? AND user = ?", (access_key, user))
            if cursor.rowcount == 0:
                raise self._no_such_key(cursor, user, access_key)

    def enable_key(self, user: str, access_key: str, *, enabled: bool) -> None:
        """Let one of a user's keys sign in, or not; its sessions follow it."""
        with self._database.transaction() as cursor, keeping_an_admin(cursor):
            cursor.execute(
                "UPDATE keys SET enabled = ? WHERE access_key = ? AND user = ?",
                (enabled, access_key, user),
            )
            if cursor.rowcount == 0:
                raise self._no_such_key(cursor, user, access_key)

    @staticmethod
    def _no_such_key(cursor: sqlite3.Cursor, user: str, access_key: str) -> OperatorError:
        if not exists(cursor, "users", "name", user):
            return no_such_user(user)
        return Refused(
            "NoSuchEntity",
            f"{user} has no access key {access_key!r}: `s3posixfs user keys {user}` shows them",
        )


def _reown_mark(name: str) -> str:
    return f"reown:{name}"


def _note_owner(cursor: sqlite3.Cursor, name: str, owner: PosixOwner) -> None:
    """Note the owner that a user had, if its uid stood for this user and no other."""
    first = cursor.execute(
        "SELECT name FROM users WHERE uid = ? ORDER BY created, rowid LIMIT 1", (owner.uid,)
    ).fetchone()
    if first != (name,):
        return
    row = cursor.execute("SELECT value FROM marks WHERE name = ?", (_reown_mark(name),)).fetchone()
    pairs: list[list[int]] = json.loads(row[0]) if row is not None else []
    if [owner.uid, owner.gid] not in pairs:
        pairs.append([owner.uid, owner.gid])
    cursor.execute(
        "INSERT INTO marks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_reown_mark(name), json.dumps(pairs).encode()),
    )


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
