"""The HTTP server's limits on time and number, with an application that answers at once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.store.http_body import BodyReader, Pace
from s3posixfs.store.http_head import RequestHead
from s3posixfs.store.http_server import HttpServer, Limits, listen
from s3posixfs.store.response import Response
from s3posixfs.store.threads import Bulk


class Echo:
    """An answer on its way."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self.request_id = "ID"
        self.sent = -1

    def finished(self, sent: int) -> None:
        self.sent = sent


class EchoApplication:
    """Answers with the body it got."""

    async def handle(self, head: RequestHead, body: BodyReader, peer: str, *, secure: bool) -> Echo:
        try:
            return Echo(Response(200, body=await body.read(1000)))
        except S3Error as error:
            return self.refuse(error, peer)

    def refuse(self, error: S3Error, peer: str) -> Echo:
        return Echo(Response(error.status, body=error.code.encode()))


@asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(EchoApplication(), bulk=Bulk(2), limits=limits)
    listeners = listen("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            yield server, port
            server.drain()


async def rest(stream: trio.SocketStream) -> bytes:
    data = b""
    async for piece in stream:
        data += piece
    return data


async def test_a_slow_head_is_ended() -> None:
    async with serving(Limits(head=0.2)) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n")
        assert b"RequestTimeout" in await rest(stream)
        await stream.aclose()


async def test_an_idle_connection_is_ended_without_a_word() -> None:
    async with serving(Limits(idle=0.2)) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        assert await rest(stream) == b""
        await stream.aclose()


HURRY = Limits(pace=Pace(grace=0.3, rate=100))
CHUNKED = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED, b"0"),  # the size of a chunk that never ends
        (CHUNKED + b"0\r\n", b"a"),  # a trailer that never ends
    ],
    ids=["body", "chunks", "size of a chunk", "trailer"],
)
async def test_a_body_in_drips_is_ended(head: bytes, drop: bytes) -> None:
    async with serving(HURRY) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        answer = b""

        async def drip() -> None:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(head)
                while True:  # no stall is as long as Limits.stall, and yet it would take for ever
                    await stream.send_all(drop)
                    await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            answer = await stream.receive_some()
            nursery.cancel_scope.cancel()
        assert b"HTTP/1.1 400" in answer
        assert b"RequestTimeout" in answer
        await stream.aclose()


async def test_a_slow_body_that_keeps_its_pace_is_read() -> None:
    async with serving(HURRY) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n")
        for _ in range(9):
            await stream.send_all(b"x" * 100)
            await trio.sleep(0.1)
        await stream.send_eof()
        assert b"x" * 900 in await rest(stream)
        await stream.aclose()


async def test_a_body_that_stalls_is_ended() -> None:
    async with serving(Limits(stall=0.2)) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
        answer = await rest(stream)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"RequestTimeout" in answer
        await stream.aclose()


async def test_the_longest_idle_connection_makes_place_for_a_new_one() -> None:
    request = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
    async with serving(Limits(connections=2)) as (_, port):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in streams:
            await stream.send_all(request)
            assert (await stream.receive_some(1000)).endswith(b"\r\n\r\nab")
        third = await trio.open_tcp_stream("127.0.0.1", port)
        await third.send_all(request)
        assert (await third.receive_some(1000)).endswith(b"\r\n\r\nab")
        assert await rest(streams[0]) == b""
        await streams[1].send_all(request)
        assert (await streams[1].receive_some(1000)).endswith(b"\r\n\r\nab")
        for stream in (*streams, third):
            await stream.aclose()


async def test_connections_at_work_are_not_ended_for_new_ones() -> None:
    head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"
    async with serving(Limits(connections=1)) as (_, port):
        first = await trio.open_tcp_stream("127.0.0.1", port)
        await first.send_all(head)
        await trio.sleep(0.1)
        second = await trio.open_tcp_stream("127.0.0.1", port)
        await second.send_all(head + b"ab")
        with trio.move_on_after(0.2) as scope:
            await second.receive_some(1000)
        assert scope.cancelled_caught
        await first.send_all(b"ab")
        answer = await rest(first)
        assert answer.endswith(b"\r\n\r\nab")
        assert b"Connection: close" in answer  # somebody waits for the place
        assert (await second.receive_some(1000)).endswith(b"\r\n\r\nab")
        await first.aclose()
        await second.aclose()


async def test_a_flood_of_half_sent_heads_keeps_nobody_out() -> None:
    request = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
    async with serving(Limits(connections=20)) as (_, port):
        flood = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(60)]
        for stream in flood:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(b"GET / HTTP/1.1\r\nHost:")
        with trio.fail_after(2):
            last = await trio.open_tcp_stream("127.0.0.1", port)
            await last.send_all(request)
            assert (await last.receive_some(1000)).endswith(b"\r\n\r\nab")
        for stream in (*flood, last):
            await stream.aclose()


def test_connections_leave_descriptors_for_what_they_ask_for() -> None:
    assert Limits.within(1024).connections == 341
    assert Limits.within(1_000_000).connections == Limits().connections


async def test_a_second_drain_waits_no_longer() -> None:
    async with serving(Limits(drain=60)) as (server, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
        await trio.sleep(0.1)
        server.drain()
        await trio.sleep(0.1)
        server.drain()
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some(1000) == b""
        await stream.aclose()


async def test_a_free_port_is_the_same_for_every_address() -> None:
    listeners = listen("localhost", 0)
    try:
        assert len({sock.getsockname()[1] for sock in listeners}) == 1
        assert all(sock.type == socket.SOCK_STREAM for sock in listeners)
    finally:
        for sock in listeners:
            sock.close()
