"""Giving all that a user has in a bucket to another POSIX owner, while the store runs.

Each object is changed under its key's lock, and only if it is the user's at that moment. Its
bytes, ETag and time stay. What was changed is durable once the filesystem is synced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.attributes import FactsGone
from s3posixfs.store.backend.facts import StoredFacts, bucket_record
from s3posixfs.store.backend.locks import KeyLocks
from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.names import key_path
from s3posixfs.store.backend.objects import Objects
from s3posixfs.store.backend.problems import translated
from s3posixfs.store.backend.records import ObjectFacts
from s3posixfs.store.backend.tree import open_steps
from s3posixfs.store.backend.upload_files import UploadFiles


class Reowning:
    """Changes of owner in a root. All raise S3Error; what is gone meanwhile is no error."""

    __slots__ = ("_files", "_locks", "_lookup", "_objects", "_owns")

    def __init__(
        self, lookup: Lookup, objects: Objects, files: UploadFiles, locks: KeyLocks
    ) -> None:
        self._lookup = lookup
        self._objects = objects
        self._files = files
        self._locks = locks
        self._owns = os.geteuid() == 0

    @translated
    def object(self, bucket: str, key: str, user: str, owner: PosixOwner) -> bool:
        """Give an object, if it is the user's, to ``owner``; whether anything was changed."""
        return self._objects.reown(bucket, key_path(key), user, owner)

    @translated
    def folder(
        self, bucket: str, prefix: str, left: Sequence[PosixOwner], owner: PosixOwner
    ) -> bool:
        """Give the directory of a prefix (``a/b/``) to ``owner``, if it is one of ``left``'s.

        One that is a marker object stays as it is: see :meth:`object`.
        """
        path = key_path(prefix)
        if path.folder is None or not self._owns:
            return False
        bucket_fd = self._lookup.open_bucket(bucket)
        try:
            # Nobody makes it a marker object meanwhile.
            with self._locks.hold(bucket, path.raw):
                try:
                    fd = open_steps(bucket_fd, path.folder)
                except (FileNotFoundError, NotADirectoryError):
                    return False
                try:
                    stat = os.fstat(fd)
                    has = PosixOwner(stat.st_uid, stat.st_gid)
                    if has not in left or has == owner or self._lookup.is_marker(fd):
                        return False
                    os.fchown(fd, owner.uid, owner.gid)
                finally:
                    os.close(fd)
        finally:
            os.close(bucket_fd)
        return True

    @translated
    def bucket(self, name: str, user: str, owner: PosixOwner) -> bool:
        """Give a bucket, if it is the user's, to ``owner``; whether anything was changed."""
        with self._locks.hold_bucket(name):
            fd = self._lookup.open_bucket(name)
            try:
                stat = os.fstat(fd)
                try:
                    stored = self._lookup.facts.read(fd, stat)
                except FactsGone:
                    return False
                record = bucket_record(name, stat, stored, self._lookup.user_of_uid)
                cut_short = (
                    stored is not None
                    and stored.facts.owner_id == user
                    and (stat.st_uid, stat.st_gid) == (owner.uid, owner.gid)
                    and (stored.file_uid, stored.file_gid) != (stat.st_uid, stat.st_gid)
                )
                if not cut_short and (record.owner_id != user or record.owner == owner):
                    return False
                if self._owns:
                    os.fchown(fd, owner.uid, owner.gid)
                    stat = os.fstat(fd)
                made = stat.st_mtime_ns if stored is None else stored.last_modified_ns
                facts = ObjectFacts(user, owner)
                sidecar = self._lookup.facts.outgrown(fd)
                self._lookup.facts.write(
                    fd, StoredFacts(facts, 0, 0, made, stat.st_uid, stat.st_gid)
                )
                os.fsync(fd)
                self._lookup.facts.forget(sidecar)
            finally:
                os.close(fd)
        return True

    @translated
    def uploads(self, bucket: str, user: str, owner: PosixOwner) -> int:
        """Let what a user's multipart uploads become be ``owner``'s; how many were changed."""
        changed = 0
        for upload in self._files.all(bucket):
            if upload.facts.owner_id == user and upload.facts.owner != owner:
                with suppress(S3Error):  # it was completed or aborted
                    self._files.reown(upload, owner)
                    changed += 1
        return changed
