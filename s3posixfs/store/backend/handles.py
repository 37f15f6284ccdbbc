"""What a caller holds while it reads or writes one object."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from s3posixfs.store.backend.names import KeyPath
from s3posixfs.store.backend.objects import Objects
from s3posixfs.store.backend.pending import ScratchFile
from s3posixfs.store.backend.problems import translated
from s3posixfs.store.backend.records import ALWAYS, Condition, ObjectFacts, ObjectRecord
from s3posixfs.store.backend.scratch import Scratch


class OpenObject:
    """An object's record and its open file, of one version; the caller closes it.

    ``fd`` is -1 for an empty marker object, which has no bytes to read.
    """

    __slots__ = ("fd", "record")

    def __init__(self, record: ObjectRecord, fd: int) -> None:
        self.record = record
        self.fd = fd

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class PendingObject(ScratchFile):
    """An object that takes bytes."""

    __slots__ = ("_bucket", "_objects", "_path")

    def __init__(self, objects: Objects, scratch: Scratch, bucket: str, path: KeyPath) -> None:
        super().__init__(scratch)
        self._objects = objects
        self._bucket = bucket
        self._path = path

    @translated
    def commit(self, facts: ObjectFacts, condition: Condition = ALWAYS) -> ObjectRecord:
        """Make it the object in one step; durable on return, and nothing remains on failure.

        S3Error PreconditionFailed (412); NoSuchKey (404) for If-Match with no object there;
        StorageFull (507).
        """
        return self._commit_with(
            lambda fd, name: self._objects.place(
                self._bucket, self._path, fd, name, self.size, facts, condition
            )
        )
