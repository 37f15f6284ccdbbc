"""Clients that do whole jobs: s3cmd syncs trees, s3fs-fuse mounts the store, rclone mirrors.

Each runs as a program of its own with the endpoint and a key pair; `scripts/test` installs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.store_process import StoreProcess, User

MIB = 1024 * 1024
LARGE = 17 * MIB + 3
NAMES = ("a", "a b", "ä+ö", "100%", "deep/er/still/x", "q?#&=", "tilde~'\"", "empty")


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store") as store:
        yield store
        assert store.stop() == 0
        assert "Traceback" not in (log := store.log.read_text()), log


@pytest.fixture(scope="module")
def alice(store: StoreProcess) -> User:
    return store.add_user("alice", 1001, policy="readwrite")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with files of awkward names and one that goes by parts."""
    top = tmp_path / "tree"
    for name in NAMES:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else name.encode() * 100)
    (top / "large").write_bytes(os.urandom(LARGE))
    return top


def contents(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed: scripts/test installs it"
    return found


def run(*command: str | Path, environment: Mapping[str, str] | None = None, status: int = 0) -> str:
    """Output of a program that must end with ``status``."""
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == status, f"{command}\n{done.stdout}"
    return done.stdout


def test_s3cmd(store: StoreProcess, alice: User, tree: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "s3cfg"
    host = store.endpoint.removeprefix("http://").rstrip("/")
    settings = {
        "access_key": alice.access_key,
        "secret_key": alice.secret_key,
        "host_base": host,
        "host_bucket": host,  # as for every store that is asked by path
        "use_https": "False",
        "bucket_location": "us-east-1",
        "multipart_chunk_size_mb": "5",
    }
    lines = ["[default]", *(f"{name} = {value}" for name, value in settings.items())]
    configuration.write_text("\n".join(lines) + "\n")

    def s3cmd(*arguments: str | Path, status: int = 0) -> str:
        return run(
            program("s3cmd"), "-c", configuration, "--no-progress", *arguments, status=status
        )

    s3cmd("mb", "s3://command")
    s3cmd("sync", f"{tree}/", "s3://command/tree/")
    listed = s3cmd("ls", "-r", "s3://command/tree/")
    assert len(listed.splitlines()) == len(NAMES) + 1
    back = tmp_path / "back"
    back.mkdir()
    s3cmd("sync", "s3://command/tree/", f"{back}/")
    assert contents(back) == contents(tree)
    assert "done" not in s3cmd("sync", f"{tree}/", "s3://command/tree/").lower()
    s3cmd("cp", "s3://command/tree/a", "s3://command/copy")
    s3cmd("mv", "s3://command/copy", "s3://command/moved")
    assert "s3://command/copy" not in s3cmd("ls", "s3://command")
    told = s3cmd("info", "s3://command/tree/large")
    assert str(LARGE) in told
    s3cmd("modify", "--add-header=Cache-Control:no-cache", "s3://command/moved")
    client = store.s3(alice)
    assert client.head_object(Bucket="command", Key="moved")["CacheControl"] == "no-cache"
    client.close()
    (tree / "a").unlink()
    s3cmd("sync", "--delete-removed", f"{tree}/", "s3://command/tree/")
    assert "s3://command/tree/a\n" not in s3cmd("ls", "s3://command/tree/") + "\n"
    s3cmd("rb", "s3://command", status=13)  # BucketNotEmpty
    s3cmd("del", "-r", "--force", "s3://command")
    s3cmd("rb", "s3://command")
    s3cmd("ls", "s3://command", status=12)  # NoSuchBucket


@contextmanager
def s3fs(store: StoreProcess, user: User, bucket: str, folder: Path) -> Iterator[Path]:
    """The bucket mounted by s3fs-fuse as ``user``."""
    assert Path("/dev/fuse").exists(), "mounting needs /dev/fuse: modprobe fuse"
    password, mountpoint = folder / "passwd", folder / "mnt"
    password.write_text(f"{user.access_key}:{user.secret_key}\n")
    password.chmod(0o600)
    mountpoint.mkdir()
    options = f"url={store.endpoint},use_path_request_style,passwd_file={password}"
    command: Sequence[str | Path] = (
        program("s3fs"), bucket, mountpoint, "-f", "-o", f"{options},multipart_size=5",
    )  # fmt: skip
    log = (folder / "s3fs.log").open("wb")
    mounted = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not mountpoint.is_mount():
            assert mounted.poll() is None, (folder / "s3fs.log").read_text()
            assert time.monotonic() < deadline, "s3fs did not mount"
            time.sleep(0.05)
        yield mountpoint
    finally:
        run("umount", mountpoint)
        mounted.wait(20)
        log.close()


def test_s3fs_fuse(store: StoreProcess, alice: User, tree: Path, tmp_path: Path) -> None:
    client = store.s3(alice)
    client.create_bucket(Bucket="mounted")
    (tree / "a").chmod(0o640)
    os.chown(tree / "a", 1234, 2345)
    os.utime(tree / "a", (1_500_000_000, 1_500_000_000))
    (tree / "link").symlink_to("a b")
    with s3fs(store, alice, "mounted", tmp_path) as mountpoint:
        run("cp", "-a", f"{tree}/.", mountpoint / "copy")
        run("diff", "-r", "--no-dereference", tree, mountpoint / "copy")
        facts = (mountpoint / "copy" / "a").stat()
        assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o640, 1234, 2345)
        assert facts.st_mtime == 1_500_000_000
        (mountpoint / "copy" / "a").chmod(0o600)
        (mountpoint / "copy" / "a").rename(mountpoint / "renamed")
        (mountpoint / "copy" / "deep").rename(mountpoint / "shallow")
        with (mountpoint / "copy" / "large").open("r+b") as file:
            file.seek(9 * MIB)
            file.write(b"changed")
        assert (mountpoint / "renamed").stat().st_mode & 0o7777 == 0o600
        assert (mountpoint / "shallow" / "er" / "still" / "x").is_file()
        assert not (mountpoint / "copy" / "a").exists()
        shutil.rmtree(mountpoint / "shallow")
        names = sorted(run("ls", "-A", mountpoint).split())
        assert names == ["copy", "renamed"]
    # What another client sees, and what lies on the disk.
    body = client.get_object(Bucket="mounted", Key="copy/large")["Body"].read()
    expected = bytearray((tree / "large").read_bytes())
    expected[9 * MIB : 9 * MIB + 7] = b"changed"
    assert body == bytes(expected)
    assert client.head_object(Bucket="mounted", Key="renamed")["Metadata"]["uid"] == "1234"
    assert (store.root / "mounted" / "renamed").read_bytes() == b"a" * 100
    assert (store.root / "mounted" / "renamed").stat().st_uid == 1001
    client.close()


def test_s3fs_of_who_may_only_read(store: StoreProcess, alice: User, tmp_path: Path) -> None:
    reader = store.add_user("reader", 1002, policy="readonly")
    client = store.s3(alice)
    client.create_bucket(Bucket="read-only")
    client.put_object(Bucket="read-only", Key="there", Body=b"here")
    client.close()
    with s3fs(store, reader, "read-only", tmp_path) as mountpoint:
        assert (mountpoint / "there").read_bytes() == b"here"
        with pytest.raises(OSError, match=r"\[Errno (1|5|13)\]"):
            (mountpoint / "new").write_bytes(b"x")
        with pytest.raises(OSError, match=r"\[Errno (1|5|13)\]"):
            (mountpoint / "there").unlink()
    assert (store.root / "read-only" / "there").read_bytes() == b"here"


def test_rclone_mirrors(store: StoreProcess, alice: User, tree: Path, tmp_path: Path) -> None:
    environment = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_OURS_TYPE": "s3",
        "RCLONE_CONFIG_OURS_PROVIDER": "Other",
        "RCLONE_CONFIG_OURS_ENDPOINT": store.endpoint,
        "RCLONE_CONFIG_OURS_ACCESS_KEY_ID": alice.access_key,
        "RCLONE_CONFIG_OURS_SECRET_ACCESS_KEY": alice.secret_key,
    }

    def rclone(*arguments: str | Path, status: int = 0) -> str:
        parts = ("--s3-upload-cutoff=5Mi", "--s3-chunk-size=5Mi", "--retries=1")
        return run(program("rclone"), *parts, *arguments, environment=environment, status=status)

    rclone("mkdir", "ours:mirror")
    rclone("sync", "--checksum", tree, "ours:mirror/tree")
    rclone("check", "--download", tree, "ours:mirror/tree")
    (tree / "a").write_bytes(b"changed")
    (tree / "a b").unlink()
    (tree / "deep").rename(tree / "elsewhere")
    rclone("check", tree, "ours:mirror/tree", status=1)
    rclone("sync", "--track-renames", "--metadata", tree, "ours:mirror/tree")
    rclone("check", "--one-way", tree, "ours:mirror/tree")
    rclone("check", tree, "ours:mirror/tree")
    back = tmp_path / "back"
    rclone("sync", "ours:mirror/tree", back)
    assert contents(back) == contents(tree)
    rclone("moveto", "ours:mirror/tree/a", "ours:mirror/moved")
    assert rclone("cat", "ours:mirror/moved") == "changed"
    assert rclone("size", "ours:mirror", "--json").startswith('{"count":')
    rclone("purge", "ours:mirror")
    rclone("lsf", "ours:mirror", status=3)
