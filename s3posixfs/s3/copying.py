"""Copies inside a store: what has to be said about the source, and large ones by parts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_PARTS, MIB, ObjectStat, PartResult, PutResult
from s3posixfs.sigv4.encoding import uri_encode

if TYPE_CHECKING:
    from s3posixfs.s3.store import S3ObjectStore

COPY_PART_BYTES = 512 * MIB
COPIES_AT_ONCE = 4
RENAME_FOLDER = "s3posixfs-rename-folder="  # the query of the embedded store's own request


def copy_source(bucket: str, key: str) -> str:
    """The value of ``x-amz-copy-source`` and ``x-amz-rename-source``."""
    return f"/{uri_encode(bucket, slash=True)}/{uri_encode(key, slash=False)}"


def carried_headers(found: ObjectStat) -> dict[str, str]:
    """What a copy of the object needs to be told besides its user metadata and type."""
    carried = dict(found.headers or {})
    if found.storage_class:
        carried["x-amz-storage-class"] = found.storage_class
    return carried


async def copy_by_parts(
    store: S3ObjectStore,
    source_bucket: str,
    source: ObjectStat,
    bucket: str,
    key: str,
    *,
    metadata: Mapping[str, str],
    content_type: str | None,
    headers: Mapping[str, str] | None = None,
    part_bytes: int = COPY_PART_BYTES,
) -> PutResult:
    """Copy an object of any size, four parts at a time, as long as it stays the same.

    Raises S3Error. A failure or cancellation aborts the upload and leaves the target as it was.
    """
    part_bytes = max(part_bytes, -(-source.size // MAX_PARTS))
    upload_id = await store.create_multipart(
        bucket, key, metadata=metadata, content_type=content_type, headers=headers
    )
    parts: dict[int, PartResult] = {}
    failure: Exception | None = None
    try:
        limiter = trio.CapacityLimiter(COPIES_AT_ONCE)
        async with trio.open_nursery() as nursery:

            async def one(number: int, offset: int) -> None:
                nonlocal failure
                try:
                    async with limiter:
                        parts[number] = await store.copy_part(
                            bucket,
                            key,
                            upload_id,
                            number,
                            source_bucket=source_bucket,
                            source_key=source.key,
                            offset=offset,
                            length=min(part_bytes, source.size - offset),
                            source_if_match=source.etag,
                        )
                except Exception as error:  # raised below, out of the nursery's group
                    failure = failure or error
                    nursery.cancel_scope.cancel()

            for number, offset in enumerate(range(0, source.size, part_bytes), 1):
                nursery.start_soon(one, number, offset)
        if failure is not None:
            raise failure
        return await store.complete_multipart(
            bucket, key, upload_id, [parts[number] for number in sorted(parts)]
        )
    except BaseException:
        with trio.move_on_after(30, shield=True), contextlib.suppress(S3Error):
            await store.abort_multipart(bucket, key, upload_id)
        raise
