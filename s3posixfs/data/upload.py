"""Putting a staged file into S3 in one step: one PUT, or a multipart upload.

The previous object stays until the PUT or the CompleteMultipartUpload took effect. Whatever
goes wrong before that, cancellation included, the multipart upload is aborted and the error is
raised; nothing of the source was changed.

A base that was replaced is found out, never mixed with: part copies carry
``source_if_match``, and because a store may ignore that (Ceph RGW does), a HEAD after the last
copy must still show the base's ETag before the upload is completed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body, FileRange, ObjectStore
from s3posixfs.core.types import PartResult, PutResult
from s3posixfs.data.parts import Part, UploadSettings, plan_parts
from s3posixfs.data.reader import ObjectReader
from s3posixfs.data.streaming import Stream
from s3posixfs.data.upload_notes import UploadNotes
from s3posixfs.data.upload_target import CANNOT_COPY, Target, abort
from s3posixfs.waiting.deadlines import waiting


class UploadSource(Protocol):
    """A file that does not change while it is uploaded."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def base(self) -> ObjectReader | None:
        """The object version that unchanged ranges are ranges of."""
        ...

    def unchanged(self) -> list[tuple[int, int]]:
        """Ranges that are the same bytes at the same place in the base, in order."""
        ...

    async def prepare(self, start: int, end: int) -> None:
        """Make ``[start, end)`` readable by :meth:`body`, fetching what only the base has."""
        ...

    def body(self, offset: int, length: int) -> Body:
        """A request body for a prepared range."""
        ...


async def upload(
    source: UploadSource,
    store: ObjectStore,
    target: Target,
    settings: UploadSettings,
    notes: UploadNotes | None = None,
) -> PutResult:
    """Write the whole object in one step. Raises S3Error or OSError (the local disk)."""
    if source.size <= settings.put_limit:
        return await _put(source, store, target)
    return await _Multipart(source, store, target, settings, notes).run()


async def finish(
    stream: Stream,
    source: UploadSource,
    target: Target,
    settings: UploadSettings,
    notes: UploadNotes | None,
) -> PutResult:
    """:func:`upload` of a file of which parts were sent before, by a stream that has settled. It
    is over then, whatever comes of it. What goes with the object is as the stream's target says."""
    return await _Multipart(source, stream.store, target, settings, notes, stream).run()


async def _put(source: UploadSource, store: ObjectStore, target: Target) -> PutResult:
    await source.prepare(0, source.size)
    body = source.body(0, source.size)
    try:
        return await store.put(
            target.bucket,
            target.key,
            body,
            metadata=target.metadata,
            content_type=target.content_type,
            headers=target.headers,
            if_match=target.if_match,
            if_none_match=target.if_none_match,
        )
    except S3Error as error:
        if not _may_have_landed(error, source, target, ""):
            raise
        etag = await trio.to_thread.run_sync(_md5, body)
        if not _may_have_landed(error, source, target, etag):
            raise
        landed = await _landed(store, target, etag, source.size)
        if landed is None:
            raise
        return landed


def _md5(body: Body) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    if isinstance(body, FileRange):
        offset, end = body.offset, body.offset + body.length
        while piece := os.pread(body.fd, min(1 << 20, end - offset), offset):
            digest.update(piece)
            offset += len(piece)
    else:
        digest.update(body)
    return digest.hexdigest()


def _may_have_landed(error: S3Error, source: UploadSource, target: Target, etag: str) -> bool:
    """Whether the failed request, or its own first attempt, may have made the object ``etag``.

    Only where the object is known to have been another one before: else an equal object that
    was there already, with other metadata, would be taken for this one. Never of a request
    that had to create the object: an equal one may be somebody else's.
    """
    before = target.if_match
    base = source.base
    if before is None and base is not None:
        version = base.version
        if (version.bucket, version.key) == (target.bucket, target.key):
            before = version.etag
    if target.if_none_match or before is None or before == etag:
        return False
    if error.code == "PreconditionFailed":
        return target.if_match is not None
    return error.status == 0 or error.status >= 500 or error.code == "NoSuchUpload"


async def _landed(store: ObjectStore, target: Target, etag: str, size: int) -> PutResult | None:
    """The object's present state, if it is what the failed request was to make of it."""
    try:
        stat = await store.head(target.bucket, target.key)
    except S3Error:
        return None
    if stat.etag == etag and stat.size == size:
        return PutResult(stat.etag, stat.last_modified)
    return None


