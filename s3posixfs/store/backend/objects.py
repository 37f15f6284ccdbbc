"""Writing, changing, removing and renaming single objects: atomic, durable, conditional.

Whoever writes a key holds the key's lock from looking at the present object until the new one is
in its place, so conditions hold between threads and processes. A file gets its bytes, owner and
facts, and is synced, before it gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from s3posixfs.core.clock import Clock
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.facts import (
    StoredFacts,
    marker_record,
    nanoseconds,
    object_record,
)
from s3posixfs.store.backend.folders import Folders, Result, retrying
from s3posixfs.store.backend.locks import KeyLocks
from s3posixfs.store.backend.lookup import Found, Lookup, check
from s3posixfs.store.backend.names import KeyPath, Step
from s3posixfs.store.backend.placing import Placing
from s3posixfs.store.backend.problems import no_such_key
from s3posixfs.store.backend.records import Condition, ObjectFacts, ObjectRecord
from s3posixfs.store.backend.scratch import Scratch
from s3posixfs.store.backend.syncing import SharedSync
from s3posixfs.store.backend.tree import open_steps


class Objects:
    """The objects that a lookup finds, to be written."""

    __slots__ = ("_clock", "_folders", "_locks", "_lookup", "_placing", "_scratch", "_sync")

    def __init__(self, lookup: Lookup, scratch: Scratch, locks: KeyLocks, clock: Clock) -> None:
        self._lookup = lookup
        self._scratch = scratch
        self._locks = locks
        self._clock = clock
        self._folders = Folders(lookup.facts, locks)
        self._placing = Placing(lookup, self._folders)
        self._sync = SharedSync()

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
        folder = path.folder
        if folder is not None and size == 0:
            record = self._in_bucket(
                bucket,
                path,
                lambda bucket_fd: self._place_marker(
                    bucket, bucket_fd, path, folder, facts, condition, now
                ),
            )
            self._scratch.discard(name)
            return record
        stored, stat = self._placing.dress(fd, size, facts, now, upload_id)
        try:
            os.fsync(fd)
            self._in_bucket(
                bucket,
                path,
                lambda bucket_fd: self._place_file(
                    bucket, bucket_fd, path, name, facts.owner, condition
                ),
            )
        except BaseException:
            if self._scratch.holds(name):
                self._lookup.facts.forget(self._lookup.facts.sidecar_of(fd))
            raise
        return object_record(path.key, stat, stored, self._lookup.user_of_uid)

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
        bucket_fd = self._lookup.open_bucket(bucket)
        try:
            with self._locks.hold(bucket, path.raw):
                found = self._lookup.find(bucket_fd, path)
                if found is None:
                    raise no_such_key(path.key)
                try:
                    check(condition, found, path.key)
                    return self._rewrite_facts(path, found, change(found.record), touch)
                finally:
                    found.close()
        finally:
            os.close(bucket_fd)

    def reown(self, bucket: str, path: KeyPath, user: str, owner: PosixOwner) -> bool:
        """Give a user's object to ``owner``; whether there was anything to change.

        Durable only when the filesystem is synced: until then the caller has to know the user.
        """
        bucket_fd = self._lookup.open_bucket(bucket)
        try:
            with self._locks.hold(bucket, path.raw):
                found = self._lookup.find(bucket_fd, path)
                if found is None:
                    return False
                try:
                    if not _to_reown(found, user, owner):
                        return False
                    facts = replace(found.record.facts(), owner_id=user, owner=owner)
                    self._rewrite_facts(path, found, facts, touch=False, durable=False)
                finally:
                    found.close()
        finally:
            os.close(bucket_fd)
        return True

    def delete(
        self,
        bucket: str,
        path: KeyPath,
        condition: Condition,
        sync: Callable[[int], None] | None = None,
    ) -> bool:
        """Remove an object; whether there was one. Durable on return, or when ``sync`` makes it.

        S3Error PreconditionFailed (412); NoSuchKey (404) only where ``if_match`` was given.
        """
        bucket_fd = self._lookup.open_bucket(bucket)
        try:
            with self._locks.hold(bucket, path.raw):
                if not self._delete(bucket_fd, path, condition, sync or self._sync):
                    return False
            self._folders.prune(bucket, bucket_fd, path)
        finally:
            os.close(bucket_fd)
        return True

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
        return self._in_bucket(
            bucket,
            target,
            lambda bucket_fd: self._rename(
                bucket, bucket_fd, source, target, source_condition, condition
            ),
            emptied=source,
        )

    # --- below ---------------------------------------------------------------------------

    def _in_bucket(
        self,
        bucket: str,
        path: KeyPath,
        attempt: Callable[[int], Result],
        emptied: KeyPath | None = None,
    ) -> Result:
        """Run ``attempt(open bucket)`` until the tree holds still for it.

        Directories made for ``path`` in vain are removed, and those that ``emptied`` left.
        """

        def once() -> Result:
            bucket_fd = self._lookup.open_bucket(bucket)
            try:
                result = attempt(bucket_fd)
            except BaseException:
                self._folders.prune(bucket, bucket_fd, path)
                raise
            else:
                if emptied is not None:
                    self._folders.prune(bucket, bucket_fd, emptied)
                return result
            finally:
                os.close(bucket_fd)

        return retrying(once)

    def _place_file(
        self,
        bucket: str,
        bucket_fd: int,
        path: KeyPath,
        name: str,
        owner: PosixOwner,
        condition: Condition,
    ) -> None:
        parent = self._folders.make_parents(bucket, bucket_fd, path.plain.steps, owner)
        try:
            with self._locks.hold(bucket, path.raw):
                self._folders.require_place(bucket_fd, path.plain.steps, parent)
                present = self._lookup.find(bucket_fd, path, parent)
                try:
                    check(condition, present, path.key)
                    self._placing.name(
                        bucket_fd, path, self._scratch.fd, name, parent, owner, present
                    )
                finally:
                    if present is not None:
                        present.close()
            self._sync(parent)
        finally:
            os.close(parent)

    def _delete(
        self, bucket_fd: int, path: KeyPath, condition: Condition, sync: Callable[[int], None]
    ) -> bool:
        """Remove an object whose lock is held; whether there was one."""
        parent = found = None
        with suppress(FileNotFoundError, NotADirectoryError):
            parent = open_steps(bucket_fd, path.plain.steps)
        try:
            if parent is not None:
                found = self._lookup.find(bucket_fd, path, parent)
            check(condition, found, path.key)
            if found is None:
                return False
            self._placing.remove(bucket_fd, path, found, sync, parent)
        finally:
            if found is not None:
                found.close()
            if parent is not None:
                os.close(parent)
        return True

    def _place_marker(
        self,
        bucket: str,
        bucket_fd: int,
        path: KeyPath,
        folder: Sequence[Step],
        facts: ObjectFacts,
        condition: Condition,
        now: int,
    ) -> ObjectRecord:
        os.close(self._folders.make_parents(bucket, bucket_fd, folder, facts.owner))
        with self._locks.hold(bucket, path.raw):
            present = self._lookup.find(bucket_fd, path)
            try:
                check(condition, present, path.key)
                return self._placing.mark(bucket_fd, path, folder, facts, now, present)
            finally:
                if present is not None:
                    present.close()

    def _rewrite_facts(
        self,
        path: KeyPath,
        found: Found,
        facts: ObjectFacts,
        touch: bool,
        durable: bool = True,
    ) -> ObjectRecord:
        fd = found.fd
        sidecar = self._lookup.facts.outgrown(fd)
        stat = self._placing.own(fd, facts.owner)
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
            self._lookup.facts.write(fd, stored)
        except BaseException:
            self._placing.own(fd, PosixOwner(found.stat.st_uid, found.stat.st_gid))
            raise
        if durable or sidecar is not None:  # the old facts go only once the new ones stay
            os.fsync(fd)
        self._lookup.facts.forget(sidecar)
        as_record = marker_record if found.place is None else object_record
        return as_record(path.key, stat, stored, self._lookup.user_of_uid)

    def _rename(
        self,
        bucket: str,
        bucket_fd: int,
        source: KeyPath,
        target: KeyPath,
        source_condition: Condition,
        condition: Condition,
    ) -> ObjectRecord:
        first = self._lookup.find(bucket_fd, source)
        if first is None:
            raise no_such_key(source.key)
        first.close()
        owner = PosixOwner(first.stat.st_uid, first.stat.st_gid)
        parent = self._folders.make_parents(bucket, bucket_fd, target.plain.steps, owner)
        try:
            with self._locks.hold(bucket, source.raw, target.raw):
                self._folders.require_place(bucket_fd, target.plain.steps, parent)
                found = self._lookup.find(bucket_fd, source)
                if found is None:
                    raise no_such_key(source.key)
                present = None
                try:
                    check(source_condition, found, source.key)
                    present = self._lookup.find(bucket_fd, target)
                    check(condition, present, target.key)
                    if source.raw == target.raw:
                        return found.record
                    if found.place is None:
                        return self._move_marker(
                            bucket_fd, source, target, found, present, parent, owner
                        )
                    return self._move_file(bucket_fd, source, target, found, present, parent, owner)
                finally:
                    found.close()
                    if present is not None:
                        present.close()
        finally:
            os.close(parent)

    def _move_file(
        self,
        bucket_fd: int,
        source: KeyPath,
        target: KeyPath,
        found: Found,
        present: Found | None,
        parent: int,
        owner: PosixOwner,
    ) -> ObjectRecord:
        place = found.place or source.plain
        if place is source.plain and source.beside is not source.plain:
            self._placing.unlink(bucket_fd, source, source.beside)
        if source.folder is not None:
            # What a crash left of a change from marker to body would come back as the object.
            marker = self._lookup.open_marker(bucket_fd, source, source.folder)
            if marker is not None:
                try:
                    self._lookup.facts.remove(marker.fd)
                    os.fsync(marker.fd)
                finally:
                    marker.close()
        old_parent = open_steps(bucket_fd, place.steps)
        try:
            if present is not None and os.path.samestat(found.stat, present.stat):
                # Two names of one file, by a local program: rename(2) would leave both.
                os.unlink(place.name, dir_fd=old_parent)
            else:
                self._placing.name(
                    bucket_fd, target, old_parent, place.name, parent, owner, present
                )
            self._sync(parent)
            if not os.path.samestat(os.fstat(parent), os.fstat(old_parent)):
                self._sync(old_parent)
        finally:
            os.close(old_parent)
        return replace(found.record, key=target.key)

    def _move_marker(
        self,
        bucket_fd: int,
        source: KeyPath,
        target: KeyPath,
        found: Found,
        present: Found | None,
        parent: int,
        owner: PosixOwner,
    ) -> ObjectRecord:
        facts = found.record.facts()
        now = nanoseconds(found.record.last_modified)
        if target.folder is not None:
            record = self._placing.mark(bucket_fd, target, target.folder, facts, now, present)
        else:
            fd, name = self._scratch.new_file()
            try:
                stored, stat = self._placing.dress(fd, 0, facts, now, "")
                os.fsync(fd)
                self._placing.name(
                    bucket_fd, target, self._scratch.fd, name, parent, owner, present
                )
                os.fsync(parent)
                record = object_record(target.key, stat, stored, self._lookup.user_of_uid)
            finally:
                os.close(fd)
                self._scratch.discard(name)
        self._lookup.facts.remove(found.fd)
        os.fsync(found.fd)
        return record


def _to_reown(found: Found, user: str, owner: PosixOwner) -> bool:
    """Also where an earlier change was cut short between the file's owner and its facts."""
    stored, record = found.stored, found.record
    if stored is None:
        return record.owner_id == user and record.owner != owner
    agrees = (stored.file_uid, stored.file_gid) == (found.stat.st_uid, found.stat.st_gid)
    if stored.facts.owner_id == user and found.stat.st_uid == owner.uid and not agrees:
        return True
    return record.owner_id == user and not (
        agrees and stored.facts.owner_id == user and stored.facts.owner == owner
    )
