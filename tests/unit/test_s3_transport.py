"""Requests over connections that misbehave in every way a network and a store can."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import AsyncIterator

import pytest
import trio

from s3posixfs.core.clock import Clock, OffsetClock, SystemClock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import FileRange
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import CredentialsError, StaticProvider
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.errors import ConnectionFailed
from s3posixfs.s3.retry import RetryPolicy
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.transport import S3Request
from tests.unit.scripted_server import (
    ScriptedServer,
    Seen,
    Step,
    Stream,
    dribble,
    drop,
    error,
    forever,
    raw,
    reply,
    stall,
)

QUICK = RetryPolicy(attempts=4, base=0.002, cap=0.01, deadline=5.0)
KEY = Credentials("alice", "alice-secret")


class Bench:
    """Makes servers and clients, and closes the clients at the test's end."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.clients: list[S3Client] = []

    def client(
        self,
        server: ScriptedServer,
        policy: RetryPolicy = QUICK,
        *,
        clock: Clock | None = None,
        max_connections: int = 8,
    ) -> S3Client:
        client = S3Client(
            server.url,
            clock=clock or SystemClock(),
            retry=policy,
            random=lambda: 0.5,
            max_connections=max_connections,
        )
        self.clients.append(client)
        return client

    async def started(self, *steps: Step) -> tuple[ScriptedServer, S3ObjectStore]:
        server = ScriptedServer(*steps)
        await server.start(self.nursery)
        return server, self.client(server).acting_as(StaticProvider(KEY), "alice")


@pytest.fixture
async def bench(nursery: trio.Nursery) -> AsyncIterator[Bench]:
    bench = Bench(nursery)
    yield bench
    for client in bench.clients:
        client.close()


async def fetched(store: S3ObjectStore) -> bytes:
    return bytes((await store.get("b", "k"))[1])


def http_time(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


async def test_one_connection_serves_request_after_request(bench: Bench) -> None:
    server, store = await bench.started(*[reply(200, b"%d" % n, ETag='"e"') for n in range(5)])
    for number in range(5):
        stat, data = await store.get("b", "k")
        assert (stat.etag, bytes(data)) == ("e", b"%d" % number)
    assert server.connections == 1


async def test_large_body_arrives_whole(bench: Bench) -> None:
    body = bytes(range(256)) * 16384
    _, store = await bench.started(reply(200, body), reply(200, b"next"))
    assert await fetched(store) == body
    assert await fetched(store) == b"next"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_transient_status_is_retried(bench: Bench, status: int) -> None:
    server, store = await bench.started(reply(status), error(status, "SlowDown"), reply(200))
    await store.put("b", "k", b"data")
    assert [seen.body for seen in server.seen] == [b"data"] * 3


async def test_attempts_are_limited(bench: Bench) -> None:
    server, store = await bench.started(*[error(503, "SlowDown")] * 9)
    with pytest.raises(S3Error, match="SlowDown"):
        await store.head_bucket("b")
    assert len(server.seen) == QUICK.attempts


async def test_refusals_are_not_retried(bench: Bench) -> None:
    server, store = await bench.started(error(403, "AccessDenied", "no"), reply(200))
    with pytest.raises(S3Error, match="AccessDenied: no"):
        await store.get("b", "k")
    assert len(server.seen) == 1


async def test_body_cut_short_is_asked_for_again(bench: Bench) -> None:
    server, store = await bench.started(
        reply(200, b"half", length=8, keep=False), reply(200, b"complete")
    )
    assert await fetched(store) == b"complete"
    assert server.connections == 2


async def test_more_bytes_than_announced_are_never_taken_for_an_answer(
    bench: Bench,
) -> None:
    smuggled = b"abcHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
    server, store = await bench.started(reply(200, smuggled, length=3), reply(200, b"good"))
    assert await fetched(store) == b"good"
    assert server.connections == 2


async def test_bytes_nobody_asked_for_end_the_connection(bench: Bench) -> None:
    answered, said = trio.Event(), trio.Event()

    async def late(stream: Stream, seen: Seen) -> bool:
        await reply(200, b"one")(stream, seen)
        await answered.wait()
        await raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")(stream, seen)
        said.set()
        return True

    server, store = await bench.started(late, reply(200, b"two"))
    assert await fetched(store) == b"one"
    answered.set()
    await said.wait()
    await trio.sleep(0.05)
    assert await fetched(store) == b"two"
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
    ],
    ids=["chunked", "continue"],
)
async def test_framing_of_bodies(bench: Bench, answer: bytes) -> None:
    server, store = await bench.started(raw(answer, keep=True), reply(200, b"next"))
    assert await fetched(store) == b"abcde"
    assert await fetched(store) == b"next"
    assert server.connections == 1


