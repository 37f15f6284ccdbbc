"""bob, whom S3's policy denies a folder, tries every way to what alice has just read there.

Modes are open to all, so that nothing but the policy is in his way, and every cache is warm.
"""

from __future__ import annotations

import array
import errno
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.mount.bed import Bed
from tests.mount.conftest import SECONDS
from tests.mount.mount_process import DaemonProcess, setpriv
from tests.mount.posix.kit import User, attempt, opened

pytestmark = pytest.mark.mount

ALICE, BOB = User(1001, 1001), User(1002, 1002)
SECRET = b"#!/bin/sh\necho for alice alone\n"
ACCESS_TTL = 0.5
NO = ("EACCES", "EPERM")


@pytest.fixture(scope="module")
def quick(bed: Bed, bucket: str, bed_folder: Path) -> Iterator[DaemonProcess]:
    """A mount that remembers for a short time what S3 lets whom do."""
    folder = bed_folder / "quick"
    folder.mkdir()
    options = {"metadata_ttl": str(SECONDS), "access_ttl": str(ACCESS_TTL)}
    with bed.mount(folder, bucket, options) as mount:
        yield mount


@pytest.fixture
def secret(quick: DaemonProcess, request: pytest.FixtureRequest) -> Path:
    """A file of alice's in a folder of the name of the test."""
    top: Path = quick.mountpoint / str(request.function.__name__)

    def make() -> None:
        os.umask(0)
        top.mkdir()
        (top / "file").write_bytes(SECRET)
        (top / "file").chmod(0o777)
        (top / "link").symlink_to("a secret place")
        os.setxattr(top / "file", "user.note", b"secret")

    ALICE.does(make)
    return top / "file"


def warmed(file: Path) -> None:
    """alice has just read, listed and mapped it."""

    def read() -> bytes:
        os.listdir(file.parent)
        os.readlink(file.parent / "link")
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
            return view[:]

    assert ALICE.does(read) == SECRET


def _mapped(file: Path) -> bytes:
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        return view[:]


def _spliced(file: Path) -> bytes:
    with file.open("rb") as stream:
        readable, writable = os.pipe()
        os.splice(stream.fileno(), writable, 100)
        return os.read(readable, 100)


def _reopened(file: Path) -> bytes:
    """O_PATH asks nobody; what it gives opens nothing either."""
    handle = os.open(file, os.O_PATH)
    return Path(f"/proc/self/fd/{handle}").read_bytes()


def _below_a_held_folder(file: Path) -> bytes:
    folder = os.open(file.parent, os.O_PATH | os.O_DIRECTORY)
    return os.read(os.open(file.name, os.O_RDONLY, dir_fd=folder), 100)


def _listed_through_a_held_folder(file: Path) -> Any:
    folder = os.open(file.parent, os.O_PATH | os.O_DIRECTORY)
    return os.listdir(f"/proc/self/fd/{folder}")


def _through_a_link(file: Path) -> bytes:
    link = file.parent.parent / f"of-bob-{os.getpid()}"
    link.symlink_to(file)
    try:
        return link.read_bytes()
    finally:
        link.unlink()


def _executed(file: Path) -> bytes:
    done = subprocess.run([str(file)], capture_output=True, check=True)
    return done.stdout


def ways(file: Path) -> dict[str, Callable[[], Any]]:
    """Each gives something away where it is not refused."""
    folder = file.parent
    aside = folder.parent / "of-bob"
    return {
        "read": file.read_bytes,
        "read and write": lambda: os.close(os.open(file, os.O_RDWR)),
        "append": lambda: os.close(os.open(file, os.O_WRONLY | os.O_APPEND)),
        "create over it": lambda: os.close(os.open(file, os.O_CREAT | os.O_RDWR)),
        "empty": lambda: os.truncate(file, 0),
        "empty at open": lambda: os.close(os.open(file, os.O_RDONLY | os.O_TRUNC)),
        "direct": lambda: os.close(os.open(file, os.O_RDONLY | os.O_DIRECT)),
        "mmap": lambda: _mapped(file),
        "splice": lambda: _spliced(file),
        "O_PATH and again": lambda: _reopened(file),
        "below an O_PATH folder": lambda: _below_a_held_folder(file),
        "by an own symlink": lambda: _through_a_link(file),
        "execute": lambda: _executed(file),
        "readdir": lambda: os.listdir(folder),
        "readdir of an O_PATH folder": lambda: _listed_through_a_held_folder(file),
        "readlink": lambda: os.readlink(folder / "link"),
        "getxattr": lambda: os.getxattr(file, "user.note"),
        "listxattr": lambda: os.listxattr(file),
        "hard link": lambda: os.link(file, aside),
        "rename away": lambda: os.rename(file, aside),
        "rename the folder away": lambda: os.rename(folder, aside),
        "rename over it": lambda: os.rename(folder / "link", file),
        "make his": lambda: os.chown(file, 1002, 1002),
        "set an attribute": lambda: os.setxattr(file, "user.x", b"x"),
        "unlink": lambda: os.unlink(file),
    }


