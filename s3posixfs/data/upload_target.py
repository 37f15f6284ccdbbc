"""What an upload makes, and how one that came to nothing is taken back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.data.upload_notes import UploadNotes
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

ABORT_SECONDS = 30.0
# A store or policy that does not let this identity copy: the bytes can still be sent.
CANNOT_COPY = frozenset(
    {"AccessDenied", "InvalidArgument", "InvalidRequest", "MethodNotAllowed", "NotImplemented"}
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the object goes and what goes with it; as in ``ObjectStore.put``. ``identity`` is the
    name of who signs."""

    bucket: str
    key: str
    metadata: Mapping[str, str] | None
    content_type: str | None
    headers: Mapping[str, str] | None
    if_match: str | None
    if_none_match: bool
    identity: str = ""

    def describes(self, other: Target) -> bool:
        """Whether what goes with the object is the same."""
        mine = dict(self.metadata or {}), self.content_type, dict(self.headers or {})
        return mine == (dict(other.metadata or {}), other.content_type, dict(other.headers or {}))

    def is_place_of(self, other: Target) -> bool:
        """Whether the other goes to the same key, signed by the same identity."""
        place = self.bucket, self.key, self.identity
        return place == (other.bucket, other.key, other.identity)


async def abort(
    store: ObjectStore,
    target: Target,
    upload_id: str,
    notes: UploadNotes | None,
    note: Path | None,
) -> None:
    """Abort a multipart upload. Shielded, within half a minute; where it fails the note stays, and
    says that this is left to be done."""
    await waiting()
    with trio.CancelScope(shield=True, deadline=trio.current_time() + ABORT_SECONDS):
        error = await try_abort(store, target.bucket, target.key, upload_id)
        if error is not None:
            logger.warning(
                "an unfinished upload of %s/%s stays in the store for now: %s",
                target.bucket,
                target.key,
                error,
            )
        if notes is not None and note is not None:
            if error is None:
                await notes.remove(note)
            else:
                notes.leave(note, target.bucket, target.key, upload_id, target.identity)


async def try_abort(store: ObjectStore, bucket: str, key: str, upload_id: str) -> S3Error | None:
    """Abort a multipart upload, as this identity; why it is there still."""
    try:
        await store.abort_multipart(bucket, key, upload_id)
    except S3Error as error:
        return error if error.code != "NoSuchUpload" else None
    return None
