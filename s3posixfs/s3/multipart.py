"""Multipart uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3posixfs.core.checksums import HEADER_ALGORITHM
from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body
from s3posixfs.core.types import PartResult, PutResult
from s3posixfs.s3 import settle, xml
from s3posixfs.s3.binding import LONG_TIMEOUT, Binding, Headers, object_headers, query_of
from s3posixfs.s3.body import length_of
from s3posixfs.s3.copying import copy_source


class MultipartOperations(Binding):
    """The operations on multipart uploads, as :class:`core.objectstore.ObjectStore` has them."""

    async def create_multipart(
        self,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        sent = object_headers(metadata, content_type, headers)
        summed = self.sums_bodies
        if summed:
            sent.append((HEADER_ALGORITHM, "CRC64NVME"))
        answer = await self.send("POST", bucket, key, "uploads=", sent)
        values = xml.parse_fields(answer.response.body, "InitiateMultipartUploadResult")
        upload_id = values.get("UploadId", "")
        if not upload_id:
            raise S3Error("InvalidResponse", "a multipart upload was begun without an ID")
        if summed:
            self.client.summed_uploads.add(upload_id)
        return upload_id

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> PartResult:
        query = query_of({"partNumber": str(number), "uploadId": upload_id})
        if upload_id in self.client.summed_uploads:
            answer = await self.send_summed(bucket, key, query, (), body)
        else:
            answer = await self.send("PUT", bucket, key, query, body=body)
        etag = xml.unquote_etag(answer.response.headers.get("etag", ""))
        return PartResult(number, etag, length_of(body))

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
        headers = [
            ("x-amz-copy-source", copy_source(source_bucket, source_key)),
            ("x-amz-copy-source-range", f"bytes={offset}-{offset + length - 1}"),
        ]
        if source_if_match is not None:
            headers += await self.source_condition(source_bucket, source_key, source_if_match)
        query = query_of({"partNumber": str(number), "uploadId": upload_id})
        answer = await self.send("PUT", bucket, key, query, headers, timeout=LONG_TIMEOUT)
        values = xml.parse_fields(answer.response.body, "CopyPartResult")
        return PartResult(number, xml.unquote_etag(values.get("ETag", "")), length)

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
        headers: Headers = [("content-type", "application/xml")]
        if if_match is not None or if_none_match:
            honoured = self.client.traits.conditional_complete
            headers += await self.conditions(
                bucket,
                key,
                if_match=if_match,
                if_none_match=if_none_match,
                honours_if_match=honoured,
                honours_if_none_match=honoured,
            )
        expected = settle.multipart_etag(parts)
        try:
            answer = await self.send(
                "POST",
                bucket,
                key,
                query_of({"uploadId": upload_id}),
                headers,
                xml.complete_document(parts),
                LONG_TIMEOUT,
            )
            values = xml.parse_fields(answer.response.body, "CompleteMultipartUploadResult")
            etag = xml.unquote_etag(values.get("ETag", ""))
            self.client.summed_uploads.discard(upload_id)
            if etag:
                return PutResult(etag, answer.response.date)
            # Ceph RGW completes without saying the ETag.
            stat = await self.head(bucket, key)
            return PutResult(stat.etag, stat.last_modified)
        except S3Error as error:
            if not (settle.may_be_own(error) or error.code == "NoSuchUpload"):
                raise
            found = await self.found_at(bucket, key) if settle.repeated(error) else None
            if found is None or not expected or found.etag != expected:
                raise
            return PutResult(found.etag, found.last_modified)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        self.client.summed_uploads.discard(upload_id)
        try:
            await self.send("DELETE", bucket, key, query_of({"uploadId": upload_id}))
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise
