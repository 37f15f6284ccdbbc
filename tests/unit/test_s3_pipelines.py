"""HEADs that are sent one behind the other: whose answer is whose, and who is not asked so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import unquote

import pytest
import trio

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import StaticProvider
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.store import S3ObjectStore
from tests.unit.scripted_server import ScriptedServer, Seen, Step, error, raw, reply

KEYS = [f"folder/ä {number:02}" for number in range(20)]


class Heads(ScriptedServer):
    """Has an object for each key, whose ETag is the key's name; ``instead`` may answer others."""

    def __init__(self) -> None:
        super().__init__()
        self.instead: dict[str, Step] = {}

    def answer(self, seen: Seen) -> Step:
        key = unquote(seen.target).removeprefix("/b/")
        if key in self.instead:
            return self.instead[key]
        return reply(200, b"12345", ETag=f'"{key[-2:]}"', x_amz_meta_of=key[-2:])


class World:
    def __init__(self, server: Heads) -> None:
        self.server = server
        self.client = S3Client(server.url, clock=SystemClock())
        self.store: S3ObjectStore = self.client.acting_as(StaticProvider(Credentials("a", "s")))

    async def found(self) -> list[str]:
        """The keys that were found; each is proven to have its own answer."""
        heads = await self.store.heads("b", KEYS)
        for key, stat in heads.items():
            assert (stat.key, stat.etag, stat.size) == (key, key[-2:], 5)
            assert stat.metadata == {"of": key[-2:]}
        return [key for key in KEYS if key in heads]


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    server = Heads()
    await server.start(nursery)
    world = World(server)
    yield world
    world.client.close()


async def test_all_are_answered_on_few_connections(world: World) -> None:
    assert await world.found() == KEYS
    assert await world.found() == KEYS
    assert world.server.connections == 7  # of three requests each
    status = world.client.status()
    assert status["requests"] == 40
    assert status["connections_idle"] == 7


async def test_none_is_asked_for_where_there_are_none(world: World) -> None:
    assert await world.store.heads("b", []) == {}
    assert not world.server.seen


async def test_what_is_not_there_is_left_out(world: World) -> None:
    world.server.instead = {KEYS[4]: reply(404), KEYS[7]: reply(403), KEYS[8]: reply(503)}
    assert await world.found() == [key for key in KEYS if key not in world.server.instead]
    assert not world.client.pipelines.broken


@pytest.mark.parametrize(
    "step",
    [
        raw(b""),  # the connection is closed
        raw(b'HTTP/1.1 200 OK\r\nETag: "x'),
        raw(b"no HTTP\r\n\r\n", keep=True),
        raw(b"HTTP/1.1 101 Switching\r\n\r\n", keep=True),
        raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000, keep=True),
        # A body where none may be, which looks like no answer to the next one.
        raw(b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nnot found", keep=True),
    ],
    ids=["closed", "cut", "no http", "101", "long", "body"],
)
async def test_what_comes_behind_a_broken_answer_is_left_out(world: World, step: Step) -> None:
    world.server.instead = {KEYS[4]: step}
    # Three requests go over each connection: what was answered before counts.
    assert await world.found() == [key for key in KEYS if key not in KEYS[4:6]]
    world.server.instead = {}
    assert await world.found() == KEYS, "a connection out of step was used again"


async def test_an_answer_that_ends_its_connection_counts(world: World) -> None:
    closing = reply(200, b"12345", keep=False, ETag='"04"', x_amz_meta_of="04", Connection="close")
    world.server.instead = {KEYS[4]: closing}
    assert await world.found() == [key for key in KEYS if key != KEYS[5]]


async def test_an_interim_answer_is_none(world: World) -> None:
    async def twice(stream: trio.SocketStream, seen: Seen) -> bool:
        await stream.send_all(b'HTTP/1.1 103 Early\r\nETag: "no"\r\n\r\n')
        return await reply(200, b"12345", ETag='"04"', x_amz_meta_of="04")(stream, seen)

    world.server.instead = {KEYS[4]: twice}  # type: ignore[dict-item]
    assert await world.found() == KEYS


async def test_who_does_not_answer_them_is_not_asked_so(world: World) -> None:
    world.server.pipelines = False
    for _ in range(2):
        assert not world.client.pipelines.broken
        with trio.move_on_after(0.2) as patience:
            await world.found()
        assert patience.cancelled_caught
    assert world.client.pipelines.broken
    before = len(world.server.seen)
    assert await world.found() == []
    assert len(world.server.seen) == before
    # A single one is asked as ever.
    assert (await world.store.head("b", KEYS[0])).etag == "00"


async def test_a_store_that_is_away_is_no_error(world: World) -> None:
    client = S3Client("http://127.0.0.1:1", clock=SystemClock())
    store = client.acting_as(StaticProvider(Credentials("a", "s")))
    assert await store.heads("b", KEYS) == {}
    client.close()


async def test_a_redirect_or_refusal_is_left_to_who_asks(world: World) -> None:
    world.server.instead = dict.fromkeys(KEYS, error(400, "ExpiredToken"))
    assert await world.found() == []
    assert not world.client.pipelines.broken
