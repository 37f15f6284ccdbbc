"""Listing a bucket in S3's order by walking directories, from any key on.

The walk starts at the directory that the prefix names and goes from there to the first key
wanted by binary search, so a page costs the same wherever it begins. A common prefix is left by
searching for the first key after all that begin with it; where the delimiter is a slash it is a
directory, and not entered at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from s3posixfs.core.types import MAX_KEY_BYTES
from s3posixfs.store.backend.lookup import Lookup
from s3posixfs.store.backend.names import (
    MARK,
    directory_names,
    directory_steps,
    parse_escaped,
    utf8,
)
from s3posixfs.store.backend.records import Listing, ObjectRecord
from s3posixfs.store.backend.snapshots import SnapshotCache
from s3posixfs.store.backend.sorted_names import Cursor
from s3posixfs.store.backend.tree import open_directory, open_steps


@dataclass(slots=True)
class _Frame:
    """A directory on the walk: the key prefix it stands for and the next name in it.

    ``marker`` says that the directory may be an object itself, and its turn is now.
    """

    fd: int
    prefix: bytes
    names: Cursor
    marker: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key, or with ``folder`` the prefix of a directory that holds at least one object.

    ``record`` is there for a marker object; other objects are read from ``fd`` when wanted.
    """

    key: bytes
    fd: int
    name: bytes
    folder: bool = False
    record: ObjectRecord | None = None


class _Walk:
    """The keys below a directory in order, from a key on; keeps one directory open a level."""

    __slots__ = ("_frames", "_lookup", "_shallow", "_snapshots")

    def __init__(
        self,
        lookup: Lookup,
        snapshots: SnapshotCache,
        fd: int,
        prefix: bytes,
        *,
        shallow: bool,
    ) -> None:
        """``fd`` becomes the walk's to close. ``shallow`` gives directories instead of entering."""
        self._lookup = lookup
        self._snapshots = snapshots
        self._shallow = shallow
        self._frames: list[_Frame] = []
        self._push(fd, prefix)

    def close(self) -> None:
        while self._frames:
            os.close(self._frames.pop().fd)

    def seek(self, position: bytes) -> None:
        """Go on at the first key that is not below ``position``; only ever forward."""
        frames = self._frames
        while frames and not position.startswith(frames[-1].prefix):
            if position < frames[-1].prefix:
                return
            os.close(frames.pop().fd)
        while frames:
            frame = frames[-1]
            rest = position[len(frame.prefix) :]
            if rest:
                frame.marker = False
            around = frame.names.seek(rest)
            if not (around.endswith(b"/") and rest.startswith(around)):
                return
            if not self._enter(frame, around):
                return

    def next(self) -> _Entry | None:
        """The next key, or None at the end."""
        frames = self._frames
        while frames:
            frame = frames[-1]
            if frame.marker:
                frame.marker = False
                # A body at the same key (what a crash left of a change) counts, not the marker.
                if not frame.names.begins_empty:
                    record = self._lookup.marker_at(frame.fd, frame.prefix.decode())
                    if record is not None:
                        return _Entry(frame.prefix, frame.fd, b"", record=record)
            name = frame.names.next()
            if name is None:
                os.close(frames.pop().fd)
                continue
            key = frame.prefix + name
            if len(key) > MAX_KEY_BYTES:
                continue  # a local program's: S3 has no such key
            if not name.endswith(b"/"):
                return _Entry(key, frame.fd, name)
            if self._shallow and len(frames) == 1:
                if self._holds_any(frame.fd, directory_names(name[:-1]), len(key)):
                    return _Entry(key, frame.fd, name, folder=True)
            else:
                self._enter(frame, name)
        return None

    def _enter(self, frame: _Frame, name: bytes) -> bool:
        try:
            fd = open_directory(frame.fd, directory_names(name[:-1]))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        self._push(fd, frame.prefix + name)
        return True

    def _push(self, fd: int, prefix: bytes) -> None:
        try:
            names = Cursor(self._snapshots.get(fd))
        except BaseException:
            os.close(fd)
            raise
        self._frames.append(_Frame(fd, prefix, names, marker=bool(prefix)))

    def _holds_any(self, parent: int, names: tuple[bytes, ...], length: int) -> bool:
        """Whether a directory is an object or holds one, at any depth that a key can have."""
        try:
            fd = open_directory(parent, names)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        # Open directories with the folders in them that are still to be looked into.
        path: list[tuple[int, list[bytes], int]] = [(fd, [], length)]
        try:
            folders = self._folders_in(fd)
            while folders is not None:
                path[-1][1].extend(folders)
                folders = []
                fd, left, length = path[-1]
                if not left:
                    os.close(fd)
                    path.pop()
                    if not path:
                        return False
                    continue
                name = left.pop()
                if length + len(name) + 1 > MAX_KEY_BYTES:
                    continue
                with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    inner = open_directory(fd, (name,))
                    path.append((inner, [], length + len(name) + 1))
                    folders = self._folders_in(inner)
            return True
        finally:
            for fd, _, _ in path:
                os.close(fd)

    def _folders_in(self, fd: int) -> list[bytes] | None:
        """The directories in an open one; None as soon as there is an object."""
        if self._lookup.is_marker(fd):
            return None
        folders: list[bytes] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_file(follow_symlinks=False) and _may_be_object(name):
                    return None
        return folders


