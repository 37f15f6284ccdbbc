"""A mount whose daemon, store or disk fails: an errno for who asked, nothing acknowledged lost."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.bed import BUCKET, add_people
from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess, User

pytestmark = pytest.mark.mount
MIB = 1024 * 1024


class Bench:
    """A store and what is needed to mount it; both may be killed."""

    def __init__(self, folder: Path, store: StoreProcess, people: dict[str, User]) -> None:
        self.folder = folder
        self.store = store
        self.people = people

    def mount(self, name: str = "a", **options: str) -> MountProcess:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        return MountProcess(self.store, folder, options={"metadata_ttl": "0.2", **options})

    def body(self, key: str) -> bytes:
        client = self.store.s3(self.people["alice"])
        try:
            return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        finally:
            client.close()


@pytest.fixture
def bench(open_folder: Path) -> Iterator[Bench]:
    with StoreProcess(open_folder / "store") as store:
        yield Bench(open_folder, store, add_people(store))


# Says before each file what it will hold, and again once close() and rename() have returned.
WRITER = """
import os, sys, random
folder, seed = sys.argv[1], int(sys.argv[2])
generator = random.Random(seed)
for number in range(1, 100_000):
    size = generator.choice((0, 10, 5000, 300_000, 2_000_000))
    name = f"{seed}-{number % 20}"
    print("begun", name, number % 256, size, flush=True)
    try:
        with open(f"{folder}/{name}.new", "wb") as stream:
            stream.write(bytes([number % 256]) * size)
        os.rename(f"{folder}/{name}.new", f"{folder}/{name}")
    except OSError:
        sys.exit(0)
    print("done", name, number % 256, size, flush=True)
