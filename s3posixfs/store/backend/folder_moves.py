"""Renaming all keys below a prefix at once: one rename(2) of the directory that stands for it.

Nobody writes a key meanwhile: the locks of all keys are held, so what was looked at is what is
renamed. Readers take no lock and see all of the old keys or all of the new ones; a crash leaves
one or the other. Owners, facts and sidecars hang on inodes and stay what they are, and an object
that stands beside a directory is inside the one that is renamed, or above it and not concerned.
Uploads in progress are no objects: they stay at the keys they were begun for.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES, PosixOwner
from s3posixfs.store.backend.folders import Again, Folders, in_the_way, retrying
from s3posixfs.store.backend.listing import keys_below
from s3posixfs.store.backend.locks import KeyLocks
from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.names import KeyPath, Step
from s3posixfs.store.backend.problems import no_such_key, precondition_failed
from s3posixfs.store.backend.snapshots import SnapshotCache
from s3posixfs.store.backend.tree import DIRECTORY_FLAGS, open_steps, rename_between

# Called with the keys below the source, relative to it, before they get other names.
Permit = Callable[[Iterable[str]], None]

# What rename(2) and rmdir(2) say where somebody has made or removed a directory this moment,
# which needs no lock.
_MADE_MEANWHILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST})


class FolderMoves:
    """Renames directories below the buckets that a lookup finds."""

    __slots__ = ("_folders", "_locks", "_lookup", "_snapshots")

    def __init__(
        self, lookup: Lookup, snapshots: SnapshotCache, locks: KeyLocks, folders: Folders
    ) -> None:
        self._lookup = lookup
        self._snapshots = snapshots
        self._locks = locks
        self._folders = folders

    def rename(
        self,
        bucket: str,
        source: KeyPath,
        target: KeyPath,
        *,
        no_replace: bool,
        permit: Permit | None,
    ) -> None:
        """Give all keys that begin with ``source`` the beginning ``target``; durable on return.

        Both end in a slash. ``permit`` may refuse by raising: it is asked before anything else
        happens, and again, with everything held still, where the keys have changed meanwhile.
        A marker object at ``target`` is replaced. S3Error NoSuchKey (404); FolderNotEmpty (409)
        where more than a marker is below ``target``, PreconditionFailed (412) with
        ``no_replace`` where anything is; KeyTooLongError (400); InvalidRequest (400) of a folder
        that would come to be inside itself.
        """
        begin, end = _steps_of(source), _steps_of(target)
        if target.raw.startswith(source.raw):
            if target.raw != source.raw:
                message = "A folder cannot be renamed to be inside itself."
                raise S3Error("InvalidRequest", message, status=400)
            permit = permit or _nothing
        if permit is None and len(target.raw) > len(source.raw):
            permit = _nothing  # the keys are to be looked at: some may become too long
        seen = self._seen_before(bucket, begin, source, target, permit)
        if target.raw == source.raw:
            return

        def once() -> None:
            bucket_fd = self._lookup.open_bucket(bucket)
            try:
                owner = self._owner_of(bucket_fd, begin, source)
                try:
                    os.close(self._folders.make_parents(bucket, bucket_fd, end, owner))
                    with self._locks.hold_all():
                        if permit is not None:
                            now = self._look(bucket_fd, begin, source, target, None)
                            if now != seen:
                                self._look(bucket_fd, begin, source, target, permit)
                        self._move(bucket_fd, begin, source, end, target, no_replace)
                except BaseException:
                    self._folders.prune(bucket, bucket_fd, target)
                    raise
                self._folders.prune(bucket, bucket_fd, source)
            finally:
                os.close(bucket_fd)

        retrying(once)

    # --- below ---------------------------------------------------------------------------

    def _seen_before(
        self,
        bucket: str,
        begin: Sequence[Step],
        source: KeyPath,
        target: KeyPath,
        permit: Permit | None,
    ) -> bytes:
        bucket_fd = self._lookup.open_bucket(bucket)
        try:
            if permit is None:
                return b""
            return self._look(bucket_fd, begin, source, target, permit)
        finally:
            os.close(bucket_fd)

    def _owner_of(self, bucket_fd: int, begin: Sequence[Step], source: KeyPath) -> PosixOwner:
        fd = self._open(bucket_fd, begin, source)
        try:
            stat = os.fstat(fd)
        finally:
            os.close(fd)
        return PosixOwner(stat.st_uid, stat.st_gid)

    @staticmethod
    def _open(bucket_fd: int, begin: Sequence[Step], source: KeyPath) -> int:
        try:
            return open_steps(bucket_fd, begin)
        except (FileNotFoundError, NotADirectoryError):
            raise no_such_key(source.key) from None

    def _look(
        self,
        bucket_fd: int,
        begin: Sequence[Step],
        source: KeyPath,
        target: KeyPath,
        permit: Permit | None,
    ) -> bytes:
        """Go through the keys below the source, by ``permit`` where there is one; what tells them
        from others."""
        fd = self._open(bucket_fd, begin, source)
        digest = blake2b()
        longest = MAX_KEY_BYTES - len(target.raw)

        def rests() -> Iterator[str]:
            found = False
            for key, _ in keys_below(self._lookup, self._snapshots, fd, source.raw):
                found = True
                rest = key[len(source.raw) :]
                if len(rest) > longest:
                    raise S3Error("KeyTooLongError", "Your key is too long", status=400)
                digest.update(b"%d:%b" % (len(rest), rest))
                yield rest.decode()
            if not found:
                raise no_such_key(source.key)

        try:
            (permit or _nothing)(rests())
        finally:
            os.close(fd)
        return digest.digest()

    def _move(
        self,
        bucket_fd: int,
        begin: Sequence[Step],
        source: KeyPath,
        end: Sequence[Step],
        target: KeyPath,
        no_replace: bool,
    ) -> None:
        """The rename itself, with all keys locked."""
        moved = self._open(bucket_fd, begin, source)
        try:
            first = next(keys_below(self._lookup, self._snapshots, moved, source.raw), None)
        finally:
            os.close(moved)
        if first is None:
            raise no_such_key(source.key)
        try:
            replaced = open_steps(bucket_fd, end)
        except (FileNotFoundError, NotADirectoryError):
            raise Again from None
        try:
            facts = self._lookup.facts
            self._require_empty(replaced, target, no_replace)
            if not _clear(replaced):
                raise in_the_way(target.key)
            sidecar = facts.sidecar_of(replaced)
            if not facts.xattrs:
                # Facts by the number of an inode must not outlive it: another directory with
                # that number would have them.
                facts.remove(replaced)
            self._rename(bucket_fd, begin, end)
            facts.forget(sidecar)
        finally:
            os.close(replaced)

    def _require_empty(self, fd: int, target: KeyPath, no_replace: bool) -> None:
        for key, is_marker in keys_below(self._lookup, self._snapshots, fd, target.raw):
            if no_replace:
                raise precondition_failed("If-None-Match")
            if not is_marker or key != target.raw:
                message = "There are objects below the name that the folder is to get."
                raise S3Error("FolderNotEmpty", message, status=409, resource=target.key)

    @staticmethod
    def _rename(bucket_fd: int, begin: Sequence[Step], end: Sequence[Step]) -> None:
        old = open_steps(bucket_fd, begin[:-1])
        new = open_steps(bucket_fd, end[:-1])
        try:
            try:
                rename_between(old, begin[-1].name, new, end[-1].name)
            except OSError as error:
                if error.errno not in _MADE_MEANWHILE:
                    raise
                raise Again from None
            os.fsync(new)
            if not os.path.samestat(os.fstat(old), os.fstat(new)):
                os.fsync(old)
        finally:
            os.close(old)
            os.close(new)


def _nothing(keys: Iterable[str]) -> None:
    for _ in keys:
        pass


def _steps_of(path: KeyPath) -> tuple[Step, ...]:
    if path.folder is None:
        raise S3Error("InvalidRequest", "A folder's name ends in a slash.", status=400)
    return path.folder


def _clear(fd: int) -> bool:
    """Remove the empty directories in an open one; whether nothing is left in it. Raises Again."""
    clear = True
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            clear = False
            continue
        with suppress(FileNotFoundError):
            inner = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
            try:
                emptied = _clear(inner)
            finally:
                os.close(inner)
            if not emptied:
                clear = False
                continue
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in _MADE_MEANWHILE:
                    raise
                raise Again from None
    return clear
