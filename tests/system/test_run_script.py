"""``scripts/run``: what a newcomer sees, and that stopping stops no more than it started."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.conftest import make_open_folder
from tests.mount.mount_process import is_mounted, setpriv
from tests.store_process import StoreProcess

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(300)]
CHECKOUT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call scripts/run from ``folder``."""
    return subprocess.run(
        [str(CHECKOUT / "scripts" / "run"), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def runs(pid: int) -> bool:
    """Whether that process runs; one that only waits for its parent to notice does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


@dataclass(frozen=True, slots=True)
class Running:
    """A demo that runs in ``folder/demo``, and what starting it printed."""

    folder: Path
    port: int
    output: str

    @property
    def shared(self) -> Path:
        return self.folder / "demo" / "mnt" / "shared"

    def record(self) -> dict[str, dict[str, int]]:
        text = (self.folder / "demo" / "run.json").read_text()
        record: dict[str, dict[str, int]] = json.loads(text)
        return record

    def owners(self) -> dict[str, str]:
        """The S3 owner of each object, as alice is told."""
        aws = self.folder / "demo" / "aws" / "credentials"
        secret = re.search(r"\[alice\].*?aws_secret_access_key = (\S+)", aws.read_text(), re.DOTALL)
        assert secret is not None
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="alice",
            aws_secret_access_key=secret[1],
        )
        page = client.list_objects_v2(Bucket="shared", FetchOwner=True)
        client.close()
        return {row["Key"]: row["Owner"]["ID"] for row in page["Contents"]}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = make_open_folder()
    port = free_port()
    done = call(folder, "--port", str(port))
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield Running(folder, port, done.stdout)
    finally:
        stopped = call(folder, "--stop")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        assert not is_mounted(folder / "demo" / "mnt")
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def sh(running: Running, uid: int, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*setpriv(uid), "/bin/sh", "-c", script],
        cwd=running.shared,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_it_shows(running: Running) -> None:
    output = running.output
    assert re.search(r"^\[ *\d+ s\] ", output, re.MULTILINE), "no progress with elapsed seconds"
    assert re.search(r"^-rw-r--r--\s+1\s+1001\s+1001 .* README\.md$", output, re.MULTILINE)
    assert re.search(r"^-rw-r--r--\s+1\s+1002\s+1002 .* pyproject\.toml$", output, re.MULTILINE)
    assert re.search(r"^alice +\d+ +README\.md$", output, re.MULTILINE)
    assert re.search(r"^bob +\d+ +pyproject\.toml$", output, re.MULTILINE)
    assert re.search(r"^alice +\d+ +from-alice$", output, re.MULTILINE)
    assert "as carol: AccessDenied" in output
    assert "Permission denied" in output
    assert "--stop" in output
    assert "aws_secret_access_key" not in output


def test_ids_are_the_writers(running: Running) -> None:
    def ids(name: str) -> tuple[int, int]:
        status = (running.shared / name).stat()
        return status.st_uid, status.st_gid

    assert ids("README.md") == (1001, 1001)
    assert ids("core/types.py") == (1001, 1001)
    assert ids("pyproject.toml") == (1002, 1002)
    assert ids("from-alice") == (1001, 1001)
    original = (CHECKOUT / "pyproject.toml").read_bytes()
    assert (running.shared / "pyproject.toml").read_bytes() == original


def test_uids_write_as_themselves_and_no_further(running: Running) -> None:
    assert sh(running, 1001, "echo hi > hello").returncode == 0
    assert running.owners()["hello"] == "alice"
    refused = sh(running, 1002, "echo mine > hello")
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr
    assert "Permission denied" in sh(running, 1003, "cat hello").stderr
    assert "Permission denied" in sh(running, 1003, "ls").stderr
    assert sh(running, 1002, "echo hi > of-bob").returncode == 0
    assert running.owners()["of-bob"] == "bob"


def test_a_second_call_says_that_it_runs(running: Running) -> None:
    before = running.record()
    again = call(running.folder, "--port", str(running.port))
    assert again.returncode == 0
    assert "running already" in again.stdout
    assert running.record() == before


def test_stop_ends_what_it_started_and_nothing_else(running: Running, open_folder: Path) -> None:
    assert sh(running, 1001, "echo kept > stays").returncode == 0
    with StoreProcess(open_folder / "bystander") as bystander:
        record = running.record()
        stopped = call(running.folder, "--stop")
        assert stopped.returncode == 0, stopped.stderr
        assert not is_mounted(running.folder / "demo" / "mnt")
        for name in ("store", "mount"):
            assert not runs(record[name]["pid"])
        assert runs(bystander.pid)
        assert "Nothing is running" in call(running.folder, "--stop").stdout
    again = call(running.folder, "--port", str(running.port))
    assert again.returncode == 0, again.stdout + again.stderr
    assert running.owners()["stays"] == "alice"
    assert (running.shared / "stays").read_text() == "kept\n", os.listdir(running.shared)


def test_a_recorded_number_that_is_another_process_now_is_left_alone(open_folder: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        (open_folder / "demo").mkdir()
        stale = {"pid": sleeper.pid, "start_time": "1", "boot": "another"}
        record = {"port": 9000, "store": stale, "mount": stale}
        (open_folder / "demo" / "run.json").write_text(json.dumps(record))
        assert call(open_folder, "--stop").returncode == 0
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait(10)


def test_mistakes_get_one_line(open_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = call(open_folder, "--port", port)
    assert done.returncode == 1
    assert done.stderr == f"scripts/run: port {port} is in use: choose another with --port\n"
    (open_folder / "thesis").mkdir()
    (open_folder / "thesis" / "chapter-1").write_text("mine")
    done = call(open_folder, "--dir", "thesis")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "thesis" in done.stderr
