"""Where facts are kept: in one xattr of the file, else in a sidecar that the file leads to.

Facts belong to an inode, not to a name: whoever has opened a file finds the facts of exactly
these bytes, also while the name is given to another file. Three cases:

- the xattr ``user.s3posixfs`` holds the sealed facts (first byte 1);
- they are too big for it (ext4 gives about 4 KB): the xattr holds a random ID (first byte 2),
  and the sidecar ``sidecars/XX/ID`` the facts, written once and never changed;
- the filesystem has no user xattrs: the sidecar's name is the inode's number, and the facts
  repeat it. A number is given out again after the file is gone, so such facts count only while
  size and mtime agree.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat as stat_module
from contextlib import suppress

from s3posixfs.store.backend.facts import FactsCodec, StoredFacts
from s3posixfs.store.backend.tree import FILE_FLAGS, write_whole
from s3posixfs.store.backend.xattr import read_xattr

XATTR_NAME = b"user.s3posixfs"
_INLINE = b"\x01"
_POINTER = b"\x02"
_ID_BYTES = 16
# What an xattr may take: ext4 keeps all of an inode's in one 4 KiB block, names and headers too.
_INLINE_LIMIT = 3800
_TOO_BIG = frozenset({errno.E2BIG, errno.ENOSPC, errno.ERANGE})
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class FactsGone(Exception):
    """The file's sidecar is not there: the file was replaced or removed since it was opened."""


