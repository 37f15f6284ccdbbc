"""The audit log: one JSON line a request, appended to a file that may be rotated at any time.

Lines are collected and written by one task every few milliseconds, in a thread, so that a
slow disk never holds up the event loop. A crash of the process can lose the lines of that time.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import trio

from s3posixfs.core.errors import OperatorError
from s3posixfs.store.request import Request

log = logging.getLogger(__name__)

_MOST_WAITING = 100_000


class AuditLog:
    """Appends audit lines to ``path`` (mode 0600)."""

    def __init__(self, path: Path, *, interval: float = 0.02) -> None:
        self._path = path
        self._interval = interval
        self._lines: list[str] = []
        self._wanted = trio.Event()
        self._closing = False
        self._lost = 0
        self._failed = False
        self._descriptor = -1

    def open(self) -> None:
        """Open the file now; OperatorError when it can't be written."""
        try:
            self._reopen()
        except OSError as error:
            raise OperatorError(
                f"cannot write the audit log {self._path}: {error.strerror}; "
                "make the state directory writable for this user"
            ) from None

    def record(
        self, request: Request, status: int, sent: int, seconds: float, error_code: str
    ) -> None:
        """Note one answered request. Times in seconds, sizes in bytes."""
        caller = request.caller
        audit = request.audit
        entry: dict[str, object] = {
            "time": round(request.received_at, 3),
            "request_id": request.id,
            "peer": request.peer,
            "user": caller.name if caller is not None else None,
            "access_key": audit.access_key,
            "operation": audit.operation,
            "action": audit.action,
            "bucket": request.bucket,
            "key": request.key,
            **({"resource": audit.resource} if audit.resource else {}),
            "decision": audit.decision,
            "policy": audit.policy,
            "sid": audit.sid,
            "status": status,
            "error": error_code,
            "bytes_received": request.body.received,
            "bytes_sent": sent,
            "milliseconds": round(seconds * 1000, 2),
        }
        if len(self._lines) >= _MOST_WAITING:
            self._lost += 1
            return
        self._lines.append(json.dumps(entry, ensure_ascii=True, separators=(",", ":")) + "\n")
        if len(self._lines) == 1:
            self._wanted.set()

    async def run(self) -> None:
        """Write until :meth:`close` was called and everything is written."""
        while True:
            await self._wanted.wait()
            if not self._closing:
                await trio.sleep(self._interval)
            self._wanted = trio.Event()
            lines, self._lines = self._lines, []
            if lines:
                await trio.to_thread.run_sync(self._write, "".join(lines).encode("ascii"))
            if self._closing and not self._lines:
                return

    def close(self) -> None:
        """Let :meth:`run` write what there is and return."""
        self._closing = True
        self._wanted.set()

    def _write(self, data: bytes) -> None:
        try:
            if self._rotated():
                self._reopen()
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.error(
                    "the audit log %s cannot be written: %s; requests are served without it",
                    self._path,
                    error.strerror,
                )
        else:
            if self._failed or self._lost:
                log.warning("the audit log is written again; lines were lost")
                self._failed, self._lost = False, 0

    def _rotated(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        here = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _reopen(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
