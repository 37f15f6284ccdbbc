"""An S3 store in memory, with owners, conditions, listings, rename and multipart uploads.

``MemoryStore()`` is a new, empty store as identity ``daemon``; ``store.acting_as("alice")`` is
the same store as alice. Every call yields once before it acts and then acts in one step, so a
cancelled call has had no effect. Objects belong to who wrote them last; copies re-own.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import trio

from s3posixfs.core.clock import Clock, SystemClock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body, FileRange, ObjectStore
from s3posixfs.core.types import (
    KEPT_HEADERS,
    MAX_KEY_BYTES,
    MIN_PART_BYTES,
    BucketStat,
    Capabilities,
    ListPage,
    ObjectStat,
    Owner,
    PartResult,
    PutResult,
)

Authorize = Callable[[str, str, str, str], bool]  # identity, "s3:GetObject", bucket, key

ALL_CAPABILITIES = Capabilities(
    conditional_put=True,
    rename_object=True,
    rename_folder=True,
    listing_metadata=True,
    listing_owner=True,
)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object and its bytes."""

    stat: ObjectStat
    data: bytes


@dataclass(slots=True)
class StoredUpload:
    """A multipart upload that was begun."""

    bucket: str
    key: str
    metadata: Mapping[str, str]
    content_type: str | None
    headers: Mapping[str, str]
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class StoreState:
    """What every identity of one store shares."""

    clock: Clock
    capabilities: Capabilities
    min_part_bytes: int
    authorize: Authorize | None
    buckets: dict[str, dict[str, StoredObject]] = field(default_factory=dict)
    created: dict[str, float] = field(default_factory=dict)
    uploads: dict[str, StoredUpload] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    uploads_begun: int = 0


def _refused() -> S3Error:
    return S3Error("AccessDenied", "Access Denied", status=403)


def _no_key(key: str) -> S3Error:
    return S3Error("NoSuchKey", "The specified key does not exist.", status=404, resource=key)


def _failed_precondition() -> S3Error:
    return S3Error("PreconditionFailed", "At least one precondition did not hold", status=412)


def body_bytes(body: Body) -> bytes:
    """The bytes of a request body."""
    if not isinstance(body, FileRange):
        return bytes(body)
    pieces: list[bytes] = []
    offset, left = body.offset, body.length
    while left:
        piece = os.pread(body.fd, left, offset)
        if not piece:
            raise S3Error("IncompleteBody", "the file ended before the range did", status=400)
        pieces.append(piece)
        offset += len(piece)
        left -= len(piece)
    return b"".join(pieces)


async def heads_by_one(
    store: ObjectStore, bucket: str, keys: Sequence[str]
) -> dict[str, ObjectStat]:
    """What :meth:`ObjectStore.heads` gives, by a HEAD of each, all at once."""
    found: dict[str, ObjectStat] = {}

    async def ask(key: str) -> None:
        with suppress(S3Error):
            found[key] = await store.head(bucket, key)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(ask, key)
    return found


