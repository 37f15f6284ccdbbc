"""Capabilities come from what a store was seen to do, on stores that do it wrong in known ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Capabilities, Credentials
from s3posixfs.credentials.provider import StaticProvider
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.retry import RetryPolicy
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.traits import ALL_SETTINGS, parse_settings
from tests.unit.quirky_store import RGW, Quirks, QuirkyStore
from tests.unit.scripted_server import Seen, Step, drop, error

QUICK = RetryPolicy(attempts=4, base=0.002, cap=0.01, deadline=5.0)


class World:
    """A quirky store and a client of it."""

    def __init__(self, server: QuirkyStore) -> None:
        self.server = server
        self.client = S3Client(server.url, clock=SystemClock(), retry=QUICK)
        self.store: S3ObjectStore = self.client.acting_as(StaticProvider(Credentials("a", "s")))

    def became(self, quirks: Quirks) -> None:
        self.server.quirks = quirks

    async def probe(self) -> Capabilities:
        found = await self.client.probe(self.store, "b")
        assert not self.server.objects, "the scratch objects are left behind"
        assert not self.server.uploads, "the scratch upload is left behind"
        return found

    def count(self, method: str) -> int:
        return sum(seen.method == method for seen in self.server.seen)


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    server = QuirkyStore()
    await server.start(nursery)
    world = World(server)
    yield world
    world.client.close()


ALL = Capabilities(
    conditional_put=True,
    rename_object=True,
    rename_folder=True,
    listing_metadata=True,
    listing_owner=True,
)


async def test_store_that_does_everything(world: World) -> None:
    assert await world.probe() == ALL
    assert world.store.capabilities == ALL
    assert world.client.traits.conditional_complete
    assert world.client.traits.conditional_copy
    assert world.client.traits.quoted_if_match


async def test_looked_at_once_an_endpoint(world: World) -> None:
    await world.probe()
    requests = len(world.server.seen)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(world.probe)
    assert len(world.server.seen) == requests


async def test_ceph_rgw(world: World) -> None:
    world.became(RGW)
    found = await world.probe()
    assert found == Capabilities(
        conditional_put=True, rename_object=False, listing_metadata=False, listing_owner=True
    )
    traits = world.client.traits
    assert not traits.quoted_if_match
    assert not traits.conditional_complete
    assert not traits.conditional_copy


@pytest.mark.parametrize(
    ("quirks", "lost"),
    [
        (Quirks(rename="empty"), "rename_object"),
        (Quirks(rename="unknown"), "rename_object"),
        (Quirks(rename="clobbers"), "rename_object"),
        (Quirks(rename_folder="unknown"), "rename_folder"),
        (Quirks(rename_folder="clobbers"), "rename_folder"),
        (Quirks(if_none_match=False), "conditional_put"),
        (Quirks(if_match_spelling="ignored"), "conditional_put"),
        (Quirks(metadata_in_listing=False), "listing_metadata"),
        (Quirks(owner_in_listing=False), "listing_owner"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_200_alone_proves_nothing(world: World, quirks: Quirks, lost: str) -> None:
    world.became(quirks)
    without = [lost, "rename_folder"] if lost == "rename_object" else [lost]
    assert await world.probe() == replace(ALL, **dict.fromkeys(without, False))


async def test_store_that_may_only_be_read_gives_what_is_safe(world: World) -> None:
    await world.store.put("b", "there", b"x", metadata={"m": "1"})
    world.became(Quirks(writable=False))
    found = await world.client.probe(world.store, "b")
    assert found == Capabilities(listing_metadata=True)
    world.became(Quirks())
    assert await world.client.probe(world.store, "b") == ALL, "it was not looked at again"


async def test_trouble_is_not_taken_for_a_missing_capability(
    world: World, nursery: trio.Nursery
) -> None:
    # The answers of three requests in the middle of probing are lost.
    lost: list[str] = []

    def lose(seen: Seen) -> bool:
        lost.append(seen.target)
        return True

    world.server.lose = lose
    assert (await world.client.probe(world.store, "b")).rename_object
    assert lost


async def test_missing_bucket_is_an_error(world: World) -> None:
    with pytest.raises(S3Error, match="NoSuchBucket"):
        await world.client.probe(world.store, "other")


@pytest.mark.parametrize("quirk", ["ignores", "no parts", "no complete"])
async def test_a_checksum_counts_where_it_is_compared(world: World, quirk: str) -> None:
    world.became(Quirks(crc64nvme=quirk))
    assert await world.probe() == ALL
    assert not world.client.traits.crc64nvme
    assert world.client.status()["body_checksum"] == "sha256"


# what is done about it


def sums(seen: Seen) -> tuple[bool, bool]:
    """Whether a request has a checksum, and whether its signature is of the body, too."""
    unsigned = seen.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    return "x-amz-checksum-crc64nvme" in seen.headers, not unsigned


async def test_large_bodies_are_proven_by_their_checksum(world: World) -> None:
    store, server = world.store, world.server
    await world.probe()
    assert world.client.status()["body_checksum"] == "crc64nvme"
    await store.put("b", "small", b"x" * 4096)
    assert sums(server.seen[-1]) == (False, True)
    await store.put("b", "large", b"x" * 300_000)
    assert sums(server.seen[-1]) == (True, False)
    signed = server.seen[-1].headers["authorization"]
    assert "x-amz-checksum-crc64nvme;x-amz-content-sha256" in signed
    upload = await store.create_multipart("b", "parts")
    part = await store.upload_part("b", "parts", upload, 1, b"y" * 10)
    assert sums(server.seen[-1]) == (True, False)
    await store.complete_multipart("b", "parts", upload, [part])
    assert server.objects["parts"].body == b"y" * 10
    assert not world.client.summed_uploads


async def test_an_upload_begun_before_is_not_summed(world: World) -> None:
    upload = await world.store.create_multipart("b", "parts")
    await world.client.probe(world.store, "b")
    await world.store.upload_part("b", "parts", upload, 1, b"y" * 300_000)
    assert sums(world.server.seen[-1]) == (False, True)


async def test_what_a_policy_wants_signed_is_sent_again(world: World) -> None:
    await world.probe()
    server = world.server
    server.lose = lambda seen: sums(seen) == (True, False)
    server.instead = error(403, "AccessDenied")
    await world.store.put("b", "large", b"x" * 300_000)
    assert [sums(seen) for seen in server.seen[-2:]] == [(True, False), (True, True)]


async def test_on_a_way_that_others_may_use_bodies_are_signed(nursery: trio.Nursery) -> None:
    server = QuirkyStore()
    await server.start(nursery)
    settings = {"crc64nvme": "yes"}
    async with S3Client(server.url, clock=SystemClock(), retry=QUICK, settings=settings) as client:
        store = client.acting_as(StaticProvider(Credentials("a", "s")))
        assert store.sums_bodies
    for url, private in (
        ("http://127.0.0.1:9000", True),
        ("http://[::1]:9000", True),
        ("http://localhost", True),
        ("https://s3.example.org", True),
        ("http://s3.example.org", False),
        ("http://192.0.2.1", False),
        ("http://localhost.example.org", False),
    ):
        client = S3Client(url, clock=SystemClock(), settings=settings)
        assert client.acting_as(StaticProvider(Credentials("a", "s"))).sums_bodies == private
        assert client.status()["body_checksum"] == ("crc64nvme" if private else "sha256")


async def test_if_none_match_is_used_where_only_that_is_honoured(world: World) -> None:
    world.became(Quirks(if_match_spelling="ignored"))
    await world.probe()
    await world.store.put("b", "k", b"one", if_none_match=True)
    assert world.server.seen[-1].headers["if-none-match"] == "*"


async def test_if_match_is_sent_as_the_store_reads_it(world: World) -> None:
    world.became(RGW)
    await world.probe()
    first = await world.store.put("b", "k", b"one")
    await world.store.put("b", "k", b"two", if_match=first.etag)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await world.store.put("b", "k", b"three", if_match=first.etag)
    assert world.server.objects["k"].body == b"two"


@pytest.mark.parametrize("probed", [True, False], ids=["probed", "unprobed"])
async def test_conditions_are_emulated_where_they_are_ignored(world: World, probed: bool) -> None:
    world.became(
        Quirks(
            if_none_match=False,
            if_match_spelling="ignored",
            conditional_complete=False,
            conditional_copy=False,
            rename="empty",
        )
    )
    if probed:
        await world.probe()
    store = world.store
    first = await store.put("b", "k", b"one", if_none_match=True)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.put("b", "k", b"two", if_none_match=True)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.put("b", "k", b"two", if_match="0" * 32)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.copy("b", "k", "b", "k2", source_if_match="0" * 32)
    upload = await store.create_multipart("b", "k")
    part = await store.upload_part("b", "k", upload, 1, b"two")
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.complete_multipart("b", "k", upload, [part], if_none_match=True)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.copy_part(
            "b",
            "k",
            upload,
            1,
            source_bucket="b",
            source_key="k",
            offset=0,
            length=1,
            source_if_match="0" * 32,
        )
    with pytest.raises(S3Error, match="NotImplemented"):
        await store.rename("b", "k", "k3")
    assert world.server.objects["k"].body == b"one"
    assert set(world.server.objects) == {"k"}
    await store.put("b", "k", b"two", if_match=first.etag)


async def test_etag_that_complete_does_not_say_is_asked_for(world: World) -> None:
    world.became(RGW)
    upload = await world.store.create_multipart("b", "k")
    parts = [await world.store.upload_part("b", "k", upload, n, b"%d" % n) for n in (1, 2)]
    result = await world.store.complete_multipart("b", "k", upload, parts)
    assert result.etag == world.server.objects["k"].etag
    assert result.etag.endswith("-2")


# answers that were lost: what was done is not done again, nor reported as refused


@pytest.mark.parametrize("instead", [drop, error(500, "InternalError")], ids=["lost", "500"])
async def test_conditional_put_whose_answer_was_lost_succeeds(world: World, instead: Step) -> None:
    await world.probe()
    world.server.instead = instead
    world.server.lose = lambda seen: True
    result = await world.store.put("b", "k", b"one", metadata={"Uid": "1"}, if_none_match=True)
    assert result.etag == world.server.objects["k"].etag
    world.server.lose = lambda seen: True
    result = await world.store.put("b", "k", b"two", if_match=result.etag)
    assert result.etag == world.server.objects["k"].etag


async def test_conditional_put_that_someone_else_won_fails(world: World) -> None:
    await world.probe()

    def lose(seen: Seen) -> bool:
        # Ours never arrives; another client's does.
        world.server.objects["k"].body = b"theirs"
        world.server.objects["k"].etag = "f" * 32
        return True

    world.server.lose = lose
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await world.store.put("b", "k", b"ours", if_none_match=True)


async def test_complete_whose_answer_was_lost_succeeds(world: World) -> None:
    upload = await world.store.create_multipart("b", "k")
    parts = [await world.store.upload_part("b", "k", upload, n, b"%d" % n) for n in (1, 2)]
    world.server.lose = lambda seen: True
    result = await world.store.complete_multipart("b", "k", upload, parts)
    assert result.etag == world.server.objects["k"].etag


async def test_rename_whose_answer_was_lost_succeeds(world: World) -> None:
    await world.probe()
    for no_replace in (False, True):
        await world.store.put("b", "old", b"x")
        await world.store.delete("b", "new")
        world.server.lose = lambda seen: True
        await world.store.rename("b", "old", "new", no_replace=no_replace)
        assert set(world.server.objects) == {"new"}
    with pytest.raises(S3Error, match="NoSuchKey"):
        await world.store.rename("b", "nothing", "new2")


async def test_headers_that_are_known_are_sent_and_not_asked_for(world: World) -> None:
    await world.probe()
    known = {"cache-control": "max-age=1", "content-encoding": "gzip"}
    put = await world.store.put("b", "k", b"x", metadata={"uid": "1"}, headers=known)
    assert (await world.store.head("b", "k")).headers == known
    before = len(world.server.seen)
    await world.store.copy(
        "b",
        "k",
        "b",
        "k",
        metadata={"uid": "7"},
        content_type="text/css",
        headers=known,
        source_if_match=put.etag,
    )
    assert [seen.method for seen in world.server.seen[before:]] == ["PUT"]
    found = await world.store.head("b", "k")
    assert (found.metadata, found.headers) == ({"uid": "7"}, known)


async def test_known_headers_do_not_spare_a_condition_that_the_store_ignores(
    world: World,
) -> None:
    world.became(RGW)
    await world.probe()
    await world.store.put("b", "k", b"x")
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await world.store.copy(
            "b", "k", "b", "k", metadata={"uid": "7"}, headers={}, source_if_match="0" * 32
        )
    assert not (await world.store.head("b", "k")).metadata


async def test_copy_with_new_metadata_keeps_the_rest(world: World) -> None:
    await world.store.request(
        "PUT",
        "b",
        "k",
        headers=[
            ("content-type", "text/css"),
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=1"),
            ("x-amz-storage-class", "COLD"),
            ("x-amz-meta-old", "1"),
        ],
        body=b"x",
    )
    await world.store.copy("b", "k", "b", "k", metadata={"uid": "7"})
    assert world.server.objects["k"].headers == {
        "content-type": "text/css",
        "content-encoding": "gzip",
        "cache-control": "max-age=1",
        "x-amz-storage-class": "COLD",
        "x-amz-meta-uid": "7",
    }


async def test_an_option_overrides_what_was_found(nursery: trio.Nursery) -> None:
    server = QuirkyStore()
    await server.start(nursery)
    settings = {"rename": "no", "listing_metadata": "no", "if_match": "bare"}
    async with S3Client(server.url, clock=SystemClock(), retry=QUICK, settings=settings) as client:
        store = client.acting_as(StaticProvider(Credentials("a", "s")))
        found = await client.probe(store, "b")
        assert found == replace(
            ALL, rename_object=False, rename_folder=False, listing_metadata=False
        )
        assert not client.traits.quoted_if_match
        assert client.traits.conditional_complete
        assert client.status()["set_by_option"] == settings


async def test_nothing_is_probed_where_everything_is_given(nursery: trio.Nursery) -> None:
    server = QuirkyStore()
    await server.start(nursery)
    settings = dict.fromkeys(ALL_SETTINGS, "no")
    async with S3Client(server.url, clock=SystemClock(), retry=QUICK, settings=settings) as client:
        store = client.acting_as(StaticProvider(Credentials("a", "s")))
        assert await client.probe(store, "b") == Capabilities(listing_owner=False)
        assert not server.seen
        assert not client.traits.unprobed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("rename:no", {"rename": "no"}),
        ("conditional_put:no,rename:no", {"conditional_put": "no", "rename": "no"}),
        ("conditional_put:no;if_match=bare rename:yes",
         {"conditional_put": "no", "if_match": "bare", "rename": "yes"}),
        ("rename:no:listing_owner:yes", {"rename": "no", "listing_owner": "yes"}),
    ],
)  # fmt: skip
def test_settings(text: str, expected: dict[str, str]) -> None:
    assert dict(parse_settings(text)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("teleport:yes", "there is no 'teleport': there are conditional_put"),
        ("rename", "rename is yes or no"),
        ("rename:maybe", "rename is yes or no"),
        ("if_match:yes", "if_match is quoted, bare or no"),
        ("rename:no;rename:yes", "rename is given twice"),
    ],
)
def test_settings_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_settings(text)
