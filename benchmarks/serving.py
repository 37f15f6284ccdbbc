"""The embedded store as a process of its own, with one bucket, for benchmarks of its clients."""

from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import boto3

PROGRAM = str(Path(sys.executable).with_name("s3posixfs"))
BUCKET = "benchmark"


@dataclass(frozen=True, slots=True)
class ServedStore:
    """Where the store is, and the key pair of its administrator, in a file and as it is."""

    url: str
    credentials: Path
    access_key: str
    secret_key: str = field(repr=False)
    pid: int = 0  # of the process that was started; workers are its children


@contextmanager
def served_store(
    folder: Path, workers: int = 1, arguments: Sequence[str] = (), ca: Path | None = None
) -> Iterator[ServedStore]:
    """A store with its objects below ``folder``, on a free port; ``ca`` vouches for its https."""
    state = folder / "state"
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(PROGRAM, "serve", "--root", str(folder / "objects")),
                *("--state", str(state), "--listen", "127.0.0.1:0"),
                *("--workers", str(workers), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        if process.stdout is None:
            raise RuntimeError("no pipe to the store")
        line = process.stdout.readline().decode()
        if not line.startswith("ready: "):
            raise RuntimeError(f"the store did not start: {(folder / 'serve.log').read_text()}")
        file = state / "admin-credentials"
        parser = configparser.ConfigParser()
        parser.read(file)
        keys = parser["admin"]
        store = ServedStore(
            line.removeprefix("ready: ").strip().rstrip("/"),
            file,
            keys["aws_access_key_id"],
            keys["aws_secret_access_key"],
            process.pid,
        )
        client = boto3.client(
            "s3",
            endpoint_url=store.url,
            region_name="us-east-1",
            aws_access_key_id=store.access_key,
            aws_secret_access_key=store.secret_key,
            verify=str(ca) if ca is not None else None,
        )
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # started before
            client.create_bucket(Bucket=BUCKET)
        client.close()
        yield store
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
