"""Buckets as host names (virtual-hosted style), beside buckets in paths."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.store.raw import RawClient
from tests.store_process import REGION, StoreProcess, User

DOMAIN = "s3.test.example"


@pytest.fixture(scope="module")
def domain(module_folder: Path) -> Iterator[StoreProcess]:
    """A store that serves ``BUCKET.s3.test.example``."""
    folder = module_folder / "domain"
    with StoreProcess(folder, arguments=("--domain", DOMAIN)) as store:
        yield store
        assert store.stop() == 0


@pytest.fixture(scope="module")
def admin(domain: StoreProcess) -> User:
    return domain.admin()


@pytest.fixture
def virtual(domain: StoreProcess, admin: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3 that calls buckets by host name; this process finds those names at the store."""
    find = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        local = isinstance(host, str) and host.endswith(DOMAIN)
        return find("127.0.0.1" if local else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    client: Any = boto3.client(
        "s3",
        endpoint_url=f"http://{DOMAIN}:{domain.port}",
        region_name=REGION,
        aws_access_key_id=admin.access_key,
        aws_secret_access_key=admin.secret_key,
        config=Config(s3={"addressing_style": "virtual"}, retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def test_a_whole_life(domain: StoreProcess, virtual: Any) -> None:
    virtual.create_bucket(Bucket="first")
    assert (domain.root / "first").is_dir()
    # A key that begins like the bucket is not taken for it.
    for key in ("plain", "first/inner", "a b/ü+%"):
        virtual.put_object(Bucket="first", Key=key, Body=key.encode())
        assert virtual.get_object(Bucket="first", Key=key)["Body"].read() == key.encode()
    assert (domain.root / "first/first/inner").read_bytes() == b"first/inner"
    listed = [row["Key"] for row in virtual.list_objects_v2(Bucket="first")["Contents"]]
    assert listed == ["a b/ü+%", "first/inner", "plain"]
    assert [bucket["Name"] for bucket in virtual.list_buckets()["Buckets"]] == ["first"]
    upload = virtual.create_multipart_upload(Bucket="first", Key="joined")["UploadId"]
    there = {"Bucket": "first", "Key": "joined", "UploadId": upload}
    part = virtual.upload_part(**there, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = virtual.complete_multipart_upload(**there, MultipartUpload=parts)
    assert done["Location"] == f"http://first.{DOMAIN}:{domain.port}/joined"
    copied = virtual.copy_object(Bucket="first", Key="copy", CopySource="first/plain")
    assert copied["CopyObjectResult"]["ETag"]
    keys = [{"Key": key} for key in (*listed, "joined", "copy")]
    virtual.delete_objects(Bucket="first", Delete={"Objects": keys})
    virtual.delete_bucket(Bucket="first")
    assert not (domain.root / "first").exists()


def test_both_styles_at_once(domain: StoreProcess, admin: User) -> None:
    by_path: Any = domain.s3(admin)
    by_path.create_bucket(Bucket="both")
    by_path.put_object(Bucket="both", Key="key", Body=b"data")
    by_path.close()

    def get(host: str, path: str, method: str = "GET") -> tuple[int, bytes]:
        with RawClient(domain.port, admin) as raw:
            raw.host = host
            raw.send(raw.head(method, path))
            answer = raw.answer()
            return answer.status, answer.body if answer.status == 200 else answer.code.encode()

    assert get(f"both.{DOMAIN}:{domain.port}", "/key") == (200, b"data")
    assert get(f"both.{DOMAIN}", "/key") == (200, b"data")
    assert get(f"BOTH.{DOMAIN.upper()}:{domain.port}", "/key") == (200, b"data")
    assert get(f"{DOMAIN}:{domain.port}", "/both/key") == (200, b"data")
    assert get("elsewhere.example", "/both/key") == (200, b"data")
    assert get(f"both.x{DOMAIN}", "/both/key") == (200, b"data")
    assert get(f"both.{DOMAIN}", "/both/key") == (404, b"NoSuchKey")
    assert get(f"absent.{DOMAIN}", "/key") == (404, b"NoSuchBucket")
    assert get(f"No_Name.{DOMAIN}", "/key") == (400, b"InvalidBucketName")
    assert b"<Name>both</Name>" in get(f"both.{DOMAIN}", "/")[1]
    assert b"<Name>both</Name>" in get(DOMAIN, "/")[1]


def test_the_host_is_signed(domain: StoreProcess, admin: User) -> None:
    with RawClient(domain.port, admin) as raw:
        raw.host = f"both.{DOMAIN}"
        head = raw.head("GET", "/key")
        raw.send(head.replace(b"both.", b"other."))
        assert raw.answer().code == "SignatureDoesNotMatch"
