"""boto3 against a real store, over http and over https: it needs nothing but the endpoint."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.store.certificates import make_certificates
from tests.store_process import StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Door:
    """A running store, one of its users, and what a client needs to trust it."""

    store: StoreProcess
    user: User
    options: dict[str, Any]

    def s3(self, user: User | None = None, **options: Any) -> S3Client:
        return self.store.s3(user or self.user, **self.options, **options)


@pytest.fixture(scope="module", params=["http", "https"])
def door(request: pytest.FixtureRequest, module_folder: Path) -> Iterator[Door]:
    folder = module_folder / request.param
    folder.mkdir()
    arguments: list[str] = []
    options: dict[str, Any] = {}
    if request.param == "https":
        authority, certificate, key = make_certificates(folder)
        arguments = ["--tls-cert", str(certificate), "--tls-key", str(key)]
        options["verify"] = str(authority)
    with StoreProcess(folder, arguments=arguments) as store:
        assert store.endpoint.startswith(f"{request.param}://")
        user = store.add_user("alice", 1001, policy="readwrite")
        door = Door(store, user, options)
        client = door.s3()
        client.create_bucket(Bucket="photos")
        client.close()
        yield door


@pytest.fixture
def s3(door: Door) -> Iterator[S3Client]:
    client = door.s3()
    yield client
    client.close()


def test_put_and_get(s3: S3Client) -> None:
    body = b"what alice wrote\n" * 100
    put = s3.put_object(Bucket="photos", Key="a/b c+d.txt", Body=body, Metadata={"color": "red"})
    assert put["ETag"] == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
    got = s3.get_object(Bucket="photos", Key="a/b c+d.txt")
    assert got["Body"].read() == body
    assert got["Metadata"] == {"color": "red"}
    part = s3.get_object(Bucket="photos", Key="a/b c+d.txt", Range="bytes=5-9")
    assert part["Body"].read() == body[5:10]
    assert part["ContentRange"] == f"bytes 5-9/{len(body)}"


def test_list_with_owner(s3: S3Client) -> None:
    for name in ("x/1", "x/2", "x/sub/3", "y"):
        s3.put_object(Bucket="photos", Key=f"list/{name}", Body=name.encode())
    page = s3.list_objects_v2(Bucket="photos", Prefix="list/", FetchOwner=True)
    assert [row["Key"] for row in page["Contents"]] == [
        "list/x/1",
        "list/x/2",
        "list/x/sub/3",
        "list/y",
    ]
    assert {row["Owner"]["ID"] for row in page["Contents"]} == {"alice"}
    folders = s3.list_objects_v2(Bucket="photos", Prefix="list/x/", Delimiter="/")
    assert [row["Key"] for row in folders["Contents"]] == ["list/x/1", "list/x/2"]
    assert [row["Prefix"] for row in folders["CommonPrefixes"]] == ["list/x/sub/"]


def test_list_pages(s3: S3Client) -> None:
    keys = [f"pages/{number:04}" for number in range(25)]
    for key in keys:
        s3.put_object(Bucket="photos", Key=key, Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="photos", Prefix="pages/", PaginationConfig={"PageSize": 7}
    )
    listed = [[row["Key"] for row in page["Contents"]] for page in pages]
    assert [len(page) for page in listed] == [7, 7, 7, 4]
    assert [key for page in listed for key in page] == keys


def test_multipart_upload(s3: S3Client, tmp_path: Path) -> None:
    body = os.urandom(12 * MIB + 345)
    source = tmp_path / "source"
    source.write_bytes(body)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_file(str(source), "photos", "large", Config=config)
    head = s3.head_object(Bucket="photos", Key="large")
    assert head["ContentLength"] == len(body)
    assert head["ETag"].endswith('-3"')
    target = tmp_path / "target"
    s3.download_file("photos", "large", str(target), Config=config)
    assert target.read_bytes() == body
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="photos")


def test_copy_and_delete(s3: S3Client) -> None:
    s3.put_object(Bucket="photos", Key="copy/from", Body=b"once", Metadata={"a": "1"})
    s3.copy_object(Bucket="photos", Key="copy/to", CopySource="photos/copy/from")
    copied = s3.get_object(Bucket="photos", Key="copy/to")
    assert (copied["Body"].read(), copied["Metadata"]) == (b"once", {"a": "1"})
    done = s3.delete_objects(
        Bucket="photos", Delete={"Objects": [{"Key": "copy/from"}, {"Key": "copy/none"}]}
    )
    assert {row["Key"] for row in done["Deleted"]} == {"copy/from", "copy/none"}
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="photos", Key="copy/from")
    assert caught.value.response["Error"]["Code"] == "NoSuchKey"


def test_the_file_on_disk_belongs_to_the_writer(s3: S3Client, door: Door) -> None:
    s3.put_object(Bucket="photos", Key="owned/file", Body=b"plain")
    path = door.store.root / "photos" / "owned" / "file"
    assert path.read_bytes() == b"plain"
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1001, 1001, 0o644)
    assert path.parent.stat().st_uid == 1001


def test_buckets_listed_by_several_at_once(door: Door) -> None:
    found: set[tuple[str, ...]] = set()

    def ask() -> None:
        client = door.s3()
        for _ in range(100):
            answer = client.list_buckets()["Buckets"]
            found.add(tuple(bucket["Name"] for bucket in answer))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {("photos",)}


@pytest.mark.parametrize("door", ["https"], indirect=True)
def test_a_client_that_does_not_trust_the_authority_stays_out(door: Door) -> None:
    from botocore.exceptions import SSLError

    stranger = door.store.s3(door.user)
    with pytest.raises(SSLError):
        stranger.list_buckets()
    stranger.close()
