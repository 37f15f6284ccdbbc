"""A real ``s3posixfs serve`` process for tests: started, killed and administered from outside."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sts import STSClient

PROGRAM = str(Path(sys.executable).with_name("s3posixfs"))
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class User:
    """An S3 user of the store under test, with the key pair it was made with."""

    name: str
    access_key: str
    secret_key: str = field(repr=False)
    uid: int
    gid: int


def secret_of(name: str) -> str:
    """The secret that tests give the user ``name``: any fixed 40 characters do."""
    return f"{name}-secret-{'0123456789' * 4}"[:40]


class StoreProcess:
    """One store on 127.0.0.1, its objects and state below ``folder``.

    The first :meth:`start` takes a free port; later ones come back on the same port, so that
    a client which is still running finds a store that was killed and started again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.root = folder / "objects"
        self.state = folder / "state"
        self.log = folder / "serve.log"
        self.port = 0
        self.endpoint = ""
        self._arguments = list(arguments)
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> StoreProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process ID of the running store."""
        assert self._process is not None, "the store is not running"
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status of a store that has ended by itself; ``None`` while it runs."""
        assert self._process is not None, "the store was not started"
        return self._process.poll()

    def start(self, *, seconds: float = 20.0) -> None:
        """Start the store and wait until it says that it accepts."""
        assert self._process is None, "the store is running already"
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            PROGRAM,
            "serve",
            "--root",
            str(self.root),
            "--state",
            str(self.state),
            "--listen",
            f"127.0.0.1:{self.port}",
            *self._arguments,
        ]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # What goes wrong inside is to be seen with its traceback in the log.
                env={**self._environment, "S3POSIXFS_DEBUG": "1"},
            )
        self._process = process
        line = _first_line(process, seconds)
        if not line.startswith("ready: "):
            self.kill()
            raise AssertionError(f"the store did not start: {line!r}\n{self.log_tail()}")
        self.endpoint = line.removeprefix("ready: ").strip()
        self.port = int(self.endpoint.rsplit(":", 1)[1].rstrip("/"))

    def stop(self, *, seconds: float = 20.0) -> int:
        """End the store with SIGTERM; its exit status (0 when it was not running)."""
        return self._end(signal.SIGTERM, seconds)

    def kill(self) -> None:
        """End the store as a crash would: SIGKILL, no chance to tidy."""
        self._end(signal.SIGKILL, 20.0)

    def _end(self, sig: signal.Signals, seconds: float) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(sig)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20.0)
            raise AssertionError(f"the store ignored {sig.name}\n{self.log_tail()}") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()
        return status

    def log_tail(self, characters: int = 3000) -> str:
        """The end of what the store wrote to stderr."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    # administration, through the command line as a person would

    def command(
        self, *arguments: str, text: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``s3posixfs ARGUMENTS --state …`` with ``text`` as standard input."""
        done = subprocess.run(
            [PROGRAM, *arguments, "--state", str(self.state)],
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self._environment,
        )
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stderr or done.stdout}"
        return done

    def add_user(
        self, name: str, uid: int = 0, gid: int | None = None, *, policy: str | None = None
    ) -> User:
        """Make an S3 user with these POSIX ids and, when named, a policy attached."""
        gid = uid if gid is None else gid
        secret = secret_of(name)
        self.command(
            "user",
            "add",
            name,
            "--posix-uid",
            str(uid),
            "--posix-gid",
            str(gid),
            "--secret-key-file",
            "-",
            text=secret + "\n",
        )
        if policy is not None:
            self.command("policy", "attach", policy, name)
        return User(name, name, secret, uid, gid)

    def add_policy(self, name: str, document: str) -> None:
        """Add a custom policy from its JSON text."""
        path = self.folder / f"policy-{name}.json"
        path.write_text(document)
        self.command("policy", "add", name, str(path))

    @property
    def credentials_file(self) -> Path:
        """Where the store leaves the key pair of its first user, as profile ``[admin]``."""
        return self.state / "admin-credentials"

    def admin(self) -> User:
        """The user that the store makes for itself at its first start."""
        values: dict[str, str] = {}
        for line in self.credentials_file.read_text().splitlines():
            name, separator, value = line.partition("=")
            if separator:
                values[name.strip()] = value.strip()
        return User("admin", values["aws_access_key_id"], values["aws_secret_access_key"], 0, 0)

    # clients

    def s3(self, user: User, *, token: str | None = None, **options: Any) -> S3Client:
        """A boto3 client as ``user`` that tries once and keeps what it was told."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=user.access_key,
            aws_secret_access_key=user.secret_key,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
            **options,
        )

    def sts(self, user: User, **options: Any) -> STSClient:
        """A boto3 STS client as ``user``, on the store's own port."""
        return boto3.client(
            "sts",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=user.access_key,
            aws_secret_access_key=user.secret_key,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
            **options,
        )


def _first_line(process: subprocess.Popen[bytes], seconds: float) -> str:
    """The first line of ``process``'s output, or what came of it before it ended or was late."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    deadline = time.monotonic() + seconds
    received = b""
    while b"\n" not in received:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        readable, _, _ = select.select([descriptor], [], [], remaining)
        if not readable:
            break
        data = os.read(descriptor, 4096)
        if not data:
            break
        received += data
    return received.split(b"\n", 1)[0].decode(errors="replace")
