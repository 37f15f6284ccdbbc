"""A far store: a proxy that lets every byte arrive later, without limiting how many do.

``python -m benchmarks.mount.delay PORT MILLISECONDS`` prints its own port and serves until it is
ended. Half of the delay is added in each direction.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.mount.sites import Site

_CHUNK = 1024 * 1024
_UNDER_WAY = 64  # chunks that may be on their way in one direction of a connection


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

    async def take() -> None:
        data = b"x"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except ConnectionError:
                data = b""
            await under_way.put((loop.time() + late, data))

    async def give() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(due - loop.time(), 0))
            if not data:
                return
            writer.write(data)
            await writer.drain()

    taking = asyncio.create_task(take())
    try:
        await give()
    except ConnectionError:
        pass
    finally:
        taking.cancel()
        writer.close()


async def _serve(port: int, late: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK)
        await asyncio.gather(_carry(reader, back, late), _carry(there, writer, late))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=_CHUNK)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def far(site: Site, milliseconds: float) -> Iterator[Site]:
    """The site as it is from that many milliseconds of round trip away."""
    scheme, _, address = site.url.partition("://")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.mount.delay"),
            *(address.rpartition(":")[2], str(milliseconds)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout is None or not (port := process.stdout.readline().strip()):
            raise RuntimeError("the delaying proxy did not start")
        name = f"{site.name}, {milliseconds:g} ms away"
        yield replace(site, name=name, far=True, url=f"{scheme}://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 2000))
