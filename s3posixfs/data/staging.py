"""Where staged files live: the cache directory, its lock, and the budgets they share.

Layout of the cache directory (mode 0700, one daemon at a time)::

    lock            flock; holds the pid of the daemon that has it
    staged/N.data   the local bytes of one staged file (mode 0600), removed when it is closed
    journal/        with ``writeback``: what S3 is owed, see :mod:`s3posixfs.data.journal`
    blocks/         with ``disk_cache``: what was read, see :mod:`s3posixfs.data.disk_cache`
    uploads/N.json  a note of one multipart upload, see :mod:`s3posixfs.data.upload_notes`
    renames/N.json  a note of a folder that is being renamed, see :mod:`s3posixfs.data.rename_notes`

Locking: ``StagingArea`` is used from the trio thread; its methods are atomic regions. The
constructor and ``close`` do a little blocking I/O and belong before and after the mount.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import MIB
from s3posixfs.data.budget import DiskBudget, MemoryBudget
from s3posixfs.data.content import LocalContent
from s3posixfs.data.journal import Journal
from s3posixfs.data.journal_records import Blob, PendingState
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.reader import ObjectReader, Readers
from s3posixfs.data.rename_notes import RenameNotes
from s3posixfs.data.shared_file import Extent, SharedFile
from s3posixfs.data.staged_file import StagedFile
from s3posixfs.data.upload_notes import UploadNotes

__all__ = ["StagedFile", "StagingArea", "StagingSettings"]

DISK_THREADS = 16
EARLY_PARTS = 16  # that all files together send while they are written


@dataclass(frozen=True, slots=True)
class StagingSettings:
    """Sizes in bytes. ``memory_file``: up to it a file stays in memory; ``batch``: how much is
    written to a larger one before it goes to disk."""

    memory_file: int = 1 * MIB
    batch: int = 4 * MIB
    upload: UploadSettings = field(default_factory=UploadSettings)


class StagingArea:
    """Makes staged files that share a directory, a memory budget and a disk budget."""

    def __init__(
        self,
        cache_dir: Path,
        *,
        memory_limit: int,
        disk_limit: int | None,
        clock: Clock,
        readers: Readers,
        settings: StagingSettings | None = None,
        owed_to: str | None = None,
        endpoint: str = "",
    ) -> None:
        """Take ``cache_dir`` (made where it is missing) and remove what an earlier run left and
        nobody is owed.

        ``owed_to``: the endpoint, where there is to be a journal of what it has not got yet.
        ``endpoint``: whose multipart uploads and renamed folders are noted.

        ``memory_limit``, ``disk_limit``: bytes of all staged files together. ``readers`` open
        the new version after an upload. OperatorError where the directory cannot be used.
        """
        self._lock_fd = _take(cache_dir)
        self._directory = cache_dir / "staged"
        self.journal: Journal | None = None
        try:
            last = self._open(cache_dir, owed_to)
            self.notes = UploadNotes(cache_dir / "uploads", endpoint)
            self.renames = RenameNotes(cache_dir / "renames", endpoint)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _unusable(cache_dir, error) from error
            raise
        self._memory = MemoryBudget(memory_limit)
        self._disk = DiskBudget(disk_limit)
        self._threads = trio.CapacityLimiter(DISK_THREADS)
        self._clock = clock
        self._readers = readers
        self.settings = settings if settings is not None else StagingSettings()
        self._turns = trio.CapacityLimiter(EARLY_PARTS)
        self._numbers = itertools.count(last + 1)

    def _open(self, cache_dir: Path, owed_to: str | None) -> int:
        """Open the journal and remove the files that it does not name; the last one's number."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._directory.chmod(0o700)
        if owed_to is not None:
            self.journal = Journal(cache_dir / "journal", origin=owed_to)
        elif Journal.numbers(cache_dir / "journal"):
            raise OperatorError(
                f"{cache_dir} holds files that are not in S3 yet: mount with writeback=on until "
                "`s3posixfs umount` has stored them, or give another cache_dir"
            )
        entries = self.journal.entries.values() if self.journal is not None else ()
        kept = {state.data for state in entries if isinstance(state.data, str)}
        return _clean(self._directory, kept)

    @property
    def memory_used(self) -> int:
        """Bytes of memory that staged files hold now."""
        return self._memory.used

    @property
    def disk_used(self) -> int:
        """Bytes of disk that staged files hold now."""
        return self._disk.used

    def create(self, base: ObjectReader | None) -> StagedFile:
        """A staged file that begins as ``base``, or an empty one; close it with ``aclose``.

        The reader stays the caller's to close: not before the staged file is closed or an
        upload of it has succeeded.
        """
        local = LocalContent(
            self._new_path,
            memory=self._memory,
            disk=self._disk,
            threads=self._threads,
            memory_file=self.settings.memory_file,
            batch=self.settings.batch,
        )
        return StagedFile(
            local,
            base,
            readers=self._readers,
            clock=self._clock,
            settings=self.settings.upload,
            notes=self.notes,
            turns=self._turns,
        )

    def _new_path(self) -> Path:
        return self._directory / f"{next(self._numbers)}.data"

    def content_of(self, state: PendingState) -> SharedFile | Extent | None:
        """Where the content of an entry of the journal is, held for the caller; ``None`` for an
        empty file. OSError where its file cannot be opened. Blocking, a little."""
        data = state.data
        if self.journal is None or data is None:
            return None
        if isinstance(data, Blob):
            return self.journal.extent(data)
        path = self._directory / data
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        return SharedFile(fd, path, temporary=True)

    def restore(self, state: PendingState, content: SharedFile | Extent | None) -> StagedFile:
        """The staged file that an entry of the journal describes, which takes the content."""
        staged = self.create(None)
        staged.restore(content, state.size)
        return staged

    def close(self) -> None:
        """Give the directory free for another daemon. Its files must be closed before."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _unusable(cache_dir: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"cache_dir {cache_dir} cannot be used ({error.strerror}): "
        "give a directory that this user can write to"
    )


def _take(cache_dir: Path) -> int:
    """Make the directory and lock it; the descriptor that holds the lock."""
    try:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = cache_dir.stat()
        if status.st_uid != os.geteuid():
            raise OperatorError(
                f"cache_dir {cache_dir} belongs to uid {status.st_uid}: "
                "give a directory of the user who mounts, as it will hold all users' data"
            )
        if stat.S_IMODE(status.st_mode) & 0o022:
            raise OperatorError(
                f"cache_dir {cache_dir} can be written to by other users: "
                "give one of its own, or chmod 700 it"
            )
        fd = os.open(
            cache_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
    except OSError as error:
        raise _unusable(cache_dir, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise _unusable(cache_dir, error) from error
        raise OperatorError(
            f"cache_dir {cache_dir} is in use by another mount (pid {holder or 'unknown'}): "
            "give each mount a cache_dir of its own"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd


def _clean(directory: Path, kept: Collection[str]) -> int:
    # Also the names of files that are gone: no other file may ever be taken for one.
    last = max((int(str(name).partition(".")[0]) for name in kept), default=0)
    for path in directory.glob("*.data"):
        if path.name not in kept and path.is_file() and not path.is_symlink():
            path.unlink()
    return last
