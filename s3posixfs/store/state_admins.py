"""One admin can always sign in: without one, only root on the host could mend it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from s3posixfs.store.state_records import Refused


@contextmanager
def keeping_an_admin(cursor: sqlite3.Cursor) -> Iterator[None]:
    """Refuse a change, made in the block, after which no admin can sign in; by raising."""
    before = _admins(cursor)
    yield
    if before and not _admins(cursor):
        raise Refused(
            "UnmodifiableEntity",
            "this would leave no admin who can sign in: give another user the role admin and an"
            " enabled access key first (`s3posixfs user add NAME --role admin`)",
        )


def _admins(cursor: sqlite3.Cursor) -> int:
    """How many enabled users of the role admin have an enabled key."""
    (count,) = cursor.execute(
        "SELECT count(DISTINCT users.name) FROM users JOIN keys ON keys.user = users.name"
        " WHERE users.role = 'admin' AND users.enabled AND keys.enabled"
    ).fetchone()
    return int(count)
