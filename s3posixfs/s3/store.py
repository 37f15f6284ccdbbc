"""S3 as one identity sees it: every operation of the object store protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body
from s3posixfs.core.types import MAX_OBJECT_BYTES, BucketStat, ListPage, ObjectStat, PutResult
from s3posixfs.s3 import settle, xml
from s3posixfs.s3.answers import stat_of
from s3posixfs.s3.binding import (
    LONG_TIMEOUT,
    Headers,
    object_headers,
    query_of,
    require,
    require_key,
)
from s3posixfs.s3.body import length_of, md5_hex
from s3posixfs.s3.copying import RENAME_FOLDER, carried_headers, copy_by_parts, copy_source
from s3posixfs.s3.http import Response
from s3posixfs.s3.multipart import MultipartOperations
from s3posixfs.s3.transport import S3Request

MAX_COPY_BYTES = 5 * 1024**3
MAX_DELETE_KEYS = 1000
# A store that ignores Range sends the whole object: taken up to this size, in bytes.
MAX_UNRANGED_BYTES = 64 * 1024 * 1024


class S3ObjectStore(MultipartOperations):
    """One identity's view of a store; implements :class:`core.objectstore.ObjectStore`.

    Changes are retried when an answer is lost. Where the retry is then refused because the
    first attempt had taken effect after all, the store is asked what it holds, and the
    operation succeeds if that is what was to be written.
    """

    # buckets

    async def list_buckets(self) -> tuple[BucketStat, ...]:
        return xml.parse_buckets((await self.send("GET", "")).response.body)

    async def head_bucket(self, bucket: str) -> None:
        await self.send("HEAD", bucket)

    async def create_bucket(self, bucket: str) -> None:
        region = self.client.transport.region
        body = b"" if region in ("", "us-east-1") else xml.location_document(region)
        try:
            await self.send("PUT", bucket, body=body)
        except S3Error as error:
            if body and error.code in (
                "InvalidLocationConstraint",
                "IllegalLocationConstraintException",
            ):
                await self.send("PUT", bucket)
            elif not (error.code == "BucketAlreadyOwnedByYou" and settle.repeated(error)):
                raise

    async def delete_bucket(self, bucket: str) -> None:
        try:
            await self.send("DELETE", bucket)
        except S3Error as error:
            if not (error.code == "NoSuchBucket" and settle.repeated(error)):
                raise

    # reading

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
        parameters = {"list-type": "2", "encoding-type": "url", "fetch-owner": "true"}
        if prefix:
            parameters["prefix"] = prefix
        if delimiter:
            parameters["delimiter"] = delimiter
        if start_after:
            parameters["start-after"] = start_after
        if token is not None:
            parameters["continuation-token"] = token
        if max_keys != 1000:
            parameters["max-keys"] = str(max_keys)
        if self.capabilities.listing_metadata:
            parameters["metadata"] = "true"
        answer = await self.send("GET", bucket, query=query_of(parameters))
        return xml.parse_listing(answer.response.body)

    async def get(
        self,
        bucket: str,
        key: str,
        *,
        offset: int = 0,
        length: int | None = None,
        if_match: str | None = None,
    ) -> tuple[ObjectStat, memoryview]:
        require_key(bucket, key)
        if length == 0:
            stat = await self.head(bucket, key)
            require(stat, if_match, bucket)
            return stat, memoryview(b"")
        headers: Headers = []
        if offset or length is not None:
            last = "" if length is None else str(offset + length - 1)
            headers.append(("range", f"bytes={offset}-{last}"))
        if if_match is not None:
            headers.append(("if-match", f'"{if_match}"'))
        request = S3Request(
            "GET",
            bucket,
            key,
            "",
            tuple(headers),
            # An answer larger than was asked for would be one to the wrong question.
            limit=MAX_OBJECT_BYTES if length is None else max(length, MAX_UNRANGED_BYTES),
            accepts=(416,),
        )
        response = (await self.client.transport.send(request, self.acting)).response
        if response.status == 416:
            stat = await self.head(bucket, key)
            require(stat, if_match, bucket)
            if stat.size > offset:
                raise S3Error("InvalidRange", f"{key!r} grew while it was read", status=416)
            return stat, memoryview(b"")
        body = response.body
        size = len(body)
        if response.status == 206:
            start, size = _content_range(response.headers)
            if start != offset or len(body) != min(size - offset, length or size):
                raise S3Error("InvalidResponse", "the store sent another range than asked for")
        elif headers and headers[0][0] == "range":
            body = body[offset:] if length is None else body[offset : offset + length]
        stat = stat_of(key, response.headers, size)
        require(stat, if_match, bucket)
        return stat, body

    # writing

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
        sent = object_headers(metadata, content_type, headers)
        conditional = if_match is not None or if_none_match
        if conditional:
            traits = self.client.traits
            sent += await self.conditions(
                bucket,
                key,
                if_match=if_match,
                if_none_match=if_none_match,
                honours_if_match=traits.honours_if_match,
                honours_if_none_match=traits.honours_if_none_match,
            )
        try:
            answer = await self.send_object(bucket, key, sent, body)
        except S3Error as error:
            if error.code == "NotImplemented" and ("if-none-match", "*") in sent:
                # Sent in hope to a store not probed, which the HEAD before has stood in for.
                sent.remove(("if-none-match", "*"))
                answer = await self.send_object(bucket, key, sent, body)
                return _put_result(answer.response)
            if not (conditional and settle.may_be_own(error)):
                raise
            found = await self.found_at(bucket, key)
            digest = await md5_hex(body, self.client.transport.threads)
            if found is None or not settle.is_written(
                found, length_of(body), digest, metadata or {}
            ):
                raise
            return PutResult(found.etag, found.last_modified)
        return _put_result(answer.response)

    async def delete(self, bucket: str, key: str) -> None:
        try:
            await self.send("DELETE", bucket, key)
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Mapping[str, S3Error]:
        refused: dict[str, S3Error] = {}
        plain = [key for key in keys if xml.fits_xml(key)]
        for start in range(0, len(plain), MAX_DELETE_KEYS):
            document = xml.delete_document(plain[start : start + MAX_DELETE_KEYS])
            headers = [
                ("content-md5", settle.content_md5(document)),
                ("content-type", "application/xml"),
            ]
            answer = await self.send(
                "POST", bucket, query="delete=", headers=headers, body=document
            )
            refused.update(xml.parse_deleted(answer.response.body))
        for key in keys:
            if not xml.fits_xml(key):
                try:
                    await self.delete(bucket, key)
                except S3Error as error:
                    refused[key] = error
        return {key: error for key, error in refused.items() if error.code != "NoSuchKey"}

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
        sent = [("x-amz-copy-source", copy_source(source_bucket, source_key))]
        replace = metadata is not None or content_type is not None
        asks = replace and (metadata is None or headers is None)
        if source_if_match is not None:
            sent += await self.source_condition(
                source_bucket, source_key, source_if_match, checked=asks
            )
        if asks:
            # REPLACE drops what is not sent again, Content-Encoding included.
            stat = await self.head(source_bucket, source_key)
            require(stat, source_if_match, source_bucket)
            metadata = stat.metadata if metadata is None else metadata
            content_type = content_type or stat.content_type
            headers = {**carried_headers(stat), **(headers or {})}
        if replace:
            sent.append(("x-amz-metadata-directive", "REPLACE"))
            sent += object_headers(metadata, content_type, headers)
        try:
            answer = await self.send("PUT", bucket, key, headers=sent, timeout=LONG_TIMEOUT)
        except S3Error as error:
            # Said of a source over 5 GiB, by AWS and by others.
            if error.code not in ("InvalidRequest", "EntityTooLarge"):
                raise
            stat = await self.head(source_bucket, source_key)
            if stat.size <= MAX_COPY_BYTES:
                raise
            require(stat, source_if_match, source_bucket)
            own = metadata if metadata is not None else stat.metadata or {}
            return await copy_by_parts(
                self,
                source_bucket,
                stat,
                bucket,
                key,
                metadata=own,
                content_type=content_type or stat.content_type,
                headers=headers if replace else carried_headers(stat),
            )
        values = xml.parse_fields(answer.response.body, "CopyObjectResult")
        return PutResult(
            xml.unquote_etag(values.get("ETag", "")),
            xml.parse_time(values.get("LastModified", "")),
        )

    async def rename(
        self, bucket: str, source_key: str, key: str, *, no_replace: bool = False
    ) -> None:
        if not self.capabilities.rename_object:
            raise S3Error("NotImplemented", "this store has no RenameObject", status=501)
        try:
            await self.rename_unchecked(bucket, source_key, key, no_replace=no_replace)
        except S3Error as error:
            # A lost answer, then "no such source" or "target exists": it was done before.
            own = settle.repeated(error) and error.code in ("NoSuchKey", "PreconditionFailed")
            if (
                not own
                or await self.found_at(bucket, source_key) is not None
                or await self.found_at(bucket, key) is None
            ):
                raise

    async def rename_unchecked(
        self, bucket: str, source_key: str, key: str, *, no_replace: bool = False
    ) -> None:
        """RenameObject without asking whether the store has it: for probing."""
        headers = [("x-amz-rename-source", copy_source(bucket, source_key))]
        if no_replace:
            headers.append(("if-none-match", "*"))
        await self.send("PUT", bucket, key, "renameObject=", headers)

    async def rename_folder(self, bucket: str, source: str, prefix: str) -> None:
        if not self.capabilities.rename_folder:
            raise S3Error("NotImplemented", "this store renames no folders", status=501)
        headers = [("x-amz-rename-source", copy_source(bucket, source))]
        try:
            await self.send("PUT", bucket, prefix, RENAME_FOLDER, headers)
        except S3Error as error:
            # A lost answer, then "no such source": it was done before.
            if (
                not settle.repeated(error)
                or error.code != "NoSuchKey"
                or not (await self.list_objects(bucket, prefix=prefix, max_keys=1)).objects
            ):
                raise


def _content_range(headers: Mapping[str, str]) -> tuple[int, int]:
    """Start and full size that Content-Range says."""
    try:
        unit, _, rest = headers["content-range"].partition(" ")
        span, _, size = rest.partition("/")
        if unit == "bytes":
            return int(span.partition("-")[0]), int(size)
    except (KeyError, ValueError):
        pass
    raise S3Error("InvalidResponse", "a partial answer without a usable Content-Range")


def _put_result(response: Response) -> PutResult:
    return PutResult(xml.unquote_etag(response.headers.get("etag", "")), response.date)
