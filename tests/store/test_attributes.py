"""GetObjectAttributes, and the checksums of single parts."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from tests.store.conftest import Refusal
from tests.store.test_policies import DENIED, allow, policy, somebody
from tests.store_process import StoreProcess

ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
THERE: dict[str, Any] = {"Bucket": "photos", "Key": "simple"}
PARTS: dict[str, Any] = {"Bucket": "photos", "Key": "parts"}
SIZES = (5 * 1024 * 1024, 5 * 1024 * 1024, 3)


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


BODIES = [bytes([number]) * size for number, size in enumerate(SIZES)]


@pytest.fixture(scope="module", autouse=True)
def stored(client: Any) -> None:
    client.put_object(**THERE, Body=b"hello", ChecksumAlgorithm="SHA256")
    upload = client.create_multipart_upload(**PARTS, ChecksumAlgorithm="SHA256")["UploadId"]
    done = []
    for number, body in enumerate(BODIES, 1):
        part = client.upload_part(
            **PARTS, UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256"
        )
        fields = {"ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}
        done.append({"PartNumber": number, **fields})
    client.complete_multipart_upload(**PARTS, UploadId=upload, MultipartUpload={"Parts": done})


def test_simple(client: Any) -> None:
    answer = client.get_object_attributes(**THERE, ObjectAttributes=ALL)
    assert answer["ETag"] == "5d41402abc4b2a76b9719d911017c592"
    assert answer["Checksum"] == {
        "ChecksumSHA256": sha256(b"hello"),
        "ChecksumType": "FULL_OBJECT",
    }
    assert (answer["ObjectSize"], answer["StorageClass"]) == (5, "STANDARD")
    assert "ObjectParts" not in answer
    assert answer["LastModified"] == client.head_object(**THERE)["LastModified"]


def test_only_what_was_asked(client: Any) -> None:
    answer = client.get_object_attributes(**THERE, ObjectAttributes=["ObjectSize"])
    assert answer["ObjectSize"] == 5
    assert not {"ETag", "Checksum", "StorageClass"} & answer.keys()


def test_parts(client: Any) -> None:
    answer = client.get_object_attributes(**PARTS, ObjectAttributes=ALL)
    parts = answer["ObjectParts"]
    assert (parts["TotalPartsCount"], parts["IsTruncated"]) == (3, False)
    assert [(part["PartNumber"], part["Size"]) for part in parts["Parts"]] == [
        (number, size) for number, size in enumerate(SIZES, 1)
    ]
    assert [part["ChecksumSHA256"] for part in parts["Parts"]] == [sha256(b) for b in BODIES]
    assert answer["Checksum"]["ChecksumType"] == "COMPOSITE"
    assert answer["Checksum"]["ChecksumSHA256"].endswith("-3")
    assert answer["ETag"].endswith("-3")


def test_parts_by_the_page(client: Any) -> None:
    first = client.get_object_attributes(**PARTS, ObjectAttributes=["ObjectParts"], MaxParts=2)
    parts = first["ObjectParts"]
    assert (parts["IsTruncated"], parts["NextPartNumberMarker"]) == (True, 2)
    assert [part["PartNumber"] for part in parts["Parts"]] == [1, 2]
    second = client.get_object_attributes(
        **PARTS, ObjectAttributes=["ObjectParts"], MaxParts=2, PartNumberMarker=2
    )["ObjectParts"]
    assert (second["IsTruncated"], second["PartNumberMarker"]) == (False, 2)
    assert [part["PartNumber"] for part in second["Parts"]] == [3]
    beyond = client.get_object_attributes(
        **PARTS, ObjectAttributes=["ObjectParts"], PartNumberMarker=9
    )["ObjectParts"]
    assert (beyond["IsTruncated"], beyond.get("Parts", [])) == (False, [])


@pytest.mark.parametrize("method", ["get_object", "head_object"])
def test_a_part_comes_with_its_checksum(client: Any, method: str) -> None:
    for number, body in enumerate(BODIES, 1):
        answer = getattr(client, method)(**PARTS, PartNumber=number, ChecksumMode="ENABLED")
        assert answer["ChecksumSHA256"] == sha256(body)
        assert answer["PartsCount"] == 3


def test_copies_and_new_tags_keep_the_parts(client: Any) -> None:
    copied = {"Bucket": "photos", "Key": "copied-parts"}
    client.copy_object(**copied, CopySource="photos/parts")
    client.put_object_tagging(**copied, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    answer = client.get_object_attributes(**copied, ObjectAttributes=ALL)
    original = client.get_object_attributes(**PARTS, ObjectAttributes=ALL)
    for same in ("ETag", "Checksum", "ObjectParts", "ObjectSize"):
        assert answer[same] == original[same]


def test_refused(running: StoreProcess, client: Any, raw: Any, refusal: Refusal) -> None:
    absent = {"Bucket": "photos", "Key": "absent"}
    answer = refusal(client.get_object_attributes, **absent, ObjectAttributes=ALL)
    assert answer == ("NoSuchKey", 404)
    wrong = refusal(client.get_object_attributes, **THERE, ObjectAttributes=["Owner"])
    assert wrong == ("InvalidArgument", 400)
    assert raw.get("/photos/simple", query="attributes=").code == "InvalidRequest"
    name = ("x-amz-object-attributes", "ObjectParts")
    limit = ("x-amz-max-parts", "-1")
    assert raw.get("/photos/parts", name, limit, query="attributes=").code == "InvalidArgument"
    for number, actions in enumerate((("s3:GetObject",), ("s3:GetObjectAttributes",))):
        with somebody(running, f"half-{number}", policy(allow(*actions))) as one:
            assert refusal(one.get_object_attributes, **THERE, ObjectAttributes=ALL) == DENIED
    both = policy(allow("s3:GetObject", "s3:GetObjectAttributes"))
    with somebody(running, "both", both) as one:
        assert one.get_object_attributes(**THERE, ObjectAttributes=ALL)["ObjectSize"] == 5
        assert refusal(one.get_object_attributes, **absent, ObjectAttributes=ALL) == DENIED
