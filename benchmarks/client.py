"""The S3 client against boto3 in threads: the same endpoint, the same requests, one run.

    python -m benchmarks.client                      a store of its own on this machine
    python -m benchmarks.client --static             a server that only answers: the client's limit
    python -m benchmarks.client [--static] --https   either of them by https
    python -m benchmarks.client --endpoint-url URL --bucket B --access-key K --secret-key-file F

Rates are the best of three rounds. Server and client share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import trio
from botocore.config import Config

from benchmarks.serving import BUCKET, served_store
from s3posixfs.core.clock import SystemClock
from s3posixfs.core.types import MIB, Credentials
from s3posixfs.credentials.provider import StaticProvider
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.store import S3ObjectStore
from tests.store.certificates import make_certificates

WORKERS = 8
SMALL = 4096
RANGE = 8 * MIB
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint to measure against."""

    url: str
    bucket: str
    access_key: str
    secret_key: str
    ca: Path | None = None  # who vouches for it, if it speaks https


@dataclass(frozen=True, slots=True)
class Rate:
    """What was measured: units (requests or MB) a second, and CPU µs of the client a request."""

    per_second: float
    cpu_us: float


def timed(count: int, run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and client CPU seconds, of one run of ``count`` requests."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    run()
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu / count


def best(count: int, amount: float, run: Callable[[], object]) -> Rate:
    """The best of the rounds; ``amount`` is what one run moves, in the rate's unit."""
    run()
    rounds = [timed(count, run) for _ in range(ROUNDS)]
    seconds, cpu = min(rounds)
    return Rate(amount / seconds, cpu * 1e6)


# our client


def ours(target: Target, gets: int, puts: int, large: int) -> dict[str, Rate]:
    async def main() -> dict[str, Rate]:
        async with S3Client(target.url, clock=SystemClock(), ca_file=target.ca) as client:
            provider = StaticProvider(Credentials(target.access_key, target.secret_key))
            store = client.acting_as(provider, "bench")
            body = os.urandom(SMALL)

            async def get(number: int) -> None:
                await store.get(target.bucket, "bench-small")

            async def put(number: int) -> None:
                await store.put(target.bucket, f"bench-put-{number}", body)

            async def read(number: int) -> None:
                _, data = await store.get(
                    target.bucket, "bench-large", offset=number * RANGE, length=RANGE
                )
                assert len(data) == RANGE

            return {
                "GET 4 KiB (requests/s)": await async_best(gets, gets, get),
                "PUT 4 KiB (requests/s)": await async_best(puts, puts, put),
                "GET in 8 MiB ranges (MB/s)": await async_best(large // RANGE, large / 1e6, read),
            }

    return trio.run(main)


async def async_best(count: int, amount: float, one: Callable[[int], Awaitable[None]]) -> Rate:
    """Like :func:`best`, with ``WORKERS`` tasks."""
    results = []
    for _ in range(ROUNDS + 1):
        pending = iter(range(count))

        async def work(pending: Iterator[int] = pending) -> None:
            for number in pending:
                await one(number)

        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(work)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        results.append((seconds, cpu / count))
    seconds, cpu = min(results[1:])
    return Rate(amount / seconds, cpu * 1e6)


# boto3


def boto3_client(target: Target) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=target.url,
        region_name="us-east-1",
        aws_access_key_id=target.access_key,
        aws_secret_access_key=target.secret_key,
        config=Config(
            max_pool_connections=WORKERS,
            s3={"addressing_style": "path"},
            # By https that is a trailer after chunks, which the static server does not read.
            request_checksum_calculation="when_required" if target.ca else "when_supported",
        ),
        verify=str(target.ca) if target.ca is not None else None,
    )


def theirs(target: Target, gets: int, puts: int, large: int) -> dict[str, Rate]:
    client = boto3_client(target)
    body = os.urandom(SMALL)

    def get(number: int) -> None:
        client.get_object(Bucket=target.bucket, Key="bench-small")["Body"].read()

    def put(number: int) -> None:
        client.put_object(Bucket=target.bucket, Key=f"bench-put-{number}", Body=body)

    def read(number: int) -> None:
        first = number * RANGE
        data = client.get_object(
            Bucket=target.bucket, Key="bench-large", Range=f"bytes={first}-{first + RANGE - 1}"
        )["Body"].read()
        assert len(data) == RANGE

    with ThreadPoolExecutor(WORKERS) as threads:

        def run(count: int, one: Callable[[int], None]) -> Callable[[], object]:
            return lambda: list(threads.map(one, range(count)))

        return {
            "GET 4 KiB (requests/s)": best(gets, gets, run(gets, get)),
            "PUT 4 KiB (requests/s)": best(puts, puts, run(puts, put)),
            "GET in 8 MiB ranges (MB/s)": best(
                large // RANGE, large / 1e6, run(large // RANGE, read)
            ),
        }


# endpoints


@contextmanager
def own_store(https: bool) -> Iterator[Target]:
    """``s3posixfs serve`` in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="s3posixfs-bench-") as name:
        ca, arguments = None, list[str]()
        if https:
            ca, certificate, key = make_certificates(Path(name))
            arguments = ["--tls-cert", str(certificate), "--tls-key", str(key)]
        with served_store(Path(name), arguments=arguments, ca=ca) as store:
            yield Target(store.url, BUCKET, store.access_key, store.secret_key, ca)


async def answer_statically(large: int, certificate: Path | None, key: Path | None) -> None:
    """Answer every request from memory, checking nothing; by https with a certificate."""
    block = memoryview(bytearray(RANGE))
    small = bytes(SMALL)

    async def serve(stream: trio.abc.Stream) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some(65536)
                if not more:
                    return
                data += bytes(more)
            head, _, data = data.partition(b"\r\n\r\n")
            lower = head.lower()
            if head.startswith(b"PUT"):
                start = lower.index(b"content-length: ") + 16
                wanted = int(lower[start:].split(b"\r\n")[0])
                if b"expect: 100-continue" in lower:
                    await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                while len(data) < wanted:
                    data += bytes(await stream.receive_some(65536))
                data = data[wanted:]
                await stream.send_all(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
            elif b"range: bytes=" in lower:
                first = int(lower.split(b"range: bytes=")[1].split(b"-")[0])
                await stream.send_all(
                    b'HTTP/1.1 206 P\r\nETag: "e"\r\nContent-Length: %d\r\n'
                    b"Content-Range: bytes %d-%d/%d\r\n\r\n"
                    % (RANGE, first, first + RANGE - 1, large)
                )
                await stream.send_all(block)
            else:
                await stream.send_all(
                    b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: %d\r\n\r\n' % SMALL + small
                )

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        if certificate is None:
            print(f"http://127.0.0.1:{port}", flush=True)
            nursery.start_soon(trio.serve_listeners, serve, listeners)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            print(f"https://127.0.0.1:{port}", flush=True)
            secure = [trio.SSLListener(one, context, https_compatible=True) for one in listeners]
            nursery.start_soon(trio.serve_listeners, serve, secure)


@contextmanager
def static_server(large: int, https: bool) -> Iterator[Target]:
    """The server that only answers, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="s3posixfs-bench-") as name:
        words = [sys.executable, "-m", "benchmarks.client", "--serve-static", str(large)]
        ca: Path | None = None
        if https:
            ca, certificate, key = make_certificates(Path(name))
            words += ["--certificate", str(certificate), "--key", str(key)]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            yield Target(url, "bench", "bench", "bench-secret", ca)
        finally:
            process.kill()
            process.wait(20)


