"""The root on disk: buckets in it, and beside them one folder of the store's own."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from s3posixfs.core.errors import OperatorError
from s3posixfs.store.backend.spreading import keep_apart
from s3posixfs.store.backend.tree import DIRECTORY_FLAGS, FILE_FLAGS, write_whole

INTERNAL = ".s3posixfs"
_KEY_FILE = "seal-key"
_KEY_BYTES = 32


def unusable(root: Path, error: OSError) -> OperatorError:
    """What to say of a root that can't be used."""
    return OperatorError(
        f"the store can't use {root}: {error.strerror or error}; give it a directory that"
        " it may write to"
    )


class Layout:
    """The open directories of a root, made where they are missing; descriptors until closed.

    ``tmp`` holds what is not yet anything, ``spread`` the folders that files are made in, ``locks``
    the keys' locks, ``sidecars`` the facts that are in no xattr, ``uploads`` multipart uploads,
    ``documents`` the buckets' configurations.
    """

    __slots__ = (
        *("_open", "documents", "internal", "locks", "root", "sidecars"),
        *("spread", "tmp", "uploads"),
    )

    def __init__(self, root: Path) -> None:
        """OperatorError where the root can't be used."""
        self._open: list[int] = []
        try:
            root.mkdir(parents=True, exist_ok=True)
            self.root = self._keep(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self.internal = self._folder(self.root, INTERNAL)
            keep_apart(self.internal)  # as well as it goes: see there
            self.tmp = self._folder(self.internal, "tmp")
            self.spread = self._folder(self.internal, "spread")
            self.locks = self._folder(self.internal, "locks")
            self.sidecars = self._folder(self.internal, "sidecars")
            self.uploads = self._folder(self.internal, "uploads")
            self.documents = self._folder(self.internal, "documents")
        except OSError as error:
            self.close()
            raise unusable(root, error) from error

    def close(self) -> None:
        """Close all descriptors."""
        while self._open:
            os.close(self._open.pop())

    def seal_key(self) -> bytes:
        """The key that facts are sealed with; made at the first start. OSError, OperatorError."""
        for _ in range(2):
            with suppress(FileNotFoundError):
                fd = os.open(_KEY_FILE, FILE_FLAGS, dir_fd=self.internal)
                try:
                    key = os.read(fd, _KEY_BYTES)
                finally:
                    os.close(fd)
                if len(key) != _KEY_BYTES:
                    raise OperatorError(
                        f"{INTERNAL}/{_KEY_FILE} in the store's root is damaged; restore it from a"
                        " backup, or remove it: owners and metadata of all objects are then lost"
                    )
                return key
            name = f".{secrets.token_hex(8)}"
            write_whole(self.internal, "", name, secrets.token_bytes(_KEY_BYTES))
            with suppress(FileExistsError):  # another process was first
                os.link(name, _KEY_FILE, src_dir_fd=self.internal, dst_dir_fd=self.internal)
            os.unlink(name, dir_fd=self.internal)
            os.fsync(self.internal)
        raise OperatorError(
            f"{INTERNAL}/{_KEY_FILE} can't be made in the store's root; "
            "make that folder writable, and see whether its disk is full"
        )

    def _keep(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def _folder(self, parent: int, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
            os.fsync(parent)
        return self._keep(os.open(name, DIRECTORY_FLAGS, dir_fd=parent))
