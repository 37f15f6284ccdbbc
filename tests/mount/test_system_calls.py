"""What system calls cost in S3 requests: the columns of docs/SYSTEM-CALLS.md, measured.

Each call is made on a name that was looked up before and that another S3 client put; what has to be
asked anew once ``metadata_ttl`` is over comes on top, and stands in rows of its own.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.cli.control_client import ask
from s3posixfs.cli.mountpoints import control_socket
from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess
from tests.mount.posix.kit import RENAME_EXCHANGE, RENAME_NOREPLACE, fallocate, renameat2
from tests.system_calls import ROWS, Row

pytestmark = pytest.mark.mount
TTL = "600"  # nothing grows old while it is measured
RENAME_WHITEOUT = 4
FICLONE, FS_IOC_GETFLAGS, FIEMAP = 0x40049409, 0x80086601, 0xC020660B
FALLOCATE_MODES = (0, 1, 3, 8, 16, 32)  # plain, KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT


@pytest.fixture(scope="module")
def patient(bed: Bed, bucket: str, bed_folder: Path) -> Iterator[DaemonProcess]:
    """The bucket, whose names are remembered for long."""
    own = bed_folder / "patient"
    own.mkdir()
    with bed.mount(own, bucket, {"metadata_ttl": TTL}) as mount:
        yield mount


def made(mount: DaemonProcess) -> Counter[str]:
    answer = ask(control_socket(mount.mountpoint), "status")
    assert answer is not None
    found: Counter[str] = Counter()
    for name, summary in answer["client"]["requests_by_api"].items():
        found[name] = sum(summary["results"].values())
    for name in ("ListIdentities", "AssumeRole"):
        found.pop(name, None)
    return found


def written(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags, 0o644)
    os.write(descriptor, b"new")
    os.close(descriptor)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def cold(d: Path) -> None:
    (d / "never-seen").exists()


OPERATIONS: dict[str, Callable[[Path], object]] = {
    "open to read, read, close: small": lambda d: (d / "file").read_bytes(),
    "open to read, read, close: again": lambda d: (d / "read").read_bytes(),
    "open to write, write, close": lambda d: written(d / "file", os.O_WRONLY),
    "open O_TRUNC, write, close": lambda d: written(d / "file", os.O_WRONLY | os.O_TRUNC),
    "open O_APPEND, write, close": lambda d: written(d / "file", os.O_WRONLY | os.O_APPEND),
    "open O_CREAT, write, close": lambda d: written(d / "new", os.O_WRONLY | os.O_CREAT),
    "open O_CREAT O_EXCL, write, close": lambda d: written(
        d / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL
    ),
    "stat, access: known": lambda d: (os.stat(d / "file"), os.access(d / "file", os.R_OK)),
    "stat: missing": cold,
    "truncate": lambda d: os.truncate(d / "file", 1),
    "chmod": lambda d: (d / "file").chmod(0o600),
    "chmod of a folder": lambda d: (d / "folder").chmod(0o700),
    "utimensat": lambda d: os.utime(d / "file", ns=(1, 2)),
    "setxattr, removexattr": lambda d: os.setxattr(d / "file", "user.a", b"1"),
    "getxattr, listxattr": lambda d: os.listxattr(d / "file"),
    "rename of a file": lambda d: (d / "file").rename(d / "other"),
    "rename over a file": lambda d: (d / "file").rename(d / "read"),
    "renameat2 RENAME_NOREPLACE": lambda d: renameat2(d / "file", d / "new", RENAME_NOREPLACE),
    "rename of a folder": lambda d: (d / "folder").rename(d / "moved"),
    "unlink": lambda d: (d / "file").unlink(),
    "mkdir": lambda d: (d / "new").mkdir(),
    "rmdir": lambda d: (d / "empty").rmdir(),
    "symlink": lambda d: (d / "new").symlink_to("file"),
    "readlink": lambda d: (d / "link").readlink(),
    "mknod, mkfifo": lambda d: os.mknod(d / "new", 0o600 | stat.S_IFCHR, os.makedev(1, 3)),
    "bind of a socket": lambda d: bound(d / "new"),
    "getdents: a folder not seen yet": lambda d: os.listdir(d / "unseen"),
    "statfs": os.statvfs,
}


def prepared(bed: Bed, top: Path, name: str) -> Path:
    """A folder that nobody made (so that no time of it is stored later), looked through."""
    client = bed.s3("admin")
    for key in ("file", "read", "other0", "folder/", "folder/a", "empty/", "unseen/a"):
        client.put_object(Bucket=bed.bucket, Key=f"{name}/{key}", Body=b"x")
    client.put_object(
        Bucket=bed.bucket, Key=f"{name}/link", Body=b"file", Metadata={"mode": str(0o120777)}
    )
    client.close()
    folder = top / name
    for path in ("file", "read", "folder", "folder/a", "empty", "link"):
        (folder / path).lstat()
    (folder / "read").read_bytes()
    return folder


MEASURED = [row for row in ROWS if row.call in OPERATIONS]


def test_every_operation_has_its_row() -> None:
    assert {row.call for row in MEASURED} == set(OPERATIONS)


# A name that is not there is asked for again where the machine takes over 5 ms from one call to
# the next.
ASKED_AGAIN = Counter({"ListObjectsV2": 2, "HeadObject": 1})


def counted(cell: str) -> Counter[str]:
    """`2 HeadObject, PutObject` of the page, as numbers."""
    words = [] if cell == "none" else cell.split(", ")
    pairs = [word.split() if " " in word else ("1", word) for word in words]
    return Counter({name: int(count) for count, name in pairs})


@pytest.mark.parametrize("number", range(len(MEASURED)), ids=[row.call for row in MEASURED])
def test_requests(bed: Bed, patient: DaemonProcess, number: int) -> None:
    row: Row = MEASURED[number]
    folder = prepared(bed, patient.mountpoint, f"costs-{number}")
    before = made(patient)
    OPERATIONS[row.call](folder)
    found = made(patient) - before
    stated = counted(row.embedded if bed.kind == "embedded" else row.rgw)
    for name in found | stated:
        extra = ASKED_AGAIN[name] if name in stated else 0
        assert stated[name] <= found[name] <= stated[name] + extra, (row.call, found)


def answer(function: Callable[..., object], *arguments: Any) -> str:
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def test_what_differs(folder: Path) -> None:
    """What a local filesystem does and this does not."""
    file = folder / "file"
    file.write_bytes(b"x" * 100)
    with file.open("r+b") as stream:
        number = stream.fileno()
        for mode in FALLOCATE_MODES:
            assert fallocate(number, mode, 0, 10) == "ENOTSUP"
        assert answer(fcntl.ioctl, number, FICLONE, number) == "ENOTSUP"
        assert answer(fcntl.ioctl, number, FS_IOC_GETFLAGS, bytearray(8)) == "ENOTTY"
        assert answer(fcntl.ioctl, number, FIEMAP, bytearray(64)) == "ENOTSUP"
        with select.epoll() as epoll:
            epoll.register(number)
    assert answer(os.link, file, folder / "link") == "EPERM"
    assert answer(os.open, folder, os.O_RDWR | os.O_TMPFILE) == "ENOTSUP"
    for flag in (RENAME_EXCHANGE, RENAME_WHITEOUT):
        assert renameat2(file, folder / "other", flag) in ("EINVAL", "ENOENT")
    for name in ("trusted.a", "security.a", "security.selinux", "system.a"):
        assert answer(os.setxattr, file, name, b"x") == "ENOTSUP"
        assert answer(os.getxattr, file, name) == "ENOTSUP"
    assert answer(os.getxattr, file, "system.posix_acl_access") == "ENOTSUP"
    assert answer(os.setxattr, file, b"user.\xff", b"x") == "ENOTSUP"
    assert answer(os.setxattr, file, "user.big", bytes(3000)) == "ENOSPC"
    assert os.listxattr(file) == []
    with (folder / "swap").open("wb") as stream:
        stream.write(bytes(65_536))
    assert ctypes.CDLL(None, use_errno=True).swapon(os.fsencode(folder / "swap"), 0) == -1
