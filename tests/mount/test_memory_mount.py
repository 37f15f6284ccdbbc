"""The filesystem under a real kernel, over a store in memory: what pyfuse3 and the kernel do
with it. Needs root, for acting as several users."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.mount

REPOSITORY = Path(__file__).parents[2]


class Mount:
    """A mount of its own process; ``stop`` ends it and gives what it left in the store."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.root = folder / "mnt"
        self.root.mkdir()
        folder.chmod(0o755)
        self._log = (folder / "log").open("wb")
        command = [sys.executable, "-m", "tests.mount.memory_mount"]
        self.process = subprocess.Popen(
            [*command, str(self.root), str(folder / "cache"), kind],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.log = folder / "log"
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.log.read_text()

    def stop(self, *, by_signal: bool) -> dict[str, tuple[int, str]]:
        """Size and owner by key."""
        if by_signal:
            self.process.send_signal(signal.SIGTERM)
        else:
            subprocess.run(["fusermount3", "-u", str(self.root)], check=True)
        output, _ = self.process.communicate(timeout=30)
        self._log.close()
        assert self.process.returncode == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text()
        *rows, left = output.splitlines()
        assert left == "left"
        found: dict[str, tuple[int, str]] = {}
        for row in rows:
            size, owner, key = row.split("\t")
            found[key] = (int(size), owner)
        return found

    def clean(self) -> None:
        """End it whatever happened."""
        subprocess.run(
            ["fusermount3", "-u", "-z", str(self.root)], check=False, stderr=subprocess.DEVNULL
        )
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()


@pytest.fixture(params=["all", "plain"])
def mount(request: pytest.FixtureRequest) -> Iterator[Mount]:
    with tempfile.TemporaryDirectory() as folder:
        made = Mount(Path(folder), request.param)
        try:
            yield made
        finally:
            made.clean()


def as_user(uid: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, user=uid, group=uid, extra_groups=[], capture_output=True, text=True, timeout=30
    )


def shell(command: str, cwd: Path) -> str:
    done = subprocess.run(
        ["sh", "-ec", command], cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_users_and_their_objects(mount: Mount) -> None:
    root = mount.root
    assert sorted(os.listdir(root / "by")) == ["bob", "link"]
    assert os.readlink(root / "by/link") == "bob"
    assert (root / "by/link").read_bytes() == b"bob's"
    assert ((root / "from-alice").stat().st_uid, (root / "by/bob").stat().st_uid) == (1001, 1002)
    new = str(root / "new")
    assert as_user(1001, "sh", "-c", f"echo hi > {new}").returncode == 0
    assert os.stat(new).st_uid == 1001
    for uid in (1002, 1003):
        denied = as_user(uid, "sh", "-c", f"echo no > {new}")
        assert "Permission denied" in denied.stderr
    assert as_user(1002, "cat", new).stdout == "hi\n"
    for command in (["cat", new], ["ls", str(root)], ["sh", "-c", f"> {root}/carols"]):
        assert "ermission denied" in as_user(1003, *command).stderr
    left = mount.stop(by_signal=False)
    assert left["new"] == (3, "alice")
    assert "carols" not in left


def test_trees_and_git(mount: Mount, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "s3posixfs", source)
    (source / "link").symlink_to("core")
    (source / "core/__init__.py").chmod(0o751)
    os.utime(source / "core/__init__.py", ns=(5, 1_600_000_000_123_456_789))
    shell(f"cp -a {source} tree && mv tree moved && cp -a moved {tmp_path}/back", mount.root)
    describe = "find . -printf '%P %y %m %s %T@ %l\\n' | grep -v '^ *d\\| d ' | sort"
    assert shell(describe, source) == shell(describe, tmp_path / "back")
    shell(f"diff -r {source} {tmp_path}/back", tmp_path)
    git = "git -c user.name=a -c user.email=a@example.org"
    shell(
        f"git init -q repo && cd repo && cp -a ../moved/core . && git add . && {git} commit -qm 1"
        f" && git mv core more && {git} commit -qm 2 && git fsck --strict"
        ' && test -z "$(git status -s)"',
        mount.root,
    )
    shell("rm -rf repo moved", mount.root)
    assert set(mount.stop(by_signal=False)) == {"by/bob", "by/link", "from-alice"}


def test_open_files_and_odd_ends(mount: Mount) -> None:
    root = mount.root
    with (root / "gone").open("w+b") as gone:
        gone.write(b"still here")
        gone.flush()
        (root / "gone").unlink()
        gone.seek(0)
        assert gone.read() == b"still here"
    with pytest.raises(PermissionError):
        os.link(root / "from-alice", root / "hard")
    os.setxattr(root / "from-alice", "user.colour", b"blue")
    assert os.getxattr(root / "from-alice", "user.colour") == b"blue"
    os.mkfifo(root / "fifo")
    assert (root / "fifo").is_fifo()
    with (root / "log").open("ab") as log:
        for number in range(100):
            log.write(b"%d\n" % number)
            log.flush()
    assert (root / "log").read_bytes().splitlines()[-1] == b"99"
    assert os.statvfs(root).f_namemax == 255
    assert (root / "log").stat().st_mtime == pytest.approx(time.time(), abs=30)
    assert set(mount.stop(by_signal=False)) == {
        "by/bob",
        "by/link",
        "from-alice",
        "fifo",
        "log",
    }


def test_sigterm_uploads_what_is_open(mount: Mount) -> None:
    fd = os.open(mount.root / "open", os.O_CREAT | os.O_WRONLY)
    try:
        os.write(fd, b"x" * 300_000)
        assert mount.stop(by_signal=True)["open"] == (300_000, "daemon")
        with pytest.raises(OSError, match=r"not connected|abort"):
            os.write(fd, b"y")
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    assert not os.path.ismount(mount.root)
