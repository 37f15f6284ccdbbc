"""What a directory holds as parts of keys: all of it, or only what has changed.

A directory's name ends in a slash: so sorted, all that lies in it sorts where it stands.
"""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from operator import ne

from s3posixfs.store.backend.names import (
    MARK,
    beside_names,
    directory_names,
    is_plain,
    parse_escaped,
    segment_of,
)
from s3posixfs.store.backend.sorted_names import SortedNames
from s3posixfs.store.backend.tree import DIRECTORY_FLAGS, open_directory


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of a directory that was read; ``names`` leads to it from the one listed."""

    names: tuple[bytes, ...]
    inode: int
    mtime_ns: int


def read_names(fd: int) -> tuple[SortedNames, list[Stamp]]:
    """All names in an open directory, and the directories that they were read from."""
    stamps: list[Stamp] = []
    found: list[bytes] = []
    _scan(fd, (), b"", found, stamps)
    found.sort()
    return SortedNames.of(_distinct(found)), stamps


def is_unchanged(fd: int, stamps: Iterable[Stamp]) -> bool:
    """Whether the directories below an open one are as they were."""
    for stamp in stamps:
        if stamp.names:
            try:
                inner = open_directory(fd, stamp.names)
            except OSError:
                return False
            try:
                stat = os.fstat(inner)
            finally:
                os.close(inner)
        else:
            stat = os.fstat(fd)
        if stat.st_ino != stamp.inode or stat.st_mtime_ns != stamp.mtime_ns:
            return False
    return True


def changed_names(fd: int, names: SortedNames, changes: Iterable[bytes]) -> SortedNames | None:
    """``names`` brought up to date where these file names were made or removed.

    None where one of them leads to the rest of a long segment: read all again. Whatever the file
    names stood for before, what is there now counts.
    """
    added: list[bytes] = []
    removed: list[bytes] = []
    segments: set[bytes] = set()
    for name in changes:
        segment = name
        if name.startswith(MARK):
            escaped = parse_escaped(name)
            if escaped.is_long:
                return None
            found = segment_of((name,), escaped.text, escaped.kind, directory=not escaped.is_object)
            if found is None:
                continue
            segment = found
        segments.add(segment)
    for segment in segments:
        with suppress(UnicodeDecodeError):  # not UTF-8: no key can name it
            segment.decode()
            plain = _mode(fd, segment) if is_plain(segment) else 0
            is_object = stat_module.S_ISREG(plain) or stat_module.S_ISREG(
                _only_mode(fd, beside_names(segment))
            )
            is_folder = stat_module.S_ISDIR(_only_mode(fd, directory_names(segment)))
            (added if is_object else removed).append(segment)
            (added if is_folder else removed).append(segment + b"/")
    return names.changed(added, removed)


def _only_mode(fd: int, names: tuple[bytes, ...]) -> int:
    # Longer segments are not looked for: the directory for their rest would have been told of.
    return _mode(fd, names[0]) if len(names) == 1 else 0


def _mode(fd: int, name: bytes) -> int:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except OSError:
        return 0


def _scan(
    fd: int,
    chain: tuple[bytes, ...],
    text: bytes,
    found: list[bytes],
    stamps: list[Stamp],
) -> None:
    """Collect the names in a directory; ``chain`` and ``text`` are of the long name so far."""
    stat = os.fstat(fd)
    stamps.append(Stamp(chain, stat.st_ino, stat.st_mtime_ns))
    longer: list[bytes] = []
    mark = os.fsdecode(MARK)
    with os.scandir(fd) as entries:
        for entry in entries:
            # Asked first what most are: a call for each of a million entries is felt.
            is_directory = not entry.is_file(follow_symlinks=False)
            if is_directory and not entry.is_dir(follow_symlinks=False):
                continue  # a symlink, fifo, socket or device is no object
            if not entry.name.startswith(mark):
                if not chain:
                    try:
                        name = entry.name.encode()
                    except UnicodeEncodeError:
                        continue  # not UTF-8: no key can name it
                    found.append(name + b"/" if is_directory else name)
                continue
            name = os.fsencode(entry.name)
            escaped = parse_escaped(name)
            if escaped.is_long:
                if is_directory:
                    longer.append(name)
                continue
            segment = segment_of(
                (*chain, name), text + escaped.text, escaped.kind, directory=is_directory
            )
            if segment is not None:
                found.append(segment + b"/" if is_directory else segment)
    for name in longer:
        with suppress(FileNotFoundError):
            inner = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
            try:
                _scan(inner, (*chain, name), text + parse_escaped(name).text, found, stamps)
            finally:
                os.close(inner)


def _distinct(names: list[bytes]) -> list[bytes]:
    """Drop repetitions from a sorted list: an object found both plain and beside."""
    if all(map(ne, names, islice(names, 1, None))):
        return names
    return list(dict.fromkeys(names))
