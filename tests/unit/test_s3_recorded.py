"""What AWS and MinIO answer where they differ, recorded from the S3 API reference ("Error
responses", "Conditional writes") and MinIO's source. A server of ours plays it back."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.types import Capabilities, Credentials
from s3posixfs.credentials.provider import StaticProvider
from s3posixfs.s3.check import check
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.retry import RetryPolicy
from s3posixfs.s3.store import S3ObjectStore
from tests.unit.quirky_store import Quirks, QuirkyStore
from tests.unit.scripted_server import ScriptedServer, Seen, Step, error, reply

QUICK = RetryPolicy(attempts=4, base=0.002, cap=0.01, deadline=5.0)
CANONICAL = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
MINIO_OWNER = "02d6176db174dc93cb1b899f7c6078f08654445fe8cf1b6ce98d8855f66bdbf4"
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Played:
    """A server that answers by its steps, and clients of it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.clients: list[S3Client] = []
        self.server = ScriptedServer()

    async def start(
        self, *steps: Step, server: ScriptedServer | None = None, **settings: str
    ) -> S3ObjectStore:
        self.server = server or ScriptedServer(*steps)
        await self.server.start(self.nursery)
        client = S3Client(
            self.server.url,
            clock=SystemClock(),
            retry=QUICK,
            random=lambda: 0.5,
            settings=settings,
        )
        self.clients.append(client)
        return client.acting_as(StaticProvider(Credentials("AKIAEXAMPLE", "s")), "alice")


@pytest.fixture
async def played(nursery: trio.Nursery) -> AsyncIterator[Played]:
    played = Played(nursery)
    yield played
    for client in played.clients:
        client.close()