async def test_answer_byte_by_byte(bench: Bench) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    _, store = await bench.started(dribble(answer, 0.001))
    assert await fetched(store) == b"abc"


async def test_body_that_ends_with_the_connection(bench: Bench) -> None:
    server, store = await bench.started(raw(b"HTTP/1.0 200 OK\r\n\r\nabc"), reply(200, b"next"))
    assert await fetched(store) == b"abc"
    assert await fetched(store) == b"next"
    assert server.connections == 2


async def test_connection_close_is_heeded(bench: Bench) -> None:
    server, store = await bench.started(reply(200, b"1", Connection="close"), reply(200, b"2"))
    for expected in (b"1", b"2"):
        assert await fetched(store) == expected
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
    ids=["not-http", "negative-length", "huge-length", "endless-head"],
)
async def test_garbage_is_an_error_and_not_a_hang(bench: Bench, answer: bytes) -> None:
    _, store = await bench.started(*[raw(answer)] * QUICK.attempts)
    with trio.fail_after(5), pytest.raises(ConnectionFailed) as caught:
        await store.head_bucket("b") if b"999" not in answer else await store.list_buckets()
    assert caught.value.kind in ("garbled", "lost")


async def test_silence_is_given_up(bench: Bench) -> None:
    server = ScriptedServer(*[stall(b"HTTP/1.1 200 OK\r\nContent-Le")] * 2)
    await server.start(bench.nursery)
    client = bench.client(server, RetryPolicy(attempts=2, base=0.001))
    acting = client.acting_as(StaticProvider(KEY)).acting
    with pytest.raises(ConnectionFailed) as caught:
        await client.transport.send(S3Request("GET", "b", "k", timeout=0.1), acting)
    assert caught.value.code == "RequestTimeout"
    assert len(server.seen) == 2


async def test_a_slow_but_steady_answer_is_not_given_up(bench: Bench) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 20
    server = ScriptedServer(dribble(answer, 0.025))
    await server.start(bench.nursery)
    client = bench.client(server)
    acting = client.acting_as(StaticProvider(KEY)).acting
    answer_ = await client.transport.send(S3Request("GET", "b", "k", timeout=1.0), acting)
    assert bytes(answer_.response.body) == b"x" * 20
    assert len(server.seen) == 1


async def test_connection_closed_while_idle_is_replaced_unnoticed(bench: Bench) -> None:
    server, store = await bench.started(reply(200, keep=False), reply(200, keep=False))
    server.steps.append(reply(200))
    for _ in range(3):
        await store.put("b", "k", b"x", if_none_match=False)
        await trio.sleep(0.02)
    assert len(server.seen) == 3


async def test_connection_closed_under_the_request_is_replaced(bench: Bench) -> None:
    # The request arrives, and the server closes as one does whose idle time has just run out.
    _, store = await bench.started(reply(200), drop, reply(200, b"again"))
    await store.head_bucket("b")
    began = trio.current_time()
    assert await fetched(store) == b"again"
    assert trio.current_time() - began < 0.5
    assert store.client.transport.counters.errors == {}


async def test_cancelled_request_leaves_no_half_read_connection(bench: Bench) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    server, store = await bench.started(stall(head), reply(200, b"mine"))
    with trio.move_on_after(0.1) as scope:
        await store.get("b", "k")
    assert scope.cancelled_caught
    assert await fetched(store) == b"mine"
    assert server.connections == 2


