"""The store's state: what it keeps, what it refuses, and that others' changes are seen."""

from __future__ import annotations

import configparser
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s3posixfs.core.clock import OffsetClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.policy import ADMINISTRATOR, PREDEFINED, parse_policy
from s3posixfs.store import state_database
from s3posixfs.store.state import MAX_SESSIONS, Refused, State
from s3posixfs.store.state_reader import StateReader
from s3posixfs.store.state_secrets import Sealer, new_secret_key, random_text

POLICY = parse_policy(
    '{"Version":"2012-10-17","Statement":{"Sid":"s","Effect":"Allow",'
    '"Action":"s3:GetObject","Resource":"arn:aws:s3:::shared/*"}}'
)
OTHER = parse_policy('{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}')
NOW = 1_000_000.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "state"
    State.open(path, create=True).close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    with State.open(path, create=True) as opened:
        yield opened


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class TestOpening:
    def test_a_new_state(self, state: State, path: Path) -> None:
        assert state.is_new
        assert mode(path) == 0o700
        assert {file.name for file in path.iterdir()} >= {"state.db", "master.key"}
        for file in path.iterdir():
            assert mode(file) == 0o600, file
        credentials = configparser.ConfigParser()
        credentials.read(path / "admin-credentials")
        assert credentials.sections() == ["admin"]
        key = state.key(credentials["admin"]["aws_access_key_id"])
        assert key is not None
        assert key.secret == credentials["admin"]["aws_secret_access_key"]
        assert len(key.secret) == 40
        assert (key.user.name, key.user.role, key.user.owner) == (
            "admin",
            "admin",
            PosixOwner(0, 0),
        )
        assert state.policies_for(key.user) == (("role admin", ADMINISTRATOR),)

    def test_there_must_be_one(self, path: Path) -> None:
        with pytest.raises(OperatorError, match="s3posixfs serve"):
            State.open(path, create=False)
        assert not path.exists()

    def test_opening_again_changes_nothing(self, state: State, path: Path) -> None:
        secret = state.keys("admin")[0].secret
        state.add_user("root", "admin")
        state.remove_user("admin")
        before = (path / "admin-credentials").read_bytes()
        with State.open(path, create=True) as again:
            assert not again.is_new
            assert again.find_user("admin") is None
        assert (path / "admin-credentials").read_bytes() == before
        assert secret.encode() in before

    def test_no_secret_is_in_the_database(self, state: State, path: Path) -> None:
        _, secret = state.add_user("alice")
        session = state.create_session("alice", "alice", "x", None, 900, NOW)
        state.close()
        content = b"".join(file.read_bytes() for file in path.glob("state.db*"))
        assert b"alice" in content
        assert session.session_token is not None
        for text in (secret, session.secret_key, session.session_token):
            assert text.encode() not in content

    def test_the_wrong_master_key(self, state: State, path: Path) -> None:
        (path / "master.key").write_bytes(bytes(32))
        with pytest.raises(OperatorError, match="master key does not fit"):
            State.open(path)
        (path / "master.key").write_bytes(b"short")
        with pytest.raises(OperatorError, match="is no master key"):
            State.open(path)
        (path / "master.key").unlink()
        for create in (False, True):
            with pytest.raises(OperatorError, match=r"master\.key is missing"):
                State.open(path, create=create)

    def test_a_sealed_secret_opens_only_under_its_own_name(self) -> None:
        sealer = Sealer(bytes(32), random=lambda count: bytes(count))
        sealed = sealer.seal("s3cret", "alice")
        assert sealer.open(sealed, "alice") == "s3cret"
        for broken in (sealed[:-1], b"", bytes([sealed[0] ^ 1]) + sealed[1:]):
            with pytest.raises(OperatorError):
                sealer.open(broken, "alice")
        with pytest.raises(OperatorError):
            sealer.open(sealed, "bob")

    def test_what_is_no_database(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "state.db").write_bytes(b"hello" * 1000)
        with pytest.raises(OperatorError, match="can't be used: file is not a database"):
            State.open(path)

    def test_a_newer_version_is_left_alone(self, state: State, path: Path) -> None:
        state.close()
        connection = sqlite3.connect(path / "state.db")  # as a later version would leave it
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(OperatorError, match="newer version"):
            State.open(path, create=True)

    def test_a_creation_that_was_cut_short_is_taken_up(self, path: Path, template: Path) -> None:
        class Cut(Exception):
            pass

        draws_left = 0

        def random(count: int) -> bytes:
            nonlocal draws_left
            if draws_left == 0:
                raise Cut
            draws_left -= 1
            return b"\x01" * count

        cuts = 0
        finished = False
        while not finished:
            draws_left = cuts
            try:
                State.open(path, create=True, random=random).close()
                finished = True
            except Cut:
                cuts += 1
        assert cuts > 2
        with State.open(path) as whole:
            assert whole.keys("admin")[0].secret in (path / "admin-credentials").read_text()
        assert {f.name for f in path.iterdir()} == {f.name for f in template.iterdir()}

    def test_a_path_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OperatorError, match="can't be opened"):
            State.open(tmp_path / "file", create=True)

    def test_many_open_it_at_once(self, path: Path) -> None:
        script = (
            "import sys, pathlib; from s3posixfs.store.state import State;"
            "s = State.open(pathlib.Path(sys.argv[1]), create=True);"
            "s.add_user(sys.argv[2]); print(s.keys('admin')[0].secret)"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(path), f"user{n}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for n in range(4)
        ]
        secrets = {process.communicate(timeout=30)[0] for process in processes}
        assert [process.returncode for process in processes] == [0] * 4
        assert len(secrets) == 1
        with State.open(path) as opened:
            assert len(opened.users()) == 5


class TestUsers:
    def test_a_user(self, state: State) -> None:
        assert state.add_user("alice", "s3", PosixOwner(1001, 1002), None, "password") == (
            "alice",
            "password",
        )
        access_key, secret = state.add_user("bob@example.org", "admin", access_key="BOBKEY")
        assert access_key == "BOBKEY"
        assert len(secret) == 40
        assert secret.isalnum()
        alice = state.user("alice")
        assert (alice.role, alice.owner, alice.enabled) == ("s3", PosixOwner(1001, 1002), True)
        assert alice.arn == "arn:aws:iam:::user/alice"
        assert state.user("bob@example.org").owner == PosixOwner(0, 0)
        assert [user.name for user in state.users()] == ["admin", "alice", "bob@example.org"]
        assert state.access_keys()["bob@example.org"] == ("BOBKEY",)

    def test_no_secret_in_repr(self, state: State) -> None:
        state.add_user("alice", secret="password")
        session = state.create_session("alice", "alice", "x", None, 900, NOW)
        record = state.session(session.access_key)
        shown = repr((state.key("alice"), state.keys("alice"), session, record))
        assert record is not None
        assert session.session_token is not None
        for text in ("password", session.secret_key, session.session_token):
            assert text not in shown
        assert repr(record.token_digest) not in shown

    @pytest.mark.parametrize(
        "name", ["ab", "a" * 129, "a b", "a/b", "", "café", "a\n", "abc\n", "a:b"]
    )
    def test_names(self, state: State, name: str) -> None:
        with pytest.raises(OperatorError, match="no user name"):
            state.add_user(name)
        with pytest.raises(OperatorError, match="no access key"):
            state.add_user("good", access_key=name)
        assert state.find_user("good") is None

    def test_names_that_may_be(self, state: State) -> None:
        for name in ("abc", "a" * 128, "A_b.c@d+e-9", "..."):
            assert state.add_user(name)[0] == name

    def test_a_key_that_looks_temporary(self, state: State) -> None:
        with pytest.raises(OperatorError, match="ASIA"):
            state.add_user("ASIABOB")
        assert state.add_user("ASIABOB", access_key="bob")[0] == "bob"

    @pytest.mark.parametrize(
        "secret", ["", "1234567", "x" * 257, "pass word", "password\n", "päss\x00word"]
    )
    def test_secrets(self, state: State, secret: str) -> None:
        with pytest.raises(OperatorError, match="secret key") as caught:
            state.add_user("alice", secret=secret)
        assert not secret or secret not in str(caught.value)
        assert state.find_user("alice") is None

    @pytest.mark.parametrize(
        "owner", [PosixOwner(-1, 0), PosixOwner(0, -1), PosixOwner(2**32 - 1, 0)]
    )
    def test_ids(self, state: State, owner: PosixOwner) -> None:
        with pytest.raises(OperatorError, match=r"is no [ug]id"):
            state.add_user("alice", owner=owner)

    def test_names_are_taken_once(self, state: State) -> None:
        state.add_user("alice")
        with pytest.raises(OperatorError, match="user named 'alice' already"):
            state.add_user("alice", access_key="other")
        with pytest.raises(OperatorError, match="access key 'alice' is taken"):
            state.add_user("bob", access_key="alice")
        assert state.find_user("bob") is None
        with pytest.raises(OperatorError, match="no role"):
            state.add_user("bob", role="root")

    def test_updates(self, state: State) -> None:
        state.add_user("alice", owner=PosixOwner(1, 2))
        assert state.update_user("alice", uid=5).owner == PosixOwner(5, 2)
        assert state.update_user("alice", gid=6).owner == PosixOwner(5, 6)
        assert state.update_user("alice", role="admin").is_admin
        key = state.key("alice")
        assert key is not None
        assert key.enabled
        assert not state.update_user("alice", enabled=False).enabled
        key = state.key("alice")
        assert key is not None
        assert not key.enabled
        for wrong in ({"uid": -1}, {"gid": 2**32}, {"role": "x"}):
            with pytest.raises(OperatorError):
                state.update_user("alice", **wrong)
        assert state.user("alice").owner == PosixOwner(5, 6)

    def test_who_is_not_there(self, state: State) -> None:
        assert state.find_user("nobody") is None
        assert state.key("nobody") is None
        assert state.session("ASIANOBODY") is None
        assert state.policy_of("nobody") is None
        for call in (
            lambda: state.user("nobody"),
            lambda: state.keys("nobody"),
            lambda: state.update_user("nobody", uid=1),
            lambda: state.remove_user("nobody"),
            lambda: state.add_key("nobody"),
            lambda: state.remove_key("nobody", "nobody"),
            lambda: state.attach("readonly", "nobody"),
            lambda: state.detach("nobody"),
        ):
            with pytest.raises(OperatorError, match="no user named 'nobody'"):
                call()

    def test_the_last_admin_stays(self, state: State) -> None:
        state.add_user("second", "admin")
        state.enable_key("second", "second", enabled=False)
        last: list[Callable[[], object]] = [
            lambda: state.remove_user("admin"),
            lambda: state.update_user("admin", role="s3"),
            lambda: state.update_user("admin", enabled=False),
            lambda: state.remove_key("admin", "admin"),
            lambda: state.enable_key("admin", "admin", enabled=False),
        ]
        for change in last:
            with pytest.raises(Refused, match="no admin who can sign in: give another") as told:
                change()
            assert told.value.code == "UnmodifiableEntity"
        assert state.user("admin").enabled
        assert state.user("admin").role == "admin"
        assert [key.enabled for key in state.keys("admin")] == [True]
        # A second key of the same user will do, or a second admin.
        state.add_key("admin", "another-key")
        state.remove_key("admin", "admin")
        with pytest.raises(Refused):
            state.enable_key("admin", "another-key", enabled=False)
        state.enable_key("second", "second", enabled=True)
        state.enable_key("admin", "another-key", enabled=False)
        with pytest.raises(Refused):
            state.update_user("second", role="s3")
        state.enable_key("admin", "another-key", enabled=True)
        state.update_user("second", role="s3", enabled=False)
        state.remove_user("second")

    def test_the_first_user_of_a_uid(self, state: State) -> None:
        clock = OffsetClock()
        with State.open(state.directory, clock=clock) as later:
            later.add_user("zoe", owner=PosixOwner(7, 7))
            clock.offset = 60
            later.add_user("amy", owner=PosixOwner(7, 7))
        assert state.user_of_uid(7) == "zoe"
        assert state.user_of_uid(8) is None
        state.remove_user("zoe")
        assert state.user_of_uid(7) == "amy"

    def test_rotation(self, state: State) -> None:
        state.add_user("alice")
        access_key, secret = state.add_key("alice")
        assert access_key.startswith("AKIA")
        assert len(access_key) == 20
        found = state.key(access_key)
        assert found is not None
        assert (found.secret, found.user.name) == (secret, "alice")
        state.enable_key("alice", "alice", enabled=False)
        assert [(key.access_key, key.enabled) for key in state.keys("alice")] == [
            ("alice", False),
            (access_key, True),
        ]
        state.remove_key("alice", "alice")
        assert state.key("alice") is None
        state.add_user("bob")
        with pytest.raises(OperatorError, match="bob has no access key"):
            state.remove_key("bob", access_key)
        with pytest.raises(OperatorError, match="bob has no access key"):
            state.enable_key("bob", access_key, enabled=False)
        assert state.key(access_key) is not None


