"""The tables of :mod:`tests.mount.identity_table`, cell by cell on both stores."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from tests.mount.bed import Bed
from tests.mount.conftest import SECONDS
from tests.mount.identity_table import ACCESS, OF_FILES_ALONE, OWNER_AFTER, Cell, cells
from tests.mount.mount_process import DaemonProcess
from tests.mount.posix.kit import User

pytestmark = pytest.mark.mount

UIDS = {"alice": 1001, "bob": 1002, "admin": 0}
ACTORS = {
    "own": "alice",
    "other's": "bob",
    "shared": "bob",
    "denied": "bob",
    "admin": "admin",
    "alice": "alice",
    "bob": "bob",
}
OPEN = {"shared", "denied"}
CONTENT = b"alice's\n"
LARGE = b"0123456789abcdef" * (1 << 20)  # of which a change copies the greater part
ACCESS_MODES = ("both", "posix", "s3")
AFTER = [
    (kind, cell)
    for kind in ("file", "folder")
    for cell in cells(kind, OWNER_AFTER)
    if kind == "file" or cell.operation not in OF_FILES_ALONE
]
# Every cell's own folder; one open to all holds what the second table is about.
FOLDERS = [
    (f"{'denied/' if cell.column == 'denied' else ''}{cell.name}", cell.column in OPEN)
    for cell in ACCESS
] + [(cell.name, True) for _, cell in AFTER]


class Mounts:
    """The bucket mounted once for each access mode, with every cell's folder and file in it."""

    def __init__(self, bed: Bed, mounts: dict[str, DaemonProcess]) -> None:
        self.bed = bed
        self.mounts = mounts
        self._client = bed.s3("alice")

    def owner(self, key: str) -> str:
        """The S3 owner of a key; ``gone`` where there is none."""
        return self.bed.owners(key).get("", "gone")

    def body(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self.bed.bucket, Key=key)["Body"].read()

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def mounts(bed: Bed, bed_folder: Path) -> Iterator[Mounts]:
    client = bed.s3("alice")
    for name, is_open in FOLDERS:
        folder, file = (0o777, 0o666) if is_open else (0o755, 0o644)
        for key, bits in ((f"{name}/", 0o040000 | folder), (f"{name}/file", 0o100000 | file)):
            body = b"" if key.endswith("/") else LARGE if "part-copy" in key else CONTENT
            client.put_object(Bucket=bed.bucket, Key=key, Body=body, Metadata={"mode": str(bits)})
    for _, cell in AFTER:
        key, mode = f"{cell.name}/folder/", str(0o040777)
        client.put_object(Bucket=bed.bucket, Key=key, Metadata={"mode": mode})
    client.put_object(Bucket=bed.bucket, Key="else/", Metadata={"mode": str(0o040777)})
    client.close()
    with ExitStack() as stack:
        stack.enter_context(bed.denied("bob", "denied/"))
        found = {}
        for access in ACCESS_MODES:
            folder_of = bed_folder / access
            folder_of.mkdir()
            options = {"metadata_ttl": str(SECONDS), "access": access}
            mount = bed.mount(folder_of, bed.bucket, options)
            found[access] = stack.enter_context(mount)
        with closing(Mounts(bed, found)) as mounts:
            yield mounts


def step(name: str, action: Callable[[], object]) -> str:
    """The errno of a step that is refused, and at which step where it is not the first."""
    try:
        action()
    except OSError as error:
        return f"{errno.errorcode[error.errno or 0]}{name}"
    return ""


def writes(path: Path, flags: int, at: int = 0) -> str:
    """Open, write, close."""
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    said = step(" at write", lambda: os.pwrite(descriptor, b"new\n", at))
    return step(" at close", lambda: os.close(descriptor)) or said


