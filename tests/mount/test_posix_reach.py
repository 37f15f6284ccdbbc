"""What one user reaches of another's through the mount, and what forged objects are worth."""

from __future__ import annotations

import mmap
import os
import stat
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.bed import Bed, place_of
from tests.mount.mount_process import DaemonProcess
from tests.mount.posix.kit import User as Person
from tests.mount.posix.kit import attempt, mode_of, opened, owner_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount

ALICE, BOB, CAROL = Person(1001, 1001), Person(1002, 1002), Person(1003, 1003)
STRANGER = Person(2001, 2001)
ACCESS_TTL = 5.0


def reads(path: Path) -> Any:
    """Every way of getting at a file's bytes."""

    def mapped() -> bytes:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
            return view[:]

    def sent() -> bytes:
        with path.open("rb") as stream:
            readable, writable = os.pipe()
            os.splice(stream.fileno(), writable, 100)
            return os.read(readable, 100)

    return [attempt(path.read_bytes), attempt(mapped), attempt(sent)]


DENIED = ["EACCES"] * 3


def test_carol_reads_nothing_that_alice_has_just_read(folder: Path) -> None:
    """S3 gives carol nothing; modes are open to all, caches are warm."""
    file = folder / "file"
    ALICE.does(lambda: file.write_bytes(b"alice's") and None)
    ALICE.does(lambda: os.symlink("a secret place", folder / "link"))
    ALICE.does(lambda: os.setxattr(file, "user.secret", b"value"))
    file.chmod(0o666)
    for _ in range(3):
        assert ALICE.does(lambda: reads(file)) == [b"alice's"] * 3
        assert ALICE.does(lambda: attempt(os.readlink, folder / "link")) == "a secret place"
        assert BOB.does(lambda: reads(file)) == [b"alice's"] * 3
        assert CAROL.does(lambda: reads(file)) == DENIED
        assert CAROL.does(lambda: attempt(os.listdir, folder)) == "EACCES"
        assert CAROL.does(lambda: attempt(os.readlink, folder / "link")) == "EACCES"
        assert CAROL.does(lambda: attempt(os.getxattr, file, "user.secret")) == "EACCES"
        assert CAROL.does(lambda: attempt(os.listxattr, file)) == "EACCES"
        assert BOB.does(lambda: attempt(os.getxattr, file, "user.secret")) == b"value"
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC):
            assert CAROL.does(partial(opened, file, flags)) == "EACCES"
        assert CAROL.does(lambda: opened(folder / "new", os.O_CREAT | os.O_WRONLY)) == "EACCES"
        assert CAROL.does(lambda: attempt(os.setxattr, file, "user.x", b"x")) == "EACCES"
        assert CAROL.does(lambda: attempt(os.truncate, file, 0)) == "EACCES"
        assert CAROL.does(lambda: attempt(os.rename, file, folder / "mine")) == "EACCES"
        assert CAROL.does(lambda: attempt(os.unlink, file)) == "EACCES"
    with file.open("rb") as held:
        mine = f"/proc/{os.getpid()}/fd/{held.fileno()}"
        assert CAROL.does(lambda: opened(Path(mine), os.O_RDONLY)) == "EACCES"
    assert reads(file) == [b"alice's"] * 3
    file.rename(folder / "renamed")
    assert CAROL.does(lambda: reads(folder / "renamed")) == DENIED


def test_modes_take_effect_at_once(folder: Path) -> None:
    file = folder / "file"
    ALICE.does(lambda: file.write_bytes(b"alice's") and None)
    assert BOB.does(lambda: reads(file)) == [b"alice's"] * 3
    ALICE.does(lambda: file.chmod(0o600))
    assert BOB.does(lambda: reads(file)) == DENIED
    assert STRANGER.does(lambda: reads(file)) == DENIED
    ALICE.does(lambda: file.rename(folder / "renamed"))
    assert BOB.does(lambda: reads(folder / "renamed")) == DENIED
    ALICE.does(lambda: (folder / "renamed").chmod(0o644))
    ALICE.does(lambda: folder.chmod(0o700))
    assert BOB.does(lambda: reads(folder / "renamed")) == DENIED
    assert BOB.does(lambda: attempt(os.stat, folder / "renamed")) == "EACCES"
    assert BOB.does(lambda: attempt(os.listdir, folder)) == "EACCES"


