"""Finds sidecars whose files are gone, because a local program removed or replaced an object.

A sidecar goes only when two searches of the whole tree, a day apart, have found no file that leads
to it: the first leaves a mark, which is its mode 0400. What is moved from a folder that is yet to
be searched to one that was would be missed, so folders that change meanwhile are searched again.
"""

from __future__ import annotations

import os
import random
import stat as stat_module
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from s3posixfs.store.backend.attributes import FactsStore
from s3posixfs.store.backend.tree import DIRECTORY_FLAGS

_MODE, _MARK = 0o600, 0o400
# So many are looked for in one search, which bounds the memory it takes.
_MOST = 100_000
# What is younger may belong to a file that has no name yet.
_LEAST_AGE_SECONDS = 3600.0
# Times of files go by the tick of the kernel's clock, or that of another host.
_TICK_SECONDS = 2.0
_SEARCHES_AGAIN = 2


@dataclass(frozen=True, slots=True)
class _Sidecar:
    inode: int
    marked_at: float | None  # seconds since the epoch


class Leftovers:
    """Sidecars in the open directory ``sidecars``, of the files below the open directory ``root``.

    In the open directory ``scratch`` a sidecar waits to be removed.
    """

    def __init__(self, root: int, sidecars: int, scratch: int, facts: FactsStore) -> None:
        self._root = root
        self._sidecars = sidecars
        self._scratch = scratch
        self._facts = facts

    def collect(self, grace: float) -> int:
        """Search once: mark what nothing leads to, remove what was marked ``grace`` seconds ago.

        How many were removed. Blocks for as long as it takes to look at every file. For one
        process at a time.
        """
        now = time.time()
        left = self._candidates(now - min(_LEAST_AGE_SECONDS, grace))
        if not left:
            return 0
        self._search(left)
        removed = 0
        for name, sidecar in left.items():
            if sidecar.marked_at is None:
                with suppress(FileNotFoundError):
                    os.chmod(_path(name), _MARK, dir_fd=self._sidecars)
            elif sidecar.marked_at <= now - grace:
                removed += self._remove(name, sidecar.inode)
        return removed

    def _candidates(self, before: float) -> dict[str, _Sidecar]:
        found: dict[str, _Sidecar] = {}
        folders = os.listdir(self._sidecars)
        random.shuffle(folders)
        for folder in folders:
            for name, entry in self._entries(folder):
                if entry.st_mtime > before or len(found) >= _MOST:
                    continue
                marked = stat_module.S_IMODE(entry.st_mode) == _MARK
                found[name] = _Sidecar(entry.st_ino, entry.st_ctime if marked else None)
        return found

    def _entries(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        fd = os.open(folder, DIRECTORY_FLAGS, dir_fd=self._sidecars)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        yield entry.name, entry.stat(follow_symlinks=False)
        finally:
            os.close(fd)

    def _search(self, left: dict[str, _Sidecar]) -> None:
        """Take every sidecar that a file leads to out of ``left``."""
        own = os.fstat(self._sidecars).st_ino
        seen: dict[str, float] = {}
        waiting = [""]
        for _ in range(1 + _SEARCHES_AGAIN):
            while waiting and left:
                path = waiting.pop()
                waiting += self._search_folder(path, left, seen, own)
            waiting = [path for path, then in seen.items() if self._has_changed(path, then)]

    def _search_folder(
        self, path: str, left: dict[str, _Sidecar], seen: dict[str, float], own: int
    ) -> list[str]:
        """The folders in it that are not searched yet."""
        try:
            fd = self._open(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        inner = []
        try:
            seen[path] = time.time()
            self._keep(left, fd)
            with os.scandir(fd) as entries:
                for entry in entries:
                    below = f"{path}/{entry.name}" if path else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if below not in seen and entry.inode() != own:
                            inner.append(below)
                    else:
                        self._keep(left, f"/proc/self/fd/{fd}/{entry.name}")
        finally:
            os.close(fd)
        return inner

    def _keep(self, left: dict[str, _Sidecar], where: str | int) -> None:
        name = self._facts.named_by(where)
        found = None if name is None else left.pop(name, None)
        if name is not None and found is not None and found.marked_at is not None:
            with suppress(FileNotFoundError):  # an earlier search has missed it
                os.chmod(_path(name), _MODE, dir_fd=self._sidecars)

    def _has_changed(self, path: str, then: float) -> bool:
        try:
            fd = self._open(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            # A folder's ctime moves with its names, and when it gets another name itself.
            return os.fstat(fd).st_ctime >= then - _TICK_SECONDS
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        """Open a folder below the root, no link on the way followed."""
        fd = os.dup(self._root)
        for name in filter(None, path.split("/")):
            try:
                inner = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _remove(self, name: str, inode: int) -> bool:
        """Remove a sidecar, unless another has taken its name meanwhile."""
        aside = f".leftover-{name}"
        try:
            os.rename(_path(name), aside, src_dir_fd=self._sidecars, dst_dir_fd=self._scratch)
        except FileNotFoundError:
            return False
        mine = os.stat(aside, dir_fd=self._scratch, follow_symlinks=False).st_ino == inode
        if not mine:
            with suppress(FileExistsError):  # a yet newer one is there
                os.link(aside, _path(name), src_dir_fd=self._scratch, dst_dir_fd=self._sidecars)
        os.unlink(aside, dir_fd=self._scratch)
        return mine


def _path(name: str) -> str:
    return f"{name[-2:]}/{name}"
