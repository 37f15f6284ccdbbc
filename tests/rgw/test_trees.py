"""Real programs on the gateway: cp -a there and back, git, and a large file changed in place."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.mount_process import setpriv
from tests.mount.test_trees import facts
from tests.rgw.conftest import owners
from tests.rgw.gateway import GatewayMount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.rgw, pytest.mark.slow]
MIB = 1024 * 1024
FILES = 400


def make_tree(top: Path) -> None:
    """400 files of up to 20 KiB in 20 folders, with links, modes and times to the nanosecond."""
    generator = random.Random(7)
    for number in range(FILES):
        folder = top / f"folder {number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        size = generator.choice((0, 1, generator.randrange(20_000)))
        (folder / f"file-{number}").write_bytes(generator.randbytes(size))
        (folder / f"file-{number}").chmod(generator.choice((0o644, 0o600, 0o755, 0o444)))
    (top / "empty folder").mkdir()
    (top / "übung").write_text("é\n")
    for number in range(20):
        (top / f"link-{number}").symlink_to(f"folder {number}/file-{number}")
    (top / "link to folder").symlink_to("folder 1")
    (top / "dangling").symlink_to("../no such file")
    for path in top.rglob("*"):
        when = generator.randrange(10**18, 17 * 10**17)
        os.utime(path, ns=(when, when), follow_symlinks=False)


@pytest.mark.timeout(240)
def test_cp_a_there_and_back(
    mount: GatewayMount, admin: S3Client, bucket: str, open_folder: Path
) -> None:
    source, back = open_folder / "source", open_folder / "back"
    make_tree(source)
    subprocess.run(["chown", "-R", "-h", "1001:1001", str(source)], check=True)
    open_folder.chmod(0o777)
    mount.sh(f"cp -a {source} tree", uid=1001, seconds=120)
    mount.sh(f"cp -a tree {back}", uid=1001, seconds=120)
    subprocess.run(["diff", "-r", "--no-dereference", str(source), str(back)], check=True)
    assert facts(back) == facts(source)
    assert facts(mount.mountpoint / "tree") == facts(source)
    found = owners(admin, bucket, "tree/")
    assert len(found) >= FILES
    assert set(found.values()) == {"alice"}


@pytest.mark.timeout(240)
def test_git_clone_fsck_commit(
    mount: GatewayMount, admin: S3Client, bucket: str, open_folder: Path
) -> None:
    origin = open_folder / "origin"
    package = Path(__file__).resolve().parent.parent.parent / "s3posixfs"
    shutil.copytree(package, origin, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chown", "-R", "1002:1002", str(origin)], check=True)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(origin),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Bob",
        "GIT_AUTHOR_EMAIL": "bob@example.org",
        "GIT_COMMITTER_NAME": "Bob",
        "GIT_COMMITTER_EMAIL": "bob@example.org",
    }

    def git(folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            [*setpriv(1002), "git", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}{mount.log_tail()}"
        return done.stdout

    git(origin, "init", "-q", "-b", "main")
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "first")
    git(mount.mountpoint, "clone", "-q", f"file://{origin}", "clone")
    clone = mount.mountpoint / "clone"
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "status", "--porcelain") == ""
    mount.sh("echo 'made in the mount' > 'clone/new file'", uid=1002)
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "from inside the mount")
    git(clone, "fsck", "--full", "--strict")
    git(clone, "push", "-q", "origin", "main:pushed")
    assert git(origin, "rev-parse", "pushed") == git(clone, "rev-parse", "main")
    assert set(owners(admin, bucket, "clone/").values()) == {"bob"}


def sent(mount: GatewayMount) -> int:
    """Bytes of bodies that the mount has sent so far."""
    client: dict[str, Any] = mount.status()["client"]
    return int(client["bytes_sent"])


@pytest.mark.timeout(240)
def test_a_large_file_in_edited_appended_and_out(
    mount: GatewayMount, admin: S3Client, bucket: str, open_folder: Path
) -> None:
    source = open_folder / "source"
    size = 200 * MIB
    block = os.urandom(MIB)
    with source.open("wb") as file:
        for number in range(size // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    open_folder.chmod(0o777)
    source.chmod(0o666)

    def check(copy: str) -> None:
        with (mount.mountpoint / "large").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mount.sh(f"cp large {open_folder}/{copy}", uid=1001, seconds=120)
        digests = []
        for path in (source, open_folder / copy):
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        assert digests[0] == digests[1]
        assert owners(admin, bucket, "large") == {"": "alice"}

    mount.sh(f"cp {source} large", uid=1001, seconds=120)
    assert admin.head_object(Bucket=bucket, Key="large")["ETag"].count("-") == 1, "one PUT"
    check("first")

    before = sent(mount)
    edit = (
        "printf 'changed in the middle' | "
        f"dd of=%s bs=1 seek={100 * MIB + 12345} conv=notrunc status=none"
    )
    mount.sh(edit % "large", uid=1001, seconds=120)
    subprocess.run(["/bin/sh", "-ec", edit % source], check=True)
    check("edited")

    mount.sh("printf 'one more line\\n' >> large", uid=1001, seconds=120)
    with source.open("ab") as file:
        file.write(b"one more line\n")
    check("appended")
    # Both changes were uploads of the parts that they touched; the store copied the others.
    assert sent(mount) - before < 100 * MIB
    assert mount.resident_bytes() < 300 * MIB
    mount.sh("rm large", uid=1001)
