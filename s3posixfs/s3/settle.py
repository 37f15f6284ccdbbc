"""After a lost answer: was the change that the store now refuses made by this client?

Pure decisions; the caller asks the store what it holds.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat, PartResult
from s3posixfs.s3.errors import Refused

_MD5 = re.compile(r"[0-9a-f]{32}")


def repeated(error: S3Error) -> bool:
    """Whether an earlier attempt of the refused request ended without an answer."""
    return isinstance(error, Refused) and error.repeated


def may_be_own(error: S3Error) -> bool:
    """Whether a failed condition may be failed by this client's own earlier attempt."""
    return repeated(error) and error.code in ("PreconditionFailed", "ConditionalRequestConflict")


def is_written(found: ObjectStat, size: int, md5: str, metadata: Mapping[str, str]) -> bool:
    """Whether ``found`` is just what was to be written: bytes and metadata."""
    wanted = {name.lower(): value for name, value in metadata.items()}
    return found.size == size and found.etag == md5 and (found.metadata or {}) == wanted


def multipart_etag(parts: Sequence[PartResult]) -> str:
    """The ETag S3 gives an object of these parts, or "" where the parts' are no MD5s."""
    if not parts or not all(_MD5.fullmatch(part.etag) for part in parts):
        return ""
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def content_md5(body: bytes) -> str:
    """The Content-MD5 header that DeleteObjects needs (RFC 1864)."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
