"""Multipart uploads: parts as files, joined inside the kernel."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from s3posixfs.core.checksums import COMPOSITE, decode
from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_PARTS
from s3posixfs.store.backend.facts import nanoseconds
from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.names import key_path
from s3posixfs.store.backend.objects import Objects
from s3posixfs.store.backend.pending import Pending, ScratchFile
from s3posixfs.store.backend.problems import translated
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
from s3posixfs.store.backend.upload_edited import fill, open_part
from s3posixfs.store.backend.upload_files import UploadFiles, part_name, part_numbers
from s3posixfs.store.backend.upload_pages import page_of
from s3posixfs.store.backend.upload_results import multipart_etag, result_of
from s3posixfs.store.backend.upload_whole import EDITED, WHOLE, Place, link_shared

Placing = Callable[[int, str], ObjectRecord]


class Uploads:
    """The multipart uploads of a root."""

    __slots__ = ("_clock", "_files", "_lookup", "_min_part_bytes", "_objects", "_scratch")

    def __init__(
        self,
        files: UploadFiles,
        scratch: Scratch,
        lookup: Lookup,
        objects: Objects,
        clock: Clock,
        min_part_bytes: int,
    ) -> None:
        self._files = files
        self._scratch = scratch
        self._lookup = lookup
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
        now = self._clock.time()
        upload_id = self._files.make(bucket, key, facts, now, checksum_algorithm, checksum_type)
        try:
            os.close(self._lookup.open_bucket(bucket))
        except S3Error:  # removed meanwhile, perhaps after its uploads were
            with suppress(S3Error), self._files.locked(bucket, upload_id, fcntl.LOCK_EX) as upload:
                self._files.drop(bucket, upload_id, upload)
            raise
        return upload_id

    def record(self, bucket: str, key: str, upload_id: str) -> UploadRecord:
        """An upload in progress; S3Error NoSuchUpload (404)."""
        os.close(self._lookup.open_bucket(bucket))
        fd = self._files.open(bucket, upload_id)
        try:
            return self._files.record(bucket, key, upload_id, fd)
        finally:
            os.close(fd)

    def begin_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        length: int | None,
        copied_from: int | None,
    ) -> PendingPart | PlacedPart:
        """A part that takes bytes: exactly ``length`` where that is known.

        ``copied_from`` is where its bytes are in the object that they are copied from.
        S3Error NoSuchUpload (404), InvalidArgument (400).
        """
        if not 1 <= number <= MAX_PARTS:
            message = f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive"
            raise S3Error("InvalidArgument", message, status=400)
        self.record(bucket, key, upload_id)
        upload = PartOf(self._files, self._clock, bucket, upload_id, number)
        if length:
            place = None
            if copied_from is not None:
                place = self._files.place_copy(bucket, upload_id, number, length, copied_from)
            least = self._min_part_bytes
            if place is None:
                place = self._files.place_part(bucket, upload_id, number, length, least)
            if place is not None:
                return PlacedPart(upload, place)
        return PendingPart(upload, self._scratch)

    def parts(self, bucket: str, key: str, upload_id: str, after: int, max_parts: int) -> PartsPage:
        """The parts with numbers above ``after``, in order."""
        os.close(self._lookup.open_bucket(bucket))
        fd = self._files.open(bucket, upload_id)
        try:
            self._files.record(bucket, key, upload_id, fd)
            numbers = [n for n in part_numbers(fd) if n > after]
            parts = [
                part for n in numbers[:max_parts] if (part := self._files.part(fd, n)) is not None
            ]
            # One that was completed or aborted meanwhile has lost some of them.
            self._files.check_there(bucket, upload_id, fd)
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
        found = self._files.all(bucket)
        return page_of(found, prefix, delimiter, key_marker, upload_id_marker, max_uploads)

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
        etag = multipart_etag([part.etag for part in parts])
        try:
            with self._files.locked(bucket, upload_id, fcntl.LOCK_EX) as upload:
                record = self._files.record(bucket, key, upload_id, upload)
                done = result_of(self._lookup, bucket, path, upload_id, etag)
                if done is not None:  # and then a crash or a full disk came
                    self._files.drop(bucket, upload_id, upload)
                    return done
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
                    etag=etag,
                    checksums=dict(checksums),
                    checksum_type=checksum_type,
                    part_sizes=tuple(part.size for part in chosen),
                    part_digests=_digests(chosen, checksums, checksum_type),
                )

                def place(fd: int, name: str) -> ObjectRecord:
                    return self._objects.place(
                        bucket, path, fd, name, size, facts, condition, upload_id=upload_id
                    )

                size = sum(part.size for part in chosen)
                result = self._as_they_are(upload, chosen, size, place)
                if result is None:
                    result = self._joined(upload, chosen, place)
                self._files.drop(bucket, upload_id, upload)
                return result
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise
            done = result_of(self._lookup, bucket, path, upload_id, etag)
            if done is None:
                raise
            return done

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts; S3Error NoSuchUpload (404)."""
        os.close(self._lookup.open_bucket(bucket))
        with self._files.locked(bucket, upload_id, fcntl.LOCK_EX) as upload:
            self._files.record(bucket, key, upload_id, upload)
            self._files.drop(bucket, upload_id, upload)

    def finish(self) -> None:
        """Remove the uploads that became objects when a crash came: that is all that is left to do.

        For a start: it looks at every upload. What can't be removed stays, as it would without.
        """
        for bucket, upload_id in self._files.half_completed():
            # One that is locked is being completed by another process.
            how = fcntl.LOCK_EX | fcntl.LOCK_NB
            with suppress(S3Error, OSError), self._files.locked(bucket, upload_id, how) as upload:
                record = self._files.read_record(bucket, upload_id, upload)
                if record is None:
                    continue
                path = key_path(record.key)
                if result_of(self._lookup, bucket, path, upload_id) is not None:
                    self._files.drop(bucket, upload_id, upload)

    def forget_bucket(self, bucket: str) -> None:
        """Drop all uploads of a bucket."""
        self._files.drop_bucket(bucket)

    # --- below ---------------------------------------------------------------------------

    def _as_they_are(
        self, upload: int, parts: Sequence[PartRecord], size: int, place: Placing
    ) -> ObjectRecord | None:
        """Make the file that the parts share the object, where it holds them one after another."""
        linked = None
        if any(part.edited for part in parts):
            if fill(upload, parts, lambda: self._others(upload, parts), partial(_open, upload)):
                linked = link_shared(upload, self._scratch, size, EDITED)
        elif _are_in_a_row(parts):
            linked = link_shared(upload, self._scratch, size, WHOLE)
        if linked is None:
            return None
        fd, name = linked
        try:
            return place(fd, name)
        except BaseException:
            self._scratch.discard(name)
            raise
        finally:
            os.close(fd)

    def _others(self, upload: int, chosen: Sequence[PartRecord]) -> list[PartRecord]:
        left = set(part_numbers(upload)) - {part.number for part in chosen}
        found = (self._files.part(upload, number) for number in left)
        return [part for part in found if part is not None]

    def _joined(self, upload: int, parts: Sequence[PartRecord], place: Placing) -> ObjectRecord:
        with _Join(self._scratch) as join:
            for part in parts:
                join.append(upload, part)
            return join.commit(place)

    def _chosen(self, upload: int, wanted: CompletedPart) -> PartRecord:
        part = self._files.part(upload, wanted.number)
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