def test_a_policy_that_is_dropped(folder: Path, bed: Bed) -> None:
    file = folder / "file"
    ALICE.does(lambda: file.write_bytes(b"alice's") and None)
    file.chmod(0o666)
    assert BOB.does(lambda: reads(file)) == [b"alice's"] * 3
    with bed.without("bob"):
        time.sleep(ACCESS_TTL + 0.2)
        assert BOB.does(lambda: reads(file)) == DENIED
        assert BOB.does(lambda: attempt(os.listdir, folder)) == "EACCES"
        assert BOB.does(lambda: opened(folder / "new", os.O_CREAT | os.O_WRONLY)) == "EACCES"
        assert BOB.does(lambda: opened(file, os.O_WRONLY)) == "EACCES"
        assert ALICE.does(lambda: reads(file)) == [b"alice's"] * 3


def test_forged_metadata(folder: Path, alice: S3Client) -> None:
    """A user of S3 says of own objects what only a trusted owner may say."""
    bucket, prefix = place_of(folder)
    forged = {
        "root": {"uid": "0", "gid": "0", "mode": str(0o104755)},
        "octal": {"uid": "0", "mode": "104755"},
        "aws": {"file-owner": "0", "file-group": "0", "file-permissions": "4755"},
        "disk": {"uid": "0", "mode": str(0o060666), "rdev": str(os.makedev(254, 0))},
        "null": {"mode": str(0o020666), "rdev": "259"},
        "link": {"mode": str(0o120777)},
        "dir": {"mode": str(0o040777)},
        "bad": {"mode": "-1", "uid": "99999999999999999999", "mtime": "1e999", "rdev": "x"},
    }
    for name, metadata in forged.items():
        alice.put_object(
            Bucket=bucket, Key=f"{prefix}/{name}", Body=b"/etc/shadow", Metadata=metadata
        )
    time.sleep(0.4)
    for name in forged:
        path = folder / name
        assert owner_of(path) == (1001, 1001), name
        assert not path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID), name
        kind = "l" if name == "link" else "-"
        assert mode_of(path)[0] == kind, name
        assert path.lstat().st_rdev == 0, name
    # A link leads where who follows it may go: by the host's own rules.
    assert os.readlink(folder / "link") == "/etc/shadow"
    assert BOB.does(lambda: attempt((folder / "link").read_bytes)) == "EACCES"


def test_hostile_keys(folder: Path, alice: S3Client) -> None:
    bucket, prefix = place_of(folder)
    keys = ["a/../../etc/passwd", "..", ".", "//x", "a//b", "\x01\x1b[31m", "n" * 300, "ok", "-rf"]
    for key in keys:
        alice.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=b"x")
    time.sleep(0.4)
    assert sorted(os.listdir(folder)) == sorted(["\x01\x1b[31m", "-rf", "a", "ok"])
    assert os.listdir(folder / "a") == []
    for name in ("ok", "-rf", "\x01\x1b[31m"):
        assert (folder / name).read_bytes() == b"x"


def test_no_secret_where_others_look(bed: Bed, mount: DaemonProcess, folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    secrets = [person.secret_key for person in bed.users.values()]
    process = Path(f"/proc/{mount.pid}")
    places = [process / "cmdline", process / "environ", mount.log, *bed.logs()]
    places += [p for p in mount.folder.joinpath("cache").rglob("*") if p.is_file()]
    for place in places:
        content = place.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, place
        assert b"X-Amz-Signature" not in content
        assert b"Signature=" not in content, place
    # Not dumpable: nobody but root can look, and no core is written.
    limits = (process / "limits").read_text()
    assert "Max core file size        0 " in limits
    assert process.joinpath("mem").stat().st_uid == 0
    control = list(Path("/run/s3posixfs").glob("*.sock"))
    assert all(path.stat().st_uid == 0 and path.stat().st_mode & 0o077 == 0 for path in control)
    assert mount.folder.joinpath("cache").stat().st_mode & 0o077 == 0