class TestPolicies:
    def test_attaching(self, state: State) -> None:
        state.add_user("alice")
        assert state.policy_of("alice") is None
        assert state.policies_for(state.user("alice")) == ()
        state.add_policy("mine", POLICY)
        assert state.attach("readonly", "alice") is None
        assert state.policy_of("alice") == ("readonly", PREDEFINED["readonly"])
        assert state.attach("mine", "alice") == "readonly"
        assert state.attach("mine", "alice") is None
        assert state.policy_of("alice") == ("mine", POLICY)
        assert state.policies_for(state.user("alice")) == (("mine", POLICY),)
        assert state.detach("alice") == "mine"
        assert state.policy_of("alice") is None
        with pytest.raises(OperatorError, match="no policy is attached"):
            state.detach("alice")

    def test_a_policy_is_compiled_once(self, state: State) -> None:
        state.add_user("alice")
        state.add_policy("mine", POLICY)
        state.attach("mine", "alice")
        first = state.policy_of("alice")
        state.add_user("bob")  # a change of something else
        again = state.policy_of("alice")
        assert first is not None
        assert again is not None
        assert first[1] is again[1]

    def test_changing_one(self, state: State) -> None:
        state.add_user("alice")
        state.add_policy("mine", POLICY)
        state.attach("mine", "alice")
        state.add_policy("mine", POLICY)
        with pytest.raises(OperatorError, match="--replace"):
            state.add_policy("mine", OTHER)
        assert state.policy_of("alice") == ("mine", POLICY)
        state.add_policy("mine", OTHER, replace=True)
        assert state.policy_of("alice") == ("mine", OTHER)

    def test_an_attached_policy_stays(self, state: State) -> None:
        state.add_policy("mine", POLICY)
        for number in range(7):
            state.add_user(f"user{number}")
            state.attach("mine", f"user{number}")
        with pytest.raises(OperatorError, match=r"attached to user0, .*, user4 and 2 more: detach"):
            state.remove_policy("mine")
        for number in range(6):
            state.detach(f"user{number}")
        state.remove_user("user6")
        state.remove_policy("mine")
        with pytest.raises(OperatorError, match="no policy named 'mine'"):
            state.remove_policy("mine")
        with pytest.raises(OperatorError, match="no policy named 'mine'"):
            state.policy("mine")
        with pytest.raises(OperatorError, match="no policy named 'mine'"):
            state.attach("mine", "admin")

    def test_predefined_ones_stay_as_they_are(self, state: State) -> None:
        for name in PREDEFINED:
            with pytest.raises(OperatorError, match="predefined"):
                state.add_policy(name, POLICY, replace=True)
            with pytest.raises(OperatorError, match="predefined"):
                state.remove_policy(name)
        assert [(p.name, p.predefined) for p in state.policies()] == [
            ("readonly", True),
            ("writeonly", True),
            ("readwrite", True),
        ]

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 129, "a\n"])
    def test_names(self, state: State, name: str) -> None:
        with pytest.raises(OperatorError, match="no policy name"):
            state.add_policy(name, POLICY)

    def test_administrators_have_none(self, state: State) -> None:
        with pytest.raises(OperatorError, match="which no policy limits"):
            state.attach("readonly", "admin")
        state.add_user("alice")
        state.attach("readonly", "alice")
        with pytest.raises(OperatorError, match="detach it first"):
            state.update_user("alice", role="admin")

    def test_a_removed_user_leaves_no_policy_to_the_next_of_the_name(self, state: State) -> None:
        state.add_user("alice")
        state.attach("readwrite", "alice")
        state.remove_user("alice")
        state.add_user("alice")
        assert state.policy_of("alice") is None


