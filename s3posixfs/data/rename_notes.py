"""Notes of the folders that are being renamed key by key, so that none stays half renamed.

Where a store renames no folders, each object is copied and then removed. One small file a rename
stands in the cache directory until it has ended; what the next mount finds there it goes on with.
The objects tell how far it came: nothing is written for each of them.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import trio

from s3posixfs.data.durable import sync_folder
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

# ``copying``: the originals count, and some have copies. ``removing``: all have copies, which
# count. ``undoing``: the copies are removed again. ``restoring``: that, and what has no original
# any more is copied back. ``renaming``: objects get their new names one after the other;
# ``returning``: their old ones again.
Step = Literal["copying", "removing", "undoing", "restoring", "renaming", "returning"]


@dataclass(frozen=True, slots=True)
class RenameNote:
    """A folder on its way from prefix to prefix at an endpoint (``origin``), for an identity.

    ``over_marker`` says that an object already stood for the new folder. Holds no secret.
    """

    origin: str
    bucket: str
    prefix: str
    new_bucket: str
    new_prefix: str
    identity: str
    step: Step
    over_marker: bool = False

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix} to {self.new_bucket}/{self.new_prefix}"


class RenameNotes:
    """The folder of notes. Used from the trio thread; files are written in threads."""

    def __init__(self, folder: Path, origin: str) -> None:
        """Read what an earlier run left. OSError where the folder cannot be used. Blocking."""
        self._folder = folder
        self._origin = origin
        folder.mkdir(mode=0o700, exist_ok=True)
        self.left: dict[Path, RenameNote] = dict(_found(folder))
        last = max((int(path.stem) for path in self.left), default=0)
        self._numbers = itertools.count(last + 1)
        for note in self.foreign:
            logger.warning(
                "the renaming of %s at %s is not finished: its note stays in %s until that is "
                "mounted with this cache_dir",
                *(note, note.origin, folder),
            )

    @property
    def foreign(self) -> tuple[RenameNote, ...]:
        """Those of other endpoints."""
        return tuple(note for note in self.left.values() if note.origin != self._origin)

    @property
    def own(self) -> tuple[tuple[Path, RenameNote], ...]:
        """Those of this endpoint, which are to be gone on with; the oldest first."""
        mine = (item for item in self.left.items() if item[1].origin == self._origin)
        return tuple(sorted(mine, key=lambda item: int(item[0].stem)))

    async def add(
        self,
        old: tuple[str, str],
        new: tuple[str, str],
        identity: str,
        step: Step,
        *,
        over_marker: bool,
    ) -> Path:
        """Note that a folder is about to move from bucket and prefix to others; durable on
        return. OSError of the cache directory."""
        path = self._folder / f"{next(self._numbers)}.json"
        note = RenameNote(self._origin, *old, *new, identity, step, over_marker)
        await self._write(path, note)
        return path

    async def reached(self, path: Path, step: Step) -> None:
        """The renaming came to another step; durable on return. OSError."""
        await self._write(path, replace(self.left[path], step=step))

    async def remove(self, path: Path) -> None:
        """The renaming has ended. A note that stays is found to be of nothing by the next mount."""
        self.left.pop(path, None)
        try:
            await trio.to_thread.run_sync(_remove, path)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", path, error.strerror)

    async def _write(self, path: Path, note: RenameNote) -> None:
        await waiting()
        with trio.CancelScope(shield=True):  # what is on the disk must be known here
            await trio.to_thread.run_sync(_write, path, note)
        self.left[path] = note


def _found(folder: Path) -> Iterator[tuple[Path, RenameNote]]:
    for path in folder.glob("*.new"):
        path.unlink()
    for path in folder.glob("*.json"):
        note = _read(path)
        if note is None:
            logger.error("%s is no note of a renaming: it is left as it is", path)
        else:
            yield path, note


def _read(path: Path) -> RenameNote | None:
    if not path.stem.isdecimal():
        return None
    try:
        fields = json.loads(path.read_text("utf-8"))
        note = RenameNote(**fields)
    except (OSError, ValueError, TypeError):
        return None
    return note if note.step in get_args(Step) else None


def _write(path: Path, note: RenameNote) -> None:
    temporary = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(json.dumps(asdict(note)).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync_folder(path.parent)
