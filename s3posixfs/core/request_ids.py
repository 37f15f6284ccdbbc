"""Which requests to S3 an operation made, by the IDs that the store gave them.

They are found where an answer arrives, far below who wants to know. A context variable leads there
and follows tasks that are started on the way; where nobody collects, it costs one look-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Of one operation; those of a task that goes on behind it are not kept for ever.
MOST = 32

_collected: ContextVar[list[str] | None] = ContextVar("request_ids", default=None)


@contextmanager
def collected() -> Iterator[list[str]]:
    """The IDs of the requests that are answered inside the block, the first 32 of them."""
    found: list[str] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def note(request_id: str) -> None:
    """An answer with this ID arrived; empty where the store gave none."""
    found = _collected.get()
    if found is not None and request_id and len(found) < MOST:
        found.append(request_id)
