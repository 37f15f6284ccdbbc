"""The files of multipart uploads: ``uploads/BUCKET/ID``.

A directory an upload, with the file ``upload`` that says what the object will be and one file a
part. Storing a part holds flock(2) on that directory shared, completing and aborting hold it
alone: a part is in the object or is refused, never half.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import msgpack

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.attributes import FactsGone, FactsStore
from s3posixfs.store.backend.facts import (
    FactsCodec,
    StoredFacts,
    pack_object_facts,
    unpack_object_facts,
)
from s3posixfs.store.backend.problems import no_such_bucket, no_such_upload
from s3posixfs.store.backend.records import ObjectFacts, PartRecord, UploadRecord
from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.syncing import SharedSync
from s3posixfs.store.backend.tree import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    make_directory,
    remove_tree,
    rename_between,
    write_whole,
)
from s3posixfs.store.backend.upload_edited import claim_at
from s3posixfs.store.backend.upload_whole import EDITED, WHOLE, Place, claim

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_UPLOAD_FILE = "upload"
_PART = re.compile(r"p(\d{5})")


class UploadFiles:
    """The uploads below an open ``uploads`` directory."""

    __slots__ = ("_codec", "_directory", "_facts", "_scratch", "_sync")

    def __init__(
        self, directory: int, scratch: Scratch, facts: FactsStore, codec: FactsCodec
    ) -> None:
        self._directory = directory
        self._scratch = scratch
        self._facts = facts
        self._codec = codec
        self._sync = SharedSync()

    def make(
        self,
        bucket: str,
        key: str,
        facts: ObjectFacts,
        initiated: float,
        checksum_algorithm: str | None,
        checksum_type: str | None,
    ) -> str:
        """Make an upload's directory in one step; durable on return. Its ID."""
        upload_id = secrets.token_hex(16)
        sealed = self._sealed(key, facts, initiated, checksum_algorithm, checksum_type)
        name = self._scratch.new_name()
        os.mkdir(name, 0o700, dir_fd=self._scratch.fd)
        try:
            write_whole(self._scratch.fd, name, _UPLOAD_FILE, sealed)
            uploads = make_directory(self._directory, bucket, None)
            try:
                rename_between(self._scratch.fd, name, uploads, upload_id)
                os.fsync(uploads)
            finally:
                os.close(uploads)
        except BaseException as error:
            remove_tree(self._scratch.fd, name)
            if isinstance(error, FileNotFoundError):  # the bucket is being removed
                raise no_such_bucket(bucket) from None
            raise
        return upload_id

    def reown(self, upload: UploadRecord, owner: PosixOwner) -> None:
        """Let the object that an upload becomes have another owner; durable on return."""
        with self.locked(upload.bucket, upload.upload_id, fcntl.LOCK_EX) as fd:
            facts = replace(upload.facts, owner=owner)
            sealed = self._sealed(
                upload.key, facts, upload.initiated, upload.checksum_algorithm, upload.checksum_type
            )
            write_whole(fd, "", _UPLOAD_FILE, sealed, scratch=self._scratch.fd)

    def _sealed(
        self,
        key: str,
        facts: ObjectFacts,
        initiated: float,
        checksum_algorithm: str | None,
        checksum_type: str | None,
    ) -> bytes:
        fields = {
            "key": key,
            "t": initiated,
            "facts": pack_object_facts(facts),
            "ca": checksum_algorithm,
            "ct": checksum_type,
        }
        return self._codec.seal(msgpack.packb(fields))

    def open(self, bucket: str, upload_id: str) -> int:
        """An upload's open directory, the caller's to close; S3Error NoSuchUpload (404)."""
        if _UPLOAD_ID.fullmatch(upload_id) is None:
            raise no_such_upload(upload_id)
        try:
            return os.open(f"{bucket}/{upload_id}", DIRECTORY_FLAGS, dir_fd=self._directory)
        except FileNotFoundError:
            raise no_such_upload(upload_id) from None

    @contextmanager
    def locked(self, bucket: str, upload_id: str, how: int) -> Iterator[int]:
        """:meth:`open` with flock(2) held, ``LOCK_SH`` or ``LOCK_EX``."""
        fd = self.open(bucket, upload_id)
        try:
            fcntl.flock(fd, how)
            # Whoever held the lock before may have completed or aborted the upload.
            self.check_there(bucket, upload_id, fd)
            yield fd
        finally:
            os.close(fd)

    def check_there(self, bucket: str, upload_id: str, upload: int) -> None:
        """S3Error NoSuchUpload (404) unless an open upload is still one."""
        again = self.open(bucket, upload_id)
        try:
            if os.fstat(again).st_ino != os.fstat(upload).st_ino:
                raise no_such_upload(upload_id)
        finally:
            os.close(again)

    def record(self, bucket: str, key: str, upload_id: str, upload: int) -> UploadRecord:
        """What an open upload is to become; S3Error NoSuchUpload (404) if it is of another key."""
        record = self.read_record(bucket, upload_id, upload)
        if record is None or record.key != key:
            raise no_such_upload(upload_id)
        return record

    def all(self, bucket: str) -> list[UploadRecord]:
        """The uploads of a bucket, in no order."""
        try:
            uploads = os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._directory)
        except FileNotFoundError:
            return []
        found = []
        try:
            for upload_id in os.listdir(uploads):
                try:
                    fd = os.open(upload_id, DIRECTORY_FLAGS, dir_fd=uploads)
                except FileNotFoundError:
                    continue
                try:
                    record = self.read_record(bucket, upload_id, fd)
                finally:
                    os.close(fd)
                if record is not None:
                    found.append(record)
        finally:
            os.close(uploads)
        return found

    def part(self, upload: int, number: int) -> PartRecord | None:
        """A part of an open upload, or None."""
        for _ in range(100):
            try:
                fd = os.open(part_name(number), FILE_FLAGS, dir_fd=upload)
            except FileNotFoundError:
                return None
            try:
                stat = os.fstat(fd)
                stored = self._facts.read(fd, stat)
            except FactsGone:
                continue
            finally:
                os.close(fd)
            if stored is None or stored.size != stat.st_size:
                return None
            facts = stored.facts
            when = stored.last_modified_ns / 1e9
            # A part that shares a file has its size and offset instead of bytes.
            size, offset, edited = stored.size, None, False
            if facts.part_sizes:
                size, offset, *more = facts.part_sizes
                edited = bool(more)
            return PartRecord(number, facts.etag, size, when, facts.checksums, offset, edited)
        return None

    def put_part(
        self,
        bucket: str,
        upload_id: str,
        number: int,
        fd: int,
        name: str,
        size: int,
        etag: str,
        checksums: Mapping[str, str],
        now: int,
    ) -> PartRecord:
        """Make a temporary file the part, in place of an earlier one; durable on return."""
        stat = os.fstat(fd)
        facts = ObjectFacts(
            "", PosixOwner(stat.st_uid, stat.st_gid), etag, checksums=dict(checksums)
        )
        self._facts.write(
            fd, StoredFacts(facts, size, stat.st_mtime_ns, now, stat.st_uid, stat.st_gid)
        )
        os.fsync(fd)
        with self.locked(bucket, upload_id, fcntl.LOCK_SH) as upload:
            try:
                self._replace(self._scratch.fd, name, upload, number)
            except FileNotFoundError:
                raise no_such_upload(upload_id) from None
            self._sync(upload)
        return PartRecord(number, etag, size, now / 1e9, facts.checksums)

    def place_part(
        self, bucket: str, upload_id: str, number: int, length: int, least: int
    ) -> Place | None:
        """A place in the upload's shared file, None where there is none for this part."""
        with self.locked(bucket, upload_id, fcntl.LOCK_SH) as upload:
            return claim(upload, self._scratch, number, part_name(number), length, least)

    def place_copy(
        self, bucket: str, upload_id: str, number: int, length: int, offset: int
    ) -> Place | None:
        """A place for a copied part where it was in its source, None where that is taken."""
        with self.locked(bucket, upload_id, fcntl.LOCK_EX) as upload:
            return claim_at(upload, number, part_name(number), offset, length)

    def put_placed(
        self,
        bucket: str,
        upload_id: str,
        number: int,
        place: Place,
        size: int,
        etag: str,
        checksums: Mapping[str, str],
        now: int,
    ) -> PartRecord:
        """Make what was written at a place the part; durable on return."""
        os.fsync(place.fd)
        stat = os.fstat(place.claim)
        owner = PosixOwner(stat.st_uid, stat.st_gid)
        where = (size, place.offset, 1) if place.edited else (size, place.offset)
        facts = ObjectFacts("", owner, etag, checksums=dict(checksums), part_sizes=where)
        stored = StoredFacts(facts, 0, stat.st_mtime_ns, now, stat.st_uid, stat.st_gid)
        self._facts.write(place.claim, stored)
        os.fsync(place.claim)
        with self.locked(bucket, upload_id, fcntl.LOCK_SH) as upload:
            self._replace(upload, place.name, upload, number)
            self._sync(upload)
        when = now / 1e9
        return PartRecord(number, etag, size, when, facts.checksums, place.offset, place.edited)

    def drop(self, bucket: str, upload_id: str, upload: int) -> None:
        """Remove an upload: in one step for everyone else, then its files."""
        name = self._scratch.new_name()
        uploads = os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._directory)
        try:
            rename_between(uploads, upload_id, self._scratch.fd, name)
            os.fsync(uploads)
        finally:
            os.close(uploads)
        # Not before: a crash in between would leave an upload without the facts of its parts.
        for number in part_numbers(upload):
            old = self._open_part(upload, number)
            if old is not None:
                self._forget(old)
        remove_tree(self._scratch.fd, name)

    def drop_bucket(self, bucket: str) -> None:
        """Remove all uploads of a bucket."""
        for record in self.all(bucket):
            with (
                suppress(S3Error),
                self.locked(bucket, record.upload_id, fcntl.LOCK_EX) as upload,
            ):
                self.drop(bucket, record.upload_id, upload)
        try:
            remove_tree(self._directory, bucket)
        except OSError as error:
            # Whoever began one meanwhile finds the bucket gone and removes it.
            if error.errno != errno.ENOTEMPTY:
                raise

    def half_completed(self) -> list[tuple[str, str]]:
        """Buckets and IDs of the uploads of which a shared file has a name elsewhere as well."""
        return [
            (bucket, upload_id)
            for bucket in _listed(self._directory, ".")
            for upload_id in _listed(self._directory, bucket)
            if any(self._has_names(f"{bucket}/{upload_id}/{name}") for name in (WHOLE, EDITED))
        ]

    def _has_names(self, path: str) -> bool:
        try:
            return os.stat(path, dir_fd=self._directory, follow_symlinks=False).st_nlink > 1
        except (FileNotFoundError, NotADirectoryError):
            return False

    def read_record(self, bucket: str, upload_id: str, upload: int) -> UploadRecord | None:
        """What an open upload is to become; None where that can't be told."""
        try:
            fd = os.open(_UPLOAD_FILE, FILE_FLAGS, dir_fd=upload)
        except FileNotFoundError:
            return None
        try:
            payload = self._codec.open(os.read(fd, os.fstat(fd).st_size))
        finally:
            os.close(fd)
        if payload is None:
            return None
        fields: dict[str, Any] = msgpack.unpackb(payload)
        return UploadRecord(
            bucket,
            fields["key"],
            upload_id,
            fields["t"],
            unpack_object_facts(fields["facts"]),
            fields["ca"],
            fields["ct"],
        )

    def _replace(self, source: int, name: str, upload: int, number: int) -> None:
        """Make the file ``name`` of the open directory ``source`` the part."""
        # Open until its facts are gone: its inode's number would be given to another file.
        old = self._open_part(upload, number)
        try:
            rename_between(source, name, upload, part_name(number))
        except BaseException:
            if old is not None:
                os.close(old)
            raise
        if old is not None:
            self._forget(old)

    def _open_part(self, upload: int, number: int) -> int | None:
        try:
            return os.open(part_name(number), FILE_FLAGS, dir_fd=upload)
        except FileNotFoundError:
            return None

    def _forget(self, old: int) -> None:
        """Remove the sidecar of a part that is none any more, and close it."""
        try:
            self._facts.forget(self._facts.sidecar_of(old))
        finally:
            os.close(old)


def _listed(directory: int, name: str) -> list[str]:
    """The names in a directory, none where it is gone."""
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def part_name(number: int) -> str:
    """The file name of a part in its upload's directory."""
    return f"p{number:05d}"


def part_numbers(upload: int) -> list[int]:
    """The numbers of the parts in an open upload directory, in order."""
    found = (_PART.fullmatch(name) for name in os.listdir(upload))
    return sorted(int(match[1]) for match in found if match is not None)
