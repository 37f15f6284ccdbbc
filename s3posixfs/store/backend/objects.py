"""Single objects in the file tree: finding, placing, changing, removing and renaming them.

What keeps readers and writers apart:

- Whoever writes a key holds the key's lock from looking at the present object until the new one
  is in its place, so conditions hold. Readers take no lock.
- A file gets its bytes, owner and facts before it gets its name, and is never changed after,
  save for its facts, which change in one step.
- An object may be at its plain place or, where a directory is in the way, beside it. It moves
  from plain to beside only by rename(2) and comes back only when it is written anew, so a reader
  that looks at plain, beside and plain again misses no object that was there all the time.
- Two places at once can only be what a crash left: plain counts, and every change removes what
  is beside first.
- An empty directory is removed under the lock of the marker object that it could be (``dir/``).
  A writer whose directory goes away under it starts again.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import md5
from typing import TypeVar

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.attributes import FactsGone, FactsStore
from s3posixfs.store.backend.facts import (
    StoredFacts,
    marker_record,
    nanoseconds,
    object_record,
)
from s3posixfs.store.backend.locks import KeyLocks
from s3posixfs.store.backend.names import (
    KeyPath,
    Place,
    Step,
    beside_names,
    is_bucket_name,
    is_plain,
)
from s3posixfs.store.backend.problems import (
    no_such_bucket,
    no_such_key,
    precondition_failed,
)
from s3posixfs.store.backend.records import Condition, ObjectFacts, ObjectRecord
from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.tree import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    make_directory,
    open_directory,
    open_steps,
    rename_between,
)

EMPTY_ETAG = md5(usedforsecurity=False).hexdigest()
_OBJECT_MODE = 0o644
_ATTEMPTS = 200


Result = TypeVar("Result")


@dataclass(slots=True)
class Found:
    """An object that is there: its open file, and where; ``place`` is None for a marker."""

    fd: int
    stat: os.stat_result
    stored: StoredFacts | None
    place: Place | None
    record: ObjectRecord

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def take_record(self) -> ObjectRecord:
        """Close the file; the record."""
        self.close()
        return self.record


class _Again(Exception):
    """The tree changed under a writer: start again."""


class Objects:
    """The objects below an open root directory."""

    __slots__ = ("_clock", "_facts", "_locks", "_owns", "_root", "_scratch", "_user_of_uid")

    def __init__(
        self,
        root: int,
        scratch: Scratch,
        facts: FactsStore,
        locks: KeyLocks,
        user_of_uid: Callable[[int], str | None],
        clock: Clock,
    ) -> None:
        self._root = root
        self._scratch = scratch
        self._facts = facts
        self._locks = locks
        self._user_of_uid = user_of_uid
        self._clock = clock
        self._owns = os.geteuid() == 0

    # --- finding -------------------------------------------------------------------------

    def open_bucket(self, bucket: str) -> int:
        """The open directory of a bucket; S3Error NoSuchBucket (404)."""
        if is_bucket_name(bucket):
            with suppress(FileNotFoundError, NotADirectoryError):
                return os.open(bucket, DIRECTORY_FLAGS, dir_fd=self._root)
        raise no_such_bucket(bucket)

    def find(self, bucket_fd: int, path: KeyPath) -> Found | None:
        """The object of a key, open for reading, or None; the caller closes it."""
        for _ in range(_ATTEMPTS):
            try:
                return self._find(bucket_fd, path)
            except FactsGone:
                continue
        raise S3Error("SlowDown", "the object is being replaced too fast", status=503)

    def _find(self, bucket_fd: int, path: KeyPath) -> Found | None:
        found = self._open_at(bucket_fd, path, path.plain)
        if found is None and path.folder is not None:
            found = self._open_marker(bucket_fd, path, path.folder)
        elif found is None and path.beside is not path.plain:
            found = self._open_at(bucket_fd, path, path.beside)
        else:
            return found
        return found or self._open_at(bucket_fd, path, path.plain)

    def _open_at(self, bucket_fd: int, path: KeyPath, place: Place) -> Found | None:
        if not place.steps:
            found = self._open_file(bucket_fd, place.name, path.key)
        else:
            try:
                parent = open_steps(bucket_fd, place.steps)
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                found = self._open_file(parent, place.name, path.key)
            finally:
                os.close(parent)
        if found is not None:
            found.place = place
        return found

    def _open_file(self, parent: int, name: bytes, key: str) -> Found | None:
        """The object in a file, or None where there is none or something else."""
        try:
            fd = os.open(name, FILE_FLAGS, dir_fd=parent)
        except OSError as error:
            # ELOOP: a symlink. ENXIO: a socket.
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                return None
            raise
        try:
            stat = os.fstat(fd)
            if not stat_module.S_ISREG(stat.st_mode):
                os.close(fd)
                return None
            stored = self._facts.read(fd, stat)
            record = object_record(key, stat, stored, self._user_of_uid)
        except BaseException:
            os.close(fd)
            raise
        return Found(fd, stat, stored, None, record)

    def _open_marker(self, bucket_fd: int, path: KeyPath, folder: Sequence[Step]) -> Found | None:
        try:
            fd = open_steps(bucket_fd, folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            stat = os.fstat(fd)
            stored = self._facts.read(fd, stat)
        except BaseException:
            os.close(fd)
            raise
        if stored is None:
            os.close(fd)
            return None
        record = marker_record(path.key, stat, stored, self._user_of_uid)
        return Found(fd, stat, stored, None, record)

    def read_at(self, parent: int, segment: bytes, key: str) -> ObjectRecord | None:
        """The object of a segment in an open directory, or None; for listings."""
        for _ in range(_ATTEMPTS):
            with suppress(FactsGone):
                if is_plain(segment):
                    found = self._open_file(parent, segment, key)
                    if found is not None:
                        return found.take_record()
                *outer, name = beside_names(segment)
                try:
                    inner = open_directory(parent, outer) if outer else parent
                except (FileNotFoundError, NotADirectoryError):
                    return None
                try:
                    found = self._open_file(inner, name, key)
                finally:
                    if outer:
                        os.close(inner)
                return None if found is None else found.take_record()
        return None

    def marker_at(self, fd: int, key: str) -> ObjectRecord | None:
        """The marker object that an open directory is, or None."""
        stat = os.fstat(fd)
        try:
            stored = self._facts.read(fd, stat)
        except FactsGone:
            return None
        if stored is None:
            return None
        return marker_record(key, stat, stored, self._user_of_uid)

    def is_marker(self, fd: int) -> bool:
        """Whether an open directory is a marker object."""
        return self.marker_at(fd, "") is not None

    # --- writing -------------------------------------------------------------------------

    def place(
        self,
        bucket: str,
        path: KeyPath,
        fd: int,
        name: str,
        size: int,
        facts: ObjectFacts,
        condition: Condition,
        *,
        upload_id: str = "",
    ) -> ObjectRecord:
        """Make the temporary file ``name`` the object: durable on return, or not at all."""
        now = nanoseconds(self._clock.time())
        if path.folder is not None and size == 0:
            return self._place_marker(bucket, path, path.folder, facts, condition, now)
        stored = self._dress(fd, size, facts, now, upload_id)
        os.fsync(fd)
        kept = False
        try:
            self._retrying(lambda: self._place_once(bucket, path, name, facts.owner, condition))
            kept = True
        finally:
            if not kept:
                self._facts.forget(self._facts.sidecar_of(fd))
        return object_record(path.key, os.fstat(fd), stored, self._user_of_uid)

    def _dress(
        self, fd: int, size: int, facts: ObjectFacts, now: int, upload_id: str
    ) -> StoredFacts:
        """Give a temporary file its owner, mode, time and facts."""
        if self._owns:
            os.fchown(fd, facts.owner.uid, facts.owner.gid)
        os.fchmod(fd, _OBJECT_MODE)
        # A time set by hand is to the nanosecond, one by write(2) to the tick of the kernel's
        # clock: a local write soon after, of the same size, still shows.
        os.utime(fd, ns=(now, now))
        stat = os.fstat(fd)
        stored = StoredFacts(
            facts, size, stat.st_mtime_ns, now, stat.st_uid, stat.st_gid, upload_id=upload_id
        )
        self._facts.write(fd, stored)
        return stored

    def _place_once(
        self, bucket: str, path: KeyPath, name: str, owner: PosixOwner, condition: Condition
    ) -> None:
        bucket_fd = self.open_bucket(bucket)
        try:
            parent = self.make_parents(bucket, bucket_fd, path.plain.steps, owner)
            try:
                with self._locks.hold(bucket, path.raw):
                    present = self.find(bucket_fd, path)
                    try:
                        check(condition, present, path.key)
                        sidecar = None if present is None else self._facts.sidecar_of(present.fd)
                        placed = self._name_it(
                            bucket_fd, path, self._scratch.fd, name, parent, owner
                        )
                        self._clear_other(bucket_fd, path, placed, present)
                        if present is not None and present.place is not None:
                            self._facts.forget(sidecar)
                    finally:
                        if present is not None:
                            present.close()
                os.fsync(parent)
            finally:
                os.close(parent)
        finally:
            os.close(bucket_fd)

    def _name_it(
        self,
        bucket_fd: int,
        path: KeyPath,
        source: int,
        name: bytes | str,
        parent: int,
        owner: PosixOwner,
    ) -> Place:
        """rename(2) a file to the key's place, beside it where a directory has the name.

        ``parent`` is the open directory of the plain place. Durable but for ``parent`` itself.
        """
        try:
            rename_between(source, name, parent, path.plain.name)
        except IsADirectoryError:
            pass
        except FileNotFoundError:
            raise _Again from None
        else:
            return path.plain
        beside = path.beside
        outer = beside.steps[len(path.plain.steps) :]
        target = self._make_steps(parent, outer, owner)
        try:
            rename_between(source, name, target, beside.name)
            if outer:
                os.fsync(target)
        except FileNotFoundError:
            raise _Again from None
        except IsADirectoryError:
            raise _in_the_way(path.key) from None
        finally:
            os.close(target)
        return beside

    def _clear_other(
        self, bucket_fd: int, path: KeyPath, placed: Place, present: Found | None
    ) -> None:
        """Remove what the object was before, where the new one has not taken its place."""
        if present is not None and present.place is None:
            self._facts.remove(present.fd)
            os.fsync(present.fd)
        elif placed is path.plain and path.beside is not path.plain:
            self._unlink(bucket_fd, path.beside)

    def _place_marker(
        self,
        bucket: str,
        path: KeyPath,
        folder: Sequence[Step],
        facts: ObjectFacts,
        condition: Condition,
        now: int,
    ) -> ObjectRecord:
        def once() -> ObjectRecord:
            bucket_fd = self.open_bucket(bucket)
            try:
                os.close(self.make_parents(bucket, bucket_fd, folder, facts.owner))
                with self._locks.hold(bucket, path.raw):
                    present = self.find(bucket_fd, path)
                    try:
                        check(condition, present, path.key)
                        return self._mark(bucket_fd, path, folder, facts, now)
                    finally:
                        if present is not None:
                            present.close()
            finally:
                os.close(bucket_fd)

        return self._retrying(once)

    def _mark(
        self,
        bucket_fd: int,
        path: KeyPath,
        folder: Sequence[Step],
        facts: ObjectFacts,
        now: int,
    ) -> ObjectRecord:
        """Make a directory the marker object; under the key's lock. Durable on return."""
        try:
            fd = open_steps(bucket_fd, folder)
        except FileNotFoundError:
            raise _Again from None
        try:
            sidecar = self._facts.sidecar_of(fd) if self._facts.xattrs else None
            if self._owns:
                os.fchown(fd, facts.owner.uid, facts.owner.gid)
            stat = os.fstat(fd)
            stored = StoredFacts(facts, 0, 0, now, stat.st_uid, stat.st_gid)
            self._facts.write(fd, stored)
            with suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(path.plain.name, dir_fd=fd)
            os.fsync(fd)
            self._facts.forget(sidecar)
            return marker_record(path.key, stat, stored, self._user_of_uid)
        finally:
            os.close(fd)

    def change_facts(
        self,
        bucket: str,
        path: KeyPath,
        change: Callable[[ObjectRecord], ObjectFacts],
        condition: Condition,
        *,
        touch: bool,
    ) -> ObjectRecord:
        """Give an object other facts, its bytes untouched; with ``touch`` a new time as well.

        S3Error NoSuchKey (404), PreconditionFailed (412).
        """
        bucket_fd = self.open_bucket(bucket)
        try:
            with self._locks.hold(bucket, path.raw):
                found = self.find(bucket_fd, path)
                if found is None:
                    raise no_such_key(path.key)
                try:
                    check(condition, found, path.key)
                    return self._rewrite_facts(path, found, change(found.record), touch)
                finally:
                    found.close()
        finally:
            os.close(bucket_fd)

    def _rewrite_facts(
        self, path: KeyPath, found: Found, facts: ObjectFacts, touch: bool
    ) -> ObjectRecord:
        fd = found.fd
        sidecar = self._facts.sidecar_of(fd) if self._facts.xattrs else None
        if self._owns and (found.stat.st_uid, found.stat.st_gid) != (
            facts.owner.uid,
            facts.owner.gid,
        ):
            os.fchown(fd, facts.owner.uid, facts.owner.gid)
        stat = os.fstat(fd)
        when = self._clock.time() if touch else found.record.last_modified
        stored = StoredFacts(
            facts,
            0 if found.place is None else stat.st_size,
            0 if found.place is None else stat.st_mtime_ns,
            nanoseconds(when),
            stat.st_uid,
            stat.st_gid,
            upload_id="" if found.stored is None else found.stored.upload_id,
        )
        try:
            self._facts.write(fd, stored)
        except BaseException:
            if self._owns:
                os.fchown(fd, found.stat.st_uid, found.stat.st_gid)
            raise
        os.fsync(fd)
        self._facts.forget(sidecar)
        if found.place is None:
            return marker_record(path.key, stat, stored, self._user_of_uid)
        return object_record(path.key, stat, stored, self._user_of_uid)

    # --- removing ------------------------------------------------------------------------

    def delete(self, bucket: str, path: KeyPath, condition: Condition) -> bool:
        """Remove an object; whether there was one. Durable on return.

        S3Error PreconditionFailed (412); NoSuchKey (404) only where ``if_match`` was given.
        """
        bucket_fd = self.open_bucket(bucket)
        try:
            with self._locks.hold(bucket, path.raw):
                found = self.find(bucket_fd, path)
                if found is None and condition.if_match is None:
                    return False
                try:
                    check(condition, found, path.key)
                    assert found is not None  # noqa: S101 - check() raised NoSuchKey
                    self._remove(bucket_fd, path, found)
                finally:
                    if found is not None:
                        found.close()
            self.prune(bucket, bucket_fd, path)
        finally:
            os.close(bucket_fd)
        return True

    def _remove(self, bucket_fd: int, path: KeyPath, found: Found) -> None:
        """Remove an object from wherever it is, what a crash left first."""
        if path.folder is not None:
            marker = self._open_marker(bucket_fd, path, path.folder)
            if marker is not None:
                try:
                    self._facts.remove(marker.fd)
                    os.fsync(marker.fd)
                finally:
                    marker.close()
        elif path.beside is not path.plain:
            self._unlink(bucket_fd, path.beside)
        if found.place is not None:
            sidecar = self._facts.sidecar_of(found.fd)
            if found.place is path.plain:
                self._unlink(bucket_fd, path.plain)
            self._facts.forget(sidecar)

    def _unlink(self, bucket_fd: int, place: Place) -> None:
        """Unlink a file, if it is there, and make that durable."""
        try:
            parent = open_steps(bucket_fd, place.steps)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            os.unlink(place.name, dir_fd=parent)
            os.fsync(parent)
        except (FileNotFoundError, IsADirectoryError):
            pass
        finally:
            os.close(parent)

    def prune(self, bucket: str, bucket_fd: int, path: KeyPath) -> None:
        """Remove the directories above a key that are empty now and no marker objects.

        Not made durable: an empty directory that a crash brings back is no object.
        """
        steps = max((path.plain.steps, path.beside.steps), key=len)
        for depth in range(len(steps), 0, -1):
            if not self._prune_one(bucket, bucket_fd, steps[:depth]):
                return

    def _prune_one(self, bucket: str, bucket_fd: int, steps: Sequence[Step]) -> bool:
        *above, step = steps
        try:
            parent = open_steps(bucket_fd, above)
        except (FileNotFoundError, NotADirectoryError):
            return True
        try:
            if not self._is_empty(parent, step.name):
                return False
            if step.prefix is None:
                os.rmdir(step.name, dir_fd=parent)
                return True
            with self._locks.hold(bucket, step.prefix):
                fd = os.open(step.name, DIRECTORY_FLAGS, dir_fd=parent)
                try:
                    if self._facts.read(fd, os.fstat(fd)) is not None:
                        return False
                    os.rmdir(step.name, dir_fd=parent)
                finally:
                    os.close(fd)
        except FileNotFoundError:
            return True
        except (OSError, FactsGone):
            return False  # not empty any more, or not to be removed: then it stays
        finally:
            os.close(parent)
        return True

    @staticmethod
    def _is_empty(parent: int, name: bytes) -> bool:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
        try:
            with os.scandir(fd) as entries:
                return next(entries, None) is None
        finally:
            os.close(fd)

    # --- renaming ------------------------------------------------------------------------

    def rename(
        self,
        bucket: str,
        source: KeyPath,
        target: KeyPath,
        source_condition: Condition,
        condition: Condition,
    ) -> ObjectRecord:
        """Give an object another key: one rename(2), owner, facts and time kept.

        A marker object has no file of its own: its facts move to another directory, and a crash
        in the middle leaves both. S3Error NoSuchKey (404), PreconditionFailed (412).
        """
        record = self._retrying(
            lambda: self._rename_once(bucket, source, target, source_condition, condition)
        )
        bucket_fd = self.open_bucket(bucket)
        try:
            self.prune(bucket, bucket_fd, source)
        finally:
            os.close(bucket_fd)
        return record

    def _rename_once(
        self,
        bucket: str,
        source: KeyPath,
        target: KeyPath,
        source_condition: Condition,
        condition: Condition,
    ) -> ObjectRecord:
        bucket_fd = self.open_bucket(bucket)
        try:
            first = self.find(bucket_fd, source)
            if first is None:
                raise no_such_key(source.key)
            first.close()
            owner = PosixOwner(first.stat.st_uid, first.stat.st_gid)
            steps = target.plain.steps
            parent = self.make_parents(bucket, bucket_fd, steps, owner)
            try:
                with self._locks.hold(bucket, source.raw, target.raw):
                    record = self._rename_locked(
                        bucket_fd, source, target, source_condition, condition, parent, owner
                    )
                os.fsync(parent)
            finally:
                os.close(parent)
            return record
        finally:
            os.close(bucket_fd)

    def _rename_locked(
        self,
        bucket_fd: int,
        source: KeyPath,
        target: KeyPath,
        source_condition: Condition,
        condition: Condition,
        parent: int,
        owner: PosixOwner,
    ) -> ObjectRecord:
        found = self.find(bucket_fd, source)
        if found is None:
            raise no_such_key(source.key)
        present = None
        try:
            check(source_condition, found, source.key)
            present = self.find(bucket_fd, target)
            check(condition, present, target.key)
            if source.raw == target.raw:
                return found.record
            if found.place is None:
                return self._move_marker(bucket_fd, source, target, found, parent, owner)
            if found.place is source.plain and source.beside is not source.plain:
                self._unlink(bucket_fd, source.beside)
            sidecar = None if present is None else self._facts.sidecar_of(present.fd)
            old_parent = open_steps(bucket_fd, found.place.steps)
            try:
                placed = self._name_it(
                    bucket_fd, target, old_parent, found.place.name, parent, owner
                )
                self._clear_other(bucket_fd, target, placed, present)
                if present is not None and present.place is not None:
                    self._facts.forget(sidecar)
                os.fsync(parent)
                os.fsync(old_parent)
            finally:
                os.close(old_parent)
            return replace(found.record, key=target.key)
        finally:
            found.close()
            if present is not None:
                present.close()

    def _move_marker(
        self,
        bucket_fd: int,
        source: KeyPath,
        target: KeyPath,
        found: Found,
        parent: int,
        owner: PosixOwner,
    ) -> ObjectRecord:
        facts = found.record.facts()
        now = nanoseconds(found.record.last_modified)
        if target.folder is not None:
            record = self._mark(bucket_fd, target, target.folder, facts, now)
        else:
            fd, name = self._scratch.new_file()
            try:
                stored = self._dress(fd, 0, facts, now, "")
                os.fsync(fd)
                placed = self._name_it(bucket_fd, target, self._scratch.fd, name, parent, owner)
                self._clear_other(bucket_fd, target, placed, None)
                os.fsync(parent)
                record = object_record(target.key, os.fstat(fd), stored, self._user_of_uid)
            finally:
                os.close(fd)
                self._scratch.discard(name)
        self._facts.remove(found.fd)
        os.fsync(found.fd)
        return record

    # --- directories ---------------------------------------------------------------------

    def make_parents(
        self, bucket: str, bucket_fd: int, steps: Sequence[Step], owner: PosixOwner
    ) -> int:
        """Open the directory at the end of ``steps``, making what is missing; durable on return.

        An object that has a directory's name is moved beside it. Takes that object's lock: none
        may be held.
        """
        fd = os.dup(bucket_fd)
        try:
            for step in steps:
                inner = self._make_step(bucket, fd, step, owner)
                os.close(fd)
                fd = inner
        except FileNotFoundError:
            os.close(fd)
            raise _Again from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _make_step(self, bucket: str, parent: int, step: Step, owner: PosixOwner) -> int:
        wanted = owner if self._owns else None
        try:
            return make_directory(parent, step.name, wanted)
        except FileExistsError:
            if step.prefix is None:
                raise _in_the_way(step.name.decode(errors="replace")) from None
        key = step.prefix[:-1]
        with self._locks.hold(bucket, key):
            self._move_beside(parent, step.name, key, owner)
        try:
            return make_directory(parent, step.name, wanted)
        except FileExistsError:
            raise _Again from None

    def _move_beside(self, parent: int, name: bytes, key: bytes, owner: PosixOwner) -> None:
        """Move an object's file from the name that a directory needs; under its key's lock."""
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat_module.S_ISDIR(mode):
            return
        segment = key.rpartition(b"/")[2]
        if not stat_module.S_ISREG(mode) or name != segment:
            raise _in_the_way(key.decode())
        *outer, last = beside_names(segment)
        target = self._make_steps(parent, [Step(piece, None) for piece in outer], owner)
        try:
            rename_between(parent, name, target, last)
            os.fsync(target)
            os.fsync(parent)
        finally:
            os.close(target)

    def _make_steps(self, start: int, steps: Sequence[Step], owner: PosixOwner) -> int:
        fd = os.dup(start)
        try:
            for step in steps:
                inner = make_directory(fd, step.name, owner if self._owns else None)
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return fd

    @staticmethod
    def _retrying(attempt: Callable[[], Result]) -> Result:
        for _ in range(_ATTEMPTS):
            try:
                return attempt()
            except _Again:
                continue
        raise S3Error("SlowDown", "the folder changes too fast", status=503)


def check(condition: Condition, present: Found | None, key: str) -> None:
    """Raise unless the condition holds of the present object: PreconditionFailed (412).

    ``if_match`` without an object is NoSuchKey (404), as AWS answers it.
    """
    if condition.if_match is not None:
        if present is None:
            raise no_such_key(key)
        if condition.if_match not in ("*", present.record.etag):
            raise precondition_failed("If-Match")
    if condition.if_none_match and present is not None:
        raise precondition_failed("If-None-Match")


def _in_the_way(key: str) -> S3Error:
    message = "something that is no object has this name in the store's directory"
    return S3Error("InvalidRequest", message, status=409, resource=key)
