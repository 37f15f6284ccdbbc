"""The audit log: every answer is in it once, whatever is done to the file meanwhile."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.rotating import RotatingFile, Rotation
from s3posixfs.store.audit import AuditLog, Unread
from tests.store.fuzzing import Probe, Wire
from tests.store.raw import RawClient
from tests.store_process import StoreProcess

WRITERS, LINES = 4, 3000


def entries(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def logs(state: Path) -> list[Path]:
    return [path for path in state.glob("audit.log*") if not path.name.endswith(".lock")]


# --- what is in it ------------------------------------------------------------------------


def test_every_answer_is_in_it(module_folder: Path) -> None:
    with StoreProcess(module_folder / "every", arguments=("--workers", "2")) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        host = f"host: 127.0.0.1:{store.port}\r\n".encode()
        requests = {
            "not HTTP": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
            "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
            "a head too long": (b"GET / HTTP/1.1\r\na: " + b"x" * 100_000 + b"\r\n\r\n", 400),
            "no URI": (b"GET /photos/%ff HTTP/1.1\r\n" + host + b"\r\n", 400),
            "no bucket's name": (b"GET /X/ HTTP/1.1\r\n" + host + b"\r\n", 400),
            "anonymous": (b"GET /photos/a HTTP/1.1\r\n" + host + b"\r\n", 403),
            "no signature": (
                b"GET /photos/a HTTP/1.1\r\n" + host + b"authorization: AWS4 x\r\n\r\n",
                400,
            ),
            "no form": (b"POST / HTTP/1.1\r\n" + host + b"content-length: 0\r\n\r\n", 400),
            "a preflight": (b"OPTIONS /photos HTTP/1.1\r\n" + host + b"\r\n", 400),
            "no method": (b"BREW /photos HTTP/1.1\r\n" + host + b"\r\n", 405),
        }
        answered: dict[str, tuple[str, int]] = {}
        for name, (data, status) in requests.items():
            wire = Wire(store.port)
            (answer, *_) = wire.exchange(Probe(data, alone=True))
            wire.close()
            assert answer.status in (status, 403), name
            answered[name] = answer.headers["x-amz-request-id"], answer.status
        with RawClient(store.port, alice) as raw:
            raw.put("/photos", b"")
            for name, answer in {
                "put": raw.put("/photos/a", b"data"),
                "get": raw.get("/photos/a"),
                "absent": raw.get("/photos/b"),
                "HEAD": raw.get("/photos/a", query="acl"),
            }.items():
                answered[name] = answer.headers["x-amz-request-id"], answer.status
        assert store.stop() == 0
        noted = {entry["request_id"]: entry for entry in entries(store.state / "audit.log")}
        for name, (identity, status) in answered.items():
            assert noted[identity]["status"] == status, name
            assert noted[identity]["peer"] == "127.0.0.1", name
        assert len(answered) == len({identity for identity, _ in answered.values()})
        put = noted[answered["put"][0]]
        assert (put["user"], put["action"], put["key"]) == ("alice", "s3:PutObject", "a")
        assert noted[answered["not HTTP"][0]]["decision"] == "deny"
        assert noted[answered["no URI"][0]]["user"] is None


# --- what becomes of the file -------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from s3posixfs.core.rotating import RotatingFile, Rotation

path, name, lines, size, keep = sys.argv[1:]
file = RotatingFile(Path(path), Rotation(int(size), int(keep)))
for number in range(int(lines)):
    file.write(f"{name} {number} {'x' * 50}\\n".encode())
"""


def write_at_once(path: Path, size: int, keep: int) -> Iterator[subprocess.Popen[bytes]]:
    for name in range(WRITERS):
        arguments = [str(path), str(name), str(LINES), str(size), str(keep)]
        yield subprocess.Popen([sys.executable, "-c", WRITER, *arguments])


def counted(paths: list[Path]) -> Counter[str]:
    return Counter(line for path in paths for line in path.read_text().splitlines())


def every_line() -> Counter[str]:
    return Counter(f"{w} {n} {'x' * 50}" for w in range(WRITERS) for n in range(LINES))


