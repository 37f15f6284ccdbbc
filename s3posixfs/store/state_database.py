"""The SQLite file: making it, opening it, transactions.

WAL with ``synchronous=FULL``: a change that was acknowledged survives power loss, and readers
never wait for a writer. Each open database has two connections. Requests read on the one,
changes are made on the other, so a request never waits for a change's fsync; and SQLite's
``data_version``, which tells of other connections' commits, tells the reader of every change,
whichever process made it. A connection must not be carried over a fork: open after it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s3posixfs.core.errors import OperatorError

DATABASE = "state.db"
SCHEMA_VERSION = 2
_BUSY_SECONDS = 20.0

_SCHEMA = """
CREATE TABLE marks (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE INDEX users_by_uid ON users (uid);
CREATE TABLE keys (
    access_key TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    secret BLOB NOT NULL,
    enabled INTEGER NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE INDEX keys_by_user ON keys (user);
CREATE TABLE policies (
    name TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    created REAL NOT NULL,
    description TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE attachments (
    user TEXT PRIMARY KEY REFERENCES users (name) ON DELETE CASCADE,
    policy TEXT NOT NULL
) STRICT;
CREATE INDEX attachments_by_policy ON attachments (policy);
CREATE TABLE sessions (
    access_key TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    parent_key TEXT NOT NULL REFERENCES keys (access_key) ON DELETE CASCADE,
    name TEXT NOT NULL,
    secret BLOB NOT NULL,
    token_digest BLOB NOT NULL,
    policy TEXT,
    created REAL NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user);
CREATE INDEX sessions_by_parent ON sessions (parent_key);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
"""
_INLINE_POLICIES = """
CREATE TABLE inline_policies (
    user TEXT PRIMARY KEY REFERENCES users (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
"""
# What makes a state of version N, at N - 1, into one of the next.
_UPGRADES = (
    "ALTER TABLE policies ADD COLUMN description TEXT NOT NULL DEFAULT '';" + _INLINE_POLICIES,
)

Row = tuple[Any, ...]


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turn what SQLite says into one line for the operator."""
    try:
        yield
    except sqlite3.Error as error:
        raise OperatorError(
            f"the state in {path} can't be used: {error}; "
            "see whether its disk is full, else restore a backup"
        ) from error


class Database:
    """An open state database; safe to use from several threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.lock = threading.Lock()  # guards the reader, and the caches of whoever reads
        self._writing = threading.Lock()
        with _explaining(directory):
            self._reader = self._connect()
            try:
                self._writer = self._connect()
            except BaseException:
                self._reader.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._directory / DATABASE,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def close(self) -> None:
        with self._writing, self.lock:
            self._writer.close()
            self._reader.close()

    def version(self) -> int:
        """A number that is another one after any commit; call with ``lock`` held."""
        with _explaining(self._directory):
            return int(self._reader.execute("PRAGMA data_version").fetchone()[0])

    def read(self, query: str, parameters: Row = ()) -> list[Row]:
        """All rows of a query on what is committed; call with ``lock`` held."""
        with _explaining(self._directory):
            return self._reader.execute(query, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """A write transaction: committed and on disk at the end, undone if anything is raised.

        Waits up to 20 s for another process that writes; then raises OperatorError.
        """
        with self._writing, _explaining(self._directory):
            cursor = self._writer.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    cursor.execute("ROLLBACK")
                raise


def exists(cursor: sqlite3.Cursor, table: str, column: str, value: str) -> bool:
    """Whether a table of the schema has such a row; for a transaction's own look."""
    query = f"SELECT 1 FROM {table} WHERE {column} = ?"  # noqa: S608 (constants of the callers)
    return cursor.execute(query, (value,)).fetchone() is not None


def is_ready(directory: Path) -> bool:
    """Whether there is a state that was made to the end; OperatorError if a newer one.

    One that an older version made is brought up to date.
    """
    path = directory / DATABASE
    try:
        if path.stat().st_size == 0:
            return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    with _explaining(directory):
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            version = _version_of(connection)
            if 0 < version < SCHEMA_VERSION:
                _upgrade(connection)
                version = SCHEMA_VERSION
        finally:
            connection.close()
    if version > SCHEMA_VERSION:
        raise OperatorError(
            f"the state in {directory} was made by a newer version of s3posixfs; install that one"
        )
    return version == SCHEMA_VERSION


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an older state up to date: in one transaction, once, whoever comes first."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    for upgrade in _UPGRADES[max(_version_of(connection), 1) - 1 :]:
        for statement in upgrade.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def create(directory: Path, fill: Callable[[sqlite3.Cursor], None]) -> None:
    """Make the database and let ``fill`` put in what a new one holds, all in one transaction."""
    path = directory / DATABASE
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
    with _explaining(directory):
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            cursor = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            for statement in (_SCHEMA + _INLINE_POLICIES).split(";"):
                cursor.execute(statement)
            fill(cursor)
            cursor.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            cursor.execute("COMMIT")
        finally:
            connection.close()


@contextmanager
def creation_lock(directory: Path) -> Iterator[None]:
    """Held while a state is made, so that two programs started together make one."""
    descriptor = os.open(
        directory / "state.lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