async def test_places_in_the_pool_come_back_after_cancellation(bench: Bench) -> None:
    full = trio.Event()

    async def hold(stream: Stream, seen: Seen) -> bool:
        if len(server.seen) == 2:
            full.set()
        return await forever()

    server = ScriptedServer(*[hold] * 4)
    await server.start(bench.nursery)
    client = bench.client(server, max_connections=2)
    store = client.acting_as(StaticProvider(KEY))
    async with trio.open_nursery() as inner:
        for _ in range(4):
            inner.start_soon(store.get, "b", "k")
        with trio.fail_after(10):
            await full.wait()
        await trio.sleep(0.05)  # a third one would be seen now
        inner.cancel_scope.cancel()
    assert len(server.seen) == 2, "more connections than allowed"
    server.steps[:] = [reply(200, b"ok")]
    with trio.fail_after(2):
        assert await fetched(store) == b"ok"


async def test_refusal_before_the_body_is_sent_is_heard(bench: Bench) -> None:
    server = ScriptedServer(
        error(403, "AccessDenied", "not here", Connection="close"), read_bodies=False
    )

    async def refuse_and_wait(stream: Stream, seen: Seen) -> bool:
        await error(403, "AccessDenied", "not here")(stream, seen)
        return await forever()

    server.steps[:] = [refuse_and_wait]
    await server.start(bench.nursery)
    store = bench.client(server).acting_as(StaticProvider(KEY))
    with trio.fail_after(5), pytest.raises(S3Error, match="not here"):
        await store.put("b", "k", bytes(64 * 1024 * 1024))


async def test_file_range_is_sent_and_signed(bench: Bench) -> None:
    server, store = await bench.started(error(500, "InternalError"), reply(200, ETag='"x"'))
    content = bytes(range(251)) * 20_000
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        result = await store.put("b", "k", FileRange(file.fileno(), 1000, 3_000_000))
    assert result.etag == "x"
    expected = content[1000:3_001_000]
    for seen in server.seen:
        assert seen.body == expected
        assert seen.headers["x-amz-content-sha256"] == hashlib.sha256(expected).hexdigest()


async def test_file_shorter_than_its_range_fails(bench: Bench) -> None:
    server, store = await bench.started()
    with tempfile.TemporaryFile() as file, pytest.raises(S3Error, match="IncompleteBody"):
        await store.put("b", "k", FileRange(file.fileno(), 0, 10))
    assert server.seen == []


@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\nb", "a\0b"])
async def test_line_breaks_never_reach_a_header(bench: Bench, value: str) -> None:
    server, store = await bench.started()
    with pytest.raises(S3Error, match="InvalidArgument"):
        await store.put("b", "k", b"", metadata={"note": value})
    assert server.seen == []


async def test_error_within_a_200_is_retried_when_it_is_transient(bench: Bench) -> None:
    done = b"   \n<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>"
    server, store = await bench.started(error(200, "InternalError"), reply(200, done))
    assert (await store.copy("b", "k", "b", "k2")).etag == "e"
    assert len(server.seen) == 2


async def test_error_within_a_200_is_an_error(bench: Bench) -> None:
    server, store = await bench.started(error(200, "AccessDenied"), reply(200))
    with pytest.raises(S3Error, match="AccessDenied"):
        await store.copy("b", "k", "b", "k2")
    assert len(server.seen) == 1


@pytest.mark.parametrize(("bucket", "key"), [("b", ""), ("", "k"), ("", "")])
async def test_empty_names_never_become_a_request_about_the_bucket(
    bench: Bench, bucket: str, key: str
) -> None:
    server, store = await bench.started()
    for operation in (store.delete, store.head, store.get, store.create_multipart):
        with pytest.raises(S3Error, match="InvalidArgument"):
            await operation(bucket, key)
    with pytest.raises(S3Error, match="InvalidArgument"):
        await store.put(bucket, key, b"")
    assert server.seen == []


async def test_metadata_name_that_is_no_token_is_refused(bench: Bench) -> None:
    server, store = await bench.started()
    with pytest.raises(S3Error, match="InvalidArgument"):
        await store.put("b", "k", b"", metadata={"x: y\r\nauthorization": "z"})
    assert server.seen == []


