"""A host of its own for a test: this host's files, copied when written, and its own processes.

Its root is an overlay on the root of this host, in mount and PID namespaces of its own, with the
network shared. What a test installs, mounts and starts there is gone with it, and :meth:`changed`
tells what was written. /tmp, /run and the mounts begin empty; root is the only user that acts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Process 1 of the host: makes the root and waits, reaping what daemons leave.
_BOOT = """
set -e
# Mounts of other tests are let go of: a daemon does not end while its mount is anywhere.
awk '$3 ~ /^fuse/ { print $2 }' /proc/mounts | tac | while read -r top; do umount -l "$top"; done
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
cd "$1/root"
mount --rbind /dev ./dev
mount -t sysfs -o ro sysfs ./sys
mount -t proc proc ./proc
mount -t tmpfs -o mode=755 tmpfs ./run
mount -t tmpfs -o mode=1777 tmpfs ./tmp
exec chroot . /bin/bash -c 'while :; do sleep 3600 & wait $!; done'
"""


class PrivateHost:
    """To be entered; ``root`` is where its files are seen from outside, as they were written."""

    def __init__(self) -> None:
        # The overlay takes no folder that is itself in an overlay, nor in a tmpfs without xattrs.
        self._folder = Path(tempfile.mkdtemp(prefix="s3posixfs-host-", dir="/var/tmp"))
        self.upper = self._folder / "upper"
        self._init = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        for name in ("upper", "work", "root"):
            (self._folder / name).mkdir(mode=0o755)
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),  # not outliving a killed test
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation"),
                *("private", "--", "/bin/bash", "-c", _BOOT, "boot"),
                str(self._folder),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 30
        while not self._is_up(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                _, words = self._process.communicate()
                self._process = None
                self.close()
                raise AssertionError(f"no private host: {words}")
            time.sleep(0.02)
        return self

    def _is_up(self, pid: int) -> bool:
        """Whether process 1, the child of ``pid``, has its root."""
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        return os.readlink(f"/proc/{self._init}/root") == str(self._folder / "root")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything that runs there, and remove what it wrote."""
        process, self._process = self._process, None
        if process is not None:
            # With process 1 all others end, and then the mounts are nobody's.
            os.kill(self._init, signal.SIGKILL)
            process.communicate(timeout=30)
        shutil.rmtree(self._folder)

    def enter(self, *command: str) -> list[str]:
        """The words that run ``command`` there."""
        return [
            *("nsenter", "--target", str(self._init), "--mount", "--pid", "--root", "--wd", "--"),
            *command,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Of the commands there: pip's and the proxy's settings of this host, nothing else."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("PIP_") or name.lower().endswith("_proxy")
        }
        return {**kept, "PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}

    def run(
        self, *command: str, seconds: float = 60.0, text: str = "", status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there; its exit status must be ``status``, unless that is ``None``."""
        done = subprocess.run(
            self.enter(*command),
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=self.environment,
        )
        said = f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert status is None or done.returncode == status, said
        return done

    def sh(self, script: str, *, seconds: float = 60.0, status: int | None = 0) -> str:
        """Run a shell script there; all that it printed."""
        done = self.run("/bin/bash", "-euc", f"{script}", seconds=seconds, status=status)
        return done.stdout + done.stderr

    def popen(self, *command: str) -> subprocess.Popen[str]:
        """Start a command there, with pipes to it."""
        return subprocess.Popen(
            self.enter(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Make a file there."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run("/bin/sh", "-ec", script, "write", path, f"{mode:o}", text=text)

    def changed(self, *, but: Sequence[str] = ()) -> set[str]:
        """Every file and folder that is not as this host has it, except below ``but``."""
        found = set()
        for top, folders, files in os.walk(self.upper):
            here = Path("/") / Path(top).relative_to(self.upper)
            for name in [*folders, *files]:
                path = here / name
                if not any(path.is_relative_to(other) for other in but):
                    found.add(str(path))
        return found