"""


def test_the_daemon_is_killed_while_programs_write(bench: Bench) -> None:
    """Everything whose close and rename returned is there after a remount at the same place."""
    with bench.mount() as mount:
        top = mount.mountpoint / BUCKET
        for round_number in range(3):
            writers = [
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, str(top), str(10 * round_number + n)],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for n in range(3)
            ]
            time.sleep(1.5)
            mount.kill()
            said = [writer.communicate(timeout=60)[0] for writer in writers]
            mount.start()
            assert sum(text.count("done") for text in said) > 3
            for text in said:
                allowed: dict[str, list[tuple[int, int]]] = {}
                for word, name, value, size in (line.split() for line in text.splitlines()):
                    state = int(value), int(size)
                    if word == "done":
                        allowed[name] = [state]
                    elif name in allowed:
                        allowed[name].append(state)  # it may have taken effect
                for name, states in allowed.items():
                    found = (top / name).read_bytes()
                    assert any(found == bytes([v]) * n for v, n in states), (name, len(found))


def test_the_store_is_killed_while_files_are_copied_in(bench: Bench) -> None:
    """The program hears of it or it is repaired; what was closed is whole; the mount goes on."""
    with bench.mount() as mount:
        top = mount.mountpoint / BUCKET
        closed: dict[str, str] = {}
        errors: list[OSError] = []
        stop = threading.Event()

        def copy(worker: int) -> None:
            generator = random.Random(worker)
            number = 0
            while not stop.is_set():
                number += 1
                name = f"{worker}-{number}"
                data = generator.randbytes(generator.choice((100, 70_000, 20 * MIB)))
                try:
                    (top / name).write_bytes(data)
                except OSError as error:
                    errors.append(error)
                else:
                    closed[name] = hashlib.sha256(data).hexdigest()

        workers = [threading.Thread(target=copy, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        for _ in range(2):
            time.sleep(1.5)
            bench.store.kill()
            time.sleep(0.5)
            bench.store.start()
        time.sleep(1)
        stop.set()
        for worker in workers:
            worker.join(100)
            assert not worker.is_alive()
        assert {error.errno for error in errors} <= {errno.EIO, errno.EAGAIN, errno.ETIMEDOUT}
        assert len(closed) > 3
        for name, digest in closed.items():
            assert hashlib.sha256(bench.body(name)).hexdigest() == digest, name
        (top / "after").write_bytes(b"after")
        assert bench.body("after") == b"after"


def test_a_store_that_is_away_for_twenty_seconds(bench: Bench) -> None:
    with bench.mount() as mount:
        top = mount.mountpoint / BUCKET
        (top / "before").write_bytes(b"before")
        held = os.open(top / "held", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(held, b"written while there was a store")
        bench.store.kill()
        began = time.monotonic()
        outcome: list[int | None] = []

        def tries() -> None:
            for call in (lambda: (top / "new").write_bytes(b"x"), lambda: os.listdir(top)):
                try:
                    call()
                except OSError as error:
                    outcome.append(error.errno)
                else:
                    outcome.append(None)

        worker = threading.Thread(target=tries)
        worker.start()
        time.sleep(max(0.0, began + 20 - time.monotonic()))
        bench.store.start()
        worker.join(60)
        assert not worker.is_alive(), "a call hangs"
        assert set(outcome) <= {None, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN}, outcome
        os.fsync(held)
        os.close(held)
        assert bench.body("held") == b"written while there was a store"
        assert (top / "before").read_bytes() == b"before"
        (top / "new").write_bytes(b"again")
        assert bench.body("new") == b"again"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_cache_dir_is_the_writers_error(bench: Bench) -> None:
    with (
        small_disk(bench.folder / "disk", "64m") as disk,
        bench.mount(cache_dir=str(disk), memory_limit="64M") as mount,
    ):
        top = mount.mountpoint / BUCKET
        (top / "earlier").write_bytes(b"earlier")
        held = os.open(top / "held", os.O_CREAT | os.O_RDWR, 0o644)
        os.write(held, b"h" * (3 * MIB))
        written = 0
        with pytest.raises(OSError, match="No space") as caught:  # noqa: PT012
            large = os.open(top / "large", os.O_CREAT | os.O_WRONLY, 0o644)
            for _ in range(400):
                written += os.write(large, b"l" * MIB)
        assert caught.value.errno == errno.ENOSPC
        assert written >= 40 * MIB
        assert (top / "earlier").read_bytes() == b"earlier"
        (top / "small").write_bytes(b"small files go on")
        assert bench.body("small") == b"small files go on"
        os.ftruncate(large, MIB)
        os.close(large)
        assert bench.body("large") == b"l" * MIB
        os.close(held)
        assert bench.body("held") == b"h" * (3 * MIB)
        (top / "later").write_bytes(b"x" * (30 * MIB))
        assert bench.body("later") == b"x" * (30 * MIB)
        (top / "earlier").unlink()


def test_a_daemon_that_stands_still(bench: Bench) -> None:
    with bench.mount() as mount:
        path = mount.mountpoint / BUCKET / "file"
        path.write_bytes(b"one")
        os.kill(mount.pid, signal.SIGSTOP)
        worker = threading.Thread(target=path.write_bytes, args=(b"two",))
        try:
            worker.start()
            time.sleep(2)
            assert worker.is_alive()
        finally:
            os.kill(mount.pid, signal.SIGCONT)
        worker.join(20)
        assert not worker.is_alive()
        assert bench.body("file") == b"two"


def test_umount_while_busy(bench: Bench) -> None:
    mount = bench.mount()
    with mount:
        path = mount.mountpoint / BUCKET / "file"
        with path.open("wb") as stream:
            stream.write(b"x" * MIB)
            stream.flush()
            done = subprocess.run(["umount", str(mount.mountpoint)], capture_output=True, text=True)
            assert done.returncode != 0
            assert "busy" in done.stderr
            stream.write(b"y")
        assert bench.body("file") == b"x" * MIB + b"y"
        # SIGTERM does not wait for programs; what they wrote is uploaded.
        stream = path.with_name("held").open("wb")
        stream.write(b"held")
        stream.flush()
        mount.terminate()
        with pytest.raises(OSError, match=r"."):  # noqa: PT012
            stream.write(b"z" * MIB)
            stream.close()
        with contextlib.suppress(OSError):
            stream.close()
        assert bench.body("held") == b"held"


def test_two_daemons_share_no_cache_dir(bench: Bench) -> None:
    with bench.mount():
        second = bench.mount("b", cache_dir=str(bench.folder / "a" / "cache"))
        second.mountpoint.mkdir()
        done = subprocess.run(second.command("-f"), capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "cache_dir" in done.stderr
        said = done.stderr.splitlines()[-1]
        assert said.startswith("s3posixfs: cache_dir "), done.stderr
