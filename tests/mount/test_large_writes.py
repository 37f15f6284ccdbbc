"""Large files: sent while they are written, edited by parts, and never half in S3."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s3posixfs.cli.control_client import ask
from s3posixfs.cli.mountpoints import control_socket
from tests.mount.bed import BUCKET, Bed, add_people
from tests.mount.conftest import SECONDS
from tests.mount.mount_process import DaemonProcess, MountProcess, setpriv
from tests.mount.posix.kit import attempt
from tests.store_process import StoreProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount

MIB = 1024 * 1024
PART = 5 * MIB
# What a request has beside the bytes of the file.
LITTLE = 64 * 1024


@pytest.fixture(scope="module")
def own(bed: Bed, bed_folder: Path) -> Iterator[DaemonProcess]:
    """The shared bucket, sent in parts of 5 MiB."""
    folder = bed_folder / "own"
    folder.mkdir()
    options = {"metadata_ttl": str(SECONDS), "part_size": "5M", "access_ttl": str(SECONDS)}
    with bed.mount(folder, bed.bucket, options) as mount:
        yield mount


@pytest.fixture
def admin(bed: Bed) -> Iterator[S3Client]:
    client = bed.s3("admin")
    yield client
    client.close()


def some(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def until(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def parts_sent(client: S3Client, bucket: str, key: str) -> int:
    """Parts that the store has of the upload that is under way at a key."""
    uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", [])
    if not uploads:
        return 0
    found = client.list_parts(Bucket=bucket, Key=key, UploadId=uploads[0]["UploadId"])
    return len(found.get("Parts", []))


def uploads(client: S3Client, bucket: str, key: str) -> int:
    return len(client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", []))


def body(client: S3Client, bucket: str, key: str) -> bytes:
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def exists(client: S3Client, bucket: str, key: str) -> bool:
    rows = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    return key in [row["Key"] for row in rows]


def sent(mount: DaemonProcess) -> int:
    """Bytes that the store was sent by the mount, without headers."""
    status = ask(control_socket(mount.mountpoint), "status")
    assert status is not None
    return int(status["client"]["bytes_sent"])


def write_all(descriptor: int, data: bytes, at: int = 0) -> int:
    """Write in sequence, as ``cp`` does; where the end is."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view[:MIB], at)
        view, at = view[count:], at + count
    return at


WRITER = """
import os, sys
descriptor, at = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC), 0
for line in sys.stdin:
    try:
        if line == "close\\n":
            os.close(descriptor)
        elif line == "fsync\\n":
            os.fsync(descriptor)
        else:
            for _ in range(int(line)):
                at += os.pwrite(descriptor, os.urandom(1 << 20), at)
        print("ok", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


class Writer:
    """A program of its own that overwrites a file: who starts programs, as tests do, closes in
    them what is open, and that stores it."""

    def __init__(self, path: Path, uid: int) -> None:
        self._process = subprocess.Popen(
            [*setpriv(uid), "/usr/bin/python3", "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def does(self, what: str) -> str:
        """``fsync``, ``close`` or so many MiB; ``ok``, or the name of the errno."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        said = self._process.stdout.readline().strip()
        return errno.errorcode[int(said)] if said.isdecimal() else said

    def end(self) -> None:
        self._process.communicate(timeout=60)


