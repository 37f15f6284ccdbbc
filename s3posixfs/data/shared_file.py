"""Open files on this host's disk that several parts of the program read, and their ranges."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from s3posixfs.waiting.deadlines import waiting


class SharedFile:
    """An open descriptor that is closed when its last holder lets go.

    ``temporary``: the file is removed then, too. Held once by who makes it. Used from the trio
    thread; whoever uses ``fd`` in another thread holds the file meanwhile.
    """

    __slots__ = ("_holders", "fd", "path", "temporary")

    def __init__(self, fd: int, path: Path, *, temporary: bool) -> None:
        self.fd = fd
        self.path = path
        self.temporary = temporary
        self._holders = 1

    def hold(self) -> SharedFile:
        """One holder more."""
        if self._holders <= 0:
            raise trio.ClosedResourceError(f"{self.path} is closed")
        self._holders += 1
        return self

    def let_go(self) -> bool:
        """One holder less; whether it was the last, so that the descriptor is closed.

        For files that are not temporary, whose names are somebody else's.
        """
        self._holders -= 1
        if self._holders:
            return False
        fd, self.fd = self.fd, -1
        os.close(fd)
        return True

    async def release(self) -> None:
        """One holder less; the last one's leaving removes a temporary file. Not cancelled."""
        if self.let_go() and self.temporary:
            await waiting()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(self.path.unlink, missing_ok=True))


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes at ``offset`` of a shared file: immutable content."""

    file: SharedFile
    offset: int
    length: int
