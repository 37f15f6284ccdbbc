"""File names and object keys. A name is bytes without a slash, a key is UTF-8."""

from __future__ import annotations

from errno import EILSEQ, EINVAL, ENAMETOOLONG

from s3posixfs.core.types import MAX_KEY_BYTES
from s3posixfs.fs.permissions import refusal

MAX_NAME_BYTES = 255
# Holds what POSIX says of a bucket's own folder, whose prefix is empty: a key with an empty
# segment, which no listing of ours shows. Only the mount's identity is believed in it.
BUCKET_KEY = "/"


def shown_name(text: str) -> bytes | None:
    """The name under which a key's segment appears, or ``None`` where POSIX cannot name it."""
    try:
        name = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    if not name or len(name) > MAX_NAME_BYTES or name in (b".", b"..") or b"\0" in name:
        return None
    return name


def key_segment(name: bytes) -> str | None:
    """The key segment of a name, or ``None`` where no key can have it."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return None


def new_segment(name: bytes, prefix: str, *, directory: bool) -> str:
    """The key segment for a name to be made below ``prefix``.

    ENAMETOOLONG over 255 bytes or where the whole key has over 1,024; EILSEQ for what is not
    UTF-8, which no S3 key can be.
    """
    if len(name) > MAX_NAME_BYTES:
        raise refusal(ENAMETOOLONG)
    if name in (b"", b".", b".."):
        raise refusal(EINVAL)
    segment = key_segment(name)
    if segment is None:
        raise refusal(EILSEQ)
    if len(prefix.encode()) + len(name) + directory > MAX_KEY_BYTES:
        raise refusal(ENAMETOOLONG)
    return segment
