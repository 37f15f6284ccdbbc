"""Multipart uploads."""

from __future__ import annotations

from collections.abc import Sequence

from s3posixfs.store.handlers import completing, multipart
from s3posixfs.store.operations.common import request_tags
from s3posixfs.store.router import Operation

UPLOADS: Sequence[Operation] = (
    Operation(
        "CreateMultipartUpload",
        "POST",
        "object",
        "s3:PutObject",
        handler=multipart.create_upload,
        context=request_tags,
        selector="uploads",
    ),
    Operation(
        "UploadPart",
        "PUT",
        "object",
        "s3:PutObject",
        streaming=multipart.upload_part,
        selector="uploadId",
        parameters=frozenset({"partNumber"}),
    ),
    Operation(
        "UploadPartCopy",
        "PUT",
        "object",
        "s3:PutObject",
        streaming=multipart.upload_part_copy,
        selector="uploadId",
        header="x-amz-copy-source",
        parameters=frozenset({"partNumber"}),
    ),
    Operation(
        "ListParts",
        "GET",
        "object",
        "s3:ListMultipartUploadParts",
        handler=multipart.list_parts,
        selector="uploadId",
        parameters=frozenset({"max-parts", "part-number-marker"}),
    ),
    Operation(
        "CompleteMultipartUpload",
        "POST",
        "object",
        "s3:PutObject",
        handler=completing.complete_upload,
        body_limit=completing.MAX_COMPLETE_BYTES,
        checksum_of_body=False,
        selector="uploadId",
    ),
    Operation(
        "AbortMultipartUpload",
        "DELETE",
        "object",
        "s3:AbortMultipartUpload",
        handler=multipart.abort_upload,
        selector="uploadId",
    ),
)
