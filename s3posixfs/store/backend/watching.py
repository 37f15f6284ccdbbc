"""Which names in a directory have changed, told by Linux's inotify(7).

The kernel queues an event before the system call that made the change returns, whichever process
made it: after :meth:`DirectoryWatch.changes` all that was done before is known. That holds of
filesystems of this host only, not of those that other hosts write to as well.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from contextlib import suppress

_IN_MOVED_FROM = 0x40
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x01000000
_MASK = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_ONLYDIR
_EVENT = struct.Struct("iIII")
_BUFFER = 65536
# Of a directory that is not asked for meanwhile; more than that are not worth keeping.
_MOST_PENDING = 20_000

# f_type of statfs(2): ext2 to ext4, XFS, btrfs, tmpfs, ZFS, F2FS, bcachefs.
_LOCAL = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x2FC12FC1, 0xF2F52010, 0xCA451A4E})
_STATFS_BYTES = 256  # more than the structure has


class DirectoryWatch:
    """Watches directories by their open descriptors; safe for threads."""

    __slots__ = ("_fd", "_libc", "_lock", "_pending")

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._lock = threading.Lock()
        # By watch; None: something was missed.
        self._pending: dict[int, set[bytes] | None] = {}

    def add(self, directory: int) -> int | None:
        """Watch an open directory from now on; the watch, or None where that can't be."""
        if not self._is_local(directory):
            return None
        with self._lock:
            if self._fd < 0:
                self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory}".encode()
            watch = self._libc.inotify_add_watch(self._fd, path, _MASK) if self._fd >= 0 else -1
            if watch < 0:
                return None
            self._pending.setdefault(watch, set())
            return int(watch)

    def remove(self, watch: int) -> None:
        """End a watch."""
        with self._lock:
            if watch in self._pending:
                del self._pending[watch]
                self._libc.inotify_rm_watch(self._fd, watch)

    def changes(self, watch: int) -> set[bytes] | None:
        """The names made or gone since this was asked last; None where they are not known."""
        with self._lock:
            self._drain()
            found = self._pending.get(watch)
            if watch in self._pending:
                self._pending[watch] = set()
            return found

    def close(self) -> None:
        """End all watches."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
            self._pending.clear()

    def _drain(self) -> None:
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except OSError:  # BlockingIOError: that was all
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                if mask & _IN_Q_OVERFLOW:
                    self._pending = dict.fromkeys(self._pending)
                elif mask & _IN_IGNORED:
                    self._pending.pop(watch, None)  # the directory is gone
                else:
                    self._note(watch, data[at - length : at].rstrip(b"\0"))

    def _note(self, watch: int, name: bytes) -> None:
        names = self._pending.get(watch)
        if names is None:
            return
        names.add(name)
        if len(names) > _MOST_PENDING:
            self._pending[watch] = None

    def _is_local(self, directory: int) -> bool:
        answer = ctypes.create_string_buffer(_STATFS_BYTES)
        with suppress(AttributeError):
            if self._libc.fstatfs(directory, answer) == 0:
                kind = ctypes.cast(answer, ctypes.POINTER(ctypes.c_long))[0]
                return kind & 0xFFFFFFFF in _LOCAL
        return False