async def prepare(store: S3ObjectStore, bucket: str, large: int) -> None:
    """Put the objects that are read."""
    await store.put(bucket, "bench-small", os.urandom(SMALL))
    upload = await store.create_multipart(bucket, "bench-large")
    block = os.urandom(RANGE)
    parts = [
        await store.upload_part(bucket, "bench-large", upload, number + 1, block)
        for number in range(large // RANGE)
    ]
    await store.complete_multipart(bucket, "bench-large", upload, parts)


def measure(target: Target, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    large = arguments.large_mib * MIB
    if not arguments.static:

        async def main() -> None:
            async with S3Client(target.url, clock=SystemClock(), ca_file=target.ca) as client:
                provider = StaticProvider(Credentials(target.access_key, target.secret_key))
                await prepare(client.acting_as(provider), target.bucket, large)

        trio.run(main)
    mine = ours(target, arguments.gets, arguments.puts, large)
    # boto3 is given fewer small requests, as it would take most of the run.
    other = theirs(target, max(arguments.gets // 4, 1), max(arguments.puts // 4, 1), large)
    return {
        name: {
            "s3posixfs": round(rate.per_second, 1),
            "boto3": round(other[name].per_second, 1),
            "ratio": round(rate.per_second / other[name].per_second, 2),
            "s3posixfs_cpu_us": round(rate.cpu_us, 1),
            "boto3_cpu_us": round(other[name].cpu_us, 1),
        }
        for name, rate in mine.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--https", action="store_true")
    parser.add_argument("--serve-static", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--certificate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--key", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--endpoint-url")
    parser.add_argument("--bucket")
    parser.add_argument("--access-key")
    parser.add_argument("--secret-key-file", type=Path)
    parser.add_argument("--gets", type=int, default=4000, help="4 KiB GETs a round")
    parser.add_argument("--puts", type=int, default=400, help="4 KiB PUTs a round")
    parser.add_argument("--large-mib", type=int, default=512, help="size of the large object")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve_static is not None:
        trio.run(answer_statically, arguments.serve_static, arguments.certificate, arguments.key)
        return
    if arguments.static:
        with static_server(arguments.large_mib * MIB, arguments.https) as target:
            found = measure(target, arguments)
    elif arguments.endpoint_url:
        secret = arguments.secret_key_file.read_text().strip()
        found = measure(
            Target(arguments.endpoint_url, arguments.bucket, arguments.access_key, secret),
            arguments,
        )
    else:
        with own_store(arguments.https) as target:
            found = measure(target, arguments)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{WORKERS} at once{'':18}{'s3posixfs':>12}{'boto3':>12}{'ratio':>8}{'CPU µs':>16}")
    for name, row in found.items():
        cpu = f"{row['s3posixfs_cpu_us']:.0f} / {row['boto3_cpu_us']:.0f}"
        print(
            f"{name:27}{row['s3posixfs']:>12,.0f}{row['boto3']:>12,.0f}"
            f"{row['ratio']:>8.1f}{cpu:>16}"
        )


if __name__ == "__main__":
    main()
