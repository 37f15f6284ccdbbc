"""What a running daemon does on SIGUSR1 and SIGUSR2: say where it stands, and log more or less."""

from __future__ import annotations

import faulthandler
import logging
import signal
import sys
from collections.abc import Callable

import trio

from s3posixfs.metrics.loop_watch import stacks

logger = logging.getLogger(__name__)
# What somebody asks for is written at any level.
_stacks = logging.getLogger("s3posixfs.stacks")


def set_level(level: str) -> str:
    """Change the level of the running process; the one before."""
    root = logging.getLogger()
    before = logging.getLevelName(root.level).lower()
    root.setLevel(level.upper())
    logger.log(max(root.level, logging.INFO), "the log level is %s now, after %s", level, before)
    logger.debug("what the store refuses is logged too, retries, and short stalls of the loop")
    return before


def _dump_stacks() -> None:
    _stacks.setLevel(logging.INFO)
    lines = "\n".join(stacks(trio.lowlevel.current_root_task()))
    _stacks.info("all tasks, as asked by SIGUSR1:\n%s", lines)


async def heed_signals(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """SIGUSR1 logs where all tasks are, SIGUSR2 changes between debug and the level before."""
    usual = logging.getLevelName(logging.getLogger().level).lower()
    usual = "info" if usual == "debug" else usual
    acts: dict[int, Callable[[], object]] = {
        signal.SIGUSR1: _dump_stacks,
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
