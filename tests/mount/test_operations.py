"""What programs do to files, through the kernel, and what of it is in S3 afterwards."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.bed import Bed, place_of
from tests.mount.mount_process import DaemonProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
MIB = 1024 * 1024


def body(client: S3Client, path: Path) -> bytes:
    bucket, key = place_of(path)
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def keys(client: S3Client, path: Path) -> list[str]:
    """The keys below a folder, markers of folders left out, relative to it."""
    bucket, key = place_of(path)
    page = client.list_objects_v2(Bucket=bucket, Prefix=f"{key}/")
    found = [row["Key"].removeprefix(f"{key}/") for row in page.get("Contents", [])]
    return [key for key in found if key and not key.endswith("/")]


def test_create_and_read_back(folder: Path, alice: S3Client) -> None:
    path = folder / "file"
    path.write_bytes(b"one")
    assert path.read_bytes() == b"one"
    assert body(alice, path) == b"one"
    assert path.stat().st_size == 3
    path.write_bytes(b"")
    assert path.stat().st_size == 0
    assert body(alice, path) == b""


def test_exclusive_create(folder: Path) -> None:
    (folder / "file").write_bytes(b"first")
    with pytest.raises(FileExistsError):
        os.open(folder / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert (folder / "file").read_bytes() == b"first"


def test_shared_memory_of_a_file_open_for_appending(folder: Path, alice: S3Client) -> None:
    """Its pages are written where they belong, not at the end; what is appended goes there."""
    path = folder / "log"
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
    descriptor = os.open(path, flags, 0o644)
    os.write(descriptor, b"0" * 5000)
    with mmap.mmap(descriptor, 5000) as view:
        for number in range(1, 4):
            view[1000 * number : 1000 * number + 1] = b"%d" % number
            view.flush()
            os.write(descriptor, b"end %d" % number)
    os.close(descriptor)
    expected = bytearray(b"0" * 5000)
    for number in range(1, 4):
        expected[1000 * number] = ord(b"%d" % number)
    assert body(alice, path) == path.read_bytes() == bytes(expected) + b"end 1end 2end 3"


def test_root_gives_a_file_to_a_group_that_its_owner_is_not_in(
    folder: Path, mount: DaemonProcess
) -> None:
    mount.sh(f"cd {folder} && touch file && mkdir below", uid=1001)
    for path in (folder / "file", folder / "below"):
        os.chown(path, -1, 1002)
        assert (path.stat().st_uid, path.stat().st_gid) == (1001, 1002)
    mount.sh(f"cd {folder} && echo more >> file && chmod 600 file && chmod 700 below", uid=1001)
    for path in (folder / "file", folder / "below"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1001, 1002)


def test_append(folder: Path, alice: S3Client) -> None:
    path = folder / "log"
    for number in range(20):
        with path.open("a") as file:
            file.write(f"line {number}\n")
    assert body(alice, path).decode().splitlines() == [f"line {n}" for n in range(20)]


def test_truncate_down_up_and_on_open(folder: Path, alice: S3Client) -> None:
    path = folder / "file"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert (path.read_bytes(), body(alice, path)) == (b"0123", b"0123")
    os.truncate(path, 8)
    assert (path.read_bytes(), body(alice, path)) == (b"0123\0\0\0\0", b"0123\0\0\0\0")
    with path.open("r+b") as file:
        file.truncate(2)
        file.seek(0, os.SEEK_END)
        file.write(b"x")
    assert body(alice, path) == b"01x"


def test_random_writes_equal_a_shadow(folder: Path, alice: S3Client) -> None:
    generator = random.Random(7)
    shadow = bytearray(generator.randbytes(3 * MIB))
    path = folder / "file"
    path.write_bytes(shadow)
    with path.open("r+b") as file:
        for _ in range(200):
            offset = generator.randrange(4 * MIB)
            data = generator.randbytes(generator.randrange(1, 70_000))
            file.seek(offset)
            file.write(data)
            if offset > len(shadow):
                shadow.extend(bytes(offset - len(shadow)))
            shadow[offset : offset + len(data)] = data
            if generator.random() < 0.1:
                file.seek(offset)
                assert file.read(len(data)) == data
    assert path.read_bytes() == shadow
    assert body(alice, path) == shadow


def test_an_edit_of_a_large_object_keeps_the_rest(folder: Path, alice: S3Client) -> None:
    path = folder / "large"
    content = bytearray(random.Random(8).randbytes(24 * MIB))
    bucket, key = place_of(path)
    alice.put_object(Bucket=bucket, Key=key, Body=bytes(content))
    time.sleep(0.3)
    with path.open("r+b") as file:
        file.seek(11 * MIB + 5)
        file.write(b"EDITED")
        file.seek(0, os.SEEK_END)
        file.write(b"APPENDED")
    content[11 * MIB + 5 : 11 * MIB + 11] = b"EDITED"
    content += b"APPENDED"
    found = hashlib.sha256(body(alice, path)).hexdigest()
    assert found == hashlib.sha256(content).hexdigest()


def test_rename_a_file_and_over_a_file(folder: Path, alice: S3Client) -> None:
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    (folder / "a").rename(folder / "c")
    assert sorted(os.listdir(folder)) == ["b", "c"]
    (folder / "c").rename(folder / "b")
    assert os.listdir(folder) == ["b"]
    assert (folder / "b").read_bytes() == b"a"
    assert keys(alice, folder) == ["b"]


def test_rename_a_folder(folder: Path, alice: S3Client) -> None:
    (folder / "old" / "sub").mkdir(parents=True)
    for name in ("one", "sub/two", "sub/three"):
        (folder / "old" / name).write_text(name)
    (folder / "old").rename(folder / "new")
    assert not (folder / "old").exists()
    assert (folder / "new" / "sub" / "two").read_text() == "sub/two"
    assert keys(alice, folder) == ["new/one", "new/sub/three", "new/sub/two"]


def test_rename_refuses_what_posix_refuses(folder: Path) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "file").write_bytes(b"")
    (folder / "empty").mkdir()
    with pytest.raises(OSError, match="not empty") as caught:
        (folder / "empty").rename(folder / "full")
    assert caught.value.errno == errno.ENOTEMPTY
    (folder / "full").rename(folder / "empty")
    assert os.listdir(folder) == ["empty"]


def test_unlink_while_open(folder: Path, alice: S3Client) -> None:
    path = folder / "file"
    path.write_bytes(b"still here")
    with path.open("r+b") as file:
        path.unlink()
        assert not path.exists()
        assert file.read() == b"still here"
        file.write(b", and written to")
        file.seek(0)
        assert file.read() == b"still here, and written to"
    assert keys(alice, folder) == []
    assert os.listdir(folder) == []


def test_mkdir_rmdir(folder: Path) -> None:
    (folder / "sub").mkdir()
    with pytest.raises(FileExistsError):
        (folder / "sub").mkdir()
    (folder / "sub" / "file").write_bytes(b"")
    with pytest.raises(OSError, match="not empty"):
        (folder / "sub").rmdir()
    (folder / "sub" / "file").unlink()
    assert (folder / "sub").is_dir(), "a folder must stay when its last file goes"
    (folder / "sub").rmdir()
    assert os.listdir(folder) == []


def test_symlink(folder: Path) -> None:
    (folder / "file").write_bytes(b"target")
    (folder / "link").symlink_to("file")
    assert os.readlink(folder / "link") == "file"
    assert (folder / "link").read_bytes() == b"target"
    assert stat.S_ISLNK((folder / "link").lstat().st_mode)
    (folder / "dangling").symlink_to("/nowhere/at/all")
    assert os.readlink(folder / "dangling") == "/nowhere/at/all"


def test_chmod_chown_utimens(folder: Path, mount: DaemonProcess) -> None:
    path = folder / "file"
    path.write_bytes(b"x")
    path.chmod(0o640)
    os.utime(path, ns=(1_111_111_111_123_456_789, 1_222_222_222_987_654_321))
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert found.st_mtime_ns == 1_222_222_222_987_654_321
    assert found.st_atime_ns == 1_111_111_111_123_456_789
    os.chown(path, 1002, 1002)
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (1002, 1002)
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert found.st_mtime_ns == 1_222_222_222_987_654_321
    os.chown(path, 4242, 4343)
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (4242, 4343)
    folder_in = folder / "sub"
    folder_in.mkdir()
    folder_in.chmod(0o700)
    assert stat.S_IMODE(folder_in.stat().st_mode) == 0o700


def test_what_another_client_does_is_seen(folder: Path, alice: S3Client) -> None:
    bucket, key = place_of(folder / "from-s3")
    assert not (folder / "from-s3").exists()
    alice.put_object(Bucket=bucket, Key=key, Body=b"new")
    time.sleep(0.5)
    assert (folder / "from-s3").read_bytes() == b"new"
    alice.put_object(Bucket=bucket, Key=key, Body=b"newer, and longer")
    time.sleep(0.5)
    assert (folder / "from-s3").read_bytes() == b"newer, and longer"
    alice.delete_object(Bucket=bucket, Key=key)
    time.sleep(0.5)
    assert not (folder / "from-s3").exists()


def test_a_folder_of_2500_objects_lists_whole(folder: Path, bed: Bed, alice: S3Client) -> None:
    bucket, prefix = place_of(folder)
    bed.put_empty([f"{prefix}/many/{number:04}" for number in range(2500)])
    time.sleep(0.5)
    names = os.listdir(folder / "many")
    assert sorted(names) == [f"{number:04}" for number in range(2500)]
    page = alice.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/many/")
    assert page["IsTruncated"]


def test_fsync_means_in_s3(folder: Path, alice: S3Client) -> None:
    path = folder / "file"
    with path.open("wb") as file:
        file.write(b"synced")
        file.flush()
        os.fsync(file.fileno())
        assert body(alice, path) == b"synced"
        file.write(b" and more")
    assert body(alice, path) == b"synced and more"


def test_mmap_read_and_statfs(folder: Path, mount: DaemonProcess) -> None:
    import mmap

    content = random.Random(9).randbytes(2 * MIB)
    (folder / "file").write_bytes(content)
    with (
        (folder / "file").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view,
    ):
        assert view[:] == content
    space = os.statvfs(folder)
    assert space.f_bsize > 0
    assert space.f_bavail > 0


@pytest.mark.parametrize(
    "name", ["with space", "ümläut-日本", "plus+percent%41&=?#", "-", "a" * 255]
)
def test_names_of_all_kinds(folder: Path, alice: S3Client, name: str) -> None:
    (folder / name).write_bytes(name.encode())
    assert os.listdir(folder) == [name]
    assert body(alice, folder / name) == name.encode()


def test_a_name_that_is_too_long(folder: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        (folder / ("a" * 256)).write_bytes(b"")
    assert caught.value.errno == errno.ENAMETOOLONG
