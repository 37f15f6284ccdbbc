"""Changes of policies, and of who has which. A user has one policy at most."""

from __future__ import annotations

import sqlite3

from s3posixfs.core.clock import Clock
from s3posixfs.identity.policy import PREDEFINED, PolicyDocument
from s3posixfs.store.state_database import Database, exists
from s3posixfs.store.state_reader import StateReader, no_such_policy, no_such_user
from s3posixfs.store.state_records import MAX_POLICIES, Refused, check_policy_name
from s3posixfs.store.state_secrets import RandomBytes, Sealer


class PolicyState(StateReader):
    """Lookups, and the changes of policies; safe from several threads and processes."""

    def __init__(
        self, database: Database, sealer: Sealer, clock: Clock, random: RandomBytes
    ) -> None:
        super().__init__(database, sealer)
        self._clock = clock
        self._random = random

    def add_policy(
        self,
        name: str,
        document: PolicyDocument,
        *,
        replace: bool = False,
        new: bool = False,
        description: str = "",
    ) -> None:
        """Keep a policy under a name. The same again is no error; another needs ``replace``.

        ``new`` refuses every name that is taken. Replacing takes effect at once for every user
        it is attached to.
        """
        check_policy_name(name)
        if name in PREDEFINED:
            raise Refused(
                "EntityAlreadyExists",
                f"{name} is a predefined policy and stays as it is: choose a name",
            )
        with self._database.transaction() as cursor:
            row = cursor.execute("SELECT document FROM policies WHERE name = ?", (name,)).fetchone()
            if row is not None and (new or (row[0] != document.compact and not replace)):
                raise Refused(
                    "EntityAlreadyExists",
                    f"there is another policy named {name!r} already: use --replace to change it",
                )
            if row is None:
                (policies,) = cursor.execute("SELECT count(*) FROM policies").fetchone()
                if policies >= MAX_POLICIES:
                    raise Refused(
                        "LimitExceeded",
                        f"there are {MAX_POLICIES:,} policies, which is the most there can be; "
                        "remove one first",
                    )
            cursor.execute(
                "INSERT INTO policies (name, document, created, description) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                (name, document.compact, self._clock.time(), description),
            )

    def remove_policy(self, name: str) -> None:
        """Remove a policy; refused while it is attached to a user."""
        if name in PREDEFINED:
            raise Refused(
                "ValidationError",
                f"{name} is a predefined policy and can't be removed; detach it from users instead",
            )
        with self._database.transaction() as cursor:
            if not exists(cursor, "policies", "name", name):
                raise no_such_policy(name)
            users = [
                row[0]
                for row in cursor.execute(
                    "SELECT user FROM attachments WHERE policy = ? ORDER BY user", (name,)
                )
            ]
            if users:
                shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" * (len(users) > 5))
                raise Refused(
                    "DeleteConflict",
                    f"the policy {name} is attached to {shown}: detach it first",
                )
            cursor.execute("DELETE FROM policies WHERE name = ?", (name,))

    def attach(
        self, name: str, user: str, *, replace: bool = True, expected: str | None = None
    ) -> str | None:
        """Make a policy a user's one policy; the name of the one it takes the place of.

        Without ``replace`` a user that has another one keeps it (LimitExceeded). ``expected``
        is the policy's compact text as it was judged: one that is another by now is refused.
        """
        with self._database.transaction() as cursor:
            row = cursor.execute("SELECT document FROM policies WHERE name = ?", (name,)).fetchone()
            if row is None and name not in PREDEFINED:
                raise no_such_policy(name)
            if row is not None and expected not in (None, row[0]):
                raise Refused("ValidationError", f"the policy {name} has just changed: try again")
            _check_limitable(cursor, user)
            old = _policy_name(cursor, user)
            if old not in (None, (name, False)) and not replace:
                raise _one_policy(user, old)
            cursor.execute("DELETE FROM inline_policies WHERE user = ?", (user,))
            cursor.execute(
                "INSERT INTO attachments VALUES (?, ?)"
                " ON CONFLICT (user) DO UPDATE SET policy = excluded.policy",
                (user, name),
            )
        return None if old is None or old == (name, False) else old[0]

    def detach(self, user: str, name: str | None = None) -> str:
        """Take a user's policy away, and with it all access; the policy's name.

        With ``name`` only where that policy is attached; else also one of the user's own.
        """
        with self._database.transaction() as cursor:
            if not exists(cursor, "users", "name", user):
                raise no_such_user(user)
            old = _policy_name(cursor, user)
            if old is None:
                raise Refused(
                    "NoSuchEntity",
                    f"no policy is attached to {user}; see `s3posixfs user show {user}`",
                )
            if name is not None and old != (name, False):
                raise Refused(
                    "NoSuchEntity",
                    f"the policy {name} is not attached to {user}; "
                    f"see `s3posixfs user show {user}`",
                )
            cursor.execute("DELETE FROM attachments WHERE user = ?", (user,))
            cursor.execute("DELETE FROM inline_policies WHERE user = ?", (user,))
            return old[0]

    def put_inline(self, user: str, name: str, document: PolicyDocument) -> None:
        """Give a user a policy of its own, in place of its own one of that name.

        A user that has another policy keeps it (LimitExceeded).
        """
        check_policy_name(name)
        with self._database.transaction() as cursor:
            _check_limitable(cursor, user)
            old = _policy_name(cursor, user)
            if old not in (None, (name, True)):
                raise _one_policy(user, old)
            cursor.execute(
                "INSERT INTO inline_policies VALUES (?, ?, ?)"
                " ON CONFLICT (user) DO UPDATE SET document = excluded.document",
                (user, name, document.compact),
            )

    def remove_inline(self, user: str, name: str) -> None:
        """Take away a user's own policy, and with it all access."""
        with self._database.transaction() as cursor:
            if not exists(cursor, "users", "name", user):
                raise no_such_user(user)
            cursor.execute("DELETE FROM inline_policies WHERE user = ? AND name = ?", (user, name))
            if cursor.rowcount == 0:
                raise Refused(
                    "NoSuchEntity",
                    f"{user} has no policy {name!r} of its own; see `s3posixfs user show {user}`",
                )


def has_policy(cursor: sqlite3.Cursor, user: str) -> bool:
    """Whether a user has a policy, attached or of its own."""
    return _policy_name(cursor, user) is not None


def _policy_name(cursor: sqlite3.Cursor, user: str) -> tuple[str, bool] | None:
    """The name of a user's policy and whether it is the user's own (inline)."""
    row = cursor.execute(
        "SELECT policy, 0 FROM attachments WHERE user = ?"
        " UNION ALL SELECT name, 1 FROM inline_policies WHERE user = ?",
        (user, user),
    ).fetchone()
    return None if row is None else (str(row[0]), bool(row[1]))


def _check_limitable(cursor: sqlite3.Cursor, user: str) -> None:
    row = cursor.execute("SELECT role FROM users WHERE name = ?", (user,)).fetchone()
    if row is None:
        raise no_such_user(user)
    if row[0] == "admin":
        raise Refused(
            "ValidationError",
            f"{user} has the role admin, which no policy limits:"
            f" `s3posixfs user update {user} --role s3` first",
        )


def _one_policy(user: str, old: tuple[str, bool] | None) -> Refused:
    name = "" if old is None else old[0]
    return Refused(
        "LimitExceeded",
        f"Cannot exceed quota for PoliciesPerUser: 1. {user} has the policy {name};"
        " take it away first",
    )