class TestSessions:
    def test_a_session(self, state: State) -> None:
        state.add_user("alice", owner=PosixOwner(1001, 1001))
        made = state.create_session("alice", "alice", "laptop", POLICY, 900, NOW)
        assert made.access_key.startswith("ASIA")
        assert made.expires_at == NOW + 900
        found = state.session(made.access_key)
        assert found is not None
        assert (found.secret, found.session_name) == (made.secret_key, "laptop")
        assert (found.user.name, found.parent_key, found.policy) == ("alice", "alice", POLICY)
        assert (found.created, found.expires_at) == (NOW, NOW + 900)
        assert made.session_token is not None
        assert found.token_matches(made.session_token)
        for token in ("", made.session_token[:-1], made.session_token + "x", "\udcff"):
            assert not found.token_matches(token)
        assert state.key(made.access_key) is None

    def test_each_is_another(self, state: State) -> None:
        made = [state.create_session("admin", "admin", "x", None, 900, NOW) for _ in range(5)]
        assert len({s.access_key for s in made} | {s.secret_key for s in made}) == 10
        assert len({s.session_token for s in made}) == 5

    def test_becoming_another_user(self, state: State) -> None:
        state.add_user("alice")
        made = state.create_session("alice", "admin", "mount", None, 900, NOW)
        found = state.session(made.access_key)
        assert found is not None
        assert (found.user.name, found.parent_key) == ("alice", "admin")

    @pytest.mark.parametrize(
        "end",
        [
            "remove_user alice",
            "remove_user caller",
            "remove_key caller caller",
            "disable_user alice",
            "disable_user caller",
            "disable_key caller caller",
        ],
    )
    def test_what_ends_it(self, state: State, end: str) -> None:
        state.add_user("alice")
        state.add_user("caller", "admin")
        made = state.create_session("alice", "caller", "mount", None, 900, NOW)
        assert state.session(made.access_key) is not None
        verb, *names = end.split()
        if verb == "disable_user":
            state.update_user(names[0], enabled=False)
        elif verb == "disable_key":
            state.enable_key(*names, enabled=False)
        else:
            getattr(state, verb)(*names)
        assert state.session(made.access_key) is None
        with pytest.raises(S3Error) as caught:
            state.create_session("alice", "caller", "again", None, 900, NOW)
        assert caught.value.status == 403

    def test_a_name_taken_again_does_not_revive_it(self, state: State) -> None:
        state.add_user("alice")
        made = state.create_session("alice", "alice", "x", None, 900, NOW)
        state.remove_user("alice")
        state.add_user("alice")
        assert state.session(made.access_key) is None

    def test_a_session_makes_none(self, state: State) -> None:
        made = state.create_session("admin", "admin", "x", POLICY, 900, NOW)
        with pytest.raises(S3Error):
            state.create_session("admin", made.access_key, "x", None, 900, NOW)

    def test_an_expired_one_is_known_for_a_day(self, state: State) -> None:
        old = state.create_session("admin", "admin", "x", None, 900, NOW)
        state.create_session("admin", "admin", "x", None, 900, NOW + 80_000)
        assert state.session(old.access_key) is not None
        state.create_session("admin", "admin", "x", None, 900, NOW + 900 + 86_401)
        assert state.session(old.access_key) is None

    def test_the_most_there_can_be(self, state: State) -> None:
        with state._database.transaction() as cursor:
            cursor.executemany(
                "INSERT INTO sessions VALUES (?, 'admin', 'admin', 'x', x'', x'', NULL, ?, ?)",
                [(f"ASIA{n}", NOW, NOW + 900) for n in range(MAX_SESSIONS - 1)],
            )
        state.create_session("admin", "admin", "x", None, 900, NOW)
        with pytest.raises(S3Error, match="5,000"):
            state.create_session("admin", "admin", "x", None, 900, NOW)
        state.create_session("admin", "admin", "x", None, 900, NOW + 900)


