"""The single steps by which a key gets, changes or loses its object; all under the key's lock.

Two places of one object at once can only be what a crash left of these steps: the plain one
counts (of a ``dir/`` key the body, not the marker), and every change removes the other first or,
where it is the newer, makes it count before.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Callable, Sequence
from contextlib import suppress

from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.facts import StoredFacts, marker_record
from s3posixfs.store.backend.folders import Again, Folders, in_the_way
from s3posixfs.store.backend.lookup import Found, Lookup
from s3posixfs.store.backend.names import KeyPath, Place, Step
from s3posixfs.store.backend.records import ObjectFacts, ObjectRecord
from s3posixfs.store.backend.tree import OBJECT_MODE, open_steps, rename_between

# What rename(2) says where a directory has the name; ENOTEMPTY when the file is inside it.
_IS_DIRECTORY = frozenset({errno.EISDIR, errno.ENOTEMPTY})


class Placing:
    """Gives files their owners, facts and names."""

    __slots__ = ("_folders", "_lookup", "_owns")

    def __init__(self, lookup: Lookup, folders: Folders) -> None:
        self._lookup = lookup
        self._folders = folders
        self._owns = os.geteuid() == 0

    def own(self, fd: int, owner: PosixOwner) -> os.stat_result:
        """Give an open file to its owner (only root can); its state then."""
        stat = os.fstat(fd)
        if self._owns and (stat.st_uid, stat.st_gid) != (owner.uid, owner.gid):
            os.fchown(fd, owner.uid, owner.gid)
            stat = os.fstat(fd)
        return stat

    def dress(
        self, fd: int, size: int, facts: ObjectFacts, now: int, upload_id: str
    ) -> tuple[StoredFacts, os.stat_result]:
        """Give a temporary file its owner, mode, time and facts; not yet durable."""
        if stat_module.S_IMODE(self.own(fd, facts.owner).st_mode) != OBJECT_MODE:
            os.fchmod(fd, OBJECT_MODE)  # what the umask took away
        # A time set by hand is to the nanosecond, one by write(2) to the tick of the kernel's
        # clock: a local write soon after, of the same size, still shows.
        os.utime(fd, ns=(now, now))
        stat = os.fstat(fd)
        stored = StoredFacts(
            facts, size, stat.st_mtime_ns, now, stat.st_uid, stat.st_gid, upload_id=upload_id
        )
        self._lookup.facts.write(fd, stored)
        return stored, stat

    def name(
        self,
        bucket_fd: int,
        path: KeyPath,
        source: int,
        name: bytes | str,
        parent: int,
        owner: PosixOwner,
        present: Found | None,
    ) -> None:
        """rename(2) the file ``name`` of the open directory ``source`` to the key's place.

        That is beside it where a directory has the name. ``parent`` is the open directory of the
        plain place; its fsync is left to the caller. ``present`` is the object so far.
        """
        sidecar = None
        if present is not None and present.place is not None:
            sidecar = self._lookup.facts.sidecar_of(present.fd)
        try:
            rename_between(source, name, parent, path.plain.name)
        except FileNotFoundError:
            raise Again from None
        except OSError as error:
            if error.errno not in _IS_DIRECTORY:
                raise
            self._name_beside(path, source, name, parent, owner)
        else:
            # Where nothing was found nothing is beside it either: the key is locked.
            if present is not None and path.beside is not path.plain:
                self.unlink(bucket_fd, path, path.beside, parent=parent)
        if present is not None and present.place is None:
            self._lookup.facts.remove(present.fd)
            os.fsync(present.fd)
        if present is not None:
            self._lookup.facts.forget_of(present.fd, sidecar)

    def mark(
        self,
        bucket_fd: int,
        path: KeyPath,
        folder: Sequence[Step],
        facts: ObjectFacts,
        now: int,
        present: Found | None,
    ) -> ObjectRecord:
        """Make a directory the marker object; durable on return. Raises Again."""
        try:
            fd = open_steps(bucket_fd, folder)
        except FileNotFoundError:
            raise Again from None
        try:
            outgrown = self._lookup.facts.outgrown(fd)
            sidecar = None
            if present is not None and present.place is not None:
                sidecar = self._lookup.facts.sidecar_of(present.fd)
            stat = self.own(fd, facts.owner)
            stored = StoredFacts(facts, 0, 0, now, stat.st_uid, stat.st_gid)
            self._lookup.facts.write(fd, stored)
            with suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(path.plain.name, dir_fd=fd)
            os.fsync(fd)
        finally:
            os.close(fd)
        self._lookup.facts.forget(outgrown)
        if present is not None:
            self._lookup.facts.forget_of(present.fd, sidecar)
        return marker_record(path.key, stat, stored, self._lookup.user_of_uid)

    def remove(
        self,
        bucket_fd: int,
        path: KeyPath,
        found: Found,
        sync: Callable[[int], None],
        parent: int | None,
    ) -> None:
        """Remove an object from wherever it is, what a crash left first.

        ``sync`` is given the open directory whose fsync makes it durable. ``parent`` is as in
        :meth:`unlink`.
        """
        facts = self._lookup.facts
        if path.folder is not None:
            marker = self._lookup.open_marker(bucket_fd, path, path.folder)
            if marker is not None:
                try:
                    facts.remove(marker.fd)
                    (os.fsync if found.place is not None else sync)(marker.fd)
                finally:
                    marker.close()
        elif path.beside is not path.plain:
            beside = os.fsync if found.place is path.plain else sync
            self.unlink(bucket_fd, path, path.beside, beside, parent)
        if found.place is None:
            return
        sidecar = facts.sidecar_of(found.fd)
        if found.place is path.plain:
            self.unlink(bucket_fd, path, path.plain, sync, parent)
        facts.forget_of(found.fd, sidecar)

    def unlink(
        self,
        bucket_fd: int,
        path: KeyPath,
        place: Place,
        sync: Callable[[int], None] = os.fsync,
        parent: int | None = None,
    ) -> None:
        """Unlink a file of a key, if it is there, and make that durable.

        ``parent`` is the open directory of the key's plain place, of a caller that has it.
        """
        if parent is not None and len(place.steps) == len(path.plain.steps):
            _unlink_in(parent, place, sync)
            return
        try:
            fd = open_steps(bucket_fd, place.steps)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            _unlink_in(fd, place, sync)
        finally:
            os.close(fd)

    def _name_beside(
        self, path: KeyPath, source: int, name: bytes | str, parent: int, owner: PosixOwner
    ) -> None:
        outer = path.beside.steps[len(path.plain.steps) :]
        try:
            target = self._folders.make_steps(parent, outer, owner)
            try:
                rename_between(source, name, target, path.beside.name)
                if outer:
                    os.fsync(target)
            finally:
                os.close(target)
        except FileNotFoundError:
            raise Again from None
        except (IsADirectoryError, FileExistsError):
            raise in_the_way(path.key) from None


def _unlink_in(directory: int, place: Place, sync: Callable[[int], None]) -> None:
    with suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(place.name, dir_fd=directory)
        sync(directory)
