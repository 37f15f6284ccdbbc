"""The directories that keys imply: made when an object needs them, removed when empty.

An empty directory is removed under the lock of the marker object that it could be (``dir/``), so
none is removed while it becomes one. A writer whose directory goes away under it starts again.
"""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Callable, Sequence
from typing import TypeVar

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.attributes import FactsGone, FactsStore
from s3posixfs.store.backend.locks import KeyLocks
from s3posixfs.store.backend.names import KeyPath, Step, beside_names
from s3posixfs.store.backend.occupied import Occupied
from s3posixfs.store.backend.tree import (
    DIRECTORY_FLAGS,
    make_directory,
    open_steps,
    rename_between,
)

_ATTEMPTS = 200

Result = TypeVar("Result")


class Again(Exception):
    """The tree changed under a writer: start again."""


def retrying(attempt: Callable[[], Result]) -> Result:
    """Run until no :class:`Again` is raised; S3Error SlowDown (503) when that takes too long."""
    for _ in range(_ATTEMPTS):
        try:
            return attempt()
        except Again:
            continue
    raise S3Error("SlowDown", "the folder changes too fast", status=503)


def in_the_way(key: str) -> S3Error:
    message = "something that is no object has this name in the store's directory"
    return S3Error("InvalidRequest", message, status=409, resource=key)


class Folders:
    """Makes and removes directories in buckets."""

    __slots__ = ("_facts", "_locks", "_occupied", "_owns")

    def __init__(self, facts: FactsStore, locks: KeyLocks) -> None:
        self._facts = facts
        self._locks = locks
        self._occupied = Occupied()
        self._owns = os.geteuid() == 0

    def make_parents(
        self, bucket: str, bucket_fd: int, steps: Sequence[Step], owner: PosixOwner
    ) -> int:
        """Open the directory at the end of ``steps``, making what is missing; durable on return.

        An object that has a directory's name is moved beside it. Takes that object's lock: none
        may be held. Raises Again; S3Error InvalidRequest (409) where a local program's symlink,
        fifo or the like has the name.
        """
        fd = os.dup(bucket_fd)
        try:
            for depth, step in enumerate(steps):
                inner = self._make_step(bucket, bucket_fd, steps[:depth], fd, step, owner)
                os.close(fd)
                fd = inner
        except FileNotFoundError:
            os.close(fd)
            raise Again from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def make_steps(self, start: int, steps: Sequence[Step], owner: PosixOwner) -> int:
        """Open a directory below an open one, making what is missing; takes no lock."""
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

    def require_place(self, bucket_fd: int, steps: Sequence[Step], fd: int) -> None:
        """Raise Again unless the open directory is (still) at the end of ``steps``.

        Between the opening of a directory and the locking of a key in it a folder above can
        have been renamed; with a key's lock held none is.
        """
        if not steps:
            return
        try:
            now = open_steps(bucket_fd, steps)
        except (FileNotFoundError, NotADirectoryError):
            raise Again from None
        try:
            if not os.path.samestat(os.fstat(now), os.fstat(fd)):
                raise Again
        finally:
            os.close(now)

    def prune(self, bucket: str, bucket_fd: int, path: KeyPath) -> None:
        """Remove the directories above a key that are empty now and no marker objects.

        Not made durable: an empty directory that a crash brings back is no object. No lock may
        be held.
        """
        steps = max((path.plain.steps, path.beside.steps), key=len)
        for depth in range(len(steps), 0, -1):
            if not self._prune_one(bucket, bucket_fd, steps[:depth]):
                return

    def _make_step(
        self,
        bucket: str,
        bucket_fd: int,
        above: Sequence[Step],
        parent: int,
        step: Step,
        owner: PosixOwner,
    ) -> int:
        """One step of :meth:`make_parents`, in the open directory ``parent`` at ``above``."""
        wanted = owner if self._owns else None
        try:
            return make_directory(parent, step.name, wanted)
        except FileExistsError:
            if step.prefix is None:
                raise in_the_way(step.name.decode(errors="replace")) from None
        key = step.prefix[:-1]
        with self._locks.hold(bucket, key):
            self.require_place(bucket_fd, above, parent)
            self._move_beside(parent, step.name, key, owner)
        try:
            return make_directory(parent, step.name, wanted)
        except FileExistsError:
            raise Again from None

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
            raise in_the_way(key.decode())
        *outer, last = beside_names(segment)
        target = self.make_steps(parent, [Step(piece, None) for piece in outer], owner)
        try:
            rename_between(parent, name, target, last)
            os.fsync(target)
            os.fsync(parent)
        finally:
            os.close(target)

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
                self.require_place(bucket_fd, above, parent)
                fd = os.open(step.name, DIRECTORY_FLAGS, dir_fd=parent)
                try:
                    if self._facts.read(fd, os.fstat(fd)) is not None:
                        return False
                    os.rmdir(step.name, dir_fd=parent)
                finally:
                    os.close(fd)
        except FileNotFoundError:
            return True
        except (OSError, FactsGone, Again):
            return False  # not empty any more, or not to be removed: then it stays
        finally:
            os.close(parent)
        return True

    def _is_empty(self, parent: int, name: bytes) -> bool:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
        try:
            return self._occupied.is_empty(fd)
        finally:
            os.close(fd)
