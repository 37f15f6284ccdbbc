"""Finding objects in the file tree. Readers take no lock.

An object may be at its plain place or, where a directory is in the way, beside it. It moves from
plain to beside only by rename(2) and comes back only when it is written anew, so looking at
plain, beside and plain again misses no object that was there all the time. A file is never
changed once it has its name, save for its facts, which change in one step: an open file and its
facts are one version.
"""

from __future__ import annotations

import errno
import functools
import os
import stat as stat_module
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.attributes import FactsGone, FactsStore
from s3posixfs.store.backend.facts import StoredFacts, marker_record, object_record
from s3posixfs.store.backend.names import (
    KeyPath,
    Place,
    Step,
    beside_names,
    is_bucket_name,
    is_plain,
)
from s3posixfs.store.backend.problems import no_such_bucket, no_such_key, precondition_failed
from s3posixfs.store.backend.recent import RecentRecords
from s3posixfs.store.backend.records import Condition, ObjectRecord
from s3posixfs.store.backend.tree import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    open_directory,
    open_steps,
)

_ATTEMPTS = 100
_MISSES = 4
# What open(2) says where there is no object: ELOOP of a symlink, ENXIO of a socket.
_NO_OBJECT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


@dataclass(slots=True)
class Found:
    """An object that is there: its open file, and where; ``place`` is None for a marker, and
    ``stored`` where the record is one that was read lately."""

    fd: int
    stat: os.stat_result
    stored: StoredFacts | None
    place: Place | None
    record: ObjectRecord
    is_recent: bool = False

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def take_record(self) -> ObjectRecord:
        """Close the file; the record."""
        self.close()
        return self.record


