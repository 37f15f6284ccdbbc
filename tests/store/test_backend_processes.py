"""Several processes on one root, and processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from s3posixfs.store.backend.records import Condition
from tests.store.backend_kit import BUCKET, backend_at, facts_of, keys, md5, put, read

REPOSITORY = Path(__file__).parents[2]

RACER = """
import sys
import threading
from pathlib import Path
from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.records import Condition
from tests.store.backend_kit import BUCKET, backend_at, md5, put, read
root, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
backend = backend_at(root)
print("ready", flush=True)
sys.stdin.readline()
won = []
for number in range(rounds):
    try:
        put(backend, f"r/{number}", name.encode(), condition=Condition(if_none_match=True))
        won.append(number)
    except S3Error as error:
        assert error.code == "PreconditionFailed", error
for _ in range(rounds):  # a counter that only compare-and-swap keeps right
    while True:
        old = read(backend, "counter")
        new = str(int(old) + 1).encode()
        try:
            put(backend, "counter", new, condition=Condition(if_match=md5(old)))
            break
        except S3Error as error:
            assert error.code == "PreconditionFailed", error
backend.close()
print(*won)
"""

# Puts until it is killed; says what it is about to write, then what was acknowledged.
PUTTER = """
import sys
import threading
from pathlib import Path
from tests.store.backend_kit import BUCKET, backend_at, facts_of, put
backend = backend_at(Path(sys.argv[1]), xattrs=sys.argv[2] == "xattr")
number = 0
while True:
    key = f"d{number % 3}/{number % 7}/k{number % 23}"
    body = f"{number}:".encode() * (1 + number * 7919 % 40000)
    print("begin", key, number, flush=True)
    put(backend, key, body, facts_of(body, metadata={"n": str(number) * (1 + number % 2 * 2000)}))
    print("done", key, number, flush=True)
    if number % 5 == 4:
        key = f"d{number % 3}/{number % 7}/k{number % 23}"
        print("begin-delete", key, number, flush=True)
        backend.delete(BUCKET, key)
        print("done-delete", key, number, flush=True)
    number += 1
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def body_of(number: int) -> bytes:
    return f"{number}:".encode() * (1 + number * 7919 % 40000)


def test_conditions_hold_between_processes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    backend = backend_at(root)
    put(backend, "counter", b"0")
    rounds = 25
    racers = [start(RACER, str(root), f"p{n}", str(rounds)) for n in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    answers = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        answers.append(racer.communicate(timeout=60)[0])
        assert racer.returncode == 0
    won = [[int(word) for word in answer.split()] for answer in answers]
    assert sorted(n for numbers in won for n in numbers) == list(range(rounds))
    for index, numbers in enumerate(won):
        for number in numbers:
            assert read(backend, f"r/{number}") == f"p{index}".encode()
    assert read(backend, "counter") == str(rounds * len(racers)).encode()
    backend.close()


@pytest.mark.parametrize("where", ["xattr", "sidecar"])
@pytest.mark.parametrize("delay", [0.15, 0.4])
def test_kill_9_leaves_whole_objects_and_loses_none(
    tmp_path: Path, where: str, delay: float
) -> None:
    root = tmp_path / "root"
    putter = start(PUTTER, str(root), where)
    assert putter.stdout is not None
    first = putter.stdout.readline()
    time.sleep(delay)
    putter.send_signal(signal.SIGKILL)
    # Not by communicate(): what came with the first line is in the stream's own buffer.
    with putter:
        lines = [first, *putter.stdout.read().splitlines()]
    acknowledged: dict[str, int | None] = {}
    unsure: set[str] = set()
    possible: dict[str, set[int | None]] = {}
    for line in lines:
        if line.count(" ") != 2:
            continue  # cut short by the kill
        what, key, number = line.split()
        if what == "begin":
            possible.setdefault(key, {None}).add(int(number))
            unsure.add(key)
        elif what == "begin-delete":
            possible[key].add(None)
            unsure.add(key)
        else:
            acknowledged[key] = int(number) if what == "done" else None
            possible[key] = {acknowledged[key]}
            unsure.discard(key)
    assert len(unsure) <= 1
    assert len(acknowledged) > 3
    backend = backend_at(root, xattrs=where == "xattr")
    assert [p for p in (root / ".s3posixfs/tmp").rglob("*") if p.is_file()] == []
    found: dict[str, int | None] = {}
    for key in keys(backend):
        record = backend.head(BUCKET, key)
        body = read(backend, key)
        count = int(body.split(b":", 1)[0])
        assert body == body_of(count)
        assert (record.etag, record.size) == (md5(body), len(body))
        assert record.metadata["n"] == str(count) * (1 + count % 2 * 2000)
        found[key] = count
    for key, allowed in possible.items():
        assert found.get(key) in allowed
    assert set(found) <= set(possible)
    backend.close()


def test_a_living_process_keeps_its_temporary_files(tmp_path: Path) -> None:
    first = backend_at(tmp_path / "root")
    with first.begin_put(BUCKET, "k") as pending:
        pending.write(b"from first")
        second = backend_at(tmp_path / "root")
        put(second, "other")
        pending.commit(facts_of(b"from first"))
    assert read(second, "k") == b"from first"
    second.close()
    first.close()


def test_what_a_crash_between_two_steps_leaves_does_not_come_back(tmp_path: Path) -> None:
    """A stale file beside a plain one, or a marker below a body: as if killed in between."""
    root = tmp_path / "root"
    backend = backend_at(root)
    put(backend, "a", b"old")
    put(backend, "a/b", b"")
    beside = root / BUCKET / ".~s3~oa"
    assert beside.read_bytes() == b"old"
    backend.delete(BUCKET, "a/b")
    stale = beside.with_name("stale")
    os.link(beside, stale)
    put(backend, "a", b"new")
    stale.rename(beside)
    assert keys(backend) == ["a"]
    assert read(backend, "a") == b"new"
    put(backend, "a", b"newer", condition=Condition(if_match=md5(b"new")))
    assert not beside.exists()
    put(backend, "d/", b"")
    (root / BUCKET / "d/.~s3~o").write_bytes(b"body")
    assert keys(backend) == ["a", "d/"]
    assert read(backend, "d/") == b"body"
    backend.delete(BUCKET, "d/")
    assert keys(backend) == ["a"]
    backend.close()


def test_threads_that_make_and_remove_the_same_folders(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root")
    problems: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(25):
                key = f"x/y/{name}" if number % 2 else f"x/{name}/z"
                put(backend, key, name.encode())
                assert read(backend, key) == name.encode()
                backend.rename(BUCKET, key, f"x/y/z/{name}")
                assert backend.delete(BUCKET, f"x/y/z/{name}")
                put(backend, "x/y/", b"")
                put(backend, "x", b"between")
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert keys(backend) == ["x", "x/y/"]
    backend.delete(BUCKET, "x/y/")
    backend.delete(BUCKET, "x")
    backend.delete_bucket(BUCKET)
    backend.close()