def test_many_processes_set_one_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writers = list(write_at_once(path, 20_000, 1000))
    assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    found = logs(tmp_path)
    assert counted(found) == every_line()
    older = [file.stat().st_size for file in found if file != path]
    assert len(older) > 20
    # A line or two beyond the size, of each who had the file open.
    assert max(older) < 20_000 + 2 * WRITERS * 60
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in found)


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writers = list(write_at_once(path, 20_000, 3))
    assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    names = {file.name for file in logs(tmp_path)}
    assert names <= {"audit.log", "audit.log.1", "audit.log.2", "audit.log.3"}
    assert {"audit.log.1", "audit.log.2", "audit.log.3"} <= names
    assert set(counted(logs(tmp_path))) <= set(every_line())


def test_other_programs_may_set_it_aside(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    writers = list(write_at_once(path, 0, 1))
    moved: list[Path] = []
    while any(writer.poll() is None for writer in writers):
        target = tmp_path / f"audit.log.{len(moved)}.old"
        try:
            path.rename(target)
            moved.append(target)
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    assert len(moved) > 1
    assert counted(logs(tmp_path)) == every_line()


def test_a_file_that_is_emptied_is_written_from_its_start(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "audit.log", Rotation())
    file.write(b"before\n")
    os.truncate(tmp_path / "audit.log", 0)
    file.write(b"after\n")
    file.close()
    assert (tmp_path / "audit.log").read_bytes() == b"after\n"


def test_the_store_sets_it_aside(module_folder: Path) -> None:
    arguments = ("--workers", "2", "--audit-size", "1", "--audit-keep", "2")
    count = 9000
    with StoreProcess(module_folder / "aside", arguments=arguments) as store:
        data = f"GET /photos/some-object HTTP/1.1\r\nhost: 127.0.0.1:{store.port}\r\n\r\n".encode()
        wires = [Wire(store.port) for _ in range(4)]
        identities = set()
        for number in range(count):
            (answer,) = wires[number % len(wires)].exchange(Probe(data))
            identities.add(answer.headers["x-amz-request-id"])
        for wire in wires:
            wire.close()
        assert store.stop() == 0
        assert len(identities) == count
        found = logs(store.state)
        assert len(found) == 3
        noted = [entry["request_id"] for entry in entries(*found)]
        assert len(noted) == len(set(noted))
        assert set(noted) <= identities
        newest = entries(store.state / "audit.log")
        assert newest


@pytest.fixture
def small_disk() -> Iterator[Path]:
    disk = Path(tempfile.mkdtemp(prefix="s3posixfs-test-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()


async def test_a_full_disk_stops_nothing_and_is_told(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "audit.log"
    audit = AuditLog(path, SystemClock(), interval=0.001)
    audit.open()
    caplog.set_level(logging.WARNING)

    async def note(number: int) -> None:
        audit.record(Unread(f"{number:016X}", 0.0, "192.0.2.1"), 400, 0, 0.0, "BadRequest")
        await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(audit.run)
        for number in range(600):  # some 170 bytes each
            await note(number)
        (told,) = [record.getMessage() for record in caplog.records]
        assert "No space left on device; requests are served without it" in told
        whole = path.read_bytes()
        await trio.run_process(["mount", "-o", "remount,size=1m", str(small_disk)])
        await note(600)
        audit.close()
    assert len(caplog.records) == 2
    after = path.read_bytes()
    assert after.startswith(whole)
    lines = after.splitlines()
    parsed = []
    for line in lines:
        try:
            parsed.append(json.loads(line))
        except ValueError:
            assert line in whole.splitlines()[-1:], "only the line that found no room is cut"
    (lost,) = [entry for entry in parsed if "event" in entry]
    assert lost["event"] == "lost"
    known = [entry for entry in parsed if "event" not in entry]
    assert len(known) + lost["lines"] == 601
    assert parsed[-1]["request_id"] == f"{600:016X}"
    assert parsed[-2] == lost