class Lookup:
    """The objects below an open root directory, to be read."""

    __slots__ = ("_missed", "_recent", "_root", "facts", "user_of_uid")

    def __init__(
        self,
        root: int,
        facts: FactsStore,
        user_of_uid: Callable[[int], str | None],
        recent: RecentRecords | None = None,
    ) -> None:
        self._root = root
        self.facts = facts
        self.user_of_uid = user_of_uid
        self._recent = recent or RecentRecords()
        self._missed = 0  # names in a row that had no recent record

    def for_page(self) -> Lookup:
        """The same for one page of a listing, in one thread: whose a uid is, is asked for once."""
        return Lookup(self._root, self.facts, functools.cache(self.user_of_uid), self._recent)

    def open_bucket(self, bucket: str) -> int:
        """The open directory of a bucket; S3Error NoSuchBucket (404)."""
        if is_bucket_name(bucket):
            with suppress(FileNotFoundError, NotADirectoryError):
                return os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._root)
        raise no_such_bucket(bucket)

    def find(self, bucket_fd: int, path: KeyPath, parent: int | None = None) -> Found | None:
        """The object of a key, open for reading, or None; the caller closes it.

        ``parent`` is the open directory of its plain place, of a caller that has it.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._find(bucket_fd, path, parent)
            except FactsGone:
                continue
        raise S3Error("SlowDown", "the object is being replaced too fast", status=503)

    def read_at(self, parent: int, segment: bytes, key: str) -> ObjectRecord | None:
        """The object of a segment in an open directory, or None; for listings.

        None as well for a file of a local program that the store may not read.
        """
        for _ in range(_ATTEMPTS):
            try:
                if is_plain(segment):
                    record = self._recent_at(parent, segment, key)
                    if record is not None:
                        return record
                found = self._open_below(parent, beside_names(segment), key)
                if found is None and is_plain(segment):
                    found = self._open_file(parent, segment, key)
                return None if found is None else found.take_record()
            except FactsGone:
                continue
            except PermissionError:
                return None
        return None

    def marker_at(self, fd: int, key: str) -> ObjectRecord | None:
        """The marker object that an open directory is, or None."""
        stat = os.fstat(fd)
        try:
            stored = self.facts.read(fd, stat)
        except FactsGone:
            return None
        if stored is None:
            return None
        return marker_record(key, stat, stored, self.user_of_uid)

    def is_marker(self, fd: int) -> bool:
        """Whether an open directory is a marker object."""
        return self.marker_at(fd, "") is not None

    def open_marker(self, bucket_fd: int, path: KeyPath, folder: Sequence[Step]) -> Found | None:
        """The marker object of a key, or None; raises FactsGone when it changes meanwhile."""
        try:
            fd = open_steps(bucket_fd, folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            stat = os.fstat(fd)
            stored = self.facts.read(fd, stat)
        except BaseException:
            os.close(fd)
            raise
        if stored is None:
            os.close(fd)
            return None
        record = marker_record(path.key, stat, stored, self.user_of_uid)
        return Found(fd, stat, stored, None, record)

    def _find(self, bucket_fd: int, path: KeyPath, parent: int | None) -> Found | None:
        found = self._open_at(bucket_fd, path, path.plain, parent)
        if found is not None:
            return found
        if path.folder is not None:
            found = self.open_marker(bucket_fd, path, path.folder)
        elif path.beside is not path.plain:
            found = self._open_at(bucket_fd, path, path.beside, parent)
        else:
            return None
        return found or self._open_at(bucket_fd, path, path.plain, parent)

    def _recent_at(self, parent: int, name: bytes, key: str) -> ObjectRecord | None:
        """The object in a file, read anew only when the file has changed since."""
        keeps = self.facts.xattrs
        # Where one name after the other is new, it takes a look more to see that.
        if keeps and self._missed < _MISSES:
            try:
                stat = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return None
            record = self._recent.get(stat, key)
            if record is not None:
                self._missed = 0
                return record
        found = self._open_file(parent, name, key, recent=keeps)
        if found is None:
            return None
        if found.is_recent:
            self._missed = 0
            return found.take_record()
        self._missed += 1
        # Whose a uid is may change without the file: such owners are looked up every time.
        if found.stored is not None and found.stored.file_uid == found.stat.st_uid:
            self._recent.keep(found.stat, found.record)
        return found.take_record()

    def _open_at(
        self, bucket_fd: int, path: KeyPath, place: Place, parent: int | None
    ) -> Found | None:
        start, steps = bucket_fd, place.steps
        if parent is not None:
            start, steps = parent, steps[len(path.plain.steps) :]
        found = self._open_below(start, (*(step.name for step in steps), place.name), path.key)
        if found is not None:
            found.place = place
        return found

    def _open_below(self, start: int, names: tuple[bytes, ...], key: str) -> Found | None:
        """The object in the file at the end of a chain of names, or None."""
        if len(names) == 1:
            return self._open_file(start, names[0], key)
        try:
            parent = open_directory(start, names[:-1])
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return self._open_file(parent, names[-1], key)
        finally:
            os.close(parent)

    def _open_file(
        self, parent: int, name: bytes, key: str, *, recent: bool = False
    ) -> Found | None:
        """The object in a file, or None where there is none or something else; ``recent``: a
        record that was read lately will do."""
        try:
            fd = os.open(name, FILE_FLAGS, dir_fd=parent)
        except OSError as error:
            if error.errno in _NO_OBJECT:
                return None
            raise
        try:
            stat = os.fstat(fd)
            if not stat_module.S_ISREG(stat.st_mode):
                os.close(fd)
                return None
            known = self._recent.get(stat, key) if recent else None
            if known is not None:
                return Found(fd, stat, None, None, known, is_recent=True)
            stored = self.facts.read(fd, stat)
            record = object_record(key, stat, stored, self.user_of_uid)
        except BaseException:
            os.close(fd)
            raise
        return Found(fd, stat, stored, None, record)


def check(condition: Condition, present: Found | None, key: str) -> None:
    """Raise unless the condition holds of the present object: PreconditionFailed (412).

    ``if_match`` without an object is NoSuchKey (404), as AWS answers it.
    """
    if condition.if_match is not None:
        if present is None:
            raise no_such_key(key)
        if condition.if_match not in ("*", present.record.etag):
            raise precondition_failed("If-Match")
    if present is None:
        return
    record = present.record
    if condition.if_none_match:
        raise precondition_failed("If-None-Match")
    if condition.size is not None and condition.size != record.size:
        raise precondition_failed("x-amz-if-match-size")
    if condition.last_modified is not None and condition.last_modified not in (
        record.last_modified,
        float(int(record.last_modified)),
    ):
        raise precondition_failed("x-amz-if-match-last-modified-time")
