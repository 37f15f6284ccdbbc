"""Multipart uploads: parts as files, joined inside the kernel.

``uploads/BUCKET/ID`` holds a file ``upload`` with what the object will be and one file a part.
Storing a part holds flock(2) on that directory shared, completing and aborting hold it alone: a
part is in the object or is refused, never half.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgpack

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_PARTS, PosixOwner
from s3posixfs.store.backend.attributes import FactsGone
from s3posixfs.store.backend.facts import (
    FactsCodec,
    StoredFacts,
    nanoseconds,
    pack_object_facts,
    unpack_object_facts,
)
from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.names import key_path
from s3posixfs.store.backend.objects import Objects
from s3posixfs.store.backend.pending import Pending
from s3posixfs.store.backend.problems import no_such_upload
from s3posixfs.store.backend.records import (
    CompletedPart,
    Condition,
    ObjectFacts,
    ObjectRecord,
    PartRecord,
    PartsPage,
    UploadRecord,
    UploadsPage,
)
from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.tree import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    remove_tree,
    rename_between,
    write_whole,
)

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_UPLOAD_FILE = "upload"
_PART = re.compile(r"p(\d{5})")


class Uploads:
    """The multipart uploads below an open ``uploads`` directory."""

    __slots__ = (
        "_clock",
        "_codec",
        "_directory",
        "_facts",
        "_lookup",
        "_min_part_bytes",
        "_objects",
        "_scratch",
    )

    def __init__(
        self,
        directory: int,
        scratch: Scratch,
        codec: FactsCodec,
        lookup: Lookup,
        objects: Objects,
        clock: Clock,
        min_part_bytes: int,
    ) -> None:
        self._directory = directory
        self._scratch = scratch
        self._lookup = lookup
        self._facts = lookup.facts
        self._codec = codec
        self._objects = objects
        self._clock = clock
        self._min_part_bytes = min_part_bytes

    def create(
        self,
        bucket: str,
        key: str,
        facts: ObjectFacts,
        checksum_algorithm: str | None,
        checksum_type: str | None,
    ) -> str:
        """Begin an upload; durable on return."""
        os.close(self._lookup.open_bucket(bucket))
        key_path(key)
        upload_id = secrets.token_hex(16)
        fields = {
            "key": key,
            "t": self._clock.time(),
            "facts": pack_object_facts(facts),
            "ca": checksum_algorithm,
            "ct": checksum_type,
        }
        with suppress(FileExistsError):
            os.mkdir(bucket, 0o700, dir_fd=self._directory)
            os.fsync(self._directory)
        name = self._scratch.new_name()
        os.mkdir(name, 0o700, dir_fd=self._scratch.fd)
        write_whole(self._scratch.fd, name, _UPLOAD_FILE, self._codec.seal(msgpack.packb(fields)))
        uploads = os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._directory)
        try:
            rename_between(self._scratch.fd, name, uploads, upload_id)
            os.fsync(uploads)
        finally:
            os.close(uploads)
        return upload_id

    def record(self, bucket: str, key: str, upload_id: str) -> UploadRecord:
        """An upload in progress; S3Error NoSuchUpload (404)."""
        os.close(self._lookup.open_bucket(bucket))
        fd = self._open(bucket, upload_id)
        try:
            return self._record(bucket, key, upload_id, fd)
        finally:
            os.close(fd)

    def begin_part(self, bucket: str, key: str, upload_id: str, number: int) -> PendingPart:
        """A part that takes bytes; S3Error NoSuchUpload (404), InvalidArgument (400)."""
        if not 1 <= number <= MAX_PARTS:
            message = f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive"
            raise S3Error("InvalidArgument", message, status=400)
        self.record(bucket, key, upload_id)
        return PendingPart(self, self._scratch, bucket, upload_id, number)

    def store_part(
        self,
        bucket: str,
        upload_id: str,
        number: int,
        fd: int,
        name: str,
        size: int,
        etag: str,
        checksums: Mapping[str, str],
    ) -> PartRecord:
        """Make a temporary file the part; durable on return."""
        stat = os.fstat(fd)
        now = nanoseconds(self._clock.time())
        facts = ObjectFacts(
            "", PosixOwner(stat.st_uid, stat.st_gid), etag, checksums=dict(checksums)
        )
        self._facts.write(
            fd, StoredFacts(facts, size, stat.st_mtime_ns, now, stat.st_uid, stat.st_gid)
        )
        os.fsync(fd)
        with self._locked(bucket, upload_id, fcntl.LOCK_SH) as upload:
            old = self._sidecar(upload, number)
            try:
                rename_between(self._scratch.fd, name, upload, _part_name(number))
            except FileNotFoundError:
                raise no_such_upload(upload_id) from None
            self._facts.forget(old)
            os.fsync(upload)
        return PartRecord(number, etag, size, now / 1e9, facts.checksums)

    def parts(self, bucket: str, key: str, upload_id: str, after: int, max_parts: int) -> PartsPage:
        """The parts with numbers above ``after``, in order."""
        os.close(self._lookup.open_bucket(bucket))
        fd = self._open(bucket, upload_id)
        try:
            self._record(bucket, key, upload_id, fd)
            numbers = [n for n in _numbers(fd) if n > after]
            parts = [part for n in numbers[:max_parts] if (part := self._part(fd, n)) is not None]
        finally:
            os.close(fd)
        last = parts[-1].number if parts else after
        return PartsPage(tuple(parts), len(numbers) > max_parts, last)

    def uploads(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        key_marker: str,
        upload_id_marker: str,
        max_uploads: int,
    ) -> UploadsPage:
        """Uploads in progress after the markers, by key, then time, then ID."""
        os.close(self._lookup.open_bucket(bucket))
        found = [u for u in self._all(bucket) if u.key.startswith(prefix)]
        found.sort(key=_upload_order)
        marker = key_marker.encode()
        rows: list[UploadRecord] = []
        prefixes: dict[str, None] = {}
        passed = not upload_id_marker
        truncated = False
        last_key, last_id = key_marker, upload_id_marker
        for upload in found:
            raw = upload.key.encode()
            if key_marker and (raw < marker or (raw == marker and not upload_id_marker)):
                continue
            if key_marker and raw == marker and not passed:
                passed = upload.upload_id == upload_id_marker
                continue
            rolled = ""
            if delimiter:
                head, cut, _ = upload.key[len(prefix) :].partition(delimiter)
                rolled = prefix + head + cut if cut else ""
            if rolled and (rolled in prefixes or rolled == key_marker):
                continue
            if len(rows) + len(prefixes) >= max_uploads:
                truncated = True
                break
            if rolled:
                prefixes[rolled] = None
                last_key, last_id = rolled, ""
            else:
                rows.append(upload)
                last_key, last_id = upload.key, upload.upload_id
        return UploadsPage(tuple(rows), tuple(prefixes), truncated, last_key, last_id)

    def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        condition: Condition,
        checksums: Mapping[str, str],
        checksum_type: str | None,
    ) -> ObjectRecord:
        """Join the parts into the object; durable on return. Then the upload is gone."""
        path = key_path(key)
        os.close(self._lookup.open_bucket(bucket))
        if not parts:
            message = "You must specify at least one part"
            raise S3Error("MalformedXML", message, status=400)
        if any(a.number >= b.number for a, b in pairwise(parts)):
            message = "The list of parts was not in ascending order."
            raise S3Error("InvalidPartOrder", message, status=400)
        try:
            with self._locked(bucket, upload_id, fcntl.LOCK_EX) as upload:
                record = self._record(bucket, key, upload_id, upload)
                chosen = [self._chosen(upload, part) for part in parts]
                for part in chosen[:-1]:
                    if part.size < self._min_part_bytes:
                        message = (
                            "Your proposed upload is smaller than the minimum allowed size"
                            f" (part {part.number})"
                        )
                        raise S3Error("EntityTooSmall", message, status=400)
                facts = replace(
                    record.facts,
                    etag=multipart_etag([part.etag for part in chosen]),
                    checksums=dict(checksums),
                    checksum_type=checksum_type,
                    part_sizes=tuple(part.size for part in chosen),
                )
                with _Join(self._scratch) as join:
                    for part in chosen:
                        join.append(upload, part)
                    size = join.size
                    result = join.commit(
                        lambda fd, name: self._objects.place(
                            bucket, path, fd, name, size, facts, condition, upload_id=upload_id
                        )
                    )
                self._drop(bucket, upload_id, upload)
                return result
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise
            done = self._completed(bucket, key, upload_id)
            if done is None:
                raise
            return done

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts; S3Error NoSuchUpload (404)."""
        os.close(self._lookup.open_bucket(bucket))
        with self._locked(bucket, upload_id, fcntl.LOCK_EX) as upload:
            self._record(bucket, key, upload_id, upload)
            self._drop(bucket, upload_id, upload)

    def forget_bucket(self, bucket: str) -> None:
        """Drop all uploads of a bucket."""
        try:
            uploads = os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._directory)
        except FileNotFoundError:
            return
        try:
            names = os.listdir(uploads)
        finally:
            os.close(uploads)
        for upload_id in names:
            with suppress(S3Error), self._locked(bucket, upload_id, fcntl.LOCK_EX) as upload:
                self._drop(bucket, upload_id, upload)
        remove_tree(self._directory, bucket)

    # --- below ---------------------------------------------------------------------------

    def _open(self, bucket: str, upload_id: str) -> int:
        if _UPLOAD_ID.fullmatch(upload_id) is None:
            raise no_such_upload(upload_id)
        try:
            return os.open(f"{bucket}/{upload_id}", DIRECTORY_FLAGS, dir_fd=self._directory)
        except FileNotFoundError:
            raise no_such_upload(upload_id) from None

    @contextmanager
    def _locked(self, bucket: str, upload_id: str, how: int) -> Iterator[int]:
        fd = self._open(bucket, upload_id)
        try:
            fcntl.flock(fd, how)
            # Whoever held the lock before may have completed or aborted the upload.
            again = self._open(bucket, upload_id)
            try:
                if os.fstat(again).st_ino != os.fstat(fd).st_ino:
                    raise no_such_upload(upload_id)
            finally:
                os.close(again)
            yield fd
        finally:
            os.close(fd)

    def _record(self, bucket: str, key: str, upload_id: str, upload: int) -> UploadRecord:
        record = self._read_record(bucket, upload_id, upload)
        if record is None or record.key != key:
            raise no_such_upload(upload_id)
        return record

    def _read_record(self, bucket: str, upload_id: str, upload: int) -> UploadRecord | None:
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

    def _all(self, bucket: str) -> list[UploadRecord]:
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
                    record = self._read_record(bucket, upload_id, fd)
                finally:
                    os.close(fd)
                if record is not None:
                    found.append(record)
        finally:
            os.close(uploads)
        return found

    def _part(self, upload: int, number: int) -> PartRecord | None:
        for _ in range(100):
            try:
                fd = os.open(_part_name(number), FILE_FLAGS, dir_fd=upload)
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
            return PartRecord(number, facts.etag, stored.size, when, facts.checksums)
        return None

    def _sidecar(self, upload: int, number: int) -> str | None:
        try:
            fd = os.open(_part_name(number), FILE_FLAGS, dir_fd=upload)
        except FileNotFoundError:
            return None
        try:
            return self._facts.sidecar_of(fd)
        finally:
            os.close(fd)

    def _chosen(self, upload: int, wanted: CompletedPart) -> PartRecord:
        part = self._part(upload, wanted.number)
        if (
            part is None
            or part.etag != wanted.etag
            or any(part.checksums.get(name) != value for name, value in wanted.checksums.items())
        ):
            message = (
                "One or more of the specified parts could not be found. The part may not have been"
                f" uploaded, or the specified entity tag may not match the part's ({wanted.number})"
            )
            raise S3Error("InvalidPart", message, status=400)
        return part

    def _completed(self, bucket: str, key: str, upload_id: str) -> ObjectRecord | None:
        """The object, if this upload made it: a client that asks again gets the same answer."""
        bucket_fd = self._lookup.open_bucket(bucket)
        try:
            found = self._lookup.find(bucket_fd, key_path(key))
        finally:
            os.close(bucket_fd)
        if found is None:
            return None
        found.close()
        if found.stored is None or found.stored.upload_id != upload_id:
            return None
        return found.record

    def _drop(self, bucket: str, upload_id: str, upload: int) -> None:
        """Remove an upload: in one step for everyone else, then its files."""
        for number in _numbers(upload):
            self._facts.forget(self._sidecar(upload, number))
        name = self._scratch.new_name()
        uploads = os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._directory)
        try:
            rename_between(uploads, upload_id, self._scratch.fd, name)
            os.fsync(uploads)
        finally:
            os.close(uploads)
        remove_tree(self._scratch.fd, name)


