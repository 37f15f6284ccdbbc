"""The client, its credentials and ``sts`` against the embedded store, in a process of its own."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio

from s3posixfs.core.clock import OffsetClock, StoreClock, SystemClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.objectstore import Body, FileRange, ObjectStore
from s3posixfs.core.types import MIB, Capabilities, Credentials, Owner
from s3posixfs.credentials.provider import (
    AssumeRoleProvider,
    CredentialsProvider,
    ProfileProvider,
    StaticProvider,
)
from s3posixfs.credentials.refresher import Refresher
from s3posixfs.s3.body import crc64nvme_base64
from s3posixfs.s3.check import check
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.copying import copy_by_parts
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.sts import StsClient
from tests.store_process import PROGRAM, StoreProcess, User

ALL = Capabilities(
    conditional_put=True,
    rename_object=True,
    rename_folder=True,
    listing_metadata=True,
    listing_owner=True,
)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    folder = tmp_path_factory.mktemp("store")
    with StoreProcess(folder, environment={"S3POSIXFS_TEST_MIN_SESSION": "1"}) as process:
        process.s3(process.admin()).create_bucket(Bucket="shared")
        process.add_user("alice", 1001, policy="readwrite")
        process.add_user("bob", 1002, policy="readwrite")
        process.add_user("reader", 1003, policy="readonly")
        process.add_user("nobody", 1004)
        yield process


def key_of(process: StoreProcess, name: str) -> Credentials:
    """The key pair of a user; tests know the secrets they gave."""
    if name == "admin":
        user = process.admin()
    else:
        user = User(name, name, f"{name}-secret-{'0123456789' * 4}"[:40], 0, 0)
    return Credentials(user.access_key, user.secret_key)


@pytest.fixture
async def client(process: StoreProcess) -> AsyncIterator[S3Client]:
    async with S3Client(process.endpoint, clock=SystemClock()) as client:
        yield client


Stores = Callable[[str], S3ObjectStore]


@pytest.fixture
def acting(process: StoreProcess, client: S3Client) -> Stores:
    def store_of(name: str) -> S3ObjectStore:
        return client.acting_as(StaticProvider(key_of(process, name)), name)

    return store_of


def conforms(store: ObjectStore) -> ObjectStore:
    """Holds, by type, that the client is what the mount wants."""
    return store


async def test_probing_finds_everything(client: S3Client, acting: Stores) -> None:
    assert await client.probe(acting("alice"), "shared") == ALL
    assert (await acting("alice").list_objects("shared", prefix=".s3posixfs")).objects == ()
    assert conforms(acting("alice")).capabilities == ALL


async def test_probing_without_a_writable_bucket_knows_the_store(
    client: S3Client, acting: Stores
) -> None:
    assert await client.probe(acting("admin"), None) == ALL


async def test_probing_as_a_reader_gives_what_is_safe(client: S3Client, acting: Stores) -> None:
    await acting("alice").put("shared", "for-reader", b"x", metadata={"a": "1"})
    found = await client.probe(acting("reader"), "shared")
    assert not found.rename_object
    assert not found.conditional_put
    assert found.listing_metadata


KEYS = [
    "plain.txt",
    "a b/+%41&=?#.txt",
    "ünïcode/€😀",
    "trailing/",
    "tab\tand\nnewline\r",
    "control\x01\x7f",
    "a//b/../c",
    "'quotes' \"double\" <tag>",
    "~-._!*()$@,;:",
]


@pytest.mark.parametrize("key", KEYS)
async def test_any_key_goes_round(acting: Stores, key: str) -> None:
    store = acting("alice")
    metadata = {"uid": "1001", "note": "a  b; c=d"}
    put = await store.put("shared", key, b"content", metadata=metadata, content_type="x/y")
    assert put.etag == hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    stat = await store.head("shared", key)
    assert (stat.key, stat.size, stat.etag) == (key, 7, put.etag)
    assert stat.metadata == {"uid": "1001", "note": "a b; c=d"} or stat.metadata == metadata
    assert stat.content_type == "x/y"
    assert stat.owner == Owner("alice", "alice")
    assert abs(stat.last_modified - time.time()) < 60
    _, data = await store.get("shared", key, offset=3, length=2, if_match=put.etag)
    assert bytes(data) == b"te"
    page = await store.list_objects("shared", prefix=key[:3])
    listed = next(row for row in page.objects if row.key == key)
    assert (listed.etag, listed.size, listed.owner) == (put.etag, 7, Owner("alice", "alice"))
    assert listed.last_modified == stat.last_modified, "time differs by who is asked"
    await store.copy("shared", key, "shared", f"copy of {key}")
    assert bytes((await store.get("shared", f"copy of {key}"))[1]) == b"content"
    assert await store.delete_many("shared", [key, f"copy of {key}", "was never there"]) == {}
    with pytest.raises(S3Error, match="NoSuchKey"):
        await store.head("shared", key)


async def test_ranges(acting: Stores) -> None:
    store = acting("alice")
    body = os.urandom(1000)
    put = await store.put("shared", "ranges", body)
    for offset, length in ((0, None), (0, 10), (990, 100), (999, 1), (1000, 5), (5000, 1), (5, 0)):
        stat, data = await store.get("shared", "ranges", offset=offset, length=length)
        end = None if length is None else offset + length
        assert bytes(data) == body[offset:end]
        assert (stat.size, stat.etag) == (1000, put.etag)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.get("shared", "ranges", if_match="0" * 32)
    with pytest.raises(S3Error, match="NoSuchKey"):
        await store.get("shared", "nothing", offset=5, length=5)


async def test_empty_object(acting: Stores) -> None:
    store = acting("alice")
    await store.put("shared", "empty", b"")
    stat, data = await store.get("shared", "empty")
    assert (stat.size, bytes(data)) == (0, b"")
    assert bytes((await store.get("shared", "empty", offset=0, length=10))[1]) == b""


async def test_conditions(client: S3Client, acting: Stores) -> None:
    await client.probe(acting("alice"), "shared")
    store = acting("alice")
    first = await store.put("shared", "cond", b"1", if_none_match=True)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.put("shared", "cond", b"2", if_none_match=True)
    second = await store.put("shared", "cond", b"2", if_match=first.etag)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.put("shared", "cond", b"3", if_match=first.etag)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.copy("shared", "cond", "shared", "cond2", source_if_match=first.etag)
    await store.copy("shared", "cond", "shared", "cond2", source_if_match=second.etag)
    await store.rename("shared", "cond2", "cond3")
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await store.rename("shared", "cond", "cond3", no_replace=True)
    with pytest.raises(S3Error, match="NoSuchKey"):
        await store.rename("shared", "cond2", "cond4")


async def test_exclusive_create_has_one_winner(client: S3Client, acting: Stores) -> None:
    await client.probe(acting("alice"), "shared")
    won: list[int] = []
    lost: list[int] = []

    async def race(number: int) -> None:
        try:
            await acting("alice").put("shared", "race", b"%d" % number, if_none_match=True)
        except S3Error as error:
            lost.append(error.errno)
        else:
            won.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(race, number)
    assert len(won) == 1
    assert lost == [errno.EEXIST] * 15
    assert bytes((await acting("bob").get("shared", "race"))[1]) == b"%d" % won[0]


async def test_pages_of_a_listing(acting: Stores) -> None:
    store = acting("bob")
    names = sorted(f"pages/{n:03d}" for n in range(57))
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(store.put, "shared", name, b"x")
    seen: list[str] = []
    token = None
    while True:
        page = await store.list_objects("shared", prefix="pages/", token=token, max_keys=10)
        seen += [row.key for row in page.objects]
        token = page.next_token
        if token is None:
            break
    assert seen == names
    after = await store.list_objects("shared", prefix="pages/", start_after="pages/050")
    assert [row.key for row in after.objects] == names[51:]
    folders = await store.list_objects("shared", delimiter="/")
    assert "pages/" in folders.prefixes


async def test_bodies_proven_by_their_checksum(
    process: StoreProcess, client: S3Client, acting: Stores
) -> None:
    store = acting("alice")
    await client.probe(store, "shared")
    assert store.sums_bodies
    data = os.urandom(5 * MIB + 1000)
    await store.put("shared", "summed", data)
    upload = await store.create_multipart("shared", "summed-parts", metadata={"a": "1"})
    copied = await store.copy_part(
        *("shared", "summed-parts", upload, 1),
        source_bucket="shared",
        source_key="summed",
        offset=0,
        length=5 * MIB,
    )
    sent = await store.upload_part("shared", "summed-parts", upload, 2, data[-1000:])
    await store.complete_multipart("shared", "summed-parts", upload, [copied, sent])
    for key in ("summed", "summed-parts"):
        assert (await store.get("shared", key))[1] == data
    # The store has compared what the client computed with what came.
    s3 = process.s3(process.admin())
    heads = [
        s3.head_object(Bucket="shared", Key=key, ChecksumMode="ENABLED")
        for key in ("summed", "summed-parts")
    ]
    assert len({head["ChecksumCRC64NVME"] for head in heads}) == 1
    assert heads[1]["ChecksumType"] == "FULL_OBJECT"


async def test_a_file_that_changes_under_its_checksum_is_refused(
    client: S3Client, acting: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = acting("alice")
    await client.probe(store, "shared")
    path = tmp_path / "changing"
    path.write_bytes(bytes(MIB))

    async def late(body: Body, threads: trio.CapacityLimiter) -> str:
        value = await crc64nvme_base64(body, threads)
        with path.open("r+b") as file:
            file.write(b"x")
        return value

    monkeypatch.setattr("s3posixfs.s3.binding.crc64nvme_base64", late)
    with path.open("rb") as file, pytest.raises(S3Error, match="BadDigest"):
        await store.put("shared", "changing", FileRange(file.fileno(), 0, MIB))
    with pytest.raises(S3Error, match="NoSuchKey"):
        await store.head("shared", "changing")


async def test_a_policy_that_wants_bodies_signed(
    process: StoreProcess, client: S3Client, acting: Stores
) -> None:
    await client.probe(acting("alice"), "shared")
    statements = [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": "s3:*",
            "Resource": "*",
            "Condition": {"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}},
        },
    ]
    process.add_policy("signed", json.dumps({"Version": "2012-10-17", "Statement": statements}))
    process.add_user("strict", 1005, policy="signed")
    store = acting("strict")
    data = os.urandom(MIB)
    await store.put("shared", "strict", data)
    upload = await store.create_multipart("shared", "strict-parts")
    part = await store.upload_part("shared", "strict-parts", upload, 1, data)
    await store.complete_multipart("shared", "strict-parts", upload, [part])
    assert (await store.get("shared", "strict"))[1] == data
    assert (await store.get("shared", "strict-parts"))[1] == data


async def test_multipart_from_a_file(acting: Stores) -> None:
    store = acting("alice")
    body = os.urandom(12 * MIB + 5)
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        upload = await store.create_multipart("shared", "big", metadata={"uid": "1001"})
        parts = [
            await store.upload_part(
                "shared", "big", upload, n + 1, FileRange(file.fileno(), start, size)
            )
            for n, (start, size) in enumerate(
                ((0, 5 * MIB), (5 * MIB, 5 * MIB), (10 * MIB, 2 * MIB + 5))
            )
        ]
    result = await store.complete_multipart("shared", "big", upload, parts)
    stat, data = await store.get("shared", "big")
    assert bytes(data) == body
    assert (stat.etag, stat.metadata) == (result.etag, {"uid": "1001"})
    copied = await copy_by_parts(
        store,
        "shared",
        stat,
        "shared",
        "big copy",
        metadata={"m": "2"},
        content_type="x/y",
        part_bytes=5 * MIB,
    )
    found, data = await store.get("shared", "big copy")
    assert bytes(data) == body
    assert (found.etag, found.metadata, found.content_type) == (copied.etag, {"m": "2"}, "x/y")


async def test_copy_by_parts_of_an_object_that_changes_leaves_nothing(
    process: StoreProcess, acting: Stores
) -> None:
    store = acting("alice")
    await store.put("shared", "changing", bytes(6 * MIB))
    stat = await store.head("shared", "changing")
    await store.put("shared", "changing", bytes(6 * MIB - 1))
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await copy_by_parts(
            store,
            "shared",
            stat,
            "shared",
            "never",
            metadata={},
            content_type=None,
            part_bytes=5 * MIB,
        )
    with pytest.raises(S3Error, match="NoSuchKey"):
        await store.head("shared", "never")
    uploads = process.s3(process.admin()).list_multipart_uploads(Bucket="shared")
    assert not [upload for upload in uploads.get("Uploads", []) if upload["Key"] == "never"]


async def test_identities_see_what_their_policies_allow(acting: Stores) -> None:
    await acting("alice").put("shared", "policy", b"x")
    assert bytes((await acting("reader").get("shared", "policy"))[1]) == b"x"
    for refused in (
        acting("reader").put("shared", "policy", b"y"),
        acting("reader").delete("shared", "policy"),
        acting("nobody").get("shared", "policy"),
        acting("nobody").head("shared", "policy"),
        acting("nobody").list_objects("shared"),
    ):
        with pytest.raises(S3Error) as caught:
            await refused
        assert caught.value.errno == errno.EACCES
    denied = await acting("reader").delete_many("shared", ["policy"])
    assert denied["policy"].code == "AccessDenied"


async def test_identities_are_asked_of_the_store(acting: Stores) -> None:
    answer = await acting("admin").request("GET", query={"s3posixfs-identities": ""})
    names = {row["name"]: row["uid"] for row in json.loads(bytes(answer.body))["identities"]}
    assert names["alice"] == 1001
    with pytest.raises(S3Error, match="AccessDenied"):
        await acting("reader").request("GET", query={"s3posixfs-identities": ""})


async def test_buckets(acting: Stores) -> None:
    store = acting("admin")
    await store.create_bucket("made-here")
    assert "made-here" in {bucket.name for bucket in await store.list_buckets()}
    await store.head_bucket("made-here")
    await store.delete_bucket("made-here")
    with pytest.raises(S3Error, match="NoSuchBucket"):
        await store.head_bucket("made-here")


@pytest.mark.parametrize(
    ("name", "secret", "bucket", "words"),
    [
        ("alice", None, "shared", ""),
        ("alice", "wrong-secret", "shared", "secret key is wrong"),
        ("mallory", "whatever", "shared", "does not know the access key"),
        ("nobody", None, "shared", "s3:ListBucket"),
        ("admin", None, "missing", "no bucket 'missing'"),
    ],
)
async def test_check(
    process: StoreProcess, client: S3Client, name: str, secret: str | None, bucket: str, words: str
) -> None:
    key = key_of(process, name)
    if secret is not None:
        key = Credentials(name, secret)
    store = client.acting_as(StaticProvider(key), name)
    if not words:
        await check(store, bucket)
        return
    with pytest.raises(OperatorError) as caught:
        await check(store, bucket)
    assert words in str(caught.value)


async def test_a_host_whose_clock_is_wrong_still_works(process: StoreProcess) -> None:
    async with S3Client(process.endpoint, clock=OffsetClock(-3600.0)) as client:
        store = client.acting_as(StaticProvider(key_of(process, "alice")), "alice")
        assert (await store.put("shared", "skewed", b"x")).etag
        assert await store.head("shared", "skewed")
        assert client.clock_offset == pytest.approx(3600, abs=3)


# temporary credentials


@pytest.fixture
async def sts_client(process: StoreProcess) -> AsyncIterator[StsClient]:
    clock = StoreClock(SystemClock())
    async with StsClient(
        process.endpoint, region="us-east-1", clock=clock, random=lambda: 0.5
    ) as client:
        yield client


def role_of(
    sts_client: StsClient, source: CredentialsProvider, arn: str, seconds: int
) -> AssumeRoleProvider:
    return AssumeRoleProvider(
        source,
        sts_client,
        role_arn=arn,
        session_name="test",
        clock=SystemClock(),
        duration=seconds,
    )


async def test_acting_for_a_user_by_assume_role(
    process: StoreProcess, client: S3Client, sts_client: StsClient
) -> None:
    admin = StaticProvider(key_of(process, "admin"))
    provider = role_of(sts_client, admin, "arn:aws:iam:::user/alice", 900)
    store = client.acting_as(provider, "alice")
    await store.put("shared", "by-role", b"x")
    assert (await store.head("shared", "by-role")).owner == Owner("alice", "alice")
    assert (process.root / "shared" / "by-role").stat().st_uid == 1001


async def test_reads_and_writes_outlive_two_second_credentials(
    process: StoreProcess, sts_client: StsClient, nursery: trio.Nursery
) -> None:
    admin = StaticProvider(key_of(process, "admin"))
    refresher = Refresher(
        role_of(sts_client, admin, "arn:aws:iam:::user/alice", 2),
        nursery=nursery,
        clock=SystemClock(),
        random=lambda: 0.5,
        name="alice",
    )
    async with S3Client(process.endpoint, clock=SystemClock()) as client:
        store = client.acting_as(refresher, "alice")
        await refresher.start()
        done = 0
        end = time.monotonic() + 7
        while time.monotonic() < end:
            await store.put("shared", "outlive", b"%d" % done)
            assert bytes((await store.get("shared", "outlive"))[1]) == b"%d" % done
            done += 1
            await trio.sleep(0.02)
        assert refresher.status.refreshes >= 3
        assert refresher.status.last_error is None
        assert not client.transport.counters.errors
    assert done > 20
    nursery.cancel_scope.cancel()


async def test_session_that_ran_out_is_replaced_in_the_request(
    process: StoreProcess, client: S3Client, sts_client: StsClient
) -> None:
    admin = StaticProvider(key_of(process, "admin"))

    class Believes(AssumeRoleProvider):
        """Holds credentials for good, as one does whose clock stood still."""

        async def get(self) -> Credentials:
            return self._current or await super().get()

    provider = Believes(
        admin,
        sts_client,
        role_arn="arn:aws:iam:::user/alice",
        session_name="test",
        clock=SystemClock(),
        duration=3,
    )
    store = client.acting_as(provider, "alice")
    await store.put("shared", "replaced", b"1")
    await trio.sleep(3.2)
    await store.put("shared", "replaced", b"2")
    await trio.sleep(3.2)
    assert await store.head("shared", "replaced")
    assert client.transport.counters.refreshes == 2


async def test_profile_with_role(
    process: StoreProcess, client: S3Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile alice-role]\nrole_arn = arn:aws:iam:::user/alice\nsource_profile = admin\n"
        f"region = us-east-1\nservices = here\n[services here]\n"
        f"sts =\n  endpoint_url = {process.endpoint}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(process.credentials_file))
    provider = ProfileProvider("alice-role", clock=SystemClock())
    assert (await provider.get()).expires_at is not None
    await client.acting_as(provider, "alice").put("shared", "by-profile", b"x")
    direct = ProfileProvider(
        "admin", clock=SystemClock(), credentials_file=process.credentials_file
    )
    assert (await client.acting_as(direct).head("shared", "by-profile")).owner == Owner(
        "alice", "alice"
    )


def sts(process: StoreProcess, *arguments: str, secret: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "sts", "assume-role", "--endpoint-url", process.endpoint, *arguments],
        input=secret + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_sts_command(process: StoreProcess, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(
        json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
                ],
            },
            indent=4,
        )
    )
    key = key_of(process, "alice")
    caller = ("--access-key", "alice", "--secret-key-file", "-", "--duration", "15m")
    done = sts(process, *caller, "--policy-file", str(policy), "--json", secret=key.secret_key)
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    assert given["Version"] == 1
    user = User("alice", given["AccessKeyId"], given["SecretAccessKey"], 0, 0)
    s3 = process.s3(user, token=given["SessionToken"])
    assert s3.list_buckets()["Buckets"]
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket="shared")

    lines = sts(process, *caller, secret=key.secret_key).stdout.splitlines()
    assert [line.split("=")[0] for line in lines] == [
        "export AWS_ACCESS_KEY_ID",
        "export AWS_SECRET_ACCESS_KEY",
        "export AWS_SESSION_TOKEN",
        "export AWS_CREDENTIAL_EXPIRATION",
    ]


@pytest.mark.parametrize(
    ("arguments", "secret", "status", "words"),
    [
        (("--access-key", "alice", "--secret-key-file", "-"), "wrong", 1, "SignatureDoesNotMatch"),
        (("--access-key", "mallory", "--secret-key-file", "-"), "x", 1, "mallory"),
        (("--profile", "no-such-profile"), "", 1, "no-such-profile"),
        (("--profile", "p", "--duration", "forever"), "", 1, "duration"),
        (("--access-key", "alice"), "", 2, "--secret-key-file"),
    ],
)
def test_sts_command_refused(
    process: StoreProcess, arguments: tuple[str, ...], secret: str, status: int, words: str
) -> None:
    done = sts(process, *arguments, secret=secret)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if words != "mallory":
        assert words in done.stderr


async def test_store_that_is_killed_and_comes_back_is_not_noticed(tmp_path: Path) -> None:
    with StoreProcess(tmp_path) as process:
        key = process.admin()
        async with S3Client(process.endpoint, clock=SystemClock()) as client:
            store = client.acting_as(StaticProvider(Credentials(key.access_key, key.secret_key)))
            await store.create_bucket("bucket")
            written: list[int] = []
            under_way = trio.Event()

            async def write() -> None:
                for number in range(40):
                    await store.put("bucket", f"k{number}", b"%d" % number)
                    written.append(number)
                    if number == 5:
                        under_way.set()
                    await trio.sleep(0.02)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await under_way.wait()
                await trio.to_thread.run_sync(process.kill)
                await trio.to_thread.run_sync(process.start)
            assert len(written) == 40
            for number in range(40):
                assert bytes((await store.get("bucket", f"k{number}"))[1]) == b"%d" % number
