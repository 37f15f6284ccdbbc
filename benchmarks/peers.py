"""The stores that the embedded one is measured beside, started: moto and a real Ceph gateway.

``python -m benchmarks.peers PORT`` is moto's threaded server.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.load import Target
from benchmarks.stores import SECRET, WORKERS, Store, embedded, make_user
from tests.rgw.gateway import Gateway, running_gateway

_GATEWAY_GIB = 40  # overwritten objects take space until the gateway collects them
_START_SECONDS = 60.0


@contextmanager
def moto(folder: Path) -> Iterator[Store]:
    """moto's threaded server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[1],
        )
    try:
        _await_port(port, process, folder / "moto.log")
        yield Store(Target("moto", port, "us-east-1", "benchmark", SECRET), lambda: [process.pid])
    finally:
        process.kill()
        process.wait(20)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"moto did not start:\n{log.read_text()}") from None
            time.sleep(0.1)


@contextmanager
def gateway() -> Iterator[Store]:
    """A real Ceph gateway with a cluster of its own on a sparse file."""
    with running_gateway(_GATEWAY_GIB) as running:
        user = running.users["alice"]
        port = int(running.endpoint.rpartition(":")[2])
        target = Target("Ceph RGW", port, running.region, user.access_key, user.secret_key)
        yield Store(target, lambda: daemons_of(running))


def daemons_of(running: Gateway) -> list[int]:
    """Process IDs of all that a gateway's cluster is made of."""
    found = json.loads((running.folder / "daemons.json").read_text())
    return [int(daemon["pid"]) for daemon in found.values()]


@contextmanager
def all_stores(
    folder: Path, fill: Callable[[Store], None], others: tuple[str, ...] = ("moto", "rgw")
) -> Iterator[list[Store]]:
    """Ours with one worker and with two, moto and RGW; ``fill`` makes what is read.

    The second of ours gets a copy of what the first was filled with.
    """
    first, second = folder / "first", folder / "second"
    first.mkdir()
    with embedded(first, WORKERS) as store:
        make_user(first)
        fill(store)
    shutil.copytree(first / "state", second / "state", copy_function=shutil.copy2)
    subprocess.run(["cp", "-a", str(first / "objects"), str(second)], check=True, timeout=600)
    with ExitStack() as stack:
        stores = [stack.enter_context(embedded(first, 1))]
        stores.append(stack.enter_context(embedded(second, WORKERS)))
        if "rgw" in others:
            stores.append(stack.enter_context(gateway()))
        if "moto" in others:
            stores.append(stack.enter_context(moto(folder)))
        for store in stores[2:]:
            fill(store)
        yield stores


def _serve_moto(port: int) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=port, verbose=False)
    server.start()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    _serve_moto(int(sys.argv[1]))
