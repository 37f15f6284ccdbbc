"""Long commands show how far they are: on a terminal, and nowhere else."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

from tests.store_process import PROGRAM, StoreProcess


def run(*words: str, terminal: bool) -> tuple[str, str]:
    """Standard output, and what standard error got, as a terminal or as a pipe."""
    master, slave = pty.openpty()
    done = subprocess.Popen(
        [PROGRAM, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave if terminal else subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        text=True,
    )
    os.close(slave)
    shown = b""
    if terminal:
        try:
            while data := os.read(master, 4096):
                shown += data
        except OSError:  # EIO: nobody has the other end any more
            pass
    out, err = done.communicate(timeout=60)
    os.close(master)
    assert done.returncode == 0, (out, err, shown)
    return out, shown.decode() if terminal else err


def test_an_import(tmp_path: Path) -> None:
    users, passwd = tmp_path / "users.json", tmp_path / "passwd"
    names = [f"person{number}" for number in range(30)]
    users.write_text(json.dumps([{"user_id": name, "keys": []} for name in names]))
    passwd.write_text("".join(f"{name}:x:{2000 + n}:100::/:\n" for n, name in enumerate(names)))
    words = ("identities", "import", "--from", "radosgw-admin", str(users), "--passwd", str(passwd))
    piped, told = run(*words, terminal=False)
    assert told == "30 imported\n"
    shown, bar = run(*words, terminal=True)
    assert "looking names up" in bar
    assert "30/30" in bar
    assert shown == piped


def test_giving_objects_away(tmp_path: Path) -> None:
    with StoreProcess(tmp_path) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        client = store.s3(alice)
        client.create_bucket(Bucket="shared")
        for number in range(3):
            client.put_object(Bucket="shared", Key=f"k{number}")
        client.close()
        words = ("user", "update", "alice", "--reown", "--root", str(store.root))
        state = ("--state", str(store.state))
        _, told = run(*words, "--posix-uid", "1002", *state, terminal=False)
        assert "giving objects" not in told
        _, bar = run(*words, "--posix-uid", "1003", *state, terminal=True)
        assert "giving objects" in bar or "again" in bar
        assert "3/3" in bar