class TestOthers:
    def test_another_process_changes_it(self, state: State, path: Path) -> None:
        """What was cached before is not answered after."""
        state.add_user("alice", secret="password")
        session = state.create_session("alice", "alice", "x", None, 900, NOW)
        assert state.key("alice") is not None
        assert state.session(session.access_key) is not None
        assert state.policy_of("alice") is None
        assert state.user_of_uid(1234) is None
        script = (
            "import sys, pathlib; from s3posixfs.store.state import State, UserRecord;"
            "s = State.open(pathlib.Path(sys.argv[1]));"
            "s.attach('readonly', 'alice'); s.update_user('alice', uid=1234)"
        )
        command = [sys.executable, "-c", script, str(path)]
        subprocess.run(command, check=True, timeout=30)
        attached = state.policy_of("alice")
        assert attached is not None
        assert attached[0] == "readonly"
        assert state.user_of_uid(1234) == "alice"
        key = state.key("alice")
        assert key is not None
        assert key.user.owner.uid == 1234
        with State.open(path) as other:
            other.remove_user("alice")
        assert state.key("alice") is None
        assert state.session(session.access_key) is None
        assert state.find_user("alice") is None

    def test_threads(self, state: State) -> None:
        failures: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    key = state.key("admin")
                    assert key is not None
                    assert state.policies_for(key.user)
                    state.users()
            except BaseException as failure:
                failures.append(failure)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: state.add_user(f"user{n}"), range(40)))
        done.set()
        for reader in readers:
            reader.join()
        assert failures == []
        assert len(state.users()) == 41

    def test_reading_does_not_wait_for_a_change(self, state: State) -> None:
        state.add_user("alice")
        with state._database.transaction() as cursor:
            cursor.execute("DELETE FROM users WHERE name = 'alice'")
            assert state.key("alice") is not None  # not committed yet
        assert state.key("alice") is None

    def test_a_change_that_fails_leaves_nothing(self, state: State) -> None:
        def fail() -> None:
            with state._database.transaction() as cursor:
                cursor.execute("DELETE FROM users")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert state.find_user("admin") is not None
        state.add_user("alice")

    def test_another_who_writes_for_too_long(self, state: State, path: Path) -> None:
        with State.open(path) as other, state._database.transaction():
            other._database._writer.execute("PRAGMA busy_timeout = 50")
            with pytest.raises(OperatorError, match="can't be used: database is locked"):
                other.add_user("alice")
        with State.open(path) as other:
            other.add_user("alice")

    def test_caches_are_bounded(self, state: State) -> None:
        reader = StateReader(state._database, state._sealer, cached=3)
        for number in range(10):
            state.add_user(f"user{number}")
        for number in range(10):
            assert reader.key(f"user{number}") is not None
            assert reader.find_user(f"user{number}") is not None
            reader.user_of_uid(number)
            reader.policy_of(f"user{number}")
        for cache in (reader._keys, reader._users, reader._names_by_uid, reader._attached):
            assert 0 < len(cache) <= 3


def test_random_texts_use_the_whole_alphabet_evenly() -> None:
    """Of 256 byte values 255 are used for three letters, and the last is drawn again."""
    text = random_text(255, lambda count: bytes(n % 256 for n in range(count + 1)), "abc")
    assert [text.count(letter) for letter in "abc"] == [85, 85, 85]
    draws = [b"\x01", b"\xff"]
    assert random_text(1, lambda count: draws.pop(), "abc") == "b"
    assert new_secret_key(lambda count: b"\x00" * count) == "a" * 40


def test_the_schema_version_is_written_last(tmp_path: Path) -> None:
    def fail(cursor: sqlite3.Cursor) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        state_database.create(tmp_path, fail)
    assert not state_database.is_ready(tmp_path)
