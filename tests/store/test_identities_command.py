"""``s3posixfs identities`` as a person and as a program use it, on files and on a real store."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from time import time
from typing import Any

import pytest

from tests.store_process import PROGRAM, StoreProcess, User

BUCKET = "shared"


def program(*arguments: str | Path, text: str = "", status: int = 0) -> tuple[str, str]:
    """Output and messages of a command that must end with ``status``."""
    done = subprocess.run(
        [PROGRAM, "identities", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "400"},
    )
    assert done.returncode == status, f"{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    if status == 1 and not done.stdout:
        assert done.stderr.startswith("s3posixfs: ")
        assert done.stderr.count("\n") == 1
    return done.stdout, done.stderr


def verdicts(*arguments: str | Path, status: int = 0) -> dict[str, dict[str, str]]:
    """The findings of ``check --json`` by what they are about."""
    out, _ = program("check", "--json", *arguments, status=status)
    rows: list[dict[str, str]] = json.loads(out)
    assert all(row["remedy"] for row in rows if row["verdict"] in ("failed", "warning")), rows
    return {row["subject"]: row for row in rows}


# Files.

RECORD = {
    "user_id": "alice",
    "keys": [{"user": "alice", "access_key": "AKALICE", "secret_key": "do-not-copy-this"}],
}
PASSWD = "root:x:0:0::/root:/bin/sh\nalice:x:1001:100::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n"


@pytest.fixture
def passwd(tmp_path: Path) -> Path:
    path = tmp_path / "passwd"
    path.write_text(PASSWD)
    return path


def test_import_writes_a_file_that_check_and_list_take(tmp_path: Path, passwd: Path) -> None:
    target = tmp_path / "identities.toml"
    arguments = ("import", "--from", "radosgw-admin", "-", "--passwd", passwd, "--profiles")
    text = json.dumps(RECORD) + json.dumps({**RECORD, "user_id": "zoe", "keys": []})
    shown, _ = program(*arguments, text=text)
    out, told = program(*arguments, "--output", target, text=text)
    assert not out
    assert target.read_text() == shown
    assert "left out: zoe: no user of this host has that name" in told
    assert "do-not-copy-this" not in shown + told
    assert target.stat().st_mode & 0o777 == 0o644
    rows = json.loads(program("list", "--json", target)[0])
    assert [(r["name"], r["uid"], r["gid"], r["signs_by"]) for r in rows] == [
        ("alice", 1001, 100, "profile alice")
    ]
    table, _ = program("list", target)
    assert "AKALICE" in table
    assert verdicts(target)["file"]["verdict"] == "ok"


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, passwd: Path) -> None:
    target = tmp_path / "identities.toml"
    before = '# mine\n[[identity]]\nname = "chief"\nowner_ids = ["alice"]\nuid = 7\ngid = 7\n'
    target.write_text(before)
    target.chmod(0o600)
    arguments = ("import", "--from", "radosgw-admin", "-", "--passwd", passwd, "--output", target)
    text = json.dumps([RECORD, {"user_id": "bob"}])
    _, told = program(*arguments, text=text, status=1)
    assert "--update" in told
    assert "--force" in told
    assert target.read_text() == before
    program(*arguments, "--update", "--force", text=text, status=2)
    _, told = program(*arguments, "--update", text=text)
    assert target.read_text().startswith(before)
    assert told == "1 imported, 1 kept as they were\n"
    assert target.stat().st_mode & 0o777 == 0o600
    names = [row["name"] for row in json.loads(program("list", "--json", target)[0])]
    assert names == ["chief", "bob"]
    again = target.read_text()
    assert program(*arguments, "--update", text=text)[1] == "0 imported, 2 kept as they were\n"
    assert target.read_text().rstrip() == again.rstrip()
    program(*arguments, "--force", text=text)
    assert "chief" not in target.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path, passwd: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("")
    link.symlink_to(real)
    program(
        *("import", "--from", "radosgw-admin", "-", "--passwd", passwd),
        *("--output", link, "--force"),
        text=json.dumps(RECORD),
    )
    assert link.is_symlink()
    assert "AKALICE" in real.read_text()


def test_weka_brings_its_own_ids(tmp_path: Path) -> None:
    source = tmp_path / "users.json"
    user = {"username": "carl", "role": "S3", "posix_uid": 2001, "posix_gid": 2002, "uid": "x-y"}
    source.write_text(json.dumps([user, {"username": "admin", "role": "ClusterAdmin"}]))
    out, _ = program("import", "--from", "weka", source, "--json")
    report = json.loads(out)
    assert [(row["name"], row["uid"], row["gid"]) for row in report["imported"]] == [
        ("carl", 2001, 2002)
    ]
    assert report["left_out"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["alice"]', "radosgw-admin user info"),
        ("{", "line 1 is not JSON"),
        (json.dumps({"user_id": "nobody-here-has-this"}), "nobody could be imported"),
    ],
)
def test_what_cannot_be_imported(text: str, said: str, passwd: Path) -> None:
    arguments = ("import", "--from", "radosgw-admin", "-", "--passwd", passwd)
    assert said in program(*arguments, text=text, status=1)[1]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for words in (("import", "--from", "weka"), ("list",)):
        _, told = program(*words, tmp_path / "none", status=1)
        said = "No such file or directory; check the name, or make it"
        assert told == f"s3posixfs: {tmp_path}/none: {said}\n"
    assert verdicts(tmp_path / "none", status=1)["file"]["verdict"] == "failed"


def test_check_tells_all_that_is_wrong_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "identities.toml"
    path.write_text(
        '[[identity]]\nname = "a"\nuid = 1001\ngid = 1\n'
        '[[identity]]\nname = "b"\nuid = 1001\ngid = 1\n'
        '[[identity]]\nname = "c"\nuid = "no-such-user"\n'
        '[[identity]]\nname = "d"\nuid = 5\ngid = 1\nrole_arn = "x"\n'
    )
    rows = json.loads(program("check", "--json", path, status=1)[0])
    said = "\n".join(row["found"] for row in rows if row["verdict"] == "failed")
    assert "line 7: uid 1001 is given to 'a' (line 3) already" in said
    assert "line 11: this host has no user named 'no-such-user'" in said
    assert "line 16: 'x' is no role ARN" in said
    table, _ = program("check", path, status=1)
    assert "mend that line" in table


# The store.


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store") as store:
        yield store


@pytest.fixture(scope="module")
def people(store: StoreProcess) -> dict[str, User]:
    people = {
        "alice": store.add_user("alice", 1001, policy="readwrite"),
        "bob": store.add_user("bob", 1002, policy="readwrite"),
        "carol": store.add_user("carol", 1003),
    }
    client = store.s3(people["alice"])
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="of-alice", Body=b"x")
    client.close()
    client = store.s3(people["bob"])
    client.put_object(Bucket=BUCKET, Key="of-bob", Body=b"x")
    client.close()
    return people


@pytest.fixture
def credentials(store: StoreProcess, people: dict[str, User], tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    pairs = {
        **{name: (user.access_key, user.secret_key) for name, user in people.items()},
        "admin": (store.admin().access_key, store.admin().secret_key),
        "wrong": ("bob", "not the secret of bob at all"),
        "unknown": ("nobody", "not a secret of anybody"),
    }
    path.write_text(
        "".join(
            f"[{name}]\naws_access_key_id={key}\naws_secret_access_key={secret}\n"
            for name, (key, secret) in pairs.items()
        )
    )
    return path


def entry(name: str, uid: int, **more: str) -> str:
    lines = [f'{key} = "{value}"\n' for key, value in more.items()]
    return f'[[identity]]\nname = "{name}"\nuid = {uid}\ngid = {uid}\n{"".join(lines)}'


def test_check_acts_as_each_identity(
    store: StoreProcess, people: dict[str, User], credentials: Path, tmp_path: Path
) -> None:
    path = tmp_path / "identities.toml"
    path.write_text(
        entry("alice", 1001, profile="alice")
        + 'owner_ids = ["alice"]\n'
        + entry("carol", 1003, profile="carol")
        + entry("bob", 1002, profile="alice")
        + 'owner_ids = ["bob"]\n'
        + entry("role", 1004, role_arn="arn:aws:iam:::user/bob")
        + entry("norole", 1005, role_arn="arn:aws:iam:::user/nobody")
        + entry("noprofile", 1006, profile="not-there")
        + entry("wrong", 1007, profile="wrong")
        + entry("unknown", 1008, profile="unknown")
        + entry("plain", 1009)
    )
    asked = ("--endpoint-url", store.endpoint, "--profile", "admin")
    rows = verdicts(path, *asked, "--credentials-file", credentials, status=1)
    found = {name.removeprefix("identity "): row["verdict"] for name, row in rows.items()}
    assert found == {
        "file": "ok",
        "the mount itself": "ok",
        "clock": "ok",
        "alice": "ok",
        "carol": "note",  # has no policy, which the store says only after it knows her
        "bob": "failed",  # would write as alice
        "role": "failed",
        "norole": "failed",
        "noprofile": "failed",
        "wrong": "failed",
        "unknown": "failed",
        "plain": "note",
    }
    assert "acts as S3 owner 'alice', which is none" in rows["identity bob"]["found"]
    assert "'bob'" in rows["identity role"]["found"]
    assert "cannot be assumed" in rows["identity norole"]["found"]
    assert "not-there" in rows["identity noprofile"]["found"]
    assert "secret key is wrong" in rows["identity wrong"]["found"]
    assert "does not know the access key" in rows["identity unknown"]["found"]
    said = json.dumps(rows)
    for user in people.values():
        assert user.secret_key not in said


def test_check_finds_owners_in_no_identity(
    store: StoreProcess, people: dict[str, User], credentials: Path, tmp_path: Path
) -> None:
    path = tmp_path / "identities.toml"
    alice = entry("alice", 1001, profile="alice") + 'owner_ids = ["alice"]\n'
    path.write_text(alice)
    asked = (
        *("--endpoint-url", store.endpoint, "--profile", "admin"),
        *("--credentials-file", str(credentials), "--bucket", BUCKET),
    )
    row = verdicts(path, *asked, status=1)[f"bucket {BUCKET}"]
    assert row["verdict"] == "warning"
    assert "1 of 2 objects are of owner 'bob', such as 'of-bob'" in row["found"]
    path.write_text(alice + entry("bob", 1002) + 'owner_ids = ["bob"]\n')
    assert verdicts(path, *asked)[f"bucket {BUCKET}"]["verdict"] == "ok"
    # The map that the store gives knows all of them.
    assert verdicts(*asked, "-o", "identities=auto")[f"bucket {BUCKET}"]["verdict"] == "ok"
    # What somebody knows of the store is heeded here as in a mount.
    known = ("-o", "capabilities=listing_owner:no")
    row = verdicts(path, *asked, *known)[f"bucket {BUCKET}"]
    assert row["verdict"] == "note"
    assert "name no owners" in row["found"]
    row = verdicts(path, *asked[:-1], "no-such-bucket", status=1)["bucket no-such-bucket"]
    assert row["verdict"] == "failed"


def test_check_of_a_store_that_cannot_be_asked(credentials: Path, tmp_path: Path) -> None:
    path = tmp_path / "identities.toml"
    path.write_text(entry("alice", 1001, profile="alice"))
    asked = ("--endpoint-url", "http://127.0.0.1:9", "--credentials-file", credentials)
    rows = verdicts(path, *asked, "--profile", "admin", status=1)
    assert "cannot reach http://127.0.0.1:9" in rows["the mount itself"]["found"]
    rows = verdicts(path, *asked, "--profile", "not-there", status=1)
    assert "not-there" in rows["the mount itself"]["found"]


class _Ahead(BaseHTTPRequestHandler):
    """A store whose clock is 20 minutes ahead, as it shows in the Date of its answers."""

    def do_GET(self) -> None:
        body = b"<ListAllMyBucketsResult><Owner><ID>admin</ID></Owner></ListAllMyBucketsResult>"
        self.send_response_only(200)
        self.send_header("Date", formatdate(time() + 1200, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


def test_check_compares_the_clocks(credentials: Path, tmp_path: Path) -> None:
    path = tmp_path / "identities.toml"
    path.write_text(entry("plain", os.getuid() or 1001))
    with HTTPServer(("127.0.0.1", 0), _Ahead) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        rows = verdicts(
            path,
            *("--endpoint-url", f"http://127.0.0.1:{server.server_port}"),
            *("--credentials-file", credentials, "--profile", "admin"),
            status=1,
        )
        server.shutdown()
    assert rows["clock"]["verdict"] == "failed"
    assert rows["clock"]["found"].startswith(("+1199", "+1200", "+1201"))


def test_the_hosts_own_users_are_the_default() -> None:
    known = next((e for e in pwd.getpwall() if e.pw_uid >= 1 and e.pw_name.isalnum()), None)
    assert known is not None
    out, _ = program(
        *("import", "--from", "radosgw-admin", "-", "--uid-min", "1", "--json"),
        text=json.dumps({"user_id": known.pw_name}),
    )
    assert json.loads(out)["imported"][0]["uid"] == known.pw_uid
