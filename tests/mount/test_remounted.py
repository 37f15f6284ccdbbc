"""What a program set before a mount ended is there in the next one, and on another host."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
TTL = 0.2
OPTIONS = {"metadata_ttl": str(TTL)}
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def beside(bed: Bed, bucket: str, bed_folder: Path) -> Iterator[Path]:
    """The bucket in a mount of another host, which stays while others come and go."""
    (bed_folder / "beside").mkdir()
    with bed.mount(bed_folder / "beside", bucket, OPTIONS) as mount:
        yield mount.mountpoint


@pytest.fixture
def one(bed: Bed, bucket: str, bed_folder: Path, request: pytest.FixtureRequest) -> DaemonProcess:
    """A mount of the bucket, not mounted yet."""
    folder = bed_folder / request.function.__name__
    folder.mkdir(exist_ok=True)
    return bed.mount(folder, bucket, OPTIONS)


def expire() -> None:
    time.sleep(TTL + 0.1)


def shown(path: Path) -> tuple[int, ...]:
    """What is to be the same in every mount."""
    found = path.lstat()
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_rdev, *times)


def type_of(entry: os.DirEntry[str]) -> int:
    """As readdir tells it, or lstat where that does not."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)


def all_shown(top: Path) -> dict[str, tuple[int, ...]]:
    paths = [top, *top.rglob("*")]
    return {str(path.relative_to(top.parent)): shown(path) for path in sorted(paths)}


def test_attributes_of_every_kind_of_file(one: DaemonProcess, beside: Path) -> None:
    with one as mount:
        top = mount.mountpoint / "kinds"
        mount.sh(
            "mkdir kinds; cd kinds; mkdir d; echo x > d/f; ln -s d/f link; mkfifo fifo;"
            "mknod device c 1 3; mkdir -m 3770 shared; chown 1001:1002 d; chmod 640 d/f;"
            "chown 1002:1001 d/f; touch -d @5.123456789 d/f; touch -ad @6 d; touch -hd @7.5 link",
        )
        os.setxattr(top / "d", "user.a", b"folder")
        os.setxattr(top / "d/f", "user.a", b"file")
        (top / "d" / "later").write_bytes(b"")  # the folder has a new time, which nobody set
        before = all_shown(top)
    expire()
    # What a listing does not tell the type of it gives no type, or `find -type l` would miss it.
    for entry in os.scandir(beside / "kinds"):
        assert stat.S_IFMT(before[f"kinds/{entry.name}"][1]) == type_of(entry), entry.name
    assert all_shown(beside / "kinds") == before
    with one as mount:
        assert all_shown(top) == before
        assert os.getxattr(top / "d", "user.a") == b"folder"
        assert os.getxattr(top / "d/f", "user.a") == b"file"
        mount.sh("rm -r kinds")


def test_the_root_of_a_bucket(
    one: DaemonProcess, bed: Bed, bed_folder: Path, bucket: str, beside: Path
) -> None:
    with one as mount:
        top = mount.mountpoint
        usual = shown(top)
        mount.sh("chmod 1751 .; chown 1001:1002 .; touch -d @5 .")
        os.setxattr(top, "user.a", b"root")
        before = shown(top)
        assert stat.S_IMODE(before[1]) == 0o1751
    expire()
    assert shown(beside) == before
    assert os.getxattr(beside, "user.a") == b"root"
    with one as mount:
        assert shown(mount.mountpoint) == before
        assert "" not in os.listdir(mount.mountpoint)
    (bed_folder / "all").mkdir()
    with bed.mount(bed_folder / "all", "/", OPTIONS) as everything:
        found = everything.mountpoint / bucket
        assert shown(found)[1:] == before[1:]
        everything.sh(f"chmod 755 {bucket}")
        expire()
        assert stat.S_IMODE(beside.stat().st_mode) == 0o755
    client = bed.s3("admin")
    client.delete_object(Bucket=bucket, Key="/")
    client.close()
    expire()
    assert shown(beside)[1:4] == usual[1:4]