def _may_be_object(name: bytes) -> bool:
    if name.startswith(MARK):
        return parse_escaped(name).is_object
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def keys_below(
    lookup: Lookup, snapshots: SnapshotCache, fd: int, prefix: bytes
) -> Iterator[tuple[bytes, bool]]:
    """Every key below the open directory that stands for a prefix, and whether it is a marker.

    Nothing of the objects is read but what tells markers; what a local program has put there
    and the store may not read is a key too. ``fd`` stays the caller's.
    """
    walk = _Walk(lookup, snapshots, os.dup(fd), prefix, shallow=False)
    try:
        while (entry := walk.next()) is not None:
            yield entry.key, entry.record is not None
    finally:
        walk.close()


def list_bucket(
    lookup: Lookup,
    snapshots: SnapshotCache,
    bucket: str,
    prefix: str,
    delimiter: str,
    start_after: str,
    max_keys: int,
) -> Listing:
    """One page of a bucket's keys; see :meth:`DirectoryBackend.list`."""
    lookup = lookup.for_page()
    first, cut, after = utf8(prefix), utf8(delimiter), utf8(start_after)
    position = _position(first, cut, after)
    bucket_fd = lookup.open_bucket(bucket)
    try:
        *folders, _ = first.split(b"/")
        start = open_steps(bucket_fd, directory_steps(folders))
    except (FileNotFoundError, NotADirectoryError):
        return Listing((), (), False, "")
    finally:
        os.close(bucket_fd)
    folder = first[: first.rfind(b"/") + 1]
    walk = _Walk(lookup, snapshots, start, folder, shallow=cut == b"/")
    try:
        walk.seek(position)
        return _page(lookup, walk, first, cut, max_keys)
    finally:
        walk.close()


def _page(lookup: Lookup, walk: _Walk, prefix: bytes, delimiter: bytes, max_keys: int) -> Listing:
    found: list[ObjectRecord] = []
    prefixes: list[str] = []
    last = b""
    while True:
        entry = walk.next() if max_keys > 0 else None
        if entry is None or not entry.key.startswith(prefix):
            return Listing(tuple(found), tuple(prefixes), False, last.decode())
        if len(found) + len(prefixes) >= max_keys:
            return Listing(tuple(found), tuple(prefixes), True, last.decode())
        at = entry.key.find(delimiter, len(prefix)) if delimiter else -1
        if at >= 0:
            last = entry.key[: at + len(delimiter)]
            prefixes.append(last.decode())
            if not entry.folder:
                walk.seek(_successor(last))
            continue
        record = entry.record or lookup.read_at(entry.fd, entry.name, entry.key.decode())
        if record is not None:  # else it was removed since its directory was read
            found.append(record)
            last = entry.key


def _position(prefix: bytes, delimiter: bytes, after: bytes) -> bytes:
    """The first key that a page may begin with."""
    if not after:
        return prefix
    position = after + b"\0"
    if delimiter and after.startswith(prefix):
        at = after.find(delimiter, len(prefix))
        if at >= 0 and at + len(delimiter) == len(after):
            position = _successor(after)  # a common prefix that the page before ended with
    return max(prefix, position)


def _successor(prefix: bytes) -> bytes:
    """The least string above all that begin with a prefix; UTF-8 never ends in 0xFF."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
