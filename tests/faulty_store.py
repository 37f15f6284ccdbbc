"""A wrapper round any object store that fails, delays or holds up chosen calls.

Operations are named by their methods (``"put"``, ``"upload_part"``)::

    store = FaultyStore(MemoryStore("bucket"))
    store.fail("get", S3Error("SlowDown", status=503), times=2)
    store.fail("put", lost_answer(), after_effect=True)     # it took effect, nobody heard
    held = store.hold("upload_part")                        # calls wait until held.set()
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body, ObjectStore
from s3posixfs.core.types import (
    BucketStat,
    Capabilities,
    ListPage,
    ObjectStat,
    PartResult,
    PutResult,
)
from tests.memory_store import heads_by_one

T = TypeVar("T")


def lost_answer() -> S3Error:
    """The connection broke before the answer came."""
    return S3Error("ConnectionError", "connection reset by peer")


@dataclass(slots=True)
class Fault:
    """What happens to the next ``times`` calls once ``skip`` have gone through."""

    error: Exception
    times: int
    skip: int
    after_effect: bool


class FaultyStore:
    """See the module. ``calls`` counts calls by method, ``running`` those under way."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.calls: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.most_running: Counter[str] = Counter()
        self._faults: dict[str, list[Fault]] = defaultdict(list)
        self._delays: dict[str, float] = {}
        self._held: dict[str, trio.Event] = {}

    def fail(
        self,
        operation: str,
        error: Exception,
        *,
        times: int = 1,
        skip: int = 0,
        after_effect: bool = False,
    ) -> None:
        """Let calls of ``operation`` raise ``error``, before or after they took effect."""
        self._faults[operation].append(Fault(error, times, skip, after_effect))

    def delay(self, operation: str, seconds: float) -> None:
        """Let every call of ``operation`` take this much longer."""
        self._delays[operation] = seconds

    def hold(self, operation: str) -> trio.Event:
        """Let calls of ``operation`` wait until the event is set."""
        self._held[operation] = trio.Event()
        return self._held[operation]

    def clear(self) -> None:
        """Fail, delay and hold nothing any more."""
        self._faults.clear()
        self._delays.clear()
        for event in self._held.values():
            event.set()
        self._held.clear()

    def _fault(self, operation: str) -> Fault | None:
        for fault in self._faults[operation]:
            if fault.skip:
                fault.skip -= 1
            elif fault.times:
                fault.times -= 1
                return fault
        return None

    async def _call(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[operation] += 1
        self.running[operation] += 1
        self.most_running[operation] = max(self.most_running[operation], self.running[operation])
        try:
            if operation in self._held:
                await self._held[operation].wait()
            if operation in self._delays:
                await trio.sleep(self._delays[operation])
            fault = self._fault(operation)
            if fault is not None and not fault.after_effect:
                await trio.lowlevel.checkpoint()
                raise fault.error
            result = await call()
            if fault is not None:
                raise fault.error
            return result
        finally:
            self.running[operation] -= 1

    @property
    def capabilities(self) -> Capabilities:
        return self.store.capabilities

    async def list_buckets(self) -> tuple[BucketStat, ...]:
        return await self._call("list_buckets", self.store.list_buckets)

    async def head_bucket(self, bucket: str) -> None:
        await self._call("head_bucket", lambda: self.store.head_bucket(bucket))

    async def create_bucket(self, bucket: str) -> None:
        await self._call("create_bucket", lambda: self.store.create_bucket(bucket))

    async def delete_bucket(self, bucket: str) -> None:
        await self._call("delete_bucket", lambda: self.store.delete_bucket(bucket))

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
        return await self._call(
            "list_objects",
            lambda: self.store.list_objects(
                bucket,
                prefix=prefix,
                delimiter=delimiter,
                start_after=start_after,
                token=token,
                max_keys=max_keys,
            ),
        )

    async def head(self, bucket: str, key: str) -> ObjectStat:
        return await self._call("head", lambda: self.store.head(bucket, key))

    async def heads(self, bucket: str, keys: Sequence[str]) -> Mapping[str, ObjectStat]:
        return await self._call("heads", lambda: heads_by_one(self.store, bucket, keys))

    async def get(
        self,
        bucket: str,
        key: str,
        *,
        offset: int = 0,
        length: int | None = None,
        if_match: str | None = None,
    ) -> tuple[ObjectStat, memoryview]:
        return await self._call(
            "get",
            lambda: self.store.get(bucket, key, offset=offset, length=length, if_match=if_match),
        )

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
        return await self._call(
            "put",
            lambda: self.store.put(
                bucket,
                key,
                body,
                metadata=metadata,
                content_type=content_type,
                headers=headers,
                if_match=if_match,
                if_none_match=if_none_match,
            ),
        )

    async def delete(self, bucket: str, key: str) -> None:
        await self._call("delete", lambda: self.store.delete(bucket, key))

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Mapping[str, S3Error]:
        return await self._call("delete_many", lambda: self.store.delete_many(bucket, keys))

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
        return await self._call(
            "copy",
            lambda: self.store.copy(
                source_bucket,
                source_key,
                bucket,
                key,
                metadata=metadata,
                content_type=content_type,
                headers=headers,
                source_if_match=source_if_match,
            ),
        )

    async def rename(
        self, bucket: str, source_key: str, key: str, *, no_replace: bool = False
    ) -> None:
        await self._call(
            "rename",
            lambda: self.store.rename(bucket, source_key, key, no_replace=no_replace),
        )

    async def rename_folder(self, bucket: str, source: str, prefix: str) -> None:
        await self._call("rename_folder", lambda: self.store.rename_folder(bucket, source, prefix))

    async def create_multipart(
        self,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        return await self._call(
            "create_multipart",
            lambda: self.store.create_multipart(
                bucket, key, metadata=metadata, content_type=content_type, headers=headers
            ),
        )

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> PartResult:
        return await self._call(
            "upload_part",
            lambda: self.store.upload_part(bucket, key, upload_id, number, body),
        )

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
        return await self._call(
            "copy_part",
            lambda: self.store.copy_part(
                bucket,
                key,
                upload_id,
                number,
                source_bucket=source_bucket,
                source_key=source_key,
                offset=offset,
                length=length,
                source_if_match=source_if_match,
            ),
        )

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
        return await self._call(
            "complete_multipart",
            lambda: self.store.complete_multipart(
                bucket,
                key,
                upload_id,
                parts,
                if_match=if_match,
                if_none_match=if_none_match,
            ),
        )

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        await self._call(
            "abort_multipart", lambda: self.store.abort_multipart(bucket, key, upload_id)
        )


def as_object_store(store: FaultyStore) -> ObjectStore:
    """The type checker's proof that a faulty store is an object store."""
    return store
