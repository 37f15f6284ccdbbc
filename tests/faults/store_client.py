"""A client at work on a store that will be killed, and what it may expect to find afterwards.

Every client has keys of its own, so what it was told is all that there is to know about them. What
it asked for without getting an answer may have come about or not.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from s3posixfs.core.types import MIN_PART_BYTES
from tests.store_process import REGION, StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

BUCKET = "rounds"
_SIZES = (0, 10, 5_000, 200_000, 300_000, 1_500_000)
_NAMES = ("a", "a/b", "a/b/c", "d/", "d/e", "f/g/h", "i", "j")
_MOST_UPLOADS = 2

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Version:
    """What an object may be; parts that make it up by the seeds of their bytes."""

    pieces: tuple[tuple[int, int], ...]  # seed and size of each
    etag: str

    def body(self) -> bytes:
        return b"".join(bytes_of(seed, size) for seed, size in self.pieces)


@dataclass(slots=True)
class Upload:
    """A multipart upload; ``parts`` by number: what each may be, None for not there."""

    key: str
    upload_id: str
    step: int
    equal: bool
    parts: dict[int, set[Version | None]] = field(default_factory=dict)
    # What it becomes, once that was asked for without an answer.
    asked: Version | None = None
    numbers: tuple[int, ...] = ()
    aborting: bool = False

    def sure(self) -> dict[int, Version]:
        """The parts of which it is known what they are."""
        known = {number: next(iter(may)) for number, may in self.parts.items() if len(may) == 1}
        return {number: part for number, part in sorted(known.items()) if part is not None}


class Unanswered(Exception):
    """The store went away before it answered, or said that it can't now."""


