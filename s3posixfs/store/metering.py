"""What the store has done, counted in memory that all its workers share.

Made before they are forked; each counts in a part of its own, which its successor goes on with, and
whichever is asked adds them up.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from s3posixfs import __version__
from s3posixfs.core.measuring import Meter, Numbers
from s3posixfs.metrics.exposition import Family, counter, gauge, labelled, of_meter
from s3posixfs.store.iam.actions import ACTIONS
from s3posixfs.store.operations import OPERATIONS
from s3posixfs.store.sts import ACTION_NAMES

_PREFIX = "s3posixfs_store_"
_NAMES = (
    *(operation.name for operation in OPERATIONS),
    *("Preflight", "PostObject", "sts", "iam"),
    *(f"sts:{name}" for name in ACTION_NAMES),
    *(f"iam:{name}" for name in ACTIONS),
)
# HTTP statuses that are told apart; 0: the store ended before there was an answer.
_STATUSES = (
    *(0, 200, 204, 206, 304, 400, 401, 403, 404, 405, 409, 411, 412, 413, 416, 417, 500, 501),
    *(503, 507),
)
_RESULTS = tuple(str(status) for status in _STATUSES)
_NUMBERS = (
    *("received_bytes", "sent_bytes", "connections", "pid", "started"),
    *("loop_stalls", "loop_stall_seconds"),
)
# What a new worker does not go on with.
_OF_ITS_LIFE = ("connections", "pid", "started")


class Metering:
    """The counters of one worker, ``number`` of ``processes``, and the sums of all."""

    def __init__(self, memory: memoryview[float], processes: int, number: int) -> None:
        cells = Meter.cells(_NAMES, _RESULTS) * processes
        self.requests = Meter(_NAMES, _RESULTS, memory[:cells], number)
        self._numbers = Numbers(_NUMBERS, memory[cells:], number)

    def began(self, now: float) -> None:
        """This process counts from here on; ``now`` in seconds since the epoch."""
        for name in _OF_ITS_LIFE:
            self._numbers.set(name, 0)
        self._numbers.set("pid", os.getpid())
        self._numbers.set("started", now)

    def answered(
        self, operation: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        """One request more. Sizes in bytes of bodies; the status is 0 where nobody got one."""
        self.requests.note(operation, str(status), seconds)
        self._numbers.add("received_bytes", received)
        self._numbers.add("sent_bytes", sent)

    def connected(self, more: int) -> None:
        """One connection more, or less."""
        self._numbers.add("connections", more)

    def stalled(self, seconds: float) -> None:
        """The event loop stood still; from another thread."""
        self._numbers.add("loop_stalls", 1)
        self._numbers.add("loop_stall_seconds", seconds)

    def families(self) -> list[Family]:
        """All of it for Prometheus."""
        return list(self._families())

    def _families(self) -> Iterator[Family]:
        numbers = self._numbers
        yield from of_meter(self.requests, f"{_PREFIX}requests", "Requests", "api")
        for name, text in (
            ("received_bytes", "Bytes of bodies received."),
            ("sent_bytes", "Bytes of bodies sent."),
            ("loop_stalls", "Times that an event loop was seen not to answer within 5 ms."),
            ("loop_stall_seconds", "Time of these stalls."),
        ):
            yield counter(f"{_PREFIX}{name}", text, numbers.total(name))
        yield gauge(f"{_PREFIX}connections", "Open connections.", numbers.total("connections"))
        pids = [int(pid) for pid in numbers.each("pid") if pid]
        yield gauge(f"{_PREFIX}workers", "Processes that serve.", len(pids))
        yield gauge(
            f"{_PREFIX}resident_memory_bytes",
            "Memory of all workers; pages that they share count for each.",
            sum(map(_resident_bytes, pids)),
        )
        yield gauge(
            f"{_PREFIX}start_time_seconds",
            "When the youngest worker began, since the epoch.",
            max(numbers.each("started")),
        )
        yield labelled("gauge", f"{_PREFIX}info", "The version.", "version", {__version__: 1})


def shared(processes: int) -> memoryview[float]:
    """Memory for the counters of so many processes, which those forked from here on share."""
    cells = (Meter.cells(_NAMES, _RESULTS) + len(_NUMBERS)) * processes
    return memoryview(mmap.mmap(-1, cells * 8)).cast("d")


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0