class PendingPart(Pending[PartRecord]):
    """A part that takes bytes."""

    __slots__ = ("_bucket", "_number", "_upload_id", "_uploads")

    def __init__(
        self, uploads: Uploads, scratch: Scratch, bucket: str, upload_id: str, number: int
    ) -> None:
        super().__init__(scratch)
        self._uploads = uploads
        self._bucket = bucket
        self._upload_id = upload_id
        self._number = number

    def commit(self, etag: str, checksums: Mapping[str, str] | None = None) -> PartRecord:
        """Make it the part, in place of an earlier one of the number; durable on return.

        ``etag`` is the hex MD5 of the bytes. S3Error NoSuchUpload (404) if the upload has ended.
        """
        return self._commit_with(
            lambda fd, name: self._uploads.store_part(
                self._bucket,
                self._upload_id,
                self._number,
                fd,
                name,
                self.size,
                etag,
                checksums or {},
            )
        )


class _Join(Pending[ObjectRecord]):
    """The object that parts become."""

    __slots__ = ()

    def append(self, upload: int, part: PartRecord) -> None:
        fd = os.open(_part_name(part.number), FILE_FLAGS, dir_fd=upload)
        try:
            self.write_from(fd, 0, part.size)
        finally:
            os.close(fd)

    def commit(self, place: Callable[[int, str], ObjectRecord]) -> ObjectRecord:
        return self._commit_with(place)


def multipart_etag(etags: Sequence[str]) -> str:
    """The MD5 of the parts' MD5s and their number, as S3 makes it."""
    digests = b"".join(bytes.fromhex(etag) for etag in etags)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


def _part_name(number: int) -> str:
    return f"p{number:05d}"


def _numbers(upload: int) -> list[int]:
    """The numbers of the parts in an open upload directory, in order."""
    found = (_PART.fullmatch(name) for name in os.listdir(upload))
    return sorted(int(match[1]) for match in found if match is not None)


def _upload_order(upload: UploadRecord) -> tuple[bytes, float, str]:
    return (upload.key.encode(), upload.initiated, upload.upload_id)