def test_parts_are_in_the_store_before_close_and_the_object_is_not(
    bed: Bed, own: DaemonProcess, admin: S3Client
) -> None:
    data = some(11 * PART // 2)
    before = sent(own)
    descriptor = os.open(own.mountpoint / "early", os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        write_all(descriptor, data)
        until(lambda: parts_sent(admin, bed.bucket, "early") >= 4)
        assert not exists(admin, bed.bucket, "early")
    finally:
        os.close(descriptor)
    assert body(admin, bed.bucket, "early") == data
    assert uploads(admin, bed.bucket, "early") == 0
    assert len(data) <= sent(own) - before < len(data) + LITTLE


def test_every_close_of_a_descriptor_stores_what_there_is(
    bed: Bed, own: DaemonProcess, admin: S3Client
) -> None:
    """Also that of a duplicate, and of a program that is started and inherits it."""
    descriptor = os.open(own.mountpoint / "shared", os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.write(descriptor, b"first ")
        os.close(os.dup(descriptor))
        assert body(admin, bed.bucket, "shared") == b"first "
        os.write(descriptor, b"second ")
        subprocess.run(["true"], check=True)  # exec closes it in there
        assert body(admin, bed.bucket, "shared") == b"first second "
        os.write(descriptor, b"third")
    finally:
        os.close(descriptor)
    assert body(admin, bed.bucket, "shared") == b"first second third"


def test_memory_does_not_grow_with_the_file(own: DaemonProcess) -> None:
    def write(size: int) -> None:
        descriptor = os.open(own.mountpoint / "memory", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        block = some(MIB)
        try:
            for number in range(size // MIB):
                os.pwrite(descriptor, block, number * MIB)
        finally:
            os.close(descriptor)

    write(40 * MIB)  # what any upload takes is taken by now
    Path(f"/proc/{own.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = own.resident_bytes("VmRSS")
    write(160 * MIB)
    assert (own.mountpoint / "memory").stat().st_size == 160 * MIB
    assert own.resident_bytes("VmHWM") - before < 32 * MIB


def test_an_append_sends_what_is_appended(bed: Bed, own: DaemonProcess, admin: S3Client) -> None:
    data = some(6 * PART + 12_345)
    admin.put_object(Bucket=bed.bucket, Key="log", Body=data)
    time.sleep(2 * SECONDS)
    before = sent(own)
    with (own.mountpoint / "log").open("ab") as file:
        file.write(b"one line more\n")
    assert body(admin, bed.bucket, "log") == data + b"one line more\n"
    assert sent(own) - before < LITTLE


def test_edits_round_the_limits_of_parts(bed: Bed, own: DaemonProcess, admin: S3Client) -> None:
    """Each sends the shortest part that S3 takes, or two where the rest is too short for one."""
    size = 6 * PART + MIB + 1
    content = bytearray(some(size))
    admin.put_object(Bucket=bed.bucket, Key="edited", Body=bytes(content))
    time.sleep(2 * SECONDS)
    # Before, at and behind each limit; the edits last made are near the end.
    places = (0, PART - 1, PART, PART + 1, 3 * PART - 2, size - PART - 1, size - PART, size - 1)
    for number, place in enumerate(places):
        before = sent(own)
        piece = bytes([number + 1]) * min(3, size - place)
        with (own.mountpoint / "edited").open("r+b") as file:
            file.seek(place)
            file.write(piece)
        content[place : place + len(piece)] = piece
        assert body(admin, bed.bucket, "edited") == content, place
        assert sent(own) - before <= 2 * PART + LITTLE, place
    # Far from each other: what lies between is copied, not sent.
    before = sent(own)
    with (own.mountpoint / "edited").open("r+b") as file:
        for place in (7, size - 7):
            file.seek(place)
            file.write(b"ends")
            content[place : place + 4] = b"ends"
    assert body(admin, bed.bucket, "edited") == content
    assert sent(own) - before <= 2 * PART + LITTLE
    assert uploads(admin, bed.bucket, "edited") == 0


def test_longer_and_shorter(bed: Bed, own: DaemonProcess, admin: S3Client) -> None:
    data = some(6 * PART)
    path = own.mountpoint / "cut"
    admin.put_object(Bucket=bed.bucket, Key="cut", Body=data)
    time.sleep(2 * SECONDS)
    before = sent(own)
    os.truncate(path, 3 * PART + 17)
    assert body(admin, bed.bucket, "cut") == data[: 3 * PART + 17]
    assert sent(own) - before < LITTLE
    os.truncate(path, 5 * PART)
    assert body(admin, bed.bucket, "cut") == data[: 3 * PART + 17].ljust(5 * PART, b"\0")
    assert sent(own) - before < 2 * PART + LITTLE  # zeros; nothing of what was there
    os.truncate(path, 1)
    assert body(admin, bed.bucket, "cut") == data[:1]
    os.truncate(path, 0)
    assert body(admin, bed.bucket, "cut") == b""
    with path.open("r+b") as file:  # shorter than what was sent while it was written
        write_all(file.fileno(), data)
        file.truncate(PART + 5)
        file.seek(PART + 5)
        file.write(b"end")
    assert body(admin, bed.bucket, "cut") == data[: PART + 5] + b"end"
    assert uploads(admin, bed.bucket, "cut") == 0


def test_holes_are_zeros_and_take_no_room_here(
    bed: Bed, own: DaemonProcess, admin: S3Client
) -> None:
    path = own.mountpoint / "sparse"
    with path.open("w+b", buffering=0) as file:
        file.write(b"head")
        file.seek(6 * PART)
        file.write(b"behind a hole")
        file.truncate(7 * PART)
        os.fsync(file.fileno())
        staged = list((own.folder / "cache" / "staged").iterdir())
        assert sum(one.stat().st_blocks for one in staged) * 512 < MIB
        file.seek(2 * PART - 2)
        assert file.read(4) == bytes(4)
    expected = b"head".ljust(6 * PART, b"\0") + b"behind a hole".ljust(PART, b"\0")
    assert body(admin, bed.bucket, "sparse") == expected
    assert path.read_bytes() == expected


def test_what_a_killed_daemon_was_sending_is_aborted_by_the_next(
    bed: Bed, own: DaemonProcess, admin: S3Client
) -> None:
    admin.put_object(Bucket=bed.bucket, Key="killed", Body=b"before")
    time.sleep(2 * SECONDS)
    descriptor = os.open(own.mountpoint / "killed", os.O_WRONLY | os.O_TRUNC)
    try:
        write_all(descriptor, some(5 * PART))
        until(lambda: parts_sent(admin, bed.bucket, "killed") >= 2)
        own.kill()
    finally:
        with pytest.raises(OSError, match=r"."):
            os.close(descriptor)
    assert uploads(admin, bed.bucket, "killed") == 1
    own.free()
    own.start()
    assert (own.mountpoint / "killed").read_bytes() == b"before"
    until(lambda: uploads(admin, bed.bucket, "killed") == 0)
    assert body(admin, bed.bucket, "killed") == b"before"


def test_a_refusal_midway_leaves_what_was_there(
    bed: Bed, own: DaemonProcess, admin: S3Client
) -> None:
    key = "refused/file"
    path = own.mountpoint / key
    path.parent.mkdir()
    path.parent.chmod(0o777)
    own.sh(f"printf before > {key}", uid=1001)
    writer = Writer(path, 1001)
    try:
        assert writer.does("20") == "ok"
        until(lambda: parts_sent(admin, bed.bucket, key) >= 2)
        with bed.denied("alice", "refused/"):
            if bed.kind == "rgw":
                time.sleep(1)  # its policies take a moment
            assert writer.does("60") == "EACCES"  # before all of it was taken
            assert [writer.does("fsync"), writer.does("close")] == ["EACCES", "EACCES"]
            assert body(admin, bed.bucket, key) == b"before"
            until(lambda: uploads(admin, bed.bucket, key) == 0)
    finally:
        writer.end()
    time.sleep(2 * SECONDS)
    assert path.read_bytes() == b"before"


@pytest.fixture
def full_store(open_folder: Path) -> Iterator[StoreProcess]:
    """A store on a disk of 64 MiB."""
    disk = open_folder / "store"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    try:
        with StoreProcess(disk) as store:
            add_people(store)
            yield store
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=30)


def test_a_store_that_becomes_full_midway(open_folder: Path, full_store: StoreProcess) -> None:
    options = {"metadata_ttl": str(SECONDS), "part_size": "5M"}
    with MountProcess(full_store, open_folder / "m", BUCKET, options) as mount:
        kept, large = some(3 * PART), some(20 * PART, 2)
        (mount.mountpoint / "kept").write_bytes(kept)
        (mount.mountpoint / "ballast").write_bytes(kept)
        descriptor = os.open(mount.mountpoint / "kept", os.O_WRONLY | os.O_TRUNC)
        with pytest.raises(OSError, match="No space") as caught:  # noqa: PT012
            write_all(descriptor, large)
            os.fsync(descriptor)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space"):
            os.close(descriptor)
        stored = full_store.root / BUCKET
        assert (stored / "kept").read_bytes() == kept
        (mount.mountpoint / "ballast").unlink()
        # Nothing of what was refused comes later, where there would be room for what was taken.
        until(lambda: not any((mount.folder / "cache" / "staged").iterdir()))
        assert (stored / "kept").read_bytes() == kept
        # The store lets go of parts that were cut short once it sees that nobody sends them.
        until(lambda: attempt((mount.mountpoint / "kept").write_bytes, large[: 4 * PART]) == "ok")
        assert (stored / "kept").read_bytes() == large[: 4 * PART]
