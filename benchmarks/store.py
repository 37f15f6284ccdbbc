"""The embedded store beside moto, in one run, with the same clients.

    .venv/bin/python -m benchmarks.store [--seconds 3] [--large 64] [--keys 10000] [--json FILE]

Two clients: boto3 in threads (what most programs use; it is the limit itself above a few hundred
requests a second) and bare sockets with requests signed by this project's signer. Every figure is
the best of ``--rounds`` (default 2), the two stores taking turns. moto holds objects in memory and
syncs nothing; the embedded store answers a PUT after fsync.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import boto3
from botocore.config import Config

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer

MIB = 1024 * 1024
BUCKET = "benchmark"
REGION = "us-east-1"
SECRET = "benchmark-secret-key-of-forty-characters"
SMALL = os.urandom(1024)


@dataclass(frozen=True, slots=True)
class Store:
    """A store to measure, and the key pair that it lets in."""

    name: str
    port: int
    credentials: Credentials

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: what was done, by which client, and how fast each store was."""

    what: str
    client: str
    connections: int
    unit: str
    ours: float
    moto: float

    @property
    def ratio(self) -> float:
        return self.ours / self.moto if self.moto else float("inf")


class RawClient:
    """One keep-alive socket and one signer: the least that a client can do.

    ``http.client`` takes longer for a request than a good store does, and so would hide it.
    """

    def __init__(self, store: Store) -> None:
        self._signer = Signer(store.credentials, REGION)
        self._store = store
        self._host = f"127.0.0.1:{store.port}"
        self._socket = self._connect()
        self._buffer = bytearray(MIB)

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._store.port), 120)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def request(
        self, method: str, path: str, query: str = "", body: bytes = b"", digest: str = ""
    ) -> bytes:
        """The body of a 200 answer (empty for a large one: it is received and let go).

        ``digest`` saves hashing a large body again.
        """
        digest = digest or hashlib.sha256(body).hexdigest()
        headers = [("host", self._host)]
        headers += self._signer.sign(method, path, query, headers, digest, time.time())
        target = f"{path}?{query}" if query else path
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        if method == "PUT":
            lines.append(f"content-length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if len(body) < 65536:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)
        received = b""
        while b"\r\n\r\n" not in received:
            data = self._socket.recv(65536)
            if not data:
                raise RuntimeError(f"{method} {target}: the connection was closed")
            received += data
        answer, _, rest = received.partition(b"\r\n\r\n")
        fields = answer.lower()
        start = fields.find(b"\ncontent-length:")
        if start < 0:
            raise RuntimeError(f"{method} {target}: no content-length in {answer!r}")
        length = int(fields[start + 16 :].split(b"\r\n", 1)[0])
        missing = length - len(rest)
        if length <= MIB:
            while missing > 0:
                data = self._socket.recv(missing)
                rest += data
                missing -= len(data)
        while missing > 0:
            missing -= self._socket.recv_into(self._buffer, min(missing, MIB))
        if b" 200 " not in answer[:20]:
            raise RuntimeError(f"{method} {target}: {answer!r} {rest[:300]!r}")
        if b"\nconnection: close" in fields:
            self._socket.close()
            self._socket = self._connect()
        return rest

    def close(self) -> None:
        self._socket.close()


class Boto3Client:
    """boto3 as a program would use it, one client a thread."""

    def __init__(self, store: Store) -> None:
        self._client = boto3.client(
            "s3",
            endpoint_url=store.url,
            region_name=REGION,
            aws_access_key_id=store.credentials.access_key,
            aws_secret_access_key=store.credentials.secret_key,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
        )

    def request(
        self, method: str, path: str, query: str = "", body: bytes = b"", digest: str = ""
    ) -> bytes:
        key = path.split("/", 2)[2]
        if method == "PUT":
            self._client.put_object(Bucket=BUCKET, Key=key, Body=body)
            return b""
        return self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def close(self) -> None:
        self._client.close()


Client = RawClient | Boto3Client
Step = Callable[[Client, int, int], None]


def rate(store: Store, make: type[Client], connections: int, seconds: float, step: Step) -> float:
    """Steps a second of ``connections`` clients in threads, each for ``seconds``."""
    counts = [0] * connections
    failures: list[BaseException] = []
    barrier = threading.Barrier(connections + 1)
    took = [0.0] * connections

    def work(number: int) -> None:
        try:
            client = make(store)
            step(client, number, 0)
            barrier.wait(60)
            began = time.perf_counter()
            while time.perf_counter() < began + seconds:
                counts[number] += 1
                step(client, number, counts[number])
            took[number] = time.perf_counter() - began
            client.close()
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):
        barrier.wait(60)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(count / spent for count, spent in zip(counts, took, strict=True))


def get_small(client: Client, number: int, count: int) -> None:
    client.request("GET", f"/{BUCKET}/small-{number}")


def put_small(client: Client, number: int, count: int) -> None:
    client.request("PUT", f"/{BUCKET}/put/{number}/{count % 1000}", body=SMALL)