def xml(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


# AWS.


async def test_aws_owner_is_the_canonical_id_without_a_name(played: Played) -> None:
    listing = xml(
        f"<ListBucketResult {NAMESPACE}><Name>b</Name><Prefix></Prefix><KeyCount>1</KeyCount>"
        "<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
        "<Contents><Key>a+b%2Fc</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>"
        "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
        f"<Size>0</Size><Owner><ID>{CANONICAL}</ID></Owner>"
        "<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
    )
    store = await played.start(reply(200, listing))
    (row,) = (await store.list_objects("b")).objects
    assert row.owner is not None
    assert (row.owner.id, row.owner.display_name) == (CANONICAL, "")
    assert (row.key, row.etag) == ("a b/c", "d41d8cd98f00b204e9800998ecf8427e")
    assert row.metadata is None


async def test_aws_checksums_that_nobody_asked_for_are_no_trouble(played: Played) -> None:
    store = await played.start(
        reply(
            200,
            ETag='"d41d8cd98f00b204e9800998ecf8427e"',
            x_amz_checksum_crc64nvme="AAAAAAAAAAA=",
            x_amz_checksum_type="FULL_OBJECT",
            x_amz_server_side_encryption="AES256",
        )
    )
    assert (await store.put("b", "k", b"")).etag == "d41d8cd98f00b204e9800998ecf8427e"


async def test_aws_409_of_a_racing_write_is_tried_again(played: Played) -> None:
    conflict = error(409, "ConditionalRequestConflict", "A conflicting operation occurred.")
    store = await played.start(conflict, reply(200, ETag='"e"'), conditional_put="yes")
    await store.put("b", "k", b"x", if_none_match=True)
    store = await played.start(
        conflict,
        error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did…"),
        *[error(404, "NoSuchKey")] * 2,
        conditional_put="yes",
    )
    with pytest.raises(S3Error) as caught:
        await store.put("b", "k", b"x", if_none_match=True)
    assert caught.value.errno == errno.EEXIST


@pytest.mark.parametrize(
    "answer",
    [
        error(501, "NotImplemented", "A header you provided implies functionality that is not…"),
        error(
            405, "MethodNotAllowed", "The specified method is not allowed against this resource."
        ),
        error(400, "InvalidRequest", "This operation is only supported on directory buckets."),
    ],
    ids=["501", "405", "400"],
)
async def test_aws_renames_in_directory_buckets_only(played: Played, answer: Step) -> None:
    class Aws(QuirkyStore):
        def answer(self, seen: Seen) -> Step:
            return answer if "renameObject" in seen.target else super().answer(seen)

    store = await played.start(server=Aws(Quirks(metadata_in_listing=False)))
    found = await store.client.probe(store, "b")  # type: ignore[attr-defined]
    assert found == Capabilities(conditional_put=True, listing_metadata=False)


REDIRECT = error(
    301,
    "PermanentRedirect",
    "The bucket you are attempting to access must be addressed using the specified endpoint.",
    "<Endpoint>b.s3-eu-west-1.amazonaws.com</Endpoint><Bucket>b</Bucket>",
    x_amz_bucket_region="eu-west-1",
)


async def test_aws_bucket_of_another_region_names_it(played: Played) -> None:
    store = await played.start(REDIRECT, REDIRECT)
    with pytest.raises(OperatorError, match="in region eu-west-1; give region=eu-west-1"):
        await check(store, "b")
    assert len(played.server.seen) == 1, "signing for another region mends no 301"


@pytest.mark.parametrize(
    "refused",
    [
        error(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong",
            "<Region>eu-west-1</Region>",
        ),
        reply(400, x_amz_bucket_region="eu-west-1"),
    ],
    ids=["in the error", "of a HEAD, in a header"],
)
async def test_aws_region_is_learned(
    played: Played, refused: Step, request: pytest.FixtureRequest
) -> None:
    store = await played.start(refused, reply(200, ETag='"e"'))
    if "HEAD" in request.node.name:
        await store.head("b", "k")
    else:
        await store.get("b", "k")
    assert "/eu-west-1/s3/aws4_request" in played.server.seen[1].headers["authorization"]


async def test_aws_slows_down_and_goes_on(played: Played) -> None:
    slow = error(503, "SlowDown", "Please reduce your request rate.")
    store = await played.start(slow, slow, reply(200, ETag='"e"'))
    await store.head("b", "k")
    store = await played.start(*[slow] * 10)
    with pytest.raises(S3Error) as caught:
        await store.list_objects("b")
    assert caught.value.errno == errno.EAGAIN


async def test_aws_expired_token(played: Played) -> None:
    expired = error(
        400, "ExpiredToken", "The provided token has expired.", "<Token-0>hide-this</Token-0>"
    )
    store = await played.start(*[expired] * 3)
    with pytest.raises(S3Error) as caught:
        await store.list_objects("b")
    assert caught.value.errno == errno.EACCES
    assert "hide-this" not in f"{caught.value} {caught.value!r}"


# MinIO.


def minio_page(metadata: str) -> bytes:
    return xml(
        f"<ListBucketResult {NAMESPACE}><Name>b</Name><KeyCount>1</KeyCount>"
        "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>k</Key>"
        "<LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&#34;abc&#34;</ETag>"
        f"<Size>3</Size><Owner><ID>{MINIO_OWNER}</ID><DisplayName>minio</DisplayName></Owner>"
        f"<StorageClass>STANDARD</StorageClass>{metadata}</Contents></ListBucketResult>"
    )


async def test_minio_metadata_in_listings(played: Played) -> None:
    page = minio_page(
        "<UserMetadata><X-Amz-Meta-Mode>33188</X-Amz-Meta-Mode>"
        "<X-Amz-Meta-Uid>1001</X-Amz-Meta-Uid><content-type>text/plain</content-type>"
        "<expires>Mon, 01 Jan 0001 00:00:00 GMT</expires></UserMetadata>"
        "<UserTags></UserTags><Internal><K>1</K><M>0</M></Internal>"
    )
    store = await played.start(reply(200, page))
    (row,) = (await store.list_objects("b")).objects
    assert row.metadata == {"mode": "33188", "uid": "1001"}
    assert row.content_type == "text/plain"
    assert row.owner is not None
    assert row.owner.id == MINIO_OWNER


async def test_minio_capabilities(played: Played) -> None:
    """Conditional PUT, metadata in listings; no RenameObject: the parameter is not looked at, so
    that the request is an ordinary PUT of nothing, which is not to be taken for a rename."""
    quirks = Quirks(rename="empty", conditional_complete=True, conditional_copy=True)
    store = await played.start(server=QuirkyStore(quirks))
    found = await store.client.probe(store, "b")  # type: ignore[attr-defined]
    assert found == replace(
        Capabilities(), conditional_put=True, listing_metadata=True, listing_owner=True
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (507, "XMinioStorageFull", errno.ENOSPC),
        (400, "XMinioInvalidObjectName", errno.EINVAL),
        (409, "XMinioObjectExistsAsDirectory", errno.EISDIR),
        (400, "XMinioParentIsObject", errno.ENOTDIR),
        (400, "XMinioAdminBucketQuotaExceeded", errno.EDQUOT),
    ],
)
async def test_minio_errors(played: Played, status: int, code: str, expected: int) -> None:
    store = await played.start(*[error(status, code)] * 5)
    with pytest.raises(S3Error) as caught:
        await store.put("b", "k", b"x")
    assert caught.value.errno == expected


async def test_minio_that_is_starting_is_waited_for(played: Played) -> None:
    starting = error(503, "XMinioServerNotInitialized", "Server not initialized, please try again.")
    store = await played.start(starting, starting, reply(200, ETag='"e"'))
    await store.head("b", "k")
    assert len(played.server.seen) == 3
