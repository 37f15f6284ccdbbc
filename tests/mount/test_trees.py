"""Real trees and real programs: cp -a there and back, and git at work inside the mount."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest

from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess, setpriv

pytestmark = [pytest.mark.mount, pytest.mark.slow]
PACKAGES = ("botocore", "networkx", "moto")


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    """Kind, mode, owner, time and link target of everything below ``top``.

    Of folders the time is left out where files were made in them after they were copied.
    """
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        is_link = stat.S_ISLNK(status.st_mode)
        found[str(path.relative_to(top))] = (
            stat.S_IFMT(status.st_mode),
            None if is_link else stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid),
            status.st_mtime_ns,
            os.readlink(path) if is_link else None,
        )
    return found


def make_tree(top: Path, files: int) -> int:
    """A copy of installed packages with more of what trees have; the number of its files, which
    is ``files`` or a little more."""
    library = Path(sysconfig.get_path("purelib"))
    count = 0
    for package in PACKAGES:
        for source in sorted((library / package).rglob("*.*")):
            if count == files:
                break
            if source.is_file() and "__pycache__" not in source.parts:
                target = top / source.relative_to(library)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
                count += 1
    generator = random.Random(3)
    extra = top / "extra"
    (extra / "empty folder").mkdir(parents=True)
    (extra / "program").write_text("#!/bin/sh\n")
    (extra / "program").chmod(0o755)
    (extra / "private").write_text("for me alone\n")
    (extra / "private").chmod(0o600)
    (extra / "read-only").write_text("as it is\n")
    (extra / "read-only").chmod(0o444)
    (extra / "übung").write_text("é\n")
    (extra / "empty").touch()
    (extra / "link").symlink_to("program")
    (extra / "link to folder").symlink_to("../extra/empty folder")
    (extra / "dangling").symlink_to("no such file")
    for path in top.rglob("*"):
        when = generator.randrange(10**9 * 10**9, 17 * 10**8 * 10**9)
        os.utime(path, ns=(when, when), follow_symlinks=False)
    return count


@pytest.mark.timeout(600)
def test_cp_a_there_and_back(
    bed: Bed, mount: DaemonProcess, open_folder: Path, bucket: str
) -> None:
    source, back = open_folder / "source", open_folder / "back"
    count = make_tree(source, bed.tree_files)
    assert count == bed.tree_files
    # uid 1001 copies: its files become alice's objects.
    subprocess.run(["chown", "-R", "-h", "1001:1001", str(source)], check=True)
    open_folder.chmod(0o777)
    took = []
    for copy in (f"cp -a {source} {bucket}/tree", f"cp -a {bucket}/tree {back}"):
        began = time.monotonic()
        done = mount.run("/bin/sh", "-euc", copy, uid=1001, seconds=300)
        assert done.returncode == 0, done.stderr + mount.log_tail()
        took.append(time.monotonic() - began)
    print(f"cp -a of {count:,} files: in {took[0]:.1f} s, out {took[1]:.1f} s")
    subprocess.run(["diff", "-r", "--no-dereference", str(source), str(back)], check=True)
    assert facts(back) == facts(source)
    assert facts(mount.mountpoint / bucket / "tree") == facts(source)


@pytest.mark.timeout(300)
def test_git_clone_fsck_commit(
    bed: Bed, mount: DaemonProcess, open_folder: Path, bucket: str
) -> None:
    origin = open_folder / "origin"
    origin.mkdir()
    os.chown(origin, 1001, 1001)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(origin),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Alice",
        "GIT_AUTHOR_EMAIL": "alice@example.org",
        "GIT_COMMITTER_NAME": "Alice",
        "GIT_COMMITTER_EMAIL": "alice@example.org",
    }

    def git(folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            [*setpriv(1001), "git", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}{mount.log_tail()}"
        return done.stdout

    git(origin, "init", "-q", "-b", "main")
    package = Path(__file__).resolve().parent.parent.parent / "s3posixfs"
    ignore = shutil.ignore_patterns("__pycache__")
    for round_number in range(bed.commits):
        shutil.copytree(package, origin / f"copy-{round_number}", ignore=ignore)
        subprocess.run(["chown", "-R", "1001:1001", str(origin)], check=True)
        git(origin, "add", ".")
        git(origin, "commit", "-q", "-m", f"copy {round_number}")

    shared = mount.mountpoint / bucket
    git(shared, "clone", "-q", f"file://{origin}", "clone")
    clone = shared / "clone"
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "status", "--porcelain") == ""
    (clone / "new file").write_text("made in the mount\n")
    os.chown(clone / "new file", 1001, 1001)
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "from inside the mount")
    git(clone, "mv", "new file", "renamed file")
    git(clone, "commit", "-q", "-am", "renamed")
    git(clone, "gc", "-q")
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "log", "--format=%s", "-2") == "renamed\nfrom inside the mount\n"
    git(clone, "push", "-q", "origin", "main:pushed")
    assert git(origin, "rev-parse", "pushed") == git(clone, "rev-parse", "main")
