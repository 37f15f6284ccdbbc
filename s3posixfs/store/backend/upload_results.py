"""What an upload has become: for a client that asks again, and for what a crash left half done."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.names import KeyPath
from s3posixfs.store.backend.records import ObjectRecord
from s3posixfs.store.backend.tree import open_steps


def multipart_etag(etags: Sequence[str]) -> str:
    """The MD5 of the parts' MD5s and their number, as S3 makes it; "" where one is no MD5."""
    try:
        digests = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


def result_of(
    lookup: Lookup, bucket: str, path: KeyPath, upload_id: str, etag: str | None = None
) -> ObjectRecord | None:
    """The object of a key, if this upload made it (with this ETag); durable on return.

    S3Error NoSuchBucket (404).
    """
    bucket_fd = lookup.open_bucket(bucket)
    try:
        found = lookup.find(bucket_fd, path)
        if found is None:
            return None
        try:
            stored = found.stored
            if stored is None or stored.upload_id != upload_id or found.place is None:
                return None
            if etag is not None and stored.facts.etag != etag:
                return None
            # Who made it may have died between its name and the fsync of that.
            parent = open_steps(bucket_fd, found.place.steps)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
            return found.record
        finally:
            found.close()
    finally:
        os.close(bucket_fd)
