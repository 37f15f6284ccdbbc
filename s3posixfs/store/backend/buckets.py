"""Buckets, and the documents (policy, tagging, …) that belong to one."""

from __future__ import annotations

import errno
import os
import re
import stat as stat_module
from contextlib import suppress
from dataclasses import dataclass, field

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.attributes import FactsGone
from s3posixfs.store.backend.facts import StoredFacts, bucket_record, nanoseconds
from s3posixfs.store.backend.locks import KeyLocks
from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.multipart import Uploads
from s3posixfs.store.backend.names import is_bucket_name
from s3posixfs.store.backend.records import BucketRecord, ObjectFacts
from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.tree import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    remove_tree,
    rename_between,
    write_whole,
)

_BUCKET_MODE = 0o755
_KIND = re.compile(r"[a-z][a-z-]{0,40}")


class Buckets:
    """The directories in the root that have a bucket's name."""

    __slots__ = (
        "_clock",
        "_documents",
        "_facts",
        "_locks",
        "_lookup",
        "_root",
        "_scratch",
        "_uploads",
    )

    def __init__(
        self,
        root: int,
        documents: int,
        scratch: Scratch,
        lookup: Lookup,
        locks: KeyLocks,
        uploads: Uploads,
        clock: Clock,
    ) -> None:
        self._root = root
        self._documents = documents
        self._scratch = scratch
        self._lookup = lookup
        self._facts = lookup.facts
        self._locks = locks
        self._uploads = uploads
        self._clock = clock

    def list(self) -> tuple[BucketRecord, ...]:
        found = []
        # A descriptor of its own: threads that read one together share its position.
        root = os.open(".", DIRECTORY_FLAGS, dir_fd=self._root)
        try:
            names = os.listdir(root)
        finally:
            os.close(root)
        for name in sorted(names):
            if is_bucket_name(name):
                with suppress(S3Error):
                    found.append(self.get(name))
        return tuple(found)

    def get(self, name: str) -> BucketRecord:
        fd = self._lookup.open_bucket(name)
        try:
            stat = os.fstat(fd)
            try:
                stored = self._facts.read(fd, stat)
            except FactsGone:
                stored = None
        finally:
            os.close(fd)
        return bucket_record(name, stat, stored, self._lookup.user_of_uid)

    def create(self, name: str, owner_id: str, owner: PosixOwner) -> BucketRecord:
        """Make a bucket, with its owner, in one step."""
        if not is_bucket_name(name):
            message = "The specified bucket is not valid."
            raise S3Error("InvalidBucketName", message, status=400, resource=name)
        with self._locks.hold_bucket(name):
            self._refuse_existing(name, owner_id)
            self._forget_documents(name)  # of a bucket whose directory was removed by hand
            self._uploads.forget_bucket(name)
            temporary = self._scratch.new_name()
            os.mkdir(temporary, _BUCKET_MODE, dir_fd=self._scratch.fd)
            fd = os.open(temporary, DIRECTORY_FLAGS, dir_fd=self._scratch.fd)
            try:
                if os.geteuid() == 0:
                    os.fchown(fd, owner.uid, owner.gid)
                os.fchmod(fd, _BUCKET_MODE)
                stat = os.fstat(fd)
                stored = StoredFacts(
                    ObjectFacts(owner_id, owner),
                    0,
                    0,
                    nanoseconds(self._clock.time()),
                    stat.st_uid,
                    stat.st_gid,
                )
                self._facts.write(fd, stored)
                os.fsync(fd)
                rename_between(self._scratch.fd, temporary, self._root, name)
                os.fsync(self._root)
            except BaseException:
                with suppress(OSError):
                    os.rmdir(temporary, dir_fd=self._scratch.fd)
                raise
            finally:
                os.close(fd)
        return bucket_record(name, stat, stored, self._lookup.user_of_uid)

    def delete(self, name: str) -> None:
        """Remove a bucket that holds no object, with empty directories of local programs.

        Only rmdir(2) is used: an object that arrives meanwhile is not lost, it keeps the bucket.
        """
        with self._locks.hold_bucket(name):
            fd = self._lookup.open_bucket(name)
            try:
                sidecar = self._facts.sidecar_of(fd)
                self._remove_empty(fd)
                os.rmdir(name, dir_fd=self._root)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                message = "The bucket you tried to delete is not empty"
                raise S3Error("BucketNotEmpty", message, status=409, resource=name) from None
            finally:
                os.close(fd)
            os.fsync(self._root)
            self._facts.forget(sidecar)
            self._forget_documents(name)
            self._uploads.forget_bucket(name)

    def get_document(self, bucket: str, kind: str) -> bytes | None:
        os.close(self._lookup.open_bucket(bucket))
        try:
            fd = os.open(f"{bucket}/{_checked(kind)}", FILE_FLAGS, dir_fd=self._documents)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            return file.read()

    def peek_document(self, bucket: str, kind: str) -> bytes | None:
        """The document, without a look at the bucket: for what every request asks."""
        if not is_bucket_name(bucket):
            return None
        try:
            fd = os.open(f"{bucket}/{_checked(kind)}", FILE_FLAGS, dir_fd=self._documents)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            return file.read()

    def put_document(self, bucket: str, kind: str, document: bytes) -> None:
        with self._locks.hold_bucket(bucket):
            os.close(self._lookup.open_bucket(bucket))
            with suppress(FileExistsError):
                os.mkdir(bucket, 0o700, dir_fd=self._documents)
                os.fsync(self._documents)
            write_whole(self._documents, bucket, _checked(kind), document, scratch=self._scratch.fd)

    def delete_document(self, bucket: str, kind: str) -> None:
        with self._locks.hold_bucket(bucket):
            os.close(self._lookup.open_bucket(bucket))
            try:
                fd = os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._documents)
            except FileNotFoundError:
                return
            try:
                with suppress(FileNotFoundError):
                    os.unlink(_checked(kind), dir_fd=fd)
                    os.fsync(fd)
            finally:
                os.close(fd)

    def _refuse_existing(self, name: str, owner_id: str) -> None:
        try:
            mode = os.stat(name, dir_fd=self._root, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat_module.S_ISDIR(mode) and self.get(name).owner_id == owner_id:
            message = (
                "Your previous request to create the named bucket succeeded and you already own it."
            )
            raise S3Error("BucketAlreadyOwnedByYou", message, status=409, resource=name)
        message = "The requested bucket name is not available."
        raise S3Error("BucketAlreadyExists", message, status=409, resource=name)

    def _forget_documents(self, name: str) -> None:
        remove_tree(self._documents, name)
        os.fsync(self._documents)

    def _remove_empty(self, fd: int) -> None:
        """Remove directories that hold nothing; ENOTEMPTY at the first thing that is held.

        Looks first and removes then, so that a bucket that stays keeps its directories.
        """
        self._visit(fd, remove=False)
        self._visit(fd, remove=True)

    def _visit(self, bucket_fd: int, *, remove: bool) -> None:
        path = [_Visited(os.dup(bucket_fd), "")]
        try:
            path[0].look()
            while path:
                here = path[-1]
                if here.left:
                    name = here.left.pop()
                    path.append(_Visited(os.open(name, DIRECTORY_FLAGS, dir_fd=here.fd), name))
                    if self._lookup.is_marker(path[-1].fd):
                        raise _not_empty()
                    path[-1].look()
                    continue
                os.close(here.fd)
                path.pop()
                if remove and path:
                    os.rmdir(here.name, dir_fd=path[-1].fd)
        finally:
            for visited in path:
                os.close(visited.fd)


@dataclass(slots=True)
class _Visited:
    """An open directory that holds only directories, and those still to be visited."""

    fd: int
    name: str
    left: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Find the directories in it; ENOTEMPTY where it holds anything else."""
        with os.scandir(self.fd) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    raise _not_empty()
                self.left.append(entry.name)


def _not_empty() -> OSError:
    return OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def _checked(kind: str) -> str:
    if _KIND.fullmatch(kind) is None:
        raise ValueError(f"no kind of document: {kind!r}")
    return kind
