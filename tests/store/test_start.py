"""Starting ``s3posixfs serve``: what it says, and what it says of a bad start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from s3posixfs.store.operations import OPERATIONS
from tests.store_process import PROGRAM, StoreProcess


def serve(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def refused(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """The one line that a start is refused with."""
    given = ["--root", str(folder / "objects"), "--state", str(folder / "state")]
    done = serve(*given, *arguments, environment=environment)
    assert done.returncode == 1, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(tmp_path, "--listen", f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in line
    assert "--listen" in line


@pytest.mark.parametrize("text", ["nowhere", "127.0.0.1", "::1:9000", "127.0.0.1:99999", "h:x"])
def test_listen_that_is_no_address(tmp_path: Path, text: str) -> None:
    assert "HOST:PORT" in refused(tmp_path, "--listen", text)


def test_certificates(tmp_path: Path) -> None:
    port = ("--listen", "127.0.0.1:0")
    absent = str(tmp_path / "absent.pem")
    assert "--tls-key" in refused(tmp_path, *port, "--tls-cert", absent)
    line = refused(tmp_path, *port, "--tls-cert", absent, "--tls-key", absent)
    assert "absent.pem" in line
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    line = refused(tmp_path, *port, "--tls-cert", str(wrong), "--tls-key", str(wrong))
    assert "PEM" in line


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("")
    assert "--root" in refused(tmp_path, "--listen", "127.0.0.1:0")


def test_state_among_the_buckets(tmp_path: Path) -> None:
    inside = str(tmp_path / "objects" / "state")
    line = refused(tmp_path, "--listen", "127.0.0.1:0", "--state", inside)
    assert "bucket" in line


def test_damaged_state(tmp_path: Path) -> None:
    with StoreProcess(tmp_path):
        pass
    (tmp_path / "state/master.key").write_bytes(b"short")
    assert "state" in refused(tmp_path, "--listen", "127.0.0.1:0")
    assert "state" in refused(tmp_path, "--listen", "127.0.0.1:0", "--workers", "2")


def test_ready_as_json(open_folder: Path) -> None:
    process = subprocess.Popen(
        [
            PROGRAM,
            "serve",
            "--root",
            str(open_folder / "objects"),
            "--state",
            str(open_folder / "state"),
            "--listen",
            "localhost:0",
            "--json",
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["ready"]
    assert url.startswith("http://localhost:")
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


def test_every_operation_is_authorised() -> None:
    unasked = {operation.name for operation in OPERATIONS if operation.action is None}
    # They ask themselves: for each key that is to go or to get another name, and with the tags
    # that are to come.
    assert unasked == {"DeleteObjects", "PutObjectTagging", "RenameFolder"}
    for operation in OPERATIONS:
        assert (operation.handler is None) != (operation.streaming is None)
