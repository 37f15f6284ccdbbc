"""Plain TCP between real sockets: files out of the page cache, and whose trouble an error is."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from typing import IO

import pytest
import trio
import trio.testing

from s3posixfs.core.errors import S3Error
from s3posixfs.s3.wire import SENDFILE_BYTES, PlainWire

SIZE = 2 * SENDFILE_BYTES + 12345
START = 4321


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as made:
        made.write(os.urandom(START + SIZE))
        made.flush()
        yield made


def _pair() -> tuple[PlainWire, trio.socket.SocketType]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    return PlainWire(near), trio.socket.from_stdlib_socket(far)


async def _send(wire: PlainWire, file: IO[bytes]) -> None:
    threads = trio.CapacityLimiter(2)
    done = 0
    while done < SIZE:
        done += await wire.send_file(file.fileno(), START + done, SIZE - done, threads)


async def _received(far: trio.socket.SocketType, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := await far.recv(1 << 20)):
        data += piece
    return bytes(data)


async def test_a_range_of_a_file_arrives_as_it_is(file: IO[bytes]) -> None:
    wire, far = _pair()
    found: list[bytes] = []

    async def receive() -> None:
        found.append(await _received(far, SIZE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await _send(wire, file)
    assert found == [os.pread(file.fileno(), SIZE, START)]
    wire.close()
    far.close()


async def test_a_file_that_ends_before_is_no_trouble_of_the_network(file: IO[bytes]) -> None:
    wire, far = _pair()
    os.ftruncate(file.fileno(), START + SIZE // 2)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_received, far, SIZE)
            with pytest.raises(S3Error, match="shorter"):
                await _send(wire, file)
            wire.close()
    far.close()


@pytest.fixture
def unreadable() -> Iterator[IO[bytes]]:
    with tempfile.NamedTemporaryFile() as made, open(made.name, "wb") as opened:
        yield opened


async def test_a_file_that_cannot_be_read_is_no_trouble_of_the_network(
    unreadable: IO[bytes],
) -> None:
    wire, far = _pair()
    with pytest.raises(S3Error, match="cannot be read"):
        await _send(wire, unreadable)
    wire.close()
    far.close()


async def test_a_peer_that_is_gone_is_trouble_of_the_network(file: IO[bytes]) -> None:
    wire, far = _pair()
    far.close()
    with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
        await _send(wire, file)
    wire.close()


async def test_closing_wakes_who_waits() -> None:
    wire, far = _pair()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await wire.receive_into(memoryview(bytearray(1)))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            wire.close()
    wire.close()
    far.close()
