"""Where a daemon's log goes: to the journal with fields, or to standard error as text or JSON."""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import trio

from s3posixfs.cli.journald import JournalHandler, is_journal
from s3posixfs.metrics.loop_watch import stacks

logger = logging.getLogger(__name__)

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json")
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_STACKS = "s3posixfs.stacks"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Part of logging's interface."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up(level: str, form: str = "auto", fields: dict[str, str] | None = None) -> None:
    """Log to standard error, or to the journal where that is what standard error leads to.

    ``form`` is ``auto``, or ``text`` or ``json`` for standard error in any case; ``fields`` go
    with each line to the journal. A fatal signal leaves the stacks on standard error.
    """
    handler: logging.Handler
    if form == "auto" and is_journal(sys.stderr):
        handler = JournalHandler(fields or {})
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Other people's debug lines hold what must not be logged (botocore logs tokens).
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What somebody asks for by a signal is written at any level.
    logging.getLogger(_STACKS).setLevel(logging.INFO)
    faulthandler.enable(sys.stderr)


def set_level(level: str) -> str:
    """Change the level of the running process; the one before."""
    root = logging.getLogger()
    before = logging.getLevelName(root.level).lower()
    root.setLevel(level.upper())
    logger.log(max(root.level, logging.INFO), "the log level is %s now, after %s", level, before)
    return before


def dump_stacks() -> None:
    """Where every task of this loop waits, in the log: names and places, no values."""
    lines = "\n".join(stacks(trio.lowlevel.current_root_task()))
    logging.getLogger(_STACKS).info("all tasks, as asked by SIGUSR1:\n%s", lines)


async def heed_signals(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """SIGUSR1 logs where all tasks are, SIGUSR2 changes between debug and the level before."""
    usual = logging.getLevelName(logging.getLogger().level).lower()
    usual = "info" if usual == "debug" else usual
    acts: dict[int, Callable[[], object]] = {
        signal.SIGUSR1: dump_stacks,
        signal.SIGUSR2: lambda: set_level(
            usual if logging.getLogger().level == logging.DEBUG else "debug"
        ),
    }
    with trio.open_signal_receiver(*acts) as received:
        # The threads' stacks come also where the loop stands still; then trio's turn comes.
        faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=True, chain=True)
        try:
            task_status.started()
            async for number in received:
                acts[number]()
        finally:
            faulthandler.unregister(signal.SIGUSR1)
