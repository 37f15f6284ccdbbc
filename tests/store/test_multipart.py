"""Multipart uploads through boto3: parts, lists, completion and every way it is refused."""

from __future__ import annotations

import os
from typing import Any

import pytest

from s3posixfs.core import checksums
from tests.store.conftest import Refusal
from tests.store.raw import RawClient

MIB = 1024 * 1024
ONE, TWO = b"1" * (5 * MIB), b"2" * 1000


def start(client: Any, key: str, **options: Any) -> tuple[dict[str, Any], list[Any]]:
    """An upload of ONE and TWO: its coordinates and its parts."""
    upload = client.create_multipart_upload(Bucket="photos", Key=key, **options)["UploadId"]
    there: dict[str, Any] = {"Bucket": "photos", "Key": key, "UploadId": upload}
    more: dict[str, Any] = {}
    if "ChecksumAlgorithm" in options:
        more = {"ChecksumAlgorithm": options["ChecksumAlgorithm"]}
    parts: list[Any] = []
    for number, body in ((1, ONE), (2, TWO)):
        answer = client.upload_part(**there, PartNumber=number, Body=body, **more)
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        part |= {k: v for k, v in answer.items() if k.startswith("Checksum")}
        parts.append(part)
    return there, parts


def test_upload(client: Any) -> None:
    there, parts = start(client, "multi", Metadata={"n": "1"}, ContentType="text/css")
    listed = client.list_parts(**there)
    assert [(row["PartNumber"], row["Size"]) for row in listed["Parts"]] == [
        (1, len(ONE)),
        (2, len(TWO)),
    ]
    page = client.list_parts(**there, MaxParts=1)
    assert page["IsTruncated"]
    assert page["NextPartNumberMarker"] == 1
    assert client.list_parts(**there, PartNumberMarker=1)["Parts"][0]["PartNumber"] == 2
    uploads = client.list_multipart_uploads(Bucket="photos", Prefix="mul")["Uploads"]
    assert [row["Key"] for row in uploads] == ["multi"]
    assert uploads[0]["Owner"]["ID"] == "alice"
    done = client.complete_multipart_upload(**there, MultipartUpload={"Parts": parts})
    assert done["ETag"].endswith('-2"')
    # Asked again, as after a lost answer, it says the same.
    assert (
        client.complete_multipart_upload(**there, MultipartUpload={"Parts": parts})["ETag"]
        == done["ETag"]
    )
    got = client.get_object(Bucket="photos", Key="multi")
    assert got["Body"].read() == ONE + TWO
    assert (got["Metadata"], got["ContentType"]) == ({"n": "1"}, "text/css")
    part = client.get_object(Bucket="photos", Key="multi", PartNumber=2)
    assert (part["Body"].read(), part["PartsCount"]) == (TWO, 2)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", "COMPOSITE"),
        ("CRC32", "FULL_OBJECT"),
        ("CRC64NVME", "FULL_OBJECT"),
        ("SHA256", "COMPOSITE"),
    ],
)
def test_checksum_of_the_whole(client: Any, algorithm: Any, kind: Any) -> None:
    there, parts = start(client, "summed", ChecksumAlgorithm=algorithm, ChecksumType=kind)
    parts = [{k: v for k, v in part.items() if k != "ChecksumType"} for part in parts]
    done = client.complete_multipart_upload(**there, MultipartUpload={"Parts": parts})
    value = done[f"Checksum{algorithm}"]
    whole = checksums.create(algorithm)
    if kind == "FULL_OBJECT":
        whole.update(ONE + TWO)
        assert value == whole.b64()
    else:
        digests = []
        for body in (ONE, TWO):
            part = checksums.create(algorithm)
            part.update(body)
            digests.append(part.digest())
        assert value == checksums.composite(algorithm.lower(), digests)
    head = client.head_object(Bucket="photos", Key="summed", ChecksumMode="ENABLED")
    assert head["ChecksumType"] == kind


def test_completions_that_are_refused(client: Any, refusal: Refusal) -> None:
    there, parts = start(client, "refused")

    def complete(*listed: Any, **more: Any) -> tuple[str, int]:
        return refusal(
            client.complete_multipart_upload,
            **there,
            MultipartUpload={"Parts": list(listed)},
            **more,
        )

    assert complete(parts[1], parts[0]) == ("InvalidPartOrder", 400)
    assert complete({**parts[0], "ETag": '"00"'}, parts[1]) == ("InvalidPart", 400)
    assert complete(parts[0], {"PartNumber": 3, "ETag": parts[1]["ETag"]}) == ("InvalidPart", 400)
    small = client.upload_part(**there, PartNumber=3, Body=b"x")
    third = {"PartNumber": 3, "ETag": small["ETag"]}
    assert complete(*parts, third) == ("EntityTooSmall", 400)
    assert complete(*parts, ChecksumCRC64NVME="AAAAAAAAAAA=") == ("BadDigest", 400)
    assert complete(*parts, ChecksumSHA256="A" * 43 + "=")[1] == 400
    assert complete(*parts, MpuObjectSize=5) == ("InvalidRequest", 400)
    assert complete() == ("MalformedXML", 400)
    assert refusal(client.head_object, Bucket="photos", Key="refused")[1] == 404
    client.put_object(Bucket="photos", Key="refused", Body=b"there")
    assert complete(*parts, IfNoneMatch="*") == ("PreconditionFailed", 412)
    client.complete_multipart_upload(**there, MultipartUpload={"Parts": parts})


