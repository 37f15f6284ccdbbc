"""POSIX metadata of others: written by the real s3fs-fuse and rclone, and as AWS documents its own;
and what s3fs-fuse sees of ours."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount]

BUCKET = "dialects"
THEN = 1_500_000_000
NS = 1_500_000_000_123_456_789


@pytest.fixture(scope="module")
def people(store: StoreProcess) -> dict[str, User]:
    """The mount believes ``sync``, as it would a service that copies trees with their owners."""
    people = {
        "ann": store.add_user("ann", 1001, policy="readwrite"),
        "sync": store.add_user("sync", 1099, policy="readwrite"),
    }
    client = store.s3(people["ann"])
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return people


@pytest.fixture(scope="module")
def mount(
    store: StoreProcess, people: dict[str, User], module_folder: Path
) -> Iterator[MountProcess]:
    options = {"metadata_ttl": "0", "trusted_owners": "sync"}
    with MountProcess(store, module_folder, BUCKET, options) as mount:
        yield mount


@pytest.fixture
def sync(store: StoreProcess, people: dict[str, User]) -> Iterator[S3Client]:
    client = store.s3(people["sync"])
    yield client
    client.close()


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed: scripts/test installs it"
    return found


@contextmanager
def s3fs(store: StoreProcess, user: User, folder: Path) -> Iterator[Path]:
    """The bucket mounted by s3fs-fuse as ``user``, with extended attributes."""
    password, mountpoint, log = folder / "passwd", folder / "s3fs", folder / "s3fs.log"
    password.write_text(f"{user.access_key}:{user.secret_key}\n")
    password.chmod(0o600)
    mountpoint.mkdir()
    options = (
        f"url={store.endpoint},use_path_request_style,passwd_file={password},use_xattr=1,"
        "stat_cache_expire=1,allow_other"
    )
    with log.open("wb") as output:
        mounted = subprocess.Popen(
            [program("s3fs"), BUCKET, str(mountpoint), "-f", "-o", options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            deadline = time.monotonic() + 20
            while not mountpoint.is_mount():
                assert mounted.poll() is None, log.read_text()
                assert time.monotonic() < deadline, "s3fs did not mount"
                time.sleep(0.05)
            yield mountpoint
        finally:
            subprocess.run(["umount", str(mountpoint)], check=False, timeout=60)
            mounted.wait(20)


def facts(path: Path) -> tuple[str, int, int, int]:
    """Mode, uid, gid and time of a path, as ``ls -l`` says them."""
    found = path.lstat()
    return stat.filemode(found.st_mode), found.st_uid, found.st_gid, int(found.st_mtime)


def test_what_s3fs_wrote(
    store: StoreProcess, people: dict[str, User], mount: MountProcess, open_folder: Path
) -> None:
    with s3fs(store, people["sync"], open_folder) as theirs:
        top = theirs / "by-s3fs"
        top.mkdir(mode=0o750)
        (top / "file").write_text("data")
        (top / "file").chmod(0o640)
        os.chown(top / "file", 1234, 2345)
        os.setxattr(top / "file", "user.colour", b"red\0\xff")
        os.utime(top / "file", (THEN, THEN))
        (top / "link").symlink_to("file")
        os.mkfifo(top / "fifo", 0o600)
        os.chown(top, 1234, 2345)
    ours = mount.mountpoint / "by-s3fs"
    assert facts(ours)[:3] == ("drwxr-x---", 1234, 2345)
    assert facts(ours / "file") == ("-rw-r-----", 1234, 2345, THEN)
    assert (ours / "link").readlink() == Path("file")
    assert (ours / "link").read_text() == "data"
    assert stat.S_ISFIFO((ours / "fifo").lstat().st_mode)
    assert os.getxattr(ours / "file", "user.colour") == b"red\0\xff"
    assert sorted(os.listdir(ours)) == ["fifo", "file", "link"]


def test_what_s3fs_sees_of_ours(
    store: StoreProcess, people: dict[str, User], mount: MountProcess, open_folder: Path
) -> None:
    top = mount.mountpoint / "ours"
    top.mkdir(mode=0o751)
    (top / "file").write_text("data")
    (top / "file").chmod(0o604)
    os.chown(top / "file", 1234, 2345)
    os.setxattr(top / "file", "user.colour", b"blue\0\xff")
    os.utime(top / "file", ns=(NS, NS))
    (top / "link").symlink_to("file")
    (top / "large").write_bytes(b"x" * 9_000_000)
    (top / "inner").mkdir()
    (top / "inner" / "deep").write_text("deep")
    mount.sh("mkdir of-ann; echo mine > of-ann/f; chmod 640 of-ann/f; ln -s f of-ann/l")
    with s3fs(store, people["sync"], open_folder) as theirs:
        seen = theirs / "ours"
        assert facts(seen)[0] == "drwxr-x--x"
        assert facts(seen / "file") == ("-rw----r--", 1234, 2345, THEN)
        assert (seen / "link").readlink() == Path("file")
        assert (seen / "link").read_text() == "data"
        assert (seen / "large").stat().st_size == 9_000_000
        assert (seen / "inner" / "deep").read_text() == "deep"
        assert os.getxattr(seen / "file", "user.colour") == b"blue\0\xff"
        assert sorted(os.listdir(seen)) == ["file", "inner", "large", "link"]
        assert (theirs / "of-ann" / "l").readlink() == Path("f")
        # And back: what s3fs changes, we see.
        (seen / "file").chmod(0o400)
        (seen / "file").rename(seen / "moved")
        (seen / "inner" / "deep").write_text("deeper")
    assert facts(top / "moved") == ("-r--------", 1234, 2345, THEN)
    assert os.getxattr(top / "moved", "user.colour") == b"blue\0\xff"
    assert (top / "inner" / "deep").read_text() == "deeper"


def rclone(store: StoreProcess, user: User, *arguments: str | Path) -> None:
    done = subprocess.run(
        [program("rclone"), "--retries=1", *arguments],
        env={
            **os.environ,
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_OURS_TYPE": "s3",
            "RCLONE_CONFIG_OURS_PROVIDER": "Other",
            "RCLONE_CONFIG_OURS_ENDPOINT": store.endpoint,
            "RCLONE_CONFIG_OURS_ACCESS_KEY_ID": user.access_key,
            "RCLONE_CONFIG_OURS_SECRET_ACCESS_KEY": user.secret_key,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("metadata", [False, True], ids=["times only", "with -M"])
def test_what_rclone_wrote(
    store: StoreProcess,
    people: dict[str, User],
    mount: MountProcess,
    open_folder: Path,
    metadata: bool,
) -> None:
    source = open_folder / "tree"
    (source / "d").mkdir(parents=True)
    (source / "d" / "file").write_text("data")
    (source / "d" / "file").chmod(0o750)
    os.chown(source / "d" / "file", 1234, 2345)
    os.utime(source / "d" / "file", ns=(NS, NS))
    name = f"by-rclone-{metadata}"
    flags = ["--metadata"] if metadata else []
    rclone(store, people["sync"], "copy", *flags, source, f"ours:{BUCKET}/{name}")
    found = (mount.mountpoint / name / "d" / "file").stat()
    assert found.st_mtime_ns == NS
    expected = (0o100750, 1234, 2345) if metadata else (0o100644, 1099, 1099)
    assert (found.st_mode, found.st_uid, found.st_gid) == expected
    # Of who is not believed the owner is proven, and the mode is their own to choose.
    rclone(store, people["ann"], "copy", *flags, source, f"ours:{BUCKET}/{name}-ann")
    found = (mount.mountpoint / f"{name}-ann" / "d" / "file").stat()
    assert (found.st_uid, found.st_gid) == (1001, 1001)
    assert found.st_mode == expected[0]
    assert found.st_mtime_ns == NS


# Recorded: as AWS documents what DataSync, File Gateway and FSx for Lustre write.
RECORDED: list[tuple[str, dict[str, str], tuple[int, int, int, int]]] = [
    (
        "datasync-or-fsx",
        {
            "file-permissions": "0100644",
            "file-owner": "1234",
            "file-group": "2345",
            "file-mtime": "1595002920000000000ns",
            "file-atime": "1595002920000000000ns",
            "user-agent": "aws-fsx-lustre",
        },
        (0o100644, 1234, 2345, 1_595_002_920_000_000_000),
    ),
    (
        "file-gateway",
        {
            "file-permissions": "0640",
            "file-owner": "65534",
            "file-group": "65534",
            "file-mtime": "1595002920123",
            "user-agent": "aws-storage-gateway",
        },
        (0o100640, 65534, 65534, 1_595_002_920_123_000_000),
    ),
    (
        "without-a-leading-0",
        {"file-permissions": "100755", "file-owner": "500", "file-group": "500"},
        (0o100755, 500, 500, 0),
    ),
]


@pytest.mark.parametrize(("name", "metadata", "expected"), RECORDED, ids=lambda v: str(v)[:20])
def test_what_aws_writes(
    mount: MountProcess,
    sync: S3Client,
    name: str,
    metadata: dict[str, str],
    expected: tuple[int, int, int, int],
) -> None:
    sync.put_object(Bucket=BUCKET, Key=f"aws/{name}", Body=b"x", Metadata=metadata)
    found = (mount.mountpoint / "aws" / name).stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == expected[:3]
    assert expected[3] in (0, found.st_mtime_ns)


def test_a_link_and_a_folder_as_aws_writes_them(mount: MountProcess, sync: S3Client) -> None:
    owner = {"file-owner": "1234", "file-group": "2345"}
    sync.put_object(Bucket=BUCKET, Key="aws2/", Metadata={**owner, "file-permissions": "0040750"})
    sync.put_object(
        Bucket=BUCKET,
        Key="aws2/link",
        Body=b"some/where",
        Metadata={**owner, "file-permissions": "0120777"},
    )
    assert facts(mount.mountpoint / "aws2")[:3] == ("drwxr-x---", 1234, 2345)
    assert (mount.mountpoint / "aws2" / "link").readlink() == Path("some/where")


CHANGES: Mapping[str, str] = {
    "chmod": "chmod 600 {0}",
    "chown": "chown 1500:1500 {0}",
    "touch": "touch -d @1000000000 {0}",
    "append": "echo more >> {0}",
    "rewrite": "echo other > {0}",
    "setxattr": "setfattr -n user.k -v v {0}",
    "rename": "mv {0} {0}-moved",
    "rename of the folder": "mv $(dirname {0}) $(dirname {0})-moved",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_unknown_keys_survive(
    mount: MountProcess, sync: S3Client, change: str, request: pytest.FixtureRequest
) -> None:
    folder = request.node.callspec.id.replace(" ", "-")
    theirs = {"project": "apollo", "file-acl": "AAAB", "user-agent": "aws-datasync"}
    stated = {"file-permissions": "0100755", "file-owner": "1234", "file-group": "2345"}
    sync.put_object(
        Bucket=BUCKET,
        Key=f"{folder}/f",
        Body=b"x",
        Metadata={**theirs, **stated},
        ContentType="text/x-thing",
        CacheControl="no-store",
    )
    mount.sh(change.format(f"{folder}/f"))
    (row,) = sync.list_objects_v2(Bucket=BUCKET, Prefix=folder)["Contents"]
    found = sync.head_object(Bucket=BUCKET, Key=row["Key"])
    assert {name: found["Metadata"].get(name) for name in theirs} == theirs
    assert (found["ContentType"], found["CacheControl"]) == ("text/x-thing", "no-store")
    # What the mount states in its own keys is not contradicted by others'.
    if "uid" in found["Metadata"]:
        assert not set(stated) & set(found["Metadata"])
    path = mount.mountpoint / row["Key"]
    mode = 0o600 if "chmod" in change else 0o755
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.stat().st_uid == (1500 if "chown" in change else 1234)