def tried(file: Path) -> dict[str, Any]:
    """What was not refused."""
    outcomes = BOB.does(lambda: {name: attempt(way) for name, way in ways(file).items()})
    return {name: outcome for name, outcome in outcomes.items() if outcome not in NO}


def refused_all(file: Path) -> None:
    warmed(file)
    assert tried(file) == {}
    warmed(file)


def test_a_policy_that_denies(bed: Bed, secret: Path) -> None:
    """From the first, after chmod, and after alice's rename."""
    with bed.denied("bob", f"{secret.parent.name}"):
        time.sleep(ACCESS_TTL + 0.1)
        refused_all(secret)
        ALICE.does(lambda: secret.chmod(0o755))
        ALICE.does(lambda: secret.chmod(0o777))
        refused_all(secret)
        ALICE.does(lambda: os.rename(secret, secret.parent / "moved"))
        refused_all(secret.parent / "moved")
        secret.parent.joinpath("moved").touch()  # by root: alice's still, and as closed
        refused_all(secret.parent / "moved")


def test_a_policy_that_is_taken_away(bed: Bed, secret: Path) -> None:
    """What bob read and was allowed before is forgotten within ``access_ttl``."""
    assert BOB.does(lambda: [secret.read_bytes(), sorted(os.listdir(secret.parent))]) == [
        SECRET,
        ["file", "link"],
    ]
    with bed.denied("bob", f"{secret.parent.name}"):
        time.sleep(ACCESS_TTL + 0.5)
        refused_all(secret)
    time.sleep(ACCESS_TTL + 0.5)
    assert BOB.does(secret.read_bytes) == SECRET


def test_what_alice_has_open(bed: Bed, secret: Path) -> None:
    """Content that is not in S3 yet, and her process's descriptors and mappings."""
    program = (
        "import mmap, os, sys\n"
        "f = open(sys.argv[1], 'r+b')\n"
        "m = mmap.mmap(f.fileno(), 0)\n"
        "g = open(sys.argv[1] + '-new', 'wb'); os.fchmod(g.fileno(), 0o666)\n"
        "g.write(b'not in S3 yet'); g.flush()\n"
        "print(f.fileno(), g.fileno(), flush=True); sys.stdin.read()\n"
    )
    with bed.denied("bob", f"{secret.parent.name}"):
        time.sleep(ACCESS_TTL + 0.1)
        hers = subprocess.Popen(
            [*setpriv(1001), sys.executable, "-c", program, str(secret)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert hers.stdin is not None
        assert hers.stdout is not None
        descriptors = hers.stdout.readline().split()
        process = Path(f"/proc/{hers.pid}")
        try:
            new = Path(f"{secret}-new")
            for path in (secret, new, *(process / "fd" / number for number in descriptors)):
                for flags in (os.O_RDONLY, os.O_RDWR):
                    assert BOB.does(partial(opened, path, flags)) == "EACCES", path
            for name in ("fd", "map_files"):
                assert BOB.does(partial(attempt, os.listdir, process / name)) in NO
            assert BOB.does(lambda: opened(process / "mem", os.O_RDONLY)) in NO
        finally:
            hers.stdin.close()
            assert hers.wait(30) == 0
            hers.stdout.close()


def test_what_is_handed_over_open_stays_open(bed: Bed, secret: Path) -> None:
    """As in POSIX: rights are asked for at open. A descriptor is a gift of who opened it."""
    with bed.denied("bob", f"{secret.parent.name}"):
        time.sleep(ACCESS_TTL + 0.1)
        warmed(secret)
        held = handed_over(secret)
        assert BOB.does(lambda: os.pread(held, 100, 0)) == SECRET
        # … but a new open of the same file is asked about.
        assert BOB.does(lambda: opened(Path(f"/proc/self/fd/{held}"), os.O_RDONLY)) == "EACCES"
        os.close(held)


def handed_over(file: Path) -> int:
    """A descriptor that alice opened, handed over a socket."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        number = os.open(file, os.O_RDONLY)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [number]))]
        theirs.sendmsg([b"x"], rights)

    ALICE.does(send)
    _, [(_, _, data)], _, _ = ours.recvmsg(1, socket.CMSG_LEN(4))
    ours.close()
    theirs.close()
    return int.from_bytes(data[:4], sys.byteorder)


def test_one_identitys_answer_is_not_anothers(bed: Bed, secret: Path) -> None:
    """Asked in turns within the time for which answers are remembered."""
    with bed.denied("bob", f"{secret.parent.name}"):
        time.sleep(ACCESS_TTL + 0.1)
        for _ in range(5):
            assert ALICE.does(lambda: attempt(secret.read_bytes)) == SECRET
            assert BOB.does(lambda: attempt(secret.read_bytes)) == errno.errorcode[errno.EACCES]
            assert attempt(secret.read_bytes) == SECRET