def bytes_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Client:
    """One client: its connection, its keys and uploads."""

    def __init__(self, store: StoreProcess, user: User, name: str, seed: int) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.disk_is_gone = False  # then nothing that the store says is an answer
        self.objects: dict[str, set[Version | None]] = {}
        self.uploads: list[Upload] = []
        # Keys of uploads that were begun without an answer: their IDs are not known.
        self.unknown: list[str] = []
        self._chance = random.Random(seed)
        self.s3: S3Client = boto3.client(
            "s3",
            endpoint_url=store.endpoint,
            region_name=REGION,
            aws_access_key_id=user.access_key,
            aws_secret_access_key=user.secret_key,
            config=Config(
                retries={"total_max_attempts": 1},
                read_timeout=60,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def work(self, ending: threading.Event, stop_at_error: bool) -> None:
        """Operations until told to end; a store that went away ends it too, or is tried again."""
        while not ending.is_set():
            try:
                self.step()
                self.counts["acknowledged"] += 1
            except Unanswered:
                self.counts["unanswered"] += 1
                if stop_at_error:
                    return
                ending.wait(0.05)
            except (AssertionError, ClientError) as error:
                self.problems.append(f"{self.name}: {error}")
                return

    def step(self) -> None:
        """One operation, or the repetition of one that got no answer."""
        for upload in self.uploads:
            if upload.asked is not None and self._chance.random() < 0.8:
                self.complete_again(upload)
                return
            if upload.aborting:
                self.abort(upload)
                return
        # While it is open which of two objects a key has, only its upload is dealt with.
        open_keys = {upload.key for upload in self.uploads if upload.asked is not None}
        key, other = (f"{self.name}/{name}" for name in self._chance.sample(_NAMES, 2))
        if key in open_keys or other in open_keys:
            return
        action = self._chance.random()
        if action < 0.40:
            self.put(key)
        elif action < 0.50:
            self.delete([key])
        elif action < 0.55:
            self.delete([key, other])
        elif action < 0.68:
            self.rename(key, other)
        else:
            self._upload_step(key, open_keys)

    # --- objects ---------------------------------------------------------------------------

    def may_be(self, key: str) -> set[Version | None]:
        return self.objects.get(key, {None})

    def put(self, key: str) -> None:
        seed = self._chance.randrange(2**32)
        size = 0 if key.endswith("/") else self._chance.choice(_SIZES)
        body = bytes_of(seed, size)
        version = Version(((seed, size),), md5(body))
        self.objects[key] = self.may_be(key) | {version}
        answer = self._ask(lambda: self.s3.put_object(Bucket=BUCKET, Key=key, Body=body))
        assert answer["ETag"] == f'"{version.etag}"', f"{key}: ETag {answer['ETag']}"
        self.objects[key] = {version}
        self.counts["puts"] += 1

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.objects[key] = self.may_be(key) | {None}
        if len(keys) == 1:
            self._ask(lambda: self.s3.delete_object(Bucket=BUCKET, Key=keys[0]))
        else:
            rows = [{"Key": key} for key in keys]
            said = self._ask(
                lambda: self.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": rows})  # type: ignore[typeddict-item]
            )
            assert not said.get("Errors"), f"DeleteObjects {keys}: {said['Errors']}"
        for key in keys:
            self.objects[key] = {None}
        self.counts["removed"] += len(keys)

    def rename(self, key: str, other: str) -> None:
        was, there = self.may_be(key), self.may_be(other)
        if key.endswith("/") or other.endswith("/") or was == {None}:
            return
        self.objects[other] = there | (was - {None})
        self.objects[key] = was | {None}
        source = f"/{BUCKET}/{key}"
        try:
            self._ask(lambda: self.s3.rename_object(Bucket=BUCKET, Key=other, RenameSource=source))
        except ClientError as error:
            missing = error.response["Error"]["Code"] == "NoSuchKey"
            if not missing or None not in was:
                raise
            self.objects[key], self.objects[other] = {None}, there
            return
        self.objects[key], self.objects[other] = {None}, was - {None}
        self.counts["renamed"] += 1

    # --- uploads ---------------------------------------------------------------------------

    def _upload_step(self, key: str, open_keys: set[str]) -> None:
        if len(self.uploads) < _MOST_UPLOADS:
            if not key.endswith("/"):
                self.begin(key)
            return
        upload = self._chance.choice(self.uploads)
        if upload.key in open_keys:
            return
        action = self._chance.random()
        if len(upload.sure()) < 2 or action < 0.45:
            self.send_parts(upload)
        elif action < 0.85:
            self.complete(upload)
        else:
            self.abort(upload)

    def begin(self, key: str) -> None:
        self.unknown.append(key)
        answer = self._ask(lambda: self.s3.create_multipart_upload(Bucket=BUCKET, Key=key))
        self.unknown.remove(key)
        step = MIN_PART_BYTES + self._chance.randrange(3) * 4096
        self.uploads.append(Upload(key, answer["UploadId"], step, self._chance.random() < 0.7))

    def send_parts(self, upload: Upload) -> None:
        """Two parts at once, new ones or some that are there already."""
        with ThreadPoolExecutor(2) as pool:
            numbers = self._chance.sample((1, 2, 3), 2)
            plans = [
                (number, self._chance.randrange(2**32), self._part_size(upload, number))
                for number in numbers
            ]
            sent = [pool.submit(self._send_part, upload, *plan) for plan in plans]
        for one in sent:
            one.result()

    def _part_size(self, upload: Upload, number: int) -> int:
        if number == 3:
            return 1 + self._chance.randrange(300_000)  # the rest
        return upload.step if upload.equal else upload.step + self._chance.randrange(5000)

    def _send_part(self, upload: Upload, number: int, seed: int, size: int) -> None:
        body = bytes_of(seed, size)
        part = Version(((seed, size),), md5(body))
        upload.parts[number] = upload.parts.get(number, {None}) | {part}
        answer = self._ask(
            lambda: self.s3.upload_part(
                Bucket=BUCKET,
                Key=upload.key,
                UploadId=upload.upload_id,
                PartNumber=number,
                Body=body,
            )
        )
        assert answer["ETag"] == f'"{part.etag}"', f"part {number}: ETag {answer['ETag']}"
        upload.parts[number] = {part}
        self.counts["parts"] += 1

    def complete(self, upload: Upload) -> None:
        parts = upload.sure()
        etags = b"".join(bytes.fromhex(part.etag) for part in parts.values())
        pieces = tuple(piece for part in parts.values() for piece in part.pieces)
        upload.asked = Version(pieces, f"{md5(etags)}-{len(parts)}")
        upload.numbers = tuple(parts)
        self.objects[upload.key] = self.may_be(upload.key) | {upload.asked}
        self.complete_again(upload)

    def complete_again(self, upload: Upload) -> None:
        """Ask for what was asked before: the answer has to be the same."""
        version = upload.asked
        assert version is not None
        chosen = upload.sure()
        rows: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": chosen[number].etag} for number in upload.numbers
        ]
        answer = self._ask(
            lambda: self.s3.complete_multipart_upload(
                Bucket=BUCKET,
                Key=upload.key,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": rows},
            )
        )
        assert answer["ETag"] == f'"{version.etag}"', f"{upload.key}: ETag {answer['ETag']}"
        self.objects[upload.key] = {version}
        self.uploads.remove(upload)
        self.counts["completed"] += 1

    def abort(self, upload: Upload) -> None:
        again = upload.aborting or upload.asked is not None
        upload.aborting = True
        try:
            self._ask(
                lambda: self.s3.abort_multipart_upload(
                    Bucket=BUCKET, Key=upload.key, UploadId=upload.upload_id
                )
            )
        except ClientError as error:
            gone = error.response["Error"]["Code"] == "NoSuchUpload"
            if not gone or not again:
                raise
        self.uploads.remove(upload)
        self.counts["aborted"] += 1

    def _ask(self, call: Callable[[], Result]) -> Result:
        """Unanswered where the store went away; what it should not say is a problem."""
        try:
            answer = call()
        except BotoCoreError as error:
            raise Unanswered from error
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 503 or self.disk_is_gone:
                raise Unanswered from error
            raise
        if self.disk_is_gone:
            # XFS says yes to the fsync of a folder also when it has been shut down; a host without
            # power would say nothing.
            raise Unanswered
        return answer
