"""The audit log of a mount: one JSON line an operation, in a file that is set aside by size.

Lines are collected and written every few milliseconds in a thread, so that a slow disk holds
up nobody. A file that cannot be written stops no operation: the mount's log says so once, and the
audit log how many lines it lacks as soon as it can. A crash of the daemon loses the last moment.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.rotating import RotatingFile, Rotation

logger = logging.getLogger(__name__)

MOST_WAITING = 100_000  # lines
INTERVAL = 0.05  # seconds


class AuditLog:
    """Appends lines to ``path`` (mode 0600). :meth:`run` writes until it is cancelled."""

    def __init__(self, path: Path, clock: Clock, rotation: Rotation) -> None:
        self._path = path
        self._clock = clock
        self._file = RotatingFile(path, rotation)
        self._lines: list[str] = []
        self._wanted = trio.Event()
        self._writing = trio.Lock()
        self._lost = 0
        self._failed = False

    def open(self) -> None:
        """Open the file now; OperatorError when it cannot be written."""
        try:
            self._file.open()
        except OSError as error:
            raise OperatorError(
                f"audit_log={self._path}: {error.strerror}; give a file in a folder that the "
                "mount's user may write to"
            ) from None

    def note(self, entry: Mapping[str, object]) -> None:
        """Add a line, with the time in front; control characters in it are escaped."""
        if len(self._lines) >= MOST_WAITING:
            self._lost += 1
            return
        if not self._lines:
            self._wanted.set()
        self._lines.append(self._line(entry))

    def _line(self, entry: Mapping[str, object]) -> str:
        timed = {"time": round(self._clock.time(), 3), **entry}
        return json.dumps(timed, ensure_ascii=True, separators=(",", ":")) + "\n"

    async def run(self) -> None:
        """Write what is noted, a moment later."""
        while True:
            await self._wanted.wait()
            await trio.sleep(INTERVAL)
            self._wanted = trio.Event()
            await self.write()

    async def write(self) -> None:
        """Write what there is now; call it once more at the end."""
        async with self._writing:
            lines, self._lines = self._lines, []
            lost, self._lost = self._lost, 0
            if not lines and not lost:
                return
            if lost:
                lines.insert(0, self._line({"event": "lost", "lines": lost}))
            if not await trio.to_thread.run_sync(self._append, lines):
                self._lost += lost + len(lines) - bool(lost)

    def _append(self, lines: list[str]) -> bool:
        try:
            self._file.write("".join(lines).encode("ascii"))
        except OSError as error:
            if not self._failed:
                logger.error("the audit log %s cannot be written: %s", self._path, error.strerror)
            self._failed = True
            return False
        if self._failed:
            logger.warning("the audit log %s is written again; lines were lost", self._path)
        self._failed = False
        return True
