"""Where a daemon's log goes: to the journal with fields, or to standard error as text or JSON."""

from __future__ import annotations

import faulthandler
import json
import logging
import sys
from datetime import UTC, datetime

from s3posixfs.cli.journald import JournalHandler, is_journal

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json")
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


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
    faulthandler.enable(sys.stderr)
