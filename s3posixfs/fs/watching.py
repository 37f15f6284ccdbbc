"""Who did what to which path, and what came of it: for the audit log, and a line in the mount's own
log for what is refused."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3posixfs.core.clock import Clock
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.handles import FileHandle
from s3posixfs.fs.inodes import Inode

if TYPE_CHECKING:
    from s3posixfs.fs.audit_log import AuditLog
    from s3posixfs.fs.directories import Directories
    from s3posixfs.fs.files import Files
    from s3posixfs.fs.mount_state import MountState

logger = logging.getLogger(__name__)

# What is recorded also where it succeeds. Reading and writing are told by open and by the flush of
# what was written: a line for each call would say no more.
AUDITED = frozenset(
    {
        *("open", "create", "flush", "fsync", "opendir", "readlink", "setattr", "setxattr"),
        *("mknod", "mkdir", "symlink", "unlink", "rmdir", "rename", "removexattr"),
    }
)
REFUSALS = frozenset({errno.EACCES, errno.EPERM})
# Of the lines about refusals: so many at once, and then one in so many seconds.
BURST, SECONDS = 20, 3.0

_ACCESS = {os.O_RDONLY: "read", os.O_WRONLY: "write", os.O_RDWR: "read-write"}


@dataclass(frozen=True, slots=True)
class Act:
    """An operation as it began: before it took a name away. ``began`` is monotonic seconds."""

    operation: str
    uid: int | None
    pid: int | None
    path: str | None
    target: str | None  # of a rename
    identity: str | None
    access: str | None  # of an open: read, write, read-write
    began: float


class Watch:
    """Describes operations by the arguments that :class:`~s3posixfs.fs.filesystem.FileSystem`
    takes."""

    def __init__(
        self, state: MountState, files: Files, directories: Directories, log: AuditLog | None
    ) -> None:
        self._state = state
        self._files = files
        self._directories = directories
        self._log = log
        self._limit = RefusalLimit(state.clock)
        self.refusals = 0

    @property
    def recording(self) -> bool:
        """Whether there is an audit log."""
        return self._log is not None

    def records(self, operation: str, arguments: Mapping[str, object]) -> bool:
        """Whether the operation (of ``AUDITED``) gets a line also where it succeeds."""
        if operation in ("flush", "fsync"):
            handle = self._file_handle(arguments)
            return handle is not None and handle.open_file.unsaved
        return True

    def begin(self, operation: str, arguments: Mapping[str, object]) -> Act:
        """Who is about to do what."""
        handle = self._file_handle(arguments)
        caller = arguments.get("caller") or (handle.caller if handle is not None else None)
        caller = caller if isinstance(caller, Caller) else None
        flags = arguments.get("flags") if operation in ("open", "create") else None
        return Act(
            operation,
            caller.uid if caller is not None else None,
            caller.pid if caller is not None else None,
            self._path_of(arguments, handle),
            self._named(arguments.get("new_parent"), arguments.get("new_name")),
            handle.signer.name if handle is not None else self._identity(caller),
            _ACCESS.get(flags & os.O_ACCMODE) if isinstance(flags, int) else None,
            self._state.now(),
        )

    def end(self, act: Act, error: OSError | None, request_ids: list[str]) -> None:
        """What came of it: a line in the audit log, and one in the mount's where it was refused."""
        code = error.errno if error is not None else None
        if code in REFUSALS:
            self._refused(act, code)
        if self._log is None:
            return
        result = "ok" if error is None else errno.errorcode.get(code or errno.EIO, "EIO")
        entry: dict[str, object] = {
            "uid": act.uid,
            "pid": act.pid,
            "operation": act.operation,
            "path": act.path,
            "identity": act.identity,
            "result": result,
            "requests": request_ids,
            "milliseconds": round((self._state.now() - act.began) * 1000, 2),
        }
        if act.target is not None:
            entry["to"] = act.target
        if act.access is not None:
            entry["access"] = act.access
        self._log.note(entry)

    def _refused(self, act: Act, code: int | None) -> None:
        self.refusals += 1
        left_out = self._limit.take()
        if left_out is None:
            return
        more = f"; {left_out:,} more were not logged" if left_out else ""
        logger.warning(
            "%s refused to uid %s (process %s) as %s: %s: %s%s",
            act.operation,
            act.uid,
            act.pid,
            act.identity or "nobody",
            json.dumps(act.path),
            errno.errorcode.get(code or 0, code),
            more,
        )

    # Who and where.

    def _file_handle(self, arguments: Mapping[str, object]) -> FileHandle | None:
        number = arguments.get("handle")
        if not isinstance(number, int):
            return None
        try:
            return self._files.handles.get(number)
        except OSError:
            return None

    def _identity(self, caller: Caller | None) -> str | None:
        if caller is None:
            return None
        try:
            return self._state.access.signer(caller).name
        except OSError:
            return None

    def _path_of(self, arguments: Mapping[str, object], handle: FileHandle | None) -> str | None:
        if handle is not None:
            return self.path(handle.open_file.inode)
        number = arguments.get("inode")
        if isinstance(number, int):
            return self._numbered(number)
        parent = arguments.get("parent", arguments.get("old_parent"))
        if parent is not None:
            return self._named(parent, arguments.get("name", arguments.get("old_name")))
        number = arguments.get("handle")
        if not isinstance(number, int):
            return None
        try:
            return self.path(self._directories.handles.get(number).inode)
        except OSError:
            return None

    def _numbered(self, number: int) -> str | None:
        try:
            return self.path(self._state.table.get(number))
        except OSError:
            return None

    def _named(self, parent: object, name: object) -> str | None:
        if not isinstance(parent, int) or not isinstance(name, bytes):
            return None
        folder = self._numbered(parent)
        return None if folder is None else f"{folder.rstrip('/')}/{os.fsdecode(name)}"

    @staticmethod
    def path(inode: Inode) -> str | None:
        """The path from the top of the mount; ``None`` for what has no name any more."""
        names: list[str] = []
        current: Inode | None = inode
        while current is not None and current.parent is not None:
            names.append(os.fsdecode(current.name))
            current = current.parent
        if current is not None and current.detached:
            return None
        return "/" + "/".join(reversed(names))


class RefusalLimit:
    """So that who asks for what he may not have, again and again, fills no disk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = float(BURST)
        self._at = clock.monotonic()
        self._left_out = 0

    def take(self) -> int | None:
        """``None`` where there is to be no line; else how many there were not since the last."""
        now = self._clock.monotonic()
        self._left = min(float(BURST), self._left + (now - self._at) / SECONDS)
        self._at = now
        if self._left < 1:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out
