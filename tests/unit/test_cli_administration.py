"""``user`` and ``policy`` as a person and as a program use them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.cli.main import run
from s3posixfs.store.state import State


@dataclass
class Shown:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


class Program:
    def __init__(
        self, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.state = state
        self.capsys = capsys
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: str, stdin: str = "") -> Shown:
        self.monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = 0
        try:
            run([*arguments, "--state", str(self.state)])
        except SystemExit as stop:
            status = int(str(stop.code))
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        if status == 1:
            assert out == ""
            assert err.startswith("s3posixfs: ")
            assert err.count("\n") == 1
        return Shown(status, out, err)


@pytest.fixture
def program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Program:
    return Program(tmp_path / "state", capsys, monkeypatch)


@pytest.fixture
def alice(program: Program) -> Program:
    added = program("user", "add", "alice", "--posix-uid", "1001", "--posix-gid", "1002", "--json")
    assert added.status == 0
    return program


POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "Own", "Effect": "Allow", "Action": "s3:*",
         "Resource": "arn:aws:s3:::home/${aws:username}/*"},
        {"Sid": "Office", "Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*",
         "Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
    ],
}  # fmt: skip


@pytest.fixture
def policy_file(tmp_path: Path) -> str:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(POLICY, indent=4))
    return str(file)


class TestUsers:
    def test_add_prints_the_keys_once(self, program: Program) -> None:
        shown = program(
            "user", "add", "alice", "--posix-uid", "1001", "--posix-gid", "1002", "--json"
        )
        made = shown.json
        secret = made.pop("secret_key")
        assert made == {
            "name": "alice", "access_key": "alice", "role": "s3", "uid": 1001, "gid": 1002,
        }  # fmt: skip
        assert len(secret) == 40
        with State.open(program.state) as state:
            key = state.key("alice")
            assert key is not None
            assert key.secret == secret
        for verb in (["list"], ["show", "alice"], ["keys", "alice"]):
            for form in ([], ["--json"]):
                assert secret not in program("user", *verb, *form).out

    def test_the_table_shows_the_whole_secret(self, program: Program) -> None:
        shown = program("user", "add", "alice")
        with State.open(program.state) as state:
            assert state.keys("alice")[0].secret in shown.out.split()
        assert "not shown again" in shown.err

    def test_the_first_command_makes_the_state(self, program: Program) -> None:
        assert program("user", "list").status == 1
        assert not program.state.exists()
        shown = program("user", "add", "alice", "--json")
        assert json.loads(shown.out)["name"] == "alice"
        assert str(program.state / "admin-credentials") in shown.err
        assert program.state.stat().st_mode & 0o777 == 0o700
        assert "admin-credentials" not in program("user", "add", "bob").err
        assert [user["name"] for user in program("user", "list", "--json").json] == [
            "admin", "alice", "bob",
        ]  # fmt: skip

    def test_a_given_secret(self, program: Program, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text("password-of-alice\n")
        program("user", "add", "alice", "--secret-key-file", str(file), "--access-key", "AK1")
        shown = program("user", "add", "bob", "--secret-key-file", "-", stdin="password-of-bob\n")
        assert shown.status == 0
        with State.open(program.state) as state:
            assert state.keys("alice")[0].secret == "password-of-alice"
            assert state.keys("alice")[0].access_key == "AK1"
            assert state.keys("bob")[0].secret == "password-of-bob"
        file.write_text("short")
        shown = program("user", "add", "carol", "--secret-key-file", str(file))
        assert (shown.status, shown.out) == (1, "")
        assert "at least 8 characters" in shown.err
        assert "'short'" not in shown.err
        assert program("user", "add", "carol", "--secret-key-file", "/none").status == 1

    @pytest.mark.parametrize("option", ["--secret-key", "--secret", "--password"])
    def test_a_secret_is_not_taken_from_the_command_line(
        self, program: Program, option: str
    ) -> None:
        assert program("user", "add", "alice", option, "password").status == 2
        assert not program.state.exists()

    def test_show_and_list(self, alice: Program) -> None:
        shown = alice("user", "show", "alice", "--json").json
        assert shown.pop("created").endswith("+00:00")
        assert shown == {
            "name": "alice", "role": "s3", "uid": 1001, "gid": 1002, "enabled": True,
            "policy": None, "access_keys": ["alice"],
        }  # fmt: skip
        lines = alice("user", "list").out.splitlines()
        assert lines[0].split()[:4] == ["name", "role", "uid", "gid"]
        assert lines[2].split() == ["alice", "s3", "1001", "1002", "yes", "-", "alice"]
        assert "1001" in alice("user", "show", "alice").out

    def test_update(self, alice: Program) -> None:
        shown = alice("user", "update", "alice", "--role", "admin", "--posix-uid", "7", "--json")
        assert (shown.json["role"], shown.json["uid"], shown.json["gid"]) == ("admin", 7, 1002)
        assert alice("user", "update", "alice", "--disable", "--json").json["enabled"] is False
        assert alice("user", "update", "alice", "--enable", "--json").json["enabled"] is True
        assert alice("user", "update", "alice").status == 2

    def test_remove(self, alice: Program) -> None:
        assert alice("user", "remove", "alice", "--json").json == {"removed": "alice"}
        assert alice("user", "remove", "alice").status == 1

    def test_keys(self, alice: Program) -> None:
        made = alice("user", "keys", "alice", "--add", "--json").json
        assert (made["name"], len(made["secret_key"])) == ("alice", 40)
        given = alice(
            "user", "keys", "alice", "--add", "--access-key", "alice-2",
            "--secret-key-file", "-", "--json", stdin="password",
        ).json  # fmt: skip
        assert (given["access_key"], given["secret_key"]) == ("alice-2", "password")
        rows = alice("user", "keys", "alice", "--remove", "alice", "--json").json
        assert [row["access_key"] for row in rows] == [made["access_key"], "alice-2"]
        rows = alice("user", "keys", "alice", "--disable", "alice-2", "--json").json
        assert [row["enabled"] for row in rows] == [True, False]
        rows = alice("user", "keys", "alice", "--enable", "alice-2", "--json").json
        assert [row["enabled"] for row in rows] == [True, True]
        assert "alice-2" in alice("user", "keys", "alice").out
        assert alice("user", "keys", "alice", "--remove", "alice").status == 1
        assert alice("user", "keys", "alice", "--add", "--remove", "alice-2").status == 2
        assert alice("user", "keys", "alice", "--access-key", "x").status == 2

    @pytest.mark.parametrize(
        ("arguments", "status"),
        [
            (["add", "al"], 1),
            (["add", "alice"], 1),
            (["add", "bob", "--access-key", "alice"], 1),
            (["add", "bob", "--posix-uid", "-1"], 1),
            (["add", "bob", "--posix-uid", "4294967295"], 1),
            (["add", "bob", "--posix-uid", "bob"], 2),
            (["add", "bob", "--role", "root"], 2),
            (["show", "bob"], 1),
            (["keys", "bob"], 1),
            (["update", "bob", "--posix-uid", "1"], 1),
            (["remove", "bob"], 1),
        ],
    )
    def test_refusals(self, alice: Program, arguments: list[str], status: int) -> None:
        assert alice("user", *arguments).status == status
        assert len(alice("user", "list", "--json").json) == 2

    def test_the_state_may_be_named_before_the_verb(
        self, alice: Program, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(["user", "--state", str(alice.state), "show", "alice", "--json"])
        assert json.loads(capsys.readouterr().out)["uid"] == 1001


class TestPolicies:
    def test_a_policys_life(self, alice: Program, policy_file: str) -> None:
        size = len(json.dumps(POLICY, separators=(",", ":")))
        expected = {"name": "own", "predefined": False, "bytes": size, "users": []}
        assert alice("policy", "add", "own", policy_file, "--json").json == expected
        assert alice("policy", "attach", "own", "alice", "--json").json == {
            "user": "alice", "policy": "own", "replaced": None,
        }  # fmt: skip
        assert alice("user", "show", "alice", "--json").json["policy"] == "own"
        assert json.loads(alice("policy", "show", "own").out) == POLICY
        shown = alice("policy", "show", "own", "--json").json
        assert shown == {**expected, "users": ["alice"], "document": POLICY}
        assert [p["name"] for p in alice("policy", "list", "--json").json] == [
            "readonly", "writeonly", "readwrite", "own",
        ]  # fmt: skip
        assert "own" in alice("policy", "list").out
        refused = alice("policy", "remove", "own")
        assert refused.status == 1
        assert "attached to alice" in refused.err
        attached = alice("policy", "attach", "readonly", "alice")
        assert "in place of own" in attached.err
        assert alice("policy", "remove", "own").status == 0
        assert alice("policy", "detach", "alice", "--json").json["detached"] == "readonly"
        assert alice("policy", "detach", "alice").status == 1

    def test_adding_again(self, alice: Program, policy_file: str, tmp_path: Path) -> None:
        alice("policy", "add", "own", policy_file)
        assert alice("policy", "add", "own", policy_file).status == 0
        Path(policy_file).write_text(json.dumps({**POLICY, "Id": "changed"}))
        assert alice("policy", "add", "own", policy_file).status == 1
        assert alice("policy", "add", "own", policy_file, "--replace").status == 0
        assert alice("policy", "show", "own", "--json").json["document"]["Id"] == "changed"

    def test_from_standard_input(self, alice: Program) -> None:
        assert alice("policy", "add", "own", "-", stdin=json.dumps(POLICY)).status == 0

    def test_before_the_first_serve(self, program: Program, policy_file: str) -> None:
        assert program("policy", "add", "own", policy_file).status == 0
        assert len(program("policy", "list", "--json").json) == 4

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "policy.json: the policy is no JSON"),
            ('{"Statement":[{"Effect":"Allow","Action":"s3:Fly","Resource":"*"}]}',
             "policy.json: statement 1: unknown action 's3:Fly'"),
            (json.dumps({"Statement": {"Sid": "x" * 2100}}),
             "policy is 2,124 bytes as compact JSON; at most 2,048 are allowed"),
        ],
    )  # fmt: skip
    def test_refused_policies(
        self, alice: Program, policy_file: str, text: str, message: str
    ) -> None:
        Path(policy_file).write_text(text)
        shown = alice("policy", "add", "own", policy_file)
        assert shown.status == 1
        assert message in shown.err
        assert len(alice("policy", "list", "--json").json) == 3

    @pytest.mark.parametrize(
        "arguments",
        [
            ["add", "own", "/none.json"],
            ["show", "own"],
            ["remove", "own"],
            ["remove", "readonly"],
            ["attach", "own", "alice"],
            ["attach", "readonly", "bob"],
            ["attach", "readonly", "admin"],
            ["detach", "bob"],
            ["explain", "bob", "s3:GetObject", "b/k"],
            ["explain", "alice", "s3:Get*", "b/k"],
            ["explain", "alice", "s3:Fly", "b/k"],
            ["explain", "alice", "s3:GetObject", "b/k", "--condition", "s3:prefx=x"],
        ],
    )
    def test_refusals(self, alice: Program, arguments: list[str]) -> None:
        assert alice("policy", *arguments).status == 1


class TestExplain:
    def explain(self, program: Program, *arguments: str) -> tuple[str, str, str | None]:
        shown = program("policy", "explain", *arguments, "--json").json
        return shown["decision"], shown["reason"], shown["sid"]

    def test_no_policy(self, alice: Program) -> None:
        found = self.explain(alice, "alice", "s3:GetObject", "arn:aws:s3:::home/alice/x")
        assert found == ("denied", "no policy attached", None)

    def test_the_sid_is_named(self, alice: Program, policy_file: str) -> None:
        alice("policy", "add", "own", policy_file)
        alice("policy", "attach", "own", "alice")
        own = "arn:aws:s3:::home/alice/x"
        assert self.explain(alice, "alice", "s3:getobject", own) == ("allowed", "allowed", "Own")
        assert self.explain(alice, "alice", "s3:GetObject", "home/bob/x") == (
            "denied", "no statement allows", None,
        )  # fmt: skip
        delete = ("alice", "s3:DeleteObject", own)
        assert self.explain(alice, *delete, "--condition", "aws:SourceIp=192.0.2.1") == (
            "denied", "explicit deny", "Office",
        )  # fmt: skip
        assert self.explain(alice, *delete, "--condition", "aws:SourceIp=10.1.1.1")[0] == "allowed"
        table = alice("policy", "explain", *delete, "--condition", "AWS:sourceip=192.0.2.1").out
        assert ["decision", "denied"] in [line.split() for line in table.splitlines()]
        assert ["sid", "Office"] in [line.split() for line in table.splitlines()]

    def test_other_policies(self, alice: Program, tmp_path: Path) -> None:
        alice("policy", "attach", "readwrite", "alice")
        session = tmp_path / "session.json"
        session.write_text(
            '{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}'
        )
        bucket = tmp_path / "bucket.json"
        bucket.write_text(
            '{"Statement":{"Sid":"Shut","Effect":"Deny","Principal":"*","Action":"s3:*",'
            '"Resource":"arn:aws:s3:::b/*"}}'
        )
        put = ("alice", "s3:PutObject", "b/k")
        assert self.explain(alice, *put)[0] == "allowed"
        assert self.explain(alice, *put, "--session-policy", str(session))[1] == (
            "session policy does not allow"
        )
        assert self.explain(alice, *put, "--bucket-policy", str(bucket))[2] == "Shut"
        admin = self.explain(alice, "admin", *put[1:], "--bucket-policy", str(bucket))
        assert admin[0] == "allowed"

    def test_administrators_and_the_disabled(self, alice: Program) -> None:
        shown = alice("policy", "explain", "admin", "s3:DeleteBucket", "b", "--json").json
        assert (shown["decision"], shown["policy"]) == ("allowed", "role admin")
        alice("policy", "attach", "readwrite", "alice")
        alice("user", "update", "alice", "--disable")
        assert self.explain(alice, "alice", "s3:GetObject", "b/k") == (
            "denied", "the user is disabled", None,
        )  # fmt: skip

    def test_conditions_must_be_pairs(self, alice: Program) -> None:
        shown = alice("policy", "explain", "alice", "s3:GetObject", "b", "--condition", "x")
        assert shown.status == 2

    def test_a_condition_given_twice_has_two_values(self, alice: Program, tmp_path: Path) -> None:
        file = tmp_path / "tags.json"
        file.write_text(
            '{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":'
            '{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}}}'
        )
        alice("policy", "add", "tags", str(file))
        alice("policy", "attach", "tags", "alice")
        asked = ("alice", "s3:GetObject", "b/k", "--condition", "aws:TagKeys=a", "--condition")
        assert self.explain(alice, *asked, "aws:TagKeys=b")[0] == "allowed"
        assert self.explain(alice, *asked, "aws:TagKeys=c")[0] == "denied"