def listing_time(store: Store) -> float:
    """Keys a second over all pages of the listing of ``keys/``."""
    client = RawClient(store)
    began = time.perf_counter()
    count, token = 0, ""
    while True:
        pairs = [("list-type", "2"), ("prefix", "keys/")]
        if token:
            pairs.append(("continuation-token", token))
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(pairs))
        page = client.request("GET", f"/{BUCKET}", query).decode()
        count += page.count("<Key>")
        found = re.search("<NextContinuationToken>(.*?)<", page)
        if found is None:
            break
        token = found[1]
    client.close()
    return count / (time.perf_counter() - began)


def measure(stores: Sequence[Store], options: argparse.Namespace) -> Iterator[Figure]:
    """All figures, one by one."""
    large = os.urandom(options.large * MIB)
    digest = hashlib.sha256(large).hexdigest()

    def get_large(client: Client, number: int, count: int) -> None:
        client.request("GET", f"/{BUCKET}/large")

    def put_large(client: Client, number: int, count: int) -> None:
        client.request("PUT", f"/{BUCKET}/large-{number}", body=large, digest=digest)

    for store in stores:
        client = RawClient(store)
        client.request("PUT", f"/{BUCKET}")
        for number in range(max(options.connections)):
            client.request("PUT", f"/{BUCKET}/small-{number}", body=SMALL)
        client.request("PUT", f"/{BUCKET}/large", body=large, digest=digest)
        client.close()
        fill(store, options.keys)

    def both(function: Callable[[Store], float]) -> tuple[float, float]:
        best = {store.name: 0.0 for store in stores}
        for _ in range(options.rounds):
            for store in stores:
                best[store.name] = max(best[store.name], function(store))
        return best[stores[0].name], best[stores[1].name]

    steps: tuple[tuple[str, Step, float, str], ...] = (
        ("GET 1 KiB", get_small, 1, "requests/s"),
        ("PUT 1 KiB", put_small, 1, "requests/s"),
        (f"GET {options.large} MiB", get_large, options.large, "MiB/s"),
        (f"PUT {options.large} MiB", put_large, options.large, "MiB/s"),
    )
    for what, step, factor, unit in steps:
        for make, name in ((RawClient, "socket"), (Boto3Client, "boto3")):
            for connections in options.connections:
                ours, moto = both(
                    lambda store, make=make, connections=connections, step=step: rate(  # type: ignore[misc]
                        store, make, connections, options.seconds, step
                    )
                )
                yield Figure(what, name, connections, unit, ours * factor, moto * factor)
    ours, moto = both(listing_time)
    yield Figure(f"list {options.keys:,} keys", "socket", 1, "keys/s", ours, moto)


def fill(store: Store, keys: int) -> None:
    """Put ``keys`` empty objects below ``keys/`` with 8 connections."""

    def work(start: int) -> None:
        client = RawClient(store)
        for number in range(start, keys, 8):
            client.request("PUT", f"/{BUCKET}/keys/{number:06}")
        client.close()

    threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def running(command: Sequence[str], log: Path, port: int) -> Iterator[None]:
    """A server process, from when it accepts until the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start:\n{log.read_text()}") from None
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def two_stores(folder: Path) -> Iterator[tuple[Store, Store]]:
    """The embedded store and moto, started."""
    programs = Path(sys.executable).parent
    state = folder / "state"
    ours = Store("s3posixfs", free_port(), Credentials("benchmark", SECRET))
    moto = Store("moto", free_port(), Credentials("benchmark", SECRET))
    serve = [str(programs / "s3posixfs"), "serve", "--root", str(folder / "objects")]
    serve += ["--state", str(state), "--listen", f"127.0.0.1:{ours.port}"]
    peer = [str(programs / "moto_server"), "-H", "127.0.0.1", "-p", str(moto.port)]
    with (
        running(serve, folder / "serve.log", ours.port),
        running(peer, folder / "moto.log", moto.port),
    ):
        for arguments in (
            ("user", "add", "benchmark", "--secret-key-file", "-"),
            ("policy", "attach", "readwrite", "benchmark"),
        ):
            subprocess.run(
                [str(programs / "s3posixfs"), *arguments, "--state", str(state)],
                input=SECRET + "\n",
                text=True,
                check=True,
                capture_output=True,
                timeout=60,
            )
        yield ours, moto


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement and store")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--large", type=int, default=64, help="MiB of a large object")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--folder", type=Path, help="where the objects go (default: TMPDIR)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-benchmark-", dir=options.folder))
    figures: list[Figure] = []
    try:
        with two_stores(folder) as stores:
            print("| what | client | connections | s3posixfs | moto | ratio |")
            print("|---|---|---|---|---|---|", flush=True)
            for figure in measure(stores, options):
                figures.append(figure)
                print(
                    f"| {figure.what} | {figure.client} | {figure.connections} "
                    f"| {figure.ours:,.0f} {figure.unit} | {figure.moto:,.0f} {figure.unit} "
                    f"| {figure.ratio:.1f} |",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))


if __name__ == "__main__":
    main()
