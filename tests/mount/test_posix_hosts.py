"""Two mounts of one bucket, and boto3 as a third writer: close-to-open, and never a mix."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed
from tests.mount.posix.kit import attempt

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
MIB = 1024 * 1024
TTL = 0.2
STEPS = 25


@pytest.fixture(scope="module")
def hosts(bed: Bed, bucket: str, bed_folder: Path) -> Iterator[tuple[Path, Path]]:
    """The bucket in two mounts."""
    for name in ("one", "two"):
        (bed_folder / name).mkdir()
    options = {"metadata_ttl": str(TTL)}
    with (
        bed.mount(bed_folder / "one", bucket, options) as one,
        bed.mount(bed_folder / "two", bucket, options) as two,
    ):
        yield one.mountpoint, two.mountpoint


def expire() -> None:
    """Wait until what was seen before has to be asked for again."""
    time.sleep(TTL + 0.1)


def test_open_after_close_elsewhere(hosts: tuple[Path, Path]) -> None:
    one, two = hosts
    (one / "shared-file").write_bytes(b"0" * 10)
    expire()
    for number in range(20):
        data = f"{number} ".encode() * (1 + 997 * number)
        (one / "shared-file").write_bytes(data)
        # No waiting: open asks the store.
        assert (two / "shared-file").read_bytes() == data
        one, two = two, one


def test_names_made_removed_and_renamed_elsewhere(hosts: tuple[Path, Path]) -> None:
    one, two = hosts
    (one / "names").mkdir()
    expire()
    (two / "names" / "a").write_bytes(b"a")
    assert not (one / "names" / "b").exists()
    (two / "names" / "b").write_bytes(b"b")
    expire()
    assert (one / "names" / "b").read_bytes() == b"b"
    (two / "names" / "a").rename(two / "names" / "c")
    expire()
    assert sorted(os.listdir(one / "names")) == ["b", "c"]
    assert not (one / "names" / "a").exists()
    (one / "names" / "c").unlink()
    (two / "names").rename(two / "renamed")
    expire()
    assert not (one / "names").exists()
    assert os.listdir(one / "renamed") == ["b"]
    (one / "renamed" / "b").unlink()
    expire()
    (two / "renamed").rmdir()
    expire()
    assert not (one / "renamed").exists()


def test_exclusive_create_holds_between_hosts(hosts: tuple[Path, Path]) -> None:
    winners: list[tuple[int, Path]] = []
    barrier = threading.Barrier(4)

    def race(folder: Path) -> None:
        for number in range(25):
            barrier.wait(30)
            try:
                os.close(os.open(folder / f"lock{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                continue
            winners.append((number, folder))

    racers = [threading.Thread(target=race, args=(hosts[n % 2],)) for n in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert sorted(number for number, _ in winners) == list(range(25))


def test_replaced_while_it_is_read(hosts: tuple[Path, Path], alice: S3Client, bucket: str) -> None:
    """A reader gets the old version, the new one or ESTALE; not some of each."""
    one, two = hosts
    size = 24 * MIB
    alice.put_object(Bucket=bucket, Key="replaced", Body=b"a" * size)
    stop = threading.Event()
    mixed: list[str] = []
    outcomes: list[str] = []

    def read(folder: Path) -> None:
        while not stop.is_set():
            try:
                with (folder / "replaced").open("rb", buffering=0) as stream:
                    seen = b""
                    while piece := stream.read(MIB):
                        seen += piece[:1] + piece[-1:]
            except OSError as error:
                outcomes.append(errno.errorcode[error.errno or 0])
            else:
                outcomes.append("whole")
                if len(set(seen)) != 1:
                    mixed.append(str(set(seen)))

    readers = [threading.Thread(target=read, args=(one,)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(8):
        value = b"bcdefghi"[number : number + 1]
        if number % 2:
            alice.put_object(Bucket=bucket, Key="replaced", Body=value * size)
        else:
            (two / "replaced").write_bytes(value * size)
        time.sleep(0.1)
    stop.set()
    for reader in readers:
        reader.join(60)
    assert not mixed, mixed
    assert "whole" in outcomes
    assert set(outcomes) <= {"whole", "ESTALE"}


def test_cut_and_deleted_while_open(hosts: tuple[Path, Path], alice: S3Client, bucket: str) -> None:
    one, _ = hosts
    for key, change in (
        ("cut", lambda: alice.put_object(Bucket=bucket, Key="cut", Body=b"b")),
        ("deleted", lambda: alice.delete_object(Bucket=bucket, Key="deleted")),
    ):
        alice.put_object(Bucket=bucket, Key=key, Body=b"a" * (40 * MIB))
        expire()
        descriptor = os.open(one / key, os.O_RDONLY)
        assert os.pread(descriptor, 10, 0) == b"a" * 10
        change()
        expire()
        assert attempt(os.pread, descriptor, 10, 39 * MIB) in (b"a" * 10, b"", "ESTALE")
        os.close(descriptor)
    expire()
    assert (one / "cut").read_bytes() == b"b"
    assert not (one / "deleted").exists()


def test_a_listing_in_flight_tells_the_truth_about_own_changes(
    bed: Bed, hosts: tuple[Path, Path]
) -> None:
    """What was removed before readdir returns its end is not brought back, what was made is
    not hidden, however the listing's pages and the changes fall."""
    one, _ = hosts
    folder = one / "listed"
    folder.mkdir()
    bed.put_empty([f"listed/{number:04}" for number in range(2200)])
    expire()
    failures: list[str] = []

    def change(base: int) -> None:
        for number in range(base, base + 8):
            (folder / f"{number:04}").unlink()
            if (folder / f"{number:04}").exists() or f"{number:04}" in os.listdir(folder):
                failures.append(f"{number} came back")
            (folder / f"new{number:04}").write_bytes(b"x")
            if f"new{number:04}" not in os.listdir(folder):
                failures.append(f"new{number} is hidden")

    workers = [threading.Thread(target=change, args=(base,)) for base in (0, 1000, 2100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(90)
        assert not worker.is_alive()
    assert not failures, failures[:5]
    assert len(os.listdir(folder)) == 2200


def test_three_writers_at_random(hosts: tuple[Path, Path], alice: S3Client, bucket: str) -> None:
    """Each host sees its own change at once, the others' at the next open or once the time to live
    is over; what was removed is gone and what is new is there, whoever did it."""
    generator = random.Random(20)
    (hosts[0] / "random").mkdir()
    expire()
    top = "random"
    truth: dict[str, bytes] = {}

    def put(name: str, data: bytes, host: Path | None) -> None:
        if host is None:
            alice.put_object(Bucket=bucket, Key=f"{top}/{name}", Body=data)
        else:
            (host / top / name).write_bytes(data)

    def remove(name: str, host: Path | None) -> None:
        if host is None:
            alice.delete_object(Bucket=bucket, Key=f"{top}/{name}")
        else:
            (host / top / name).unlink()

    for step in range(STEPS):
        host: Path | None = generator.choice([*hosts, None])
        name = f"n{generator.randrange(6)}"
        kind = generator.choice(["put", "put", "remove", "rename", "append"])
        if kind == "put":
            truth[name] = f"{step} ".encode() * generator.randrange(1, 2000)
            put(name, truth[name], host)
        elif name not in truth:
            continue
        elif kind == "remove":
            expire()  # else a host may not know yet of what another has just made
            remove(name, host)
            del truth[name]
        elif host is None:
            continue
        elif kind == "rename":
            expire()
            target = f"n{generator.randrange(6)}"
            (host / top / name).rename(host / top / target)
            truth[target] = truth.pop(name)
        else:
            expire()
            with (host / top / name).open("ab") as stream:
                stream.write(b"more")
            truth[name] += b"more"
        if host is not None:
            assert set(os.listdir(host / top)) >= ({name} if name in truth else set()), (step, kind)
            assert name in truth or name not in os.listdir(host / top), (step, kind)
        for reader in hosts:  # close-to-open: at once where there is something
            for known in truth:
                if reader is host or known in os.listdir(reader / top):
                    assert (reader / top / known).read_bytes() == truth[known], (step, kind, known)
        expire()
        for reader in hosts:
            assert set(os.listdir(reader / top)) == set(truth), (step, kind)
            sizes = {known: (reader / top / known).stat().st_size for known in truth}
            assert sizes == {known: len(data) for known, data in truth.items()}, (step, kind)