@dataclass(frozen=True, slots=True)
class PartOf:
    """Which part of which upload some bytes are to be."""

    files: UploadFiles
    clock: Clock
    bucket: str
    upload_id: str
    number: int


class PendingPart(ScratchFile):
    """A part that takes bytes, in a file of its own."""

    __slots__ = ("_part",)

    def __init__(self, part: PartOf, scratch: Scratch) -> None:
        super().__init__(scratch)
        self._part = part

    @translated
    def commit(self, etag: str, checksums: Mapping[str, str] | None = None) -> PartRecord:
        """Make it the part, in place of an earlier one of the number; durable on return.

        ``etag`` is the hex MD5 of the bytes. S3Error NoSuchUpload (404) if the upload has ended.
        """
        part = self._part
        now = nanoseconds(part.clock.time())
        return self._commit_with(
            lambda fd, name: part.files.put_part(
                part.bucket,
                part.upload_id,
                part.number,
                fd,
                name,
                self.size,
                etag,
                checksums or {},
                now,
            )
        )


class PlacedPart(Pending):
    """A part that takes bytes, in the file that the parts share."""

    __slots__ = ("_part", "_place")

    def __init__(self, part: PartOf, place: Place) -> None:
        super().__init__(place.fd, place.offset)
        self._part = part
        self._place = place

    @translated
    def commit(self, etag: str, checksums: Mapping[str, str] | None = None) -> PartRecord:
        """As :meth:`PendingPart.commit`."""
        part = self._part
        now = nanoseconds(part.clock.time())
        record = part.files.put_placed(
            part.bucket,
            part.upload_id,
            part.number,
            self._place,
            self.size,
            etag,
            checksums or {},
            now,
        )
        self._fd = -1
        self._place.close(release=False)
        return record

    def _check_room(self, length: int) -> None:
        """The next place is another part's."""
        if self.size + length > self._place.length:
            raise S3Error("IncompleteBody", "The part is longer than announced.", status=400)

    def _forget(self) -> None:
        self._place.close(release=True)


class _Join(ScratchFile):
    """The object that parts become when they have to be copied."""

    __slots__ = ()

    def append(self, upload: int, part: PartRecord) -> None:
        fd = _open(upload, part)
        try:
            self.write_from(fd, part.offset or 0, part.size)
        finally:
            os.close(fd)

    def commit(self, place: Placing) -> ObjectRecord:
        return self._commit_with(place)


def _open(upload: int, part: PartRecord) -> int:
    return open_part(upload, part, part_name(part.number))


def _are_in_a_row(parts: Sequence[PartRecord]) -> bool:
    """Whether the file that parts of one size share holds these one after another."""
    end = 0
    for part in parts:
        if part.edited or part.offset != end:
            return False
        end += part.size
    return True


def _digests(
    parts: Sequence[PartRecord], checksums: Mapping[str, str], checksum_type: str | None
) -> bytes:
    """What the composite checksum was made of; of a full-object one nothing is kept."""
    if checksum_type != COMPOSITE:
        return b""
    (algorithm,) = checksums
    return b"".join(decode(algorithm, part.checksums[algorithm]) for part in parts)