def test_abort(client: Any, refusal: Refusal) -> None:
    there, parts = start(client, "aborted")
    client.abort_multipart_upload(**there)
    assert refusal(client.abort_multipart_upload, **there) == ("NoSuchUpload", 404)
    assert refusal(client.list_parts, **there) == ("NoSuchUpload", 404)
    assert refusal(client.upload_part, **there, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
    done = refusal(client.complete_multipart_upload, **there, MultipartUpload={"Parts": parts})
    assert done == ("NoSuchUpload", 404)


def test_part_copy(client: Any, refusal: Refusal) -> None:
    client.put_object(Bucket="photos", Key="source", Body=ONE + TWO)
    upload = client.create_multipart_upload(Bucket="photos", Key="joined")["UploadId"]
    there: dict[str, Any] = {"Bucket": "photos", "Key": "joined", "UploadId": upload}
    source = {"CopySource": "photos/source"}
    first = f"bytes=0-{len(ONE) - 1}"
    rest = f"bytes={len(ONE)}-{len(ONE) + len(TWO) - 1}"
    parts: list[Any] = []
    for number, text in ((1, first), (2, rest)):
        answer = client.upload_part_copy(**there, **source, PartNumber=number, CopySourceRange=text)
        parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    for text in ("bytes=5-", "5-6", f"bytes=0-{len(ONE) + len(TWO)}"):
        bad = refusal(
            client.upload_part_copy, **there, **source, PartNumber=3, CopySourceRange=text
        )
        assert bad == ("InvalidArgument", 400)
    client.complete_multipart_upload(**there, MultipartUpload={"Parts": parts})
    assert client.get_object(Bucket="photos", Key="joined")["Body"].read() == ONE + TWO


def test_a_large_object_is_changed_in_part(client: Any) -> None:
    """What stays is copied, what does not is sent: content, checksum and what they are called."""
    edited: dict[str, Any] = {"Bucket": "photos", "Key": "edited"}
    body = bytearray(os.urandom(17 * MIB))

    def change(at: int) -> tuple[list[str], str]:
        """Send 5 MiB at ``at`` and copy the rest: the ETags of the copies, and of the whole."""
        there = edited | {"UploadId": client.create_multipart_upload(**edited)["UploadId"]}
        end = at + 5 * MIB
        sent = client.upload_part(**there, PartNumber=2, Body=bytes(body[at:end]))
        etags = {2: sent["ETag"]}
        for number, first, last in ((3, end, len(body)), (1, 0, at)):
            span = {"CopySource": "photos/edited", "CopySourceRange": f"bytes={first}-{last - 1}"}
            answer = client.upload_part_copy(**there, **span, PartNumber=number)
            etags[number] = answer["CopyPartResult"]["ETag"]
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2, 3)]
        made = client.complete_multipart_upload(**there, MultipartUpload={"Parts": parts})
        return [etags[1], etags[3]], made["ETag"]

    client.put_object(**edited, Body=bytes(body))
    etags: list[str] = []
    for at in (5 * MIB, 6 * MIB):
        body[at : at + 1000] = os.urandom(1000)
        _, whole = change(at)
        etags.append(whole)
        checksum = checksums.create("crc64nvme")
        checksum.update(body)
        found = client.get_object(**edited, ChecksumMode="ENABLED")
        assert found["Body"].read() == body
        assert (found["ChecksumCRC64NVME"], found["ETag"]) == (checksum.b64(), whole)
    assert len(set(etags)) == 2
    client.put_object(**edited, Body=bytes(body))
    copied, whole = change(6 * MIB)
    client.put_object(**edited, Body=bytes(body))
    assert change(6 * MIB) == (copied, whole)
    body[-1] ^= 1
    client.put_object(**edited, Body=bytes(body))
    assert change(6 * MIB)[0][0] != copied[0]  # the same bytes, of another version


def test_part_numbers(client: Any, refusal: Refusal, raw: RawClient) -> None:
    upload = client.create_multipart_upload(Bucket="photos", Key="numbers")["UploadId"]
    there: dict[str, Any] = {"Bucket": "photos", "Key": "numbers", "UploadId": upload}
    for number in (0, 10_001):
        answer = refusal(client.upload_part, **there, PartNumber=number, Body=b"x")
        assert answer == ("InvalidArgument", 400)
    raw.send(
        raw.head(
            "PUT",
            "/photos/numbers",
            query=f"partNumber=1&uploadId={upload}&renameObject=",
            unsigned=(("content-length", "0"),),
        )
    )
    assert raw.answer().code == "NotImplemented"
    client.abort_multipart_upload(**there)
