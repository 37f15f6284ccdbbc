"""The audit log: one JSON line a request, and one for what lifecycle rules removed.

Lines are collected and written by one task every few milliseconds, in a thread, so that a
slow disk never holds up the event loop. A crash of the process can lose the lines of that time.
A log that can't be written stops no request: the store's own log says so once, and the audit log
says how many lines it lacks as soon as it can.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.rotating import RotatingFile, Rotation
from s3posixfs.store.request import Request

log = logging.getLogger(__name__)

_MOST_WAITING = 100_000
# Who sent what was no request, and what for.
_UNKNOWN: Mapping[str, object] = {"user": None, "operation": "", "decision": "deny"}


@dataclass(frozen=True, slots=True)
class Unread:
    """A request of which nothing more is known than that it was refused: it was no HTTP or named
    no possible bucket or key. ``received_at`` in seconds since the epoch.
    """

    id: str
    received_at: float
    peer: str


class AuditLog:
    """Appends audit lines to ``path`` (mode 0600)."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        rotation: Rotation | None = None,
        interval: float = 0.02,
    ) -> None:
        self._path = path
        self._file = RotatingFile(path, rotation or Rotation())
        self._clock = clock
        self._interval = interval
        self._lines: list[str] = []
        self._wanted = trio.Event()
        self._closing = False
        self._lost = 0
        self._failed = False

    def open(self) -> None:
        """Open the file now; OperatorError when it can't be written."""
        try:
            self._file.open()
        except OSError as error:
            raise OperatorError(
                f"cannot write the audit log {self._path}: {error.strerror}; "
                "make the state directory writable for this user"
            ) from None

    def record(
        self, request: Request | Unread, status: int, sent: int, seconds: float, error_code: str
    ) -> None:
        """Note one answered request. Times in seconds, sizes in bytes.

        ``status`` is 0 where the store ended before there was an answer.
        """
        self._note(
            {
                "time": round(request.received_at, 3),
                "request_id": request.id,
                "peer": request.peer,
                **(_details(request) if isinstance(request, Request) else _UNKNOWN),
                "status": status,
                "error": error_code,
                "bytes_received": request.body.received if isinstance(request, Request) else 0,
                "bytes_sent": sent,
                "milliseconds": round(seconds * 1000, 2),
            }
        )

    def record_lifecycle(self, operation: str, bucket: str, key: str, rule: str) -> None:
        """Note what the store removed by itself, for a bucket's lifecycle ``rule`` (its ID)."""
        self._note(
            {
                "time": round(self._clock.time(), 3),
                "request_id": new_request_id(),
                "peer": None,
                "user": None,
                "operation": operation,
                "bucket": bucket,
                "key": key,
                "decision": "allow",
                "policy": "lifecycle",
                "sid": rule,
            }
        )

    def _note(self, entry: Mapping[str, object]) -> None:
        if len(self._lines) >= _MOST_WAITING:
            self._lost += 1
            return
        self._lines.append(_line(entry))
        if len(self._lines) == 1:
            self._wanted.set()

    async def run(self) -> None:
        """Write until :meth:`close` was called and everything is written; closes the file."""
        while True:
            await self._wanted.wait()
            if not self._closing:
                await trio.sleep(self._interval)
            self._wanted = trio.Event()
            lines, self._lines = self._lines, []
            lost, self._lost = self._lost, 0
            if lines and not await trio.to_thread.run_sync(self._write, lines, lost):
                self._lost += lost + len(lines)
            if self._closing and not self._lines:
                self._file.close()
                return

    def close(self) -> None:
        """Let :meth:`run` write what there is and return."""
        self._closing = True
        self._wanted.set()

    def _write(self, lines: list[str], lost: int) -> bool:
        """Write ``lines``, after a note that ``lost`` are missing; whether it could be done."""
        if lost:
            missing = {"time": round(self._clock.time(), 3), "event": "lost", "lines": lost}
            lines = [_line(missing), *lines]
        try:
            self._file.write("".join(lines).encode("ascii"))
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.error(
                    "the audit log %s cannot be written: %s; requests are served without it",
                    self._path,
                    error.strerror,
                )
            return False
        if lost:
            log.warning("the audit log is written again; %d lines were lost", lost)
        self._failed = False
        return True


def new_request_id() -> str:
    """Sixteen hex digits that no other request or act of the store has."""
    return secrets.token_hex(8).upper()


def _line(entry: Mapping[str, object]) -> str:
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":")) + "\n"


def _details(request: Request) -> dict[str, object]:
    caller = request.caller
    audit = request.audit
    return {
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
    }