@pytest.mark.parametrize("checkpoint", range(12))
async def test_cancelled_at_any_checkpoint_the_client_goes_on(
    bench: Bench, checkpoint: int
) -> None:
    """Cancels a PUT and a GET at their n-th checkpoint; what follows must be answered right."""
    server, _ = await bench.started(*[reply(200, b"%d" % n, ETag='"e"') for n in range(40)])
    store = bench.client(server, max_connections=1).acting_as(StaticProvider(KEY))
    await store.head_bucket("b")

    class Countdown(trio.abc.Instrument):
        def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
            self.left = checkpoint
            self.task = task
            self.scope = scope

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task is self.task:
                if self.left == 0:
                    self.scope.cancel()
                self.left -= 1

    for operation in (lambda: store.put("b", "k", b"x" * 100_000), lambda: store.get("b", "k")):
        with trio.CancelScope() as scope:
            instrument = Countdown(trio.lowlevel.current_task(), scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                await operation()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        with trio.fail_after(5):
            before = len(server.seen)
            data = await fetched(store)
            assert data == b"%d" % (len(server.seen) - 1)
            assert len(server.seen) > before


# credentials


class Rotating:
    """Gives pair after pair, and counts."""

    def __init__(self, *pairs: Credentials) -> None:
        self.pairs = list(pairs)
        self.refreshes = 0

    async def get(self) -> Credentials:
        return self.pairs[0]

    async def refresh(self, rejected: Credentials) -> Credentials:
        self.refreshes += 1
        if len(self.pairs) > 1:
            self.pairs.pop(0)
        return self.pairs[0]


OLD = Credentials("ASIAOLD", "s", "old-token", time.time() + 3600)
NEW = Credentials("ASIANEW", "s", "new-token", time.time() + 3600)


@pytest.mark.parametrize(
    ("step", "old"),
    [
        (error(400, "ExpiredToken"), OLD),
        (error(400, "InvalidToken"), OLD),
        (error(403, "InvalidAccessKeyId"), OLD),
        (error(403, "AccessDenied"), Credentials("ASIAOLD", "s", "t", time.time() - 1)),
    ],
    ids=["expired", "invalid", "forgotten", "rgw"],
)
async def test_expired_credentials_are_refreshed_once(
    bench: Bench, step: Step, old: Credentials
) -> None:
    server = ScriptedServer(step, reply(200))
    await server.start(bench.nursery)
    provider = Rotating(old, NEW)
    await bench.client(server).acting_as(provider).delete("b", "k")
    assert provider.refreshes == 1
    assert server.seen[1].headers["x-amz-security-token"] == "new-token"
    assert "ASIANEW" in server.seen[1].headers["authorization"]


async def test_refresh_that_does_not_help_ends_with_the_refusal(bench: Bench) -> None:
    server = ScriptedServer(*[error(400, "ExpiredToken")] * 5)
    await server.start(bench.nursery)
    provider = Rotating(OLD)
    with pytest.raises(S3Error, match="ExpiredToken"):
        await bench.client(server).acting_as(provider).delete("b", "k")
    assert (provider.refreshes, len(server.seen)) == (1, 1), "the same pair is refused again"
    server = ScriptedServer(*[error(400, "ExpiredToken")] * 5)
    await server.start(bench.nursery)
    provider = Rotating(OLD, NEW)
    with pytest.raises(S3Error, match="ExpiredToken"):
        await bench.client(server).acting_as(provider).delete("b", "k")
    assert (provider.refreshes, len(server.seen)) == (1, 2)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
async def test_a_key_that_was_rotated_is_replaced(bench: Bench, code: str) -> None:
    server = ScriptedServer(error(403, code), reply(200))
    await server.start(bench.nursery)
    provider = Rotating(KEY, Credentials("AKNEW", "s"))
    await bench.client(server).acting_as(provider).delete("b", "k")
    assert "AKNEW" in server.seen[1].headers["authorization"]


async def test_denial_with_valid_credentials_is_no_reason_to_refresh(
    bench: Bench,
) -> None:
    server = ScriptedServer(error(403, "AccessDenied"))
    await server.start(bench.nursery)
    provider = Rotating(OLD, NEW)
    with pytest.raises(S3Error, match="AccessDenied"):
        await bench.client(server).acting_as(provider).get("b", "k")
    assert provider.refreshes == 0


async def test_identity_without_credentials_is_an_s3_error(bench: Bench) -> None:
    class Broken(Rotating):
        async def get(self) -> Credentials:
            raise CredentialsError("alice", "no such profile")

    server = ScriptedServer()
    await server.start(bench.nursery)
    with pytest.raises(S3Error) as caught:
        await bench.client(server).acting_as(Broken()).get("b", "k")
    assert caught.value.errno == 13
    assert server.seen == []


async def test_skewed_clock_is_corrected_by_the_stores(bench: Bench) -> None:
    now = time.time()
    stamp = http_time(now)
    begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now - 2))
    refusal = error(403, "RequestTimeTooSkewed", Date=stamp)
    server = ScriptedServer(refusal, reply(200), reply(200))
    await server.start(bench.nursery)
    client = bench.client(server, clock=OffsetClock(-7200.0))
    store = client.acting_as(StaticProvider(KEY))
    await store.delete("b", "k")
    await store.delete("b", "k")
    signed = [seen.headers["x-amz-date"] for seen in server.seen]
    assert signed[0] < begun <= signed[1]
    assert len(signed) == 3, "the offset was not kept"
    assert client.clock_offset == pytest.approx(7200, abs=3)


