"""A deadline for an operation that costs nothing as long as the operation does not wait.

Most of what the kernel asks is answered out of memory, and a cancel scope of trio's takes longer
than such an answer. So an operation begins without one, and gets it when it first waits. What
opens a scope or a nursery of its own, and may do so before the operation has waited, says so by
:func:`waiting` first: scopes must be closed in the opposite order of their opening.
"""

from __future__ import annotations

import contextlib
import logging
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

import trio

logger = logging.getLogger(__name__)

R = TypeVar("R")

_WAITS = object()
# Whether what runs now is the first step of an operation. There is one loop in a process.
_beginning = False
unbounded = 0  # operations that opened a scope without a word, and so had no deadline


async def waiting() -> None:
    """To be called by what is about to open a cancel scope or a nursery, or to sleep, which opens
    one, and may be part of an operation. Does not wait itself."""
    if _beginning:
        await _say()


@types.coroutine
def _say() -> Generator[object, object, None]:
    yield _WAITS


@types.coroutine
def within(seconds: float, operation: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
    """Run an operation; TooSlowError where it is not done ``seconds`` after it first waited."""
    global _beginning
    part_of_one, _beginning = _beginning, True
    task = trio.lowlevel.current_task()
    status = task._cancel_status
    try:
        trap = operation.send(None)
    except StopIteration as ended:
        result: R = ended.value
        return result
    finally:
        _beginning = part_of_one
    clean = task._cancel_status is status
    if part_of_one:
        yield _WAITS
    with _scope(seconds) if clean else _none():
        while True:
            try:
                if trap is _WAITS:
                    trap = operation.send(None)
                    continue
                try:
                    answer = yield trap
                except BaseException as error:
                    trap = operation.throw(error)
                else:
                    trap = operation.send(answer)
            except StopIteration as ended:
                result = ended.value
                return result
    raise trio.TooSlowError


def _scope(seconds: float) -> contextlib.AbstractContextManager[object]:
    return trio.CancelScope(relative_deadline=seconds)


def _none() -> contextlib.AbstractContextManager[object]:
    global unbounded
    unbounded += 1
    logger.error("an operation has no deadline: it opened a scope and did not say that it waits")
    return contextlib.nullcontext()


def waited_for(frame: types.FrameType) -> object | None:
    """The operation that a frame of :func:`within` runs, which coroutines do not tell of it."""
    return frame.f_locals.get("operation") if frame.f_code is within.__code__ else None