class _Multipart:
    """One multipart upload. ``_parts`` is shared by the workers; each takes the next part."""

    def __init__(
        self,
        source: UploadSource,
        store: ObjectStore,
        target: Target,
        settings: UploadSettings,
        notes: UploadNotes | None,
        stream: Stream | None = None,
    ) -> None:
        self._notes = notes
        self._note: Path | None = stream.note if stream is not None else None
        self._stream = stream
        self._source = source
        self._store = store
        self._target = target
        self._settings = settings
        self._results: list[PartResult] = stream.sent() if stream is not None else []
        self._copied = stream is not None and stream.copied
        self._failure: Exception | None = None

    async def run(self) -> PutResult:
        await waiting()
        upload_id = self._stream.upload_id if self._stream is not None else await self._begin()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._send(self._plan(), upload_id)
            if self._copied:
                await self._check_base()
            # Shielded: either outcome is known, and a cancelled upload did not happen.
            with trio.CancelScope(shield=True):
                result = await self._complete(upload_id)
        except BaseException:
            await abort(self._store, self._target, upload_id, self._notes, self._note)
            raise
        if self._notes is not None and self._note is not None:
            with trio.CancelScope(shield=True):
                await self._notes.remove(self._note)
        return result

    async def _begin(self) -> str:
        target = self._target
        # Shielded: an upload ID that nobody learned would stay in the store for ever.
        with trio.CancelScope(shield=True):
            upload_id = await self._store.create_multipart(
                target.bucket,
                target.key,
                metadata=target.metadata,
                content_type=target.content_type,
                headers=target.headers,
            )
            if self._notes is not None:
                self._note = await self._notes.add(
                    target.bucket, target.key, upload_id, target.identity
                )
        return upload_id

    def _plan(self) -> list[Part]:
        source, stream, settings = self._source, self._stream, self._settings
        if stream is None:
            return plan_parts(source.size, source.unchanged(), settings)
        rest = plan_parts(
            source.size, source.unchanged(), settings, sent=stream.end, used=stream.used
        )
        return [*stream.missing(), *rest]

    async def _send(self, parts: list[Part], upload_id: str) -> None:
        remaining = iter(parts)
        async with trio.open_nursery() as nursery:
            for _ in range(min(self._settings.parallel, len(parts))):
                nursery.start_soon(self._work, remaining, upload_id, nursery.cancel_scope)
        if self._failure is not None:
            raise self._failure
        self._results.sort(key=lambda result: result.number)

    async def _work(
        self, remaining: Iterator[Part], upload_id: str, siblings: trio.CancelScope
    ) -> None:
        try:
            for part in remaining:
                self._results.append(await self._send_part(part, upload_id))
        except Exception as error:
            if self._failure is None:
                self._failure = error
            siblings.cancel()

    async def _send_part(self, part: Part, upload_id: str) -> PartResult:
        target = self._target
        base = self._source.base
        if part.copied and base is not None:
            try:
                result = await self._store.copy_part(
                    target.bucket,
                    target.key,
                    upload_id,
                    part.number,
                    source_bucket=base.version.bucket,
                    source_key=base.version.key,
                    offset=part.offset,
                    length=part.length,
                    source_if_match=base.version.etag,
                )
            except S3Error as error:
                if error.code not in CANNOT_COPY:
                    raise
            else:
                self._copied = True
                return result
        await self._source.prepare(part.offset, part.offset + part.length)
        return await self._store.upload_part(
            target.bucket,
            target.key,
            upload_id,
            part.number,
            self._source.body(part.offset, part.length),
        )

    async def _check_base(self) -> None:
        """PreconditionFailed unless the base is still what the parts were copied from."""
        base = self._source.base
        if base is None:
            return
        try:
            etag = (await base.store.head(base.version.bucket, base.version.key)).etag
        except S3Error as error:
            if error.status != 404:
                raise
            etag = ""
        if etag != base.version.etag:
            raise S3Error(
                "PreconditionFailed", "the object was replaced while it was copied", status=412
            )

    def _expected_etag(self) -> str:
        """What S3 calls this object where parts are not encrypted; "" where that is not known."""
        try:
            digests = b"".join(bytes.fromhex(result.etag) for result in self._results)
        except ValueError:
            return ""
        digest = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        return f"{digest}-{len(self._results)}"

    async def _complete(self, upload_id: str) -> PutResult:
        target, expected = self._target, self._expected_etag()
        try:
            result = await self._store.complete_multipart(
                target.bucket,
                target.key,
                upload_id,
                self._results,
                if_match=target.if_match,
                if_none_match=target.if_none_match,
            )
        except S3Error as error:
            if not expected or not _may_have_landed(error, self._source, target, expected):
                raise
            landed = await _landed(self._store, target, expected, self._source.size)
            if landed is None:
                raise
            return landed
        if result.etag:
            return result
        # Ceph RGW answers without an ETag. Another's object must not be taken for this one.
        if expected:
            return PutResult(expected, result.last_modified)
        stat = await self._store.head(target.bucket, target.key)
        return PutResult(stat.etag, stat.last_modified)
