"""A real ``s3posixfs mount`` for tests: started, used as any uid, and freed whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from s3posixfs.cli.control_client import ask
from s3posixfs.cli.mountpoints import control_socket
from tests.store_process import PROGRAM, REGION, StoreProcess

BUSY_TRIES = 5


def setpriv(uid: int, gid: int | None = None) -> list[str]:
    """The words that, put before a command, run it as ``uid`` with no other groups."""
    gid = uid if gid is None else gid
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--"]


class DaemonProcess:
    """One mount of ``source`` in ``folder/mnt``, its daemon a child of the test (``-f``).

    An option whose value is ``None`` is not given.
    """

    def __init__(self, folder: Path, source: str, options: Mapping[str, str | None]) -> None:
        self.folder = folder
        self.source = source
        self.mountpoint = folder / "mnt"
        self.log = folder / "mount.log"
        self.options = dict(options)
        self.environment: dict[str, str] = {}  # more of it for the daemon
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.free()
        if error is None and self.log.exists():
            said = self.log.read_bytes()
            assert b"has no deadline" not in said, "an operation opened a scope unannounced"

    @property
    def pid(self) -> int:
        """Process ID of the running daemon."""
        assert self._process is not None, "not mounted"
        return self._process.pid

    def command(self, *more: str) -> list[str]:
        """The command line that mounts."""
        text = ",".join(f"{name}={value}" for name, value in self.options.items() if value)
        return [PROGRAM, "mount", self.source, str(self.mountpoint), "-o", text, *more]

    def start(self, *, seconds: float = 30.0) -> None:
        """Mount, and wait until the mount is there."""
        assert self._process is None, "mounted already"
        if not is_mounted(self.mountpoint):  # a dead mount cannot even be looked at
            self.mountpoint.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command("-f"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        deadline = time.monotonic() + seconds
        while not answers(self.mountpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.free()
                raise AssertionError(f"not mounted:\n{self.log_tail()}")
            time.sleep(0.02)

    def umount(self, *, seconds: float = 60.0) -> int:
        """Unmount as an administrator does; the daemon's exit status, once it has ended.

        Whatever looks at all mounts of the host (``df``, a monitor) makes it busy for a moment.
        """
        for _ in range(BUSY_TRIES):
            done = subprocess.run(
                ["umount", str(self.mountpoint)],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
            if "busy" not in done.stderr:
                break
            time.sleep(0.2)
        assert done.returncode == 0, done.stderr
        return self.wait(seconds=seconds)

    def terminate(self, *, seconds: float = 60.0) -> int:
        """SIGTERM the daemon, as systemd does; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait(seconds=seconds)

    def kill(self) -> None:
        """SIGKILL the daemon; what it leaves at the mountpoint stays there."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait(30)

    def wait(self, *, seconds: float = 60.0) -> int:
        """The daemon's exit status, once it has ended."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon does not end:\n{self.log_tail()}") from None
        self._process = None
        return status

    def free(self) -> None:
        """End whatever is left of the mount, by force where asking does not help."""
        process, self._process = self._process, None
        if is_mounted(self.mountpoint):
            _quietly("umount", str(self.mountpoint), seconds=60)
        if process is not None:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
        if is_mounted(self.mountpoint):
            _quietly("umount", "--lazy", str(self.mountpoint), seconds=30)

    def log_tail(self, characters: int = 4000) -> str:
        """The end of what the daemon wrote."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def status(self) -> dict[str, Any]:
        """What ``s3posixfs status --json`` says of the mount."""
        done = subprocess.run(
            [PROGRAM, "status", "--json", str(self.mountpoint)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def queued(self) -> int:
        """How many files wait for their upload, by write-back."""
        status = ask(control_socket(self.mountpoint), "status")
        assert status is not None, self.log_tail()
        return int(status["filesystem"]["queued_files"])

    def wait_until_stored(self, *, but: int = 0, seconds: float = 60.0) -> None:
        """Wait until all that is acknowledged is in S3, ``but`` so many files."""
        deadline = time.monotonic() + seconds
        while self.queued() > but:
            assert time.monotonic() < deadline, f"{self.status()}\n{self.log_tail()}"
            time.sleep(0.05)

    def resident_bytes(self, name: str = "VmHWM") -> int:
        """The daemon's memory: its peak (``VmHWM``) or what it has now (``VmRSS``)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name} in /proc")

    def run(
        self, *command: str, uid: int = 0, seconds: float = 60.0, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as ``uid`` at the top of the mount; its outcome, whatever it is."""
        words = [*setpriv(uid), *command] if uid else list(command)
        return subprocess.run(
            words,
            cwd=self.mountpoint,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def sh(self, script: str, *, uid: int = 0, seconds: float = 60.0) -> str:
        """Run a shell script as ``uid`` that must succeed; what it printed."""
        done = self.run("/bin/sh", "-euc", script, uid=uid, seconds=seconds)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}\n{self.log_tail()}"
        return done.stdout

    def python(self, script: str, *, uid: int = 0, seconds: float = 60.0) -> str:
        """Run a Python script as ``uid`` that must succeed; what it printed."""
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        done = self.run(python, "-c", script, uid=uid, seconds=seconds)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}\n{self.log_tail()}"
        return done.stdout


class MountProcess(DaemonProcess):
    """A mount of the embedded store. The daemon's own identity is the store's admin.

    ``options`` come on top of those that every test has; a value of ``None`` takes one of those
    away.
    """

    def __init__(
        self,
        store: StoreProcess,
        folder: Path,
        source: str = "/",
        options: Mapping[str, str | None] | None = None,
    ) -> None:
        self.store = store
        defaults: dict[str, str | None] = {
            "endpoint_url": store.endpoint,
            "region": REGION,
            "credentials_file": str(store.credentials_file),
            "profile": "admin",
            "identities": "auto",
            "allow_other": "on",
            "cache_dir": str(folder / "cache"),
        }
        super().__init__(folder, source, {**defaults, **(options or {})})


def is_mounted(path: Path) -> bool:
    """Whether something is mounted there, also when its daemon is dead or does not answer."""
    wanted = str(path).replace(" ", "\\040")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == wanted for line in lines)


def answers(path: Path) -> bool:
    """Whether something is mounted there and its daemon lives."""
    try:
        os.statvfs(path)
    except OSError:
        return False
    return is_mounted(path)


def _quietly(*command: str, seconds: float) -> None:
    try:
        subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return