def test_the_root_of_a_prefix(bed: Bed, bed_folder: Path, bucket: str, beside: Path) -> None:
    (beside / "a").mkdir()
    (beside / "a" / "b").mkdir()
    (bed_folder / "prefix").mkdir()
    prefix = bed.mount(bed_folder / "prefix", f"{bucket}/a/b", OPTIONS)
    with prefix as mount:
        mount.sh("chmod 2750 .; chown 1002:1001 .; touch file")
        before = shown(mount.mountpoint)
    expire()
    assert shown(beside / "a" / "b")[1:] == before[1:]
    with prefix as mount:
        assert shown(mount.mountpoint) == before
        mount.sh("rm file")


def test_a_folder_that_nobody_made_until_it_is_changed(
    one: DaemonProcess, beside: Path, alice: S3Client, bucket: str
) -> None:
    alice.put_object(Bucket=bucket, Key="implied/inner/key", Body=b"x")
    expire()
    assert shown(beside / "implied")[5:] == shown(beside / "implied" / "inner")[5:]
    with one as mount:
        top = mount.mountpoint / "implied"
        assert all_shown(top) == all_shown(beside / "implied")
        mount.sh("chmod 711 implied/inner; chown 1001:1001 implied/inner")
        before = all_shown(top / "inner")
    with one as mount:
        assert all_shown(top / "inner") == before
        mount.sh("rm -r implied")


@pytest.mark.parametrize("copy", ["cp -a", "tar", "rsync -a"])
def test_a_copied_tree_keeps_its_folders_times(
    one: DaemonProcess, tmp_path: Path, bed_folder: Path, copy: str
) -> None:
    source = tmp_path / "tree"
    for number in range(12):
        folder = source / f"{number % 3}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * number)
    for number, path in enumerate(sorted(source.rglob("*"), reverse=True)):
        os.utime(path, ns=(SECOND * number, SECOND * number + 123_456_789))
    os.utime(source, ns=(SECOND, SECOND))
    with one as mount:
        target = mount.mountpoint / "copied"
        commands = {
            "cp -a": f"cp -a {source} {target}",
            "rsync -a": f"rsync -a {source}/ {target}",
            "tar": f"mkdir {target}; tar -C {source} --format=posix -c . | tar -C {target} -x",
        }
        subprocess.run(["/bin/sh", "-ec", commands[copy]], check=True, timeout=120)
    with one as mount:
        for path in (source, *source.rglob("*")):
            found = (target / path.relative_to(source)).stat()
            assert found.st_mtime_ns == path.stat().st_mtime_ns, path
            assert found.st_mode == path.stat().st_mode, path
        mount.sh("rm -r copied")


def test_numbers_of_files(one: DaemonProcess, beside: Path) -> None:
    """Unique, the same on both hosts and after a remount; kept through a rename while mounted."""
    with one as mount:
        top = mount.mountpoint / "numbers"
        mount.sh("mkdir -p numbers/a/b; cd numbers; for i in $(seq 40); do echo > a/b/$i; done")
        files = {path: path.lstat().st_ino for path in (top, *top.rglob("*"))}
        assert len(set(files.values())) == len(files)
        assert top.parent.stat().st_ino == 1
        renamed = top / "c"
        (top / "a").rename(renamed)
        (top / "a").mkdir()
        (top / "a" / "b").mkdir()
        (top / "a" / "b" / "1").write_bytes(b"another")
        Path("/proc/sys/vm/drop_caches").write_text("2")  # the kernel forgets its inodes
        expire()
        for path, number in files.items():
            if path != top and path.is_relative_to(top / "a"):
                assert (renamed / path.relative_to(top / "a")).lstat().st_ino == number
        assert (top / "a" / "b" / "1").lstat().st_ino not in files.values()
        found = mount.sh(f"find numbers -inum {files[top / 'a' / 'b' / '7']}").split()
        assert found == ["numbers/c/b/7"]
        mount.sh("rm -r numbers/a; mv numbers/c numbers/a")
    with one:
        again = {path: path.lstat().st_ino for path in (top, *top.rglob("*"))}
        there = {top.parent / p.relative_to(beside): p.lstat().st_ino for p in every(beside)}
        assert again == files
        assert there == files
        assert {(path.lstat().st_dev) for path in again} == {top.parent.stat().st_dev}


def every(mountpoint: Path) -> list[Path]:
    top = mountpoint / "numbers"
    return [top, *top.rglob("*")]
