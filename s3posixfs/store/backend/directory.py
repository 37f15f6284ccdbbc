"""The directory backend: buckets are directories, objects plain files, below one root.

All functions block and may be called from any number of threads, and several processes may use
one root. They raise :class:`~s3posixfs.core.errors.S3Error` with AWS's codes; a full disk is
StorageFull (507). What is acknowledged is on the disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MIN_PART_BYTES, PosixOwner
from s3posixfs.store.backend.attributes import FactsStore, supports_xattrs
from s3posixfs.store.backend.buckets import Buckets
from s3posixfs.store.backend.facts import FactsCodec
from s3posixfs.store.backend.folder_moves import FolderMoves, Permit
from s3posixfs.store.backend.folders import Folders
from s3posixfs.store.backend.handles import OpenObject, PendingObject
from s3posixfs.store.backend.layout import Layout, unusable
from s3posixfs.store.backend.leftovers import Leftovers
from s3posixfs.store.backend.listing import list_bucket
from s3posixfs.store.backend.locks import KeyLocks
from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.multipart import PendingPart, PlacedPart, Uploads
from s3posixfs.store.backend.names import key_path
from s3posixfs.store.backend.objects import Objects
from s3posixfs.store.backend.problems import (
    from_os_error,
    no_such_key,
    precondition_failed,
    translated,
)
from s3posixfs.store.backend.records import (
    ALWAYS,
    BucketRecord,
    CompletedPart,
    Condition,
    Listing,
    ObjectFacts,
    ObjectRecord,
    PartsPage,
    UploadRecord,
    UploadsPage,
)
from s3posixfs.store.backend.reowning import Reowning
from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.snapshots import SnapshotCache
from s3posixfs.store.backend.syncing import DeferredSync
from s3posixfs.store.backend.upload_files import UploadFiles

__all__ = ["DirectoryBackend", "OpenObject", "PendingObject"]


class DirectoryBackend:
    """Buckets and objects below ``root``; the store's own files in ``root/.s3posixfs``."""

    def __init__(
        self,
        root: Path,
        *,
        user_of_uid: Callable[[int], str | None],
        clock: Clock,
        min_part_bytes: int = MIN_PART_BYTES,
        xattrs: bool | None = None,
    ) -> None:
        """Open or make a root.

        ``user_of_uid`` names the S3 user of a uid (for files of local programs). ``xattrs``
        chooses where facts are kept; None tries what the filesystem has. OperatorError where
        the root can't be used.
        """
        self._layout = layout = Layout(root)
        try:
            if xattrs is None:
                xattrs = supports_xattrs(layout.internal)
            codec = FactsCodec(layout.seal_key())
            self._scratch = Scratch(layout.tmp, layout.spread)
        except BaseException as error:
            layout.close()
            if isinstance(error, OSError):
                raise unusable(root, error) from error
            raise
        facts = FactsStore(codec, layout.sidecars, self._scratch.fd, xattrs=xattrs)
        self._locks = key_locks = KeyLocks(layout.locks)
        self._lookup = Lookup(layout.root, facts, user_of_uid)
        self._objects = Objects(self._lookup, self._scratch, key_locks, clock)
        self._upload_files = files = UploadFiles(layout.uploads, self._scratch, facts, codec)
        self._uploads = Uploads(
            files, self._scratch, self._lookup, self._objects, clock, min_part_bytes
        )
        self._buckets = Buckets(
            layout.root,
            layout.documents,
            self._scratch,
            self._lookup,
            key_locks,
            self._uploads,
            clock,
        )
        self._leftovers = Leftovers(layout.root, layout.sidecars, self._scratch.fd, facts)
        self._snapshots = SnapshotCache()
        self._folder_moves = FolderMoves(
            self._lookup, self._snapshots, key_locks, Folders(facts, key_locks)
        )
        self._uploads.finish()

    def close(self) -> None:
        """Remove this process's temporary files and close everything; call it once, at the end."""
        self._snapshots.close()
        self._scratch.close()
        self._layout.close()

    @translated
    def collect_leftovers(self, grace: float) -> int:
        """Remove what files that are gone left, once no file has led to it for ``grace`` seconds.

        How many were removed. It can look at every file of the root: for one process at a time.
        """
        return self._leftovers.collect(grace)

    # --- buckets -------------------------------------------------------------------------

    @translated
    def list_buckets(self) -> tuple[BucketRecord, ...]:
        """All buckets, by name: every directory in the root that has a bucket's name."""
        return self._buckets.list()

    @translated
    def bucket(self, name: str) -> BucketRecord:
        """A bucket; S3Error NoSuchBucket (404)."""
        return self._buckets.get(name)

    @translated
    def create_bucket(self, name: str, owner_id: str, owner: PosixOwner) -> BucketRecord:
        """Make a bucket; S3Error InvalidBucketName (400), BucketAlreadyOwnedByYou or
        BucketAlreadyExists (409)."""
        return self._buckets.create(name, owner_id, owner)

    @translated
    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket, its documents and uploads; S3Error BucketNotEmpty (409)."""
        self._buckets.delete(name)

    @translated
    def get_document(self, bucket: str, kind: str) -> bytes | None:
        """A document of a bucket (``policy``, ``tagging``, …), or None where it has none."""
        return self._buckets.get_document(bucket, kind)

    @translated
    def peek_document(self, bucket: str, kind: str) -> bytes | None:
        """The same at the least cost: None also where there is no such bucket."""
        return self._buckets.peek_document(bucket, kind)

    @translated
    def put_document(self, bucket: str, kind: str, document: bytes) -> None:
        """Store a document: atomic and durable."""
        self._buckets.put_document(bucket, kind, document)

    @translated
    def delete_document(self, bucket: str, kind: str) -> None:
        """Remove a document; one that is not there is no error."""
        self._buckets.delete_document(bucket, kind)

    # --- objects -------------------------------------------------------------------------

    @translated
    def begin_put(self, bucket: str, key: str) -> PendingObject:
        """Begin an object; S3Error NoSuchBucket (404), KeyTooLongError (400)."""
        path = key_path(key)
        os.close(self._lookup.open_bucket(bucket))
        return PendingObject(self._objects, self._scratch, bucket, path)

    @translated
    def open_object(self, bucket: str, key: str) -> OpenObject:
        """An object, record and bytes of one version; S3Error NoSuchKey (404)."""
        path = key_path(key)
        bucket_fd = self._lookup.open_bucket(bucket)
        try:
            found = self._lookup.find(bucket_fd, path)
        finally:
            os.close(bucket_fd)
        if found is None:
            raise no_such_key(key)
        if found.place is None:
            found.close()
        return OpenObject(found.record, found.fd)

    @translated
    def head(self, bucket: str, key: str) -> ObjectRecord:
        """An object's record; S3Error NoSuchKey (404)."""
        with self.open_object(bucket, key) as opened:
            return opened.record

    @translated
    def set_metadata(
        self, bucket: str, key: str, facts: ObjectFacts, condition: Condition = ALWAYS
    ) -> ObjectRecord:
        """Give an object other metadata, headers, tags and owner, and the present time.

        Bytes, ETag, checksums and part sizes stay (those of ``facts`` are not looked at). This
        is CopyObject of an object onto itself. S3Error NoSuchKey (404), PreconditionFailed (412).
        """

        def change(record: ObjectRecord) -> ObjectFacts:
            return replace(
                facts,
                etag=record.etag,
                checksums=record.checksums,
                checksum_type=record.checksum_type,
                part_sizes=record.part_sizes,
                part_digests=record.part_digests,
            )

        return self._objects.change_facts(bucket, key_path(key), change, condition, touch=True)

    @translated
    def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectRecord:
        """Give an object other tags; its time stays. S3Error NoSuchKey (404)."""
        return self._objects.change_facts(
            bucket,
            key_path(key),
            lambda record: replace(record.facts(), tags=dict(tags)),
            ALWAYS,
            touch=False,
        )

    @translated
    def copy(
        self,
        source: OpenObject,
        bucket: str,
        key: str,
        facts: ObjectFacts,
        condition: Condition = ALWAYS,
    ) -> ObjectRecord:
        """Make an object of the bytes of an open one, inside the kernel.

        With an empty ``facts.etag`` ETag, checksums and part sizes are the source's.
        """
        if not facts.etag:
            facts = replace(
                facts,
                etag=source.record.etag,
                checksums=source.record.checksums,
                checksum_type=source.record.checksum_type,
                part_sizes=source.record.part_sizes,
                part_digests=source.record.part_digests,
            )
        with self.begin_put(bucket, key) as pending:
            if source.fd >= 0:
                pending.write_from(source.fd, 0, source.record.size)
            if pending.size != source.record.size:
                # A local program cut the file short since it was opened.
                raise precondition_failed("the source changed")
            return pending.commit(facts, condition)

    @translated
    def delete(self, bucket: str, key: str, condition: Condition = ALWAYS) -> bool:
        """Remove an object; whether there was one. Durable on return.

        Directories that are empty now go too, up to the bucket, except marker objects. S3Error
        PreconditionFailed (412), and NoSuchKey (404) for If-Match with no object there.
        """
        return self._objects.delete(bucket, key_path(key), condition)

    @translated
    def delete_many(self, bucket: str, keys: Sequence[str]) -> Mapping[str, S3Error]:
        """Remove objects; what failed, by key. Each directory is synced once, not once a key.

        A key that is not there is removed. S3Error NoSuchBucket (404); an error of the disk on
        syncing is raised, and then nothing counts as removed.
        """
        os.close(self._lookup.open_bucket(bucket))
        failed: dict[str, S3Error] = {}
        sync = DeferredSync()
        try:
            for key in keys:
                try:
                    self._objects.delete(bucket, key_path(key), ALWAYS, sync)
                except S3Error as error:
                    failed[key] = error
                except OSError as error:
                    failed[key] = from_os_error(error)
        finally:
            sync.flush()
        return failed

    @translated
    def rename(
        self,
        bucket: str,
        source: str,
        key: str,
        *,
        no_replace: bool = False,
        if_match: str | None = None,
        source_if_match: str | None = None,
    ) -> ObjectRecord:
        """RenameObject: one rename(2), owner, ETag and time kept; durable on return.

        ``no_replace`` and ``if_match`` speak of the object at ``key``, ``source_if_match`` of
        the source. S3Error NoSuchKey (404), PreconditionFailed (412).
        """
        return self._objects.rename(
            bucket,
            key_path(source),
            key_path(key),
            Condition(if_match=source_if_match),
            Condition(if_match=if_match, if_none_match=no_replace),
        )

    @translated
    def rename_folder(
        self,
        bucket: str,
        source: str,
        prefix: str,
        *,
        no_replace: bool = False,
        permit: Permit | None = None,
    ) -> None:
        """Give every key that begins with ``source`` the beginning ``prefix``, in one step.

        See :meth:`FolderMoves.rename`, also for the errors; durable on return.
        """
        self._folder_moves.rename(
            bucket, key_path(source), key_path(prefix), no_replace=no_replace, permit=permit
        )

    @translated
    def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> Listing:
        """One page of keys in UTF-8 byte order, from the first above ``start_after``.

        A ``start_after`` that is itself a common prefix skips all that begins with it.
        """
        return list_bucket(
            self._lookup, self._snapshots, bucket, prefix, delimiter, start_after, max_keys
        )

    # --- multipart -----------------------------------------------------------------------

    @translated
    def create_upload(
        self,
        bucket: str,
        key: str,
        facts: ObjectFacts,
        *,
        checksum_algorithm: str | None = None,
        checksum_type: str | None = None,
    ) -> str:
        """Begin a multipart upload of an object with these facts; its upload ID."""
        return self._uploads.create(bucket, key, facts, checksum_algorithm, checksum_type)

    @translated
    def upload(self, bucket: str, key: str, upload_id: str) -> UploadRecord:
        """An upload in progress; S3Error NoSuchUpload (404)."""
        return self._uploads.record(bucket, key, upload_id)

    @translated
    def begin_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        length: int | None = None,
        *,
        copied_from: int | None = None,
    ) -> PendingPart | PlacedPart:
        """Begin a part, 1 to 10,000; S3Error NoSuchUpload (404), InvalidArgument (400).

        With its ``length`` in bytes it may get a place in the later object: then nothing is
        copied when the upload is completed. ``copied_from`` is the place of a copied part's bytes
        in their source: where parts of an object are changed it is theirs in the new one too.
        """
        return self._uploads.begin_part(bucket, key, upload_id, number, length, copied_from)

    @translated
    def list_parts(
        self, bucket: str, key: str, upload_id: str, *, after: int = 0, max_parts: int = 1000
    ) -> PartsPage:
        """Parts with numbers above ``after``; S3Error NoSuchUpload (404)."""
        return self._uploads.parts(bucket, key, upload_id, after, max_parts)

    @translated
    def list_uploads(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadsPage:
        """Uploads in progress, by key, after the markers."""
        return self._uploads.uploads(
            bucket, prefix, delimiter, key_marker, upload_id_marker, max_uploads
        )

    @translated
    def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        condition: Condition = ALWAYS,
        *,
        checksums: Mapping[str, str] | None = None,
        checksum_type: str | None = None,
    ) -> ObjectRecord:
        """Join parts into the object; asked again after success it answers the same.

        ``checksums`` are those of the whole object, made by the caller from the parts'. S3Error
        NoSuchUpload (404), InvalidPart, InvalidPartOrder, EntityTooSmall (400),
        PreconditionFailed (412); the upload stays on failure.
        """
        return self._uploads.complete(
            bucket, key, upload_id, parts, condition, checksums or {}, checksum_type
        )

    @translated
    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; S3Error NoSuchUpload (404)."""
        self._uploads.abort(bucket, key, upload_id)

    # --- administration ------------------------------------------------------------------

    @property
    def reowning(self) -> Reowning:
        """What gives a user's objects to another POSIX owner."""
        return Reowning(self._lookup, self._objects, self._upload_files, self._locks)