class MemoryStore:
    """The store as one identity. ``requests`` counts calls by method name, over all of them."""

    def __init__(
        self,
        *buckets: str,
        identity: str = "daemon",
        clock: Clock | None = None,
        capabilities: Capabilities = ALL_CAPABILITIES,
        min_part_bytes: int = MIN_PART_BYTES,
        authorize: Authorize | None = None,
        state: StoreState | None = None,
    ) -> None:
        if state is None:
            state = StoreState(clock or SystemClock(), capabilities, min_part_bytes, authorize)
        self.state = state
        self.identity = identity
        for bucket in buckets:
            self.state.buckets[bucket] = {}
            self.state.created[bucket] = self.state.clock.time()

    def acting_as(self, identity: str) -> MemoryStore:
        """The same store, as another identity."""
        return MemoryStore(identity=identity, state=self.state)

    @property
    def capabilities(self) -> Capabilities:
        return self.state.capabilities

    @property
    def requests(self) -> Counter[str]:
        """Calls so far, by method name."""
        return self.state.requests

    # Looking in from a test, with no request counted and nothing refused.

    def data(self, bucket: str, key: str) -> bytes:
        """An object's bytes; KeyError where there is none."""
        return self.state.buckets[bucket][key].data

    def stat(self, bucket: str, key: str) -> ObjectStat:
        """An object's attributes; KeyError where there is none."""
        return self.state.buckets[bucket][key].stat

    def keys(self, bucket: str) -> list[str]:
        """A bucket's keys in S3's order."""
        return sorted(self.state.buckets[bucket], key=str.encode)

    def put_now(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ObjectStat:
        """Write an object as this identity, at once."""
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return self._publish(bucket, key, data, etag, metadata or {}, content_type, headers or {})

    # How a request is served.

    async def _begin(self, operation: str, action: str, bucket: str, key: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self.state.requests[operation] += 1
        self._allow(action, bucket, key)

    def _allow(self, action: str, bucket: str, key: str) -> None:
        authorize = self.state.authorize
        if authorize is not None and not authorize(self.identity, action, bucket, key):
            raise _refused()

    def _bucket(self, bucket: str) -> dict[str, StoredObject]:
        found = self.state.buckets.get(bucket)
        if found is None:
            raise S3Error("NoSuchBucket", "The specified bucket does not exist", status=404)
        return found

    def _object(self, bucket: str, key: str, if_match: str | None = None) -> StoredObject:
        found = self._bucket(bucket).get(key)
        if found is None:
            raise _no_key(key)
        if if_match is not None and found.stat.etag != if_match:
            raise _failed_precondition()
        return found

    def _check(self, bucket: str, key: str, if_match: str | None, if_none_match: bool) -> None:
        if if_none_match and key in self._bucket(bucket):
            raise _failed_precondition()
        if if_match is not None:
            self._object(bucket, key, if_match)

    def _publish(
        self,
        bucket: str,
        key: str,
        data: bytes,
        etag: str,
        metadata: Mapping[str, str],
        content_type: str | None,
        headers: Mapping[str, str],
    ) -> ObjectStat:
        if not 0 < len(key.encode()) <= MAX_KEY_BYTES:
            raise S3Error("KeyTooLongError", "Your key is too long", status=400)
        stat = ObjectStat(
            key=key,
            size=len(data),
            etag=etag,
            last_modified=self.state.clock.time(),
            owner=Owner(self.identity, self.identity),
            metadata={name.lower(): value for name, value in metadata.items()},
            content_type=content_type or "binary/octet-stream",
            storage_class="STANDARD",
            headers={name: value for name, value in headers.items() if name in KEPT_HEADERS},
        )
        self._bucket(bucket)[key] = StoredObject(stat, data)
        return stat

    # Buckets.

    async def list_buckets(self) -> tuple[BucketStat, ...]:
        await self._begin("list_buckets", "s3:ListAllMyBuckets", "*")
        return tuple(
            BucketStat(name, self.state.created[name]) for name in sorted(self.state.buckets)
        )

    async def head_bucket(self, bucket: str) -> None:
        await self._begin("head_bucket", "s3:ListBucket", bucket)
        self._bucket(bucket)

    async def create_bucket(self, bucket: str) -> None:
        await self._begin("create_bucket", "s3:CreateBucket", bucket)
        if bucket in self.state.buckets:
            raise S3Error("BucketAlreadyExists", status=409)
        self.state.buckets[bucket] = {}
        self.state.created[bucket] = self.state.clock.time()

    async def delete_bucket(self, bucket: str) -> None:
        await self._begin("delete_bucket", "s3:DeleteBucket", bucket)
        if self._bucket(bucket):
            raise S3Error("BucketNotEmpty", status=409)
        del self.state.buckets[bucket]

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        token: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        await self._begin("list_objects", "s3:ListBucket", bucket, prefix)
        after = (token if token is not None else start_after).encode()
        objects: list[ObjectStat] = []
        prefixes: list[str] = []
        last = ""
        stored = self._bucket(bucket)
        for key in self.keys(bucket):
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key[: cut + len(delimiter)] if cut >= 0 else key
            if name.encode() <= after or (prefixes and prefixes[-1] == name):
                continue
            if len(objects) + len(prefixes) == max_keys:
                return ListPage(tuple(objects), tuple(prefixes), last)
            last = name
            if cut >= 0:
                prefixes.append(name)
            else:
                stat = replace(stored[key].stat, content_type=None, headers=None)
                if not self.capabilities.listing_metadata:
                    stat = replace(stat, metadata=None)
                if not self.capabilities.listing_owner:
                    stat = replace(stat, owner=None)
                objects.append(stat)
        return ListPage(tuple(objects), tuple(prefixes), None)

    # Objects.

    async def head(self, bucket: str, key: str) -> ObjectStat:
        await self._begin("head", "s3:GetObject", bucket, key)
        return self._object(bucket, key).stat

    async def heads(self, bucket: str, keys: Sequence[str]) -> Mapping[str, ObjectStat]:
        return await heads_by_one(self, bucket, keys)

    async def get(
        self,
        bucket: str,
        key: str,
        *,
        offset: int = 0,
        length: int | None = None,
        if_match: str | None = None,
    ) -> tuple[ObjectStat, memoryview]:
        await self._begin("get", "s3:GetObject", bucket, key)
        found = self._object(bucket, key, if_match)
        end = None if length is None else offset + length
        view = memoryview(found.data)[offset:end]
        self.state.bytes_read += len(view)
        return found.stat, view

    async def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> PutResult:
        await self._begin("put", "s3:PutObject", bucket, key)
        self._bucket(bucket)
        self._check(bucket, key, if_match, if_none_match)
        stat = self.put_now(
            bucket,
            key,
            body_bytes(body),
            metadata=metadata,
            content_type=content_type,
            headers=headers,
        )
        return PutResult(stat.etag, stat.last_modified)

    async def delete(self, bucket: str, key: str) -> None:
        await self._begin("delete", "s3:DeleteObject", bucket, key)
        self._bucket(bucket).pop(key, None)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Mapping[str, S3Error]:
        await trio.lowlevel.checkpoint()
        self.state.requests["delete_many"] += 1
        objects = self._bucket(bucket)
        refused: dict[str, S3Error] = {}
        for key in keys:
            try:
                self._allow("s3:DeleteObject", bucket, key)
            except S3Error as error:
                refused[key] = error
            else:
                objects.pop(key, None)
        return refused

    async def copy(
        self,
        source_bucket: str,
        source_key: str,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        source_if_match: str | None = None,
    ) -> PutResult:
        await self._begin("copy", "s3:PutObject", bucket, key)
        self._allow("s3:GetObject", source_bucket, source_key)
        source = self._object(source_bucket, source_key, source_if_match)
        if (source_bucket, source_key) == (bucket, key) and metadata is None:
            raise S3Error("InvalidRequest", "a copy onto itself must change something", status=400)
        replaced = metadata is not None
        stat = self.put_now(
            bucket,
            key,
            source.data,
            metadata=metadata if replaced else source.stat.metadata,
            content_type=content_type if replaced else source.stat.content_type,
            headers=headers if replaced and headers is not None else source.stat.headers,
        )
        return PutResult(stat.etag, stat.last_modified)

    async def rename(
        self, bucket: str, source_key: str, key: str, *, no_replace: bool = False
    ) -> None:
        await self._begin("rename", "s3:PutObject", bucket, key)
        if not self.capabilities.rename_object:
            raise S3Error("NotImplemented", "RenameObject is not there", status=501)
        self._allow("s3:GetObject", bucket, source_key)
        self._allow("s3:DeleteObject", bucket, source_key)
        source = self._object(bucket, source_key)
        objects = self._bucket(bucket)
        if no_replace and key in objects:
            raise _failed_precondition()
        del objects[source_key]
        objects[key] = StoredObject(replace(source.stat, key=key), source.data)

    async def rename_folder(self, bucket: str, source: str, prefix: str) -> None:
        await self._begin("rename_folder", "s3:PutObject", bucket, prefix)
        if not self.capabilities.rename_folder:
            raise S3Error("NotImplemented", "folders are not renamed", status=501)
        objects = self._bucket(bucket)
        moved = [key for key in objects if key.startswith(source)]
        if not moved:
            raise S3Error("NoSuchKey", status=404)
        if any(key.startswith(prefix) and key != prefix for key in objects):
            raise S3Error("FolderNotEmpty", status=409)
        for key in moved:
            self._allow("s3:GetObject", bucket, key)
            self._allow("s3:DeleteObject", bucket, key)
            self._allow("s3:PutObject", bucket, prefix + key[len(source) :])
        objects.pop(prefix, None)
        for key in moved:
            found = objects.pop(key)
            new = prefix + key[len(source) :]
            objects[new] = StoredObject(replace(found.stat, key=new), found.data)

    # Multipart uploads.

    async def create_multipart(
        self,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        await self._begin("create_multipart", "s3:PutObject", bucket, key)
        self._bucket(bucket)
        self.state.uploads_begun += 1
        upload_id = f"upload-{self.state.uploads_begun}"
        self.state.uploads[upload_id] = StoredUpload(
            bucket, key, metadata or {}, content_type, headers or {}
        )
        return upload_id

    def _upload(self, bucket: str, key: str, upload_id: str) -> StoredUpload:
        found = self.state.uploads.get(upload_id)
        if found is None or (found.bucket, found.key) != (bucket, key):
            raise S3Error("NoSuchUpload", "The specified upload does not exist.", status=404)
        return found

    def _store_part(self, upload: StoredUpload, number: int, data: bytes) -> PartResult:
        if not 1 <= number <= 10_000:
            raise S3Error("InvalidArgument", "part numbers go from 1 to 10,000", status=400)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        upload.parts[number] = (etag, data)
        return PartResult(number, etag, len(data))

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> PartResult:
        await self._begin("upload_part", "s3:PutObject", bucket, key)
        return self._store_part(self._upload(bucket, key, upload_id), number, body_bytes(body))

    async def copy_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_bucket: str,
        source_key: str,
        offset: int,
        length: int,
        source_if_match: str | None = None,
    ) -> PartResult:
        await self._begin("copy_part", "s3:PutObject", bucket, key)
        self._allow("s3:GetObject", source_bucket, source_key)
        upload = self._upload(bucket, key, upload_id)
        source = self._object(source_bucket, source_key, source_if_match)
        if offset + length > len(source.data):
            raise S3Error("InvalidArgument", "the range is not inside the source", status=400)
        return self._store_part(upload, number, source.data[offset : offset + length])

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartResult],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> PutResult:
        await self._begin("complete_multipart", "s3:PutObject", bucket, key)
        upload = self._upload(bucket, key, upload_id)
        self._check(bucket, key, if_match, if_none_match)
        if not parts or [part.number for part in parts] != sorted({p.number for p in parts}):
            raise S3Error("InvalidPartOrder", "parts must be in ascending order", status=400)
        pieces: list[bytes] = []
        for part in parts:
            etag, data = upload.parts.get(part.number, ("", b""))
            if etag != part.etag:
                raise S3Error("InvalidPart", "a part was not found", status=400)
            if len(data) < self.state.min_part_bytes and part is not parts[-1]:
                raise S3Error("EntityTooSmall", "a part is too small", status=400)
            pieces.append(data)
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        stat = self._publish(
            bucket,
            key,
            b"".join(pieces),
            etag,
            upload.metadata,
            upload.content_type,
            upload.headers,
        )
        del self.state.uploads[upload_id]
        return PutResult(stat.etag, stat.last_modified)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        await self._begin("abort_multipart", "s3:AbortMultipartUpload", bucket, key)
        self._upload(bucket, key, upload_id)
        del self.state.uploads[upload_id]


def as_object_store(store: MemoryStore) -> ObjectStore:
    """The type checker's proof that a memory store is an object store."""
    return store