def does(operation: str, folder: Path, name: str = "file") -> str:
    """Do the operation in a cell's folder, as whoever calls; what was refused, or nothing."""
    path = folder / name
    simple: dict[str, Callable[[], object]] = {
        "read": lambda: path.read_bytes(),
        "rename": lambda: path.rename(folder / "renamed"),
        "move": lambda: path.rename(folder.parent / "else" / f"{folder.name}-{name}"),
        "unlink": lambda: path.unlink(),
        "chmod": lambda: path.chmod(0o777 if path.is_dir() else 0o640),
        "chown": lambda: os.chown(path, UIDS["bob"], UIDS["bob"]),
        "chown-mapped": lambda: os.chown(path, UIDS["bob"], UIDS["bob"]),
        "chown-unmapped": lambda: os.chown(path, 4242, 4242),
        "mkdir": lambda: (folder / "made").mkdir(),
        "readdir": lambda: os.listdir(folder),
        "truncate": lambda: os.truncate(path, 3),
        "utimens": lambda: os.utime(path, ns=(1, 2)),
        "touch": lambda: os.utime(path),
        "setxattr": lambda: os.setxattr(path, "user.color", b"red"),
    }
    if operation in simple:
        return step("", simple[operation])
    flags = {
        "create": os.O_CREAT | os.O_WRONLY,
        "overwrite": os.O_WRONLY | os.O_TRUNC,
        "append": os.O_WRONLY | os.O_APPEND,
        "part-copy": os.O_RDWR,
    }
    if operation == "create":
        path = folder / "made"
    return writes(path, flags[operation], 7 << 20 if operation == "part-copy" else 0)


def acting(actor: str, action: Callable[[], str]) -> str:
    uid = UIDS[actor]
    return str(User(uid, uid).does(action))


def settled() -> None:
    """Until the mount has asked S3 again whose a file is."""
    time.sleep(SECONDS + 0.05)


def about(operation: str, folder: str) -> str:
    """The key that the operation leaves."""
    return {
        "create": f"{folder}made",
        "mkdir": f"{folder}made/",
        "rename": f"{folder}renamed",
        "readdir": folder,
    }.get(operation, f"{folder}file")


@pytest.mark.parametrize("cell", ACCESS, ids=lambda cell: cell.name)
def test_who_may_and_whose_it_is_then(mounts: Mounts, cell: Cell) -> None:
    mount = mounts.mounts[cell.table]
    key = f"{'denied/' if cell.column == 'denied' else ''}{cell.name}/"
    folder = mount.mountpoint / key
    # What alice has just read and listed lies in every cache.
    acting("alice", lambda: f"{(folder / 'file').read_bytes()!r}{os.listdir(folder)}")
    refused = acting(ACTORS[cell.column], lambda: does(cell.operation, folder))
    if refused or cell.expected.startswith("E"):
        assert refused == cell.expected, mount.log_tail()
        owners = mounts.bed.owners(key)
        assert owners == {"": "alice", "file": "alice"}
        assert mounts.body(f"{key}file") == CONTENT
        return
    left = about(cell.operation, key)
    assert mounts.owner(left) == cell.expected
    if cell.expected == "gone":
        assert mounts.bed.owners(key) == {"": "alice"}
        return
    settled()
    uid = (mount.mountpoint / left).stat().st_uid
    assert uid == UIDS[cell.expected], "who owns the object owns the file"
    new = {"overwrite": b"new\n", "append": CONTENT + b"new\n", "create": b"new\n"}
    if not left.endswith("/"):
        assert mounts.body(left) == new.get(cell.operation, CONTENT)


@pytest.mark.parametrize(
    ("kind", "cell"), AFTER, ids=lambda part: part if isinstance(part, str) else part.name
)
def test_whose_it_is_after_a_change(mounts: Mounts, kind: str, cell: Cell) -> None:
    mount = mounts.mounts["both"]
    folder = mount.mountpoint / cell.name
    slash = "/" if kind == "folder" else ""
    refused = acting(cell.column, partial(does, cell.operation, folder, kind))
    if refused or cell.expected.startswith("E"):
        assert refused == cell.expected, mount.log_tail()
        assert mounts.owner(f"{cell.name}/{kind}{slash}") == "alice"
        return
    left = {
        "rename": f"{cell.name}/renamed{slash}",
        "move": f"else/{cell.name}-{kind}{slash}",
    }.get(cell.operation, f"{cell.name}/{kind}{slash}")
    assert mounts.owner(left) == cell.expected
    settled()
    uid = (mount.mountpoint / left).stat().st_uid
    assert uid == (4242 if cell.operation == "chown-unmapped" else UIDS[cell.expected])
    if cell.operation == "part-copy":
        at = 7 << 20
        assert mounts.body(left) == LARGE[:at] + b"new\n" + LARGE[at + 4 :]
