"""How many of each there can be, and that an older state is brought up to date."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.identity.policy import parse_policy
from s3posixfs.store.state import MAX_SESSIONS, Refused, State
from s3posixfs.store.state_records import MAX_KEYS_PER_USER, MAX_POLICIES, MAX_USERS
from s3posixfs.store.state_sessions import MAX_SESSIONS_PER_USER

NOW = 1_700_000_000.0
POLICY = parse_policy(
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
)
OTHER = parse_policy(
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state", create=True) as state:
        yield state


def insert_sessions(state: State, key: str, count: int, until: float = NOW + 900) -> None:
    with state._database.transaction() as cursor:
        cursor.executemany(
            "INSERT INTO sessions VALUES (?, 'admin', ?, 'x', x'', x'', NULL, ?, ?)",
            [(f"ASIA-{key}-{until}-{n}", key, NOW, until) for n in range(count)],
        )


def test_users(state: State) -> None:
    with state._database.transaction() as cursor:
        cursor.executemany(
            "INSERT INTO users VALUES (?, 's3', 0, 0, 1, 0)",
            [(f"user{n}",) for n in range(MAX_USERS - 2)],
        )
    state.add_user("the-last")
    with pytest.raises(Refused, match="1,024") as caught:
        state.add_user("one-more")
    assert caught.value.code == "LimitExceeded"
    assert state.find_user("one-more") is None
    state.remove_user("user0")
    state.add_user("one-more")


def test_policies(state: State) -> None:
    with state._database.transaction() as cursor:
        cursor.executemany(
            "INSERT INTO policies (name, document, created) VALUES (?, ?, 0)",
            [(f"policy{n}", POLICY.compact) for n in range(MAX_POLICIES - 1)],
        )
    state.add_policy("the-last", POLICY)
    with pytest.raises(Refused, match="1,024"):
        state.add_policy("one-more", POLICY)
    state.add_policy("the-last", OTHER, replace=True)


def test_keys(state: State) -> None:
    state.add_user("alice")
    for _ in range(MAX_KEYS_PER_USER - 1):
        state.add_key("alice")
    with pytest.raises(Refused, match="16"):
        state.add_key("alice")


def test_one_user_does_not_take_all_sessions(state: State) -> None:
    state.add_user("alice")
    state.add_user("bob")
    state.add_key("alice", "alice-2")
    insert_sessions(state, "alice", MAX_SESSIONS_PER_USER - 1)
    state.create_session("alice", "alice-2", "x", None, 900, NOW)
    for key in ("alice", "alice-2"):
        for user in ("alice", "bob"):
            with pytest.raises(S3Error, match="1,000") as caught:
                state.create_session(user, key, "x", None, 900, NOW)
            assert caught.value.code == "LimitExceeded"
    # Sessions of alice that another user makes do not count as hers, nor do expired ones.
    state.create_session("alice", "bob", "x", None, 900, NOW)
    state.create_session("alice", "alice", "x", None, 900, NOW + 900)


def test_all_users_together_leave_room_for_the_admin(state: State) -> None:
    for n in range(6):
        state.add_user(f"user{n}")
        insert_sessions(state, f"user{n}", 750)
    with pytest.raises(S3Error, match="4,500"):
        state.create_session("user0", "user0", "x", None, 900, NOW)
    state.create_session("user0", "admin", "x", None, 900, NOW)
    insert_sessions(state, "admin", MAX_SESSIONS - 4_501)
    with pytest.raises(S3Error, match="5,000"):
        state.create_session("user0", "admin", "x", None, 900, NOW)


def test_expired_sessions_do_not_pile_up(state: State) -> None:
    for age in range(3):
        insert_sessions(state, "admin", 4_000, until=NOW - age - 1)
    state.create_session("admin", "admin", "x", None, 900, NOW)
    with state._database.lock:
        ((kept,),) = state._database.read("SELECT count(*) FROM sessions")
        ((latest,),) = state._database.read(
            "SELECT count(*) FROM sessions WHERE expires_at = ?", (NOW - 1,)
        )
    assert kept <= 9_001
    assert latest == 4_000


def test_a_policy_that_changed_since_it_was_judged_is_not_attached(state: State) -> None:
    state.add_user("alice")
    state.add_policy("own", POLICY)
    state.remove_policy("own")
    state.add_policy("own", OTHER)
    with pytest.raises(Refused, match="just changed"):
        state.attach("own", "alice", replace=False, expected=POLICY.compact)
    assert state.policy_of("alice") is None
    state.attach("own", "alice", replace=False, expected=OTHER.compact)


def test_an_inline_policy_goes_with_its_user(state: State) -> None:
    state.add_user("alice")
    state.put_inline("alice", "own", POLICY)
    assert state.policy_of("alice") == ("own", POLICY)
    with pytest.raises(OperatorError, match="detach it first"):
        state.update_user("alice", role="admin")
    state.remove_user("alice")
    state.add_user("alice")
    assert state.policy_of("alice") is None


def make_older(path: Path) -> None:
    """Make a state as the first version had it."""
    connection = sqlite3.connect(path / "state.db")
    connection.executescript(
        "DROP TABLE inline_policies; ALTER TABLE policies DROP COLUMN description;"
        " PRAGMA user_version = 1;"
    )
    connection.close()


def test_an_older_state_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with State.open(path, create=True) as state:
        state.add_user("alice", secret="password")
        state.add_policy("own", POLICY)
        state.attach("own", "alice")
    make_older(path)
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            with State.open(path) as state:
                assert state.policy_of("alice") == ("own", POLICY)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with State.open(path) as state:
        key = state.key("alice")
        assert key is not None
        assert key.secret == "password"
        state.detach("alice")
        state.put_inline("alice", "mine", OTHER)
        assert state.policy("own").description == ""
