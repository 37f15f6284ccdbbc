"""Notes of the multipart uploads that are under way, so that none outlives a daemon that died.

A store keeps the parts of an upload that is neither completed nor aborted for ever, unseen, and
bills for them. One small file an upload stands in the cache directory until its end is known;
what the next mount finds there it aborts, and this one what could not be aborted at once. Where a
note cannot be written the upload goes on without one: the file matters more.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from s3posixfs.data.durable import sync_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UploadNote:
    """A multipart upload: at which endpoint (``origin``), and on behalf of which identity."""

    origin: str
    bucket: str
    key: str
    upload_id: str
    identity: str


class UploadNotes:
    """The folder of notes. Used from the trio thread; files are written in threads."""

    def __init__(self, folder: Path, origin: str) -> None:
        """Read what an earlier run left. OSError where the folder cannot be used. Blocking."""
        self._folder = folder
        self._origin = origin
        folder.mkdir(mode=0o700, exist_ok=True)
        self.left: dict[Path, UploadNote] = {}
        last = 0
        for path in folder.glob("*.json"):
            note = _read(path)
            if note is None:
                path.unlink(missing_ok=True)  # half written when the power went
                continue
            last = max(last, int(path.stem))
            if note.origin == origin:
                self.left[path] = note
        self._numbers = itertools.count(last + 1)

    async def add(self, bucket: str, key: str, upload_id: str, identity: str) -> Path:
        """Note an upload, durably; what to give to :meth:`remove`."""
        path = self._folder / f"{next(self._numbers)}.json"
        note = UploadNote(self._origin, bucket, key, upload_id, identity)
        try:
            await trio.to_thread.run_sync(_write, path, note)
        except OSError as error:
            logger.warning("an upload of %s/%s has no note: %s", bucket, key, error.strerror)
        return path

    def leave(self, path: Path, bucket: str, key: str, upload_id: str, identity: str) -> None:
        """The upload came to nothing, and is still to be aborted."""
        self.left[path] = UploadNote(self._origin, bucket, key, upload_id, identity)

    async def remove(self, path: Path) -> None:
        """The upload is completed or aborted."""
        self.left.pop(path, None)
        try:
            await trio.to_thread.run_sync(_remove, path)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", path, error.strerror)


def _read(path: Path) -> UploadNote | None:
    if not path.stem.isdecimal():
        return None
    try:
        fields = json.loads(path.read_text("utf-8"))
        return UploadNote(**{name: str(value) for name, value in fields.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _write(path: Path, note: UploadNote) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(note), file)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