async def test_all_requests_under_way_pass_when_the_clock_has_jumped(bench: Bench) -> None:
    """The first refusal teaches the clock; the others were signed before that."""
    count = 4
    gate = trio.Event()
    refused = error(403, "RequestTimeTooSkewed", Date=http_time(time.time()))

    async def together(stream: Stream, seen: Seen) -> bool:
        if len(server.seen) >= count:
            gate.set()
        await gate.wait()
        return await refused(stream, seen)

    server = ScriptedServer(*[together] * count, *[reply(200)] * count)
    await server.start(bench.nursery)
    client = bench.client(server, clock=OffsetClock(7200.0))
    store = client.acting_as(StaticProvider(KEY))
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(store.delete, "b", f"k{number}")
    assert len(server.seen) == 2 * count
    assert client.clock_offset == pytest.approx(-7200, abs=3)


async def test_a_request_that_was_signed_long_ago_is_signed_anew(bench: Bench) -> None:
    """The process stood still between signing and sending; the clocks agree."""
    refusal = error(403, "RequestTimeTooSkewed", Date=http_time(time.time()))
    server = ScriptedServer(refusal, reply(200))
    await server.start(bench.nursery)
    client = bench.client(server)
    await client.acting_as(StaticProvider(KEY)).delete("b", "k")
    assert abs(client.clock_offset) < 3


async def test_a_session_that_ended_by_the_stores_clock_is_replaced(bench: Bench) -> None:
    """Ceph RGW says only AccessDenied; this host's clock is some minutes behind."""
    refusal = error(403, "AccessDenied", Date=http_time(time.time() + 301))
    server = ScriptedServer(refusal, reply(200))
    await server.start(bench.nursery)
    provider = Rotating(Credentials("ASIAOLD", "s", "t", time.time() + 300), NEW)
    await bench.client(server).acting_as(provider).delete("b", "k")
    assert "ASIANEW" in server.seen[1].headers["authorization"]


async def test_skew_is_seen_at_a_head_without_a_code(bench: Bench) -> None:
    refusal = reply(403, Date=http_time(time.time()))
    server = ScriptedServer(refusal, reply(200))
    await server.start(bench.nursery)
    client = bench.client(server, clock=OffsetClock(-7200.0))
    await client.acting_as(StaticProvider(KEY)).head_bucket("b")
    assert len(server.seen) == 2


async def test_region_the_store_asks_for_is_signed(bench: Bench) -> None:
    extra = "<Region>eu-west-1</Region>"
    server, store = await bench.started(
        error(400, "AuthorizationHeaderMalformed", extra=extra), reply(200)
    )
    await store.delete("b", "k")
    assert "/eu-west-1/s3/" in server.seen[1].headers["authorization"]


async def test_budget_stops_the_storm(bench: Bench) -> None:
    server = ScriptedServer(*[reply(503)] * 1000)
    await server.start(bench.nursery)
    client = bench.client(server, RetryPolicy(attempts=10, base=0.0, deadline=60))
    store = client.acting_as(StaticProvider(KEY))
    for _ in range(40):
        with pytest.raises(S3Error):
            await store.head_bucket("b")
    # 40 first attempts and the 100 retries that a full bucket pays for.
    assert len(server.seen) == 140


async def test_secrets_are_in_no_repr(bench: Bench) -> None:
    _, store = await bench.started(error(403, "SignatureDoesNotMatch"))
    with pytest.raises(S3Error) as caught:
        await store.get("b", "k")
    for thing in (store.acting, caught.value, store):
        assert "alice-secret" not in repr(thing)
