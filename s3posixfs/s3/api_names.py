"""Which S3 API a request of this client is: for counting, not for deciding."""

from __future__ import annotations

from collections.abc import Sequence

# By method, what it is about, and the parameter that names it.
_SELECTED = {
    ("GET", "bucket", "list-type"): "ListObjectsV2",
    ("GET", "bucket", "uploads"): "ListMultipartUploads",
    ("GET", "bucket", "location"): "GetBucketLocation",
    ("GET", "service", "s3posixfs-identities"): "ListIdentities",
    ("POST", "bucket", "delete"): "DeleteObjects",
    ("GET", "object", "uploadId"): "ListParts",
    ("PUT", "object", "partNumber"): "UploadPart",
    ("PUT", "object", "uploadId"): "UploadPart",
    ("PUT", "object", "renameObject"): "RenameObject",
    ("PUT", "bucket", "s3posixfs-rename-folder"): "RenameFolder",
    ("PUT", "object", "s3posixfs-rename-folder"): "RenameFolder",
    ("POST", "object", "uploads"): "CreateMultipartUpload",
    ("POST", "object", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "object", "uploadId"): "AbortMultipartUpload",
}
_PLAIN = {
    ("GET", "service"): "ListBuckets",
    ("HEAD", "bucket"): "HeadBucket",
    ("GET", "bucket"): "ListObjects",
    ("PUT", "bucket"): "CreateBucket",
    ("DELETE", "bucket"): "DeleteBucket",
    ("HEAD", "object"): "HeadObject",
    ("GET", "object"): "GetObject",
    ("PUT", "object"): "PutObject",
    ("DELETE", "object"): "DeleteObject",
}
_COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}

API_NAMES = tuple(dict.fromkeys((*_SELECTED.values(), *_PLAIN.values(), *_COPIES.values())))


def api_name(
    method: str, bucket: str, key: str, query: str, headers: Sequence[tuple[str, str]]
) -> str:
    """The name of the API as S3 has it; ``other`` for what is in no table here."""
    subject = "object" if key else "bucket" if bucket else "service"
    name = _PLAIN.get((method, subject), "other")
    for item in query.split("&") if query else ():
        selected = _SELECTED.get((method, subject, item.partition("=")[0]))
        if selected is not None:
            name = selected
            break
    if name in _COPIES and any(header == "x-amz-copy-source" for header, _ in headers):
        return _COPIES[name]
    return name