class FactsStore:
    """Reads and writes the facts of open files and directories.

    ``sidecars`` and ``scratch`` are open directories on the same filesystem that only the store
    can enter; in ``scratch`` sidecars are written before they get their names. Without
    ``xattrs`` everything goes to sidecars named after inodes.
    """

    __slots__ = ("_codec", "_scratch", "_sidecars", "_xattrs")

    def __init__(self, codec: FactsCodec, sidecars: int, scratch: int, *, xattrs: bool) -> None:
        self._codec = codec
        self._sidecars = sidecars
        self._scratch = scratch
        self._xattrs = xattrs

    @property
    def xattrs(self) -> bool:
        """Whether facts travel in xattrs."""
        return self._xattrs

    def read(self, fd: int, stat: os.stat_result) -> StoredFacts | None:
        """The facts of an open file; None for one the store did not write.

        Raises FactsGone where they are in a sidecar that has been removed: look the name up
        again.
        """
        if not self._xattrs:
            return self._read_by_inode(stat)
        try:
            value = read_xattr(fd, XATTR_NAME)
        except OSError as error:
            if error.errno == errno.ENODATA or error.errno in _UNSUPPORTED:
                return None
            raise
        if value[:1] == _INLINE:
            return self._codec.unpack(value[1:])
        if value[:1] != _POINTER or len(value) != 1 + _ID_BYTES:
            return None
        sealed = self._read_sidecar(value[1:].hex())
        if sealed is None:
            raise FactsGone
        return self._codec.unpack(sealed)

    def write(self, fd: int, stored: StoredFacts) -> None:
        """Give an open file its facts, in one step; not yet durable for the file itself.

        Where the file had facts before, ask :meth:`outgrown` first and :meth:`forget` the answer
        when the new facts are durable.
        """
        if self._xattrs:
            value = _INLINE + self._codec.pack(stored)
            if len(value) <= _INLINE_LIMIT:
                try:
                    os.setxattr(fd, XATTR_NAME, value)
                    return
                except OSError as error:
                    if error.errno not in _TOO_BIG:
                        raise
            identity = secrets.token_bytes(_ID_BYTES)
            self._write_sidecar(identity.hex(), self._codec.pack(self._placed(fd, stored)))
            os.setxattr(fd, XATTR_NAME, _POINTER + identity)
        else:
            placed = self._placed(fd, stored)
            self._write_sidecar(_inode_name(placed.inode), self._codec.pack(placed))

    def remove(self, fd: int) -> None:
        """Take the facts off an open file or directory; nothing to take is no error."""
        sidecar = self.sidecar_of(fd)
        if self._xattrs:
            try:
                os.removexattr(fd, XATTR_NAME)
            except OSError as error:
                if error.errno != errno.ENODATA and error.errno not in _UNSUPPORTED:
                    raise
        self.forget(sidecar)

    def sidecar_of(self, fd: int) -> str | None:
        """The name of the sidecar an open file leads to, if it is that file's own."""
        if not self._xattrs:
            return _inode_name(os.fstat(fd).st_ino)
        try:
            value = read_xattr(fd, XATTR_NAME)
        except OSError:
            return None
        if value[:1] != _POINTER or len(value) != 1 + _ID_BYTES:
            return None
        name = value[1:].hex()
        sealed = self._read_sidecar(name)
        stored = None if sealed is None else self._codec.unpack(sealed)
        # A pointer can be copied to another file by its owner: the facts say whose they are.
        if stored is None or stored.inode != os.fstat(fd).st_ino:
            return None
        return name

    def named_by(self, where: str | int) -> str | None:
        """The sidecar that a file leads to, or would if it had one; a path's link is not followed.

        Only whose name it is, not whether it is there or that file's own. OSError where that
        can't be told.
        """
        try:
            if not self._xattrs:
                found = os.fstat(where) if isinstance(where, int) else os.lstat(where)
                return _inode_name(found.st_ino)
            if isinstance(where, int):
                value = read_xattr(where, XATTR_NAME)
            else:
                value = os.getxattr(where, XATTR_NAME, follow_symlinks=False)
        except OSError as error:
            if error.errno in _UNSUPPORTED | {errno.ENODATA, errno.ENOENT}:
                return None
            raise
        return value[1:].hex() if value[:1] == _POINTER else None

    def outgrown(self, fd: int) -> str | None:
        """The sidecar that an open file will no longer lead to once it has other facts."""
        return self.sidecar_of(fd) if self._xattrs else None

    def forget(self, sidecar: str | None) -> None:
        """Remove a sidecar that no file leads to any more."""
        if sidecar is not None:
            with suppress(FileNotFoundError):
                os.unlink(f"{sidecar[-2:]}/{sidecar}", dir_fd=self._sidecars)

    def forget_of(self, fd: int, sidecar: str | None) -> None:
        """:meth:`forget` the sidecar of an open file that lost its name, unless it has others.

        A local program can have made hard links: those are still read by it.
        """
        if sidecar is not None and os.fstat(fd).st_nlink == 0:
            self.forget(sidecar)

    def _placed(self, fd: int, stored: StoredFacts) -> StoredFacts:
        return StoredFacts(
            stored.facts,
            stored.size,
            stored.mtime_ns,
            stored.last_modified_ns,
            stored.file_uid,
            stored.file_gid,
            os.fstat(fd).st_ino,
            stored.upload_id,
        )

    def _read_by_inode(self, stat: os.stat_result) -> StoredFacts | None:
        sealed = self._read_sidecar(_inode_name(stat.st_ino))
        if sealed is None:
            if stat.st_nlink == 0:
                raise FactsGone
            return None
        stored = self._codec.unpack(sealed)
        if stored is None or stored.inode != stat.st_ino:
            return None
        if stat_module.S_ISDIR(stat.st_mode):
            return stored
        return stored if _same_file(stored, stat) else None

    def _read_sidecar(self, name: str) -> bytes | None:
        try:
            fd = os.open(f"{name[-2:]}/{name}", FILE_FLAGS, dir_fd=self._sidecars)
        except FileNotFoundError:
            return None
        try:
            return os.read(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def _write_sidecar(self, name: str, sealed: bytes) -> None:
        folder = name[-2:]
        try:
            write_whole(self._sidecars, folder, name, sealed, scratch=self._scratch)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=self._sidecars)
            os.fsync(self._sidecars)
            write_whole(self._sidecars, folder, name, sealed, scratch=self._scratch)


def _same_file(stored: StoredFacts, stat: os.stat_result) -> bool:
    return stored.size == stat.st_size and stored.mtime_ns == stat.st_mtime_ns


def _inode_name(inode: int) -> str:
    return f"i{inode:016x}"


def supports_xattrs(directory: int) -> bool:
    """Whether files below an open directory can have user xattrs; tries it on the directory."""
    # A name of its own for each process: workers start at once, and one would remove another's.
    name = XATTR_NAME + b".probe.%d" % os.getpid()
    try:
        os.setxattr(directory, name, b"1")
        os.removexattr(directory, name)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True
