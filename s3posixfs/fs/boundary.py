"""Where errors of the layers below become errno: once, at the edge of the filesystem."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Coroutine
from errno import EIO, ETIMEDOUT, errorcode
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import trio

from s3posixfs.core.errors import IntegrityError, S3Error
from s3posixfs.core.measuring import Meter
from s3posixfs.core.request_ids import collected
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.watching import AUDITED, REFUSALS, Watch
from s3posixfs.waiting.deadlines import within

logger = logging.getLogger(__name__)

_QUIET_STATUS = frozenset({403, 404, 409, 412})
OK, CANCELLED = "ok", "cancelled"
# What operations end with, for counting.
RESULTS = (
    *(OK, CANCELLED, "EACCES", "EPERM", "ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY"),
    *("EINVAL", "ENAMETOOLONG", "ENODATA", "ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EBUSY", "ESTALE"),
    *("ENOTSUP", "ELOOP", "EXDEV", "EAGAIN", "ETIMEDOUT", "EIO"),
)


class HasConfig(Protocol):
    config: FsConfig
    watch: Watch | None
    meter: Meter


S = TypeVar("S", bound=HasConfig)
P = ParamSpec("P")
R = TypeVar("R")
Method = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]


def as_oserror(error: Exception, operation: str) -> OSError:
    """The errno a program sees. What the store refuses is said at debug, trouble at warning."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, S3Error):
        level = logging.DEBUG if error.status in _QUIET_STATUS else logging.WARNING
        logger.log(level, "%s: %s", operation, error)
        return refusal(error.errno)
    if isinstance(error, trio.TooSlowError):
        logger.warning("%s took too long", operation)
        return refusal(ETIMEDOUT)
    if isinstance(error, IntegrityError):
        logger.error("%s: %s", operation, error)
        return refusal(EIO)
    logger.exception("%s failed", operation, exc_info=error)
    return refusal(EIO)


def _bounded(method: Method[S, P, R], deadline: str) -> Method[S, P, R]:
    name = method.__name__
    audited = name in AUDITED
    parameters = tuple(inspect.signature(method).parameters)[1:]

    # One coroutine for all of it: each more costs as much as answering a stat.
    @functools.wraps(method)
    async def operation(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        watch, act = self.watch, None
        if audited and watch is not None and watch.recording:
            arguments = dict(zip(parameters, args, strict=False))
            if watch.records(name, arguments):
                act = watch.begin(name, arguments)
        began, ended = time.perf_counter(), CANCELLED
        seconds: float = getattr(self.config, deadline)
        try:
            if act is None or watch is None:
                result = await within(seconds, method(self, *args, **kwargs))
            else:
                with collected() as request_ids:
                    result = await within(seconds, method(self, *args, **kwargs))
                watch.end(act, None, request_ids)
            ended = OK
            return result
        except Exception as error:
            raised = as_oserror(error, name)
            ended = errorcode.get(raised.errno or EIO, "EIO")
            if watch is not None and act is not None:
                watch.end(act, raised, request_ids)
            elif watch is not None and raised.errno in REFUSALS:
                arguments = dict(zip(parameters, args, strict=False))
                watch.end(watch.begin(name, arguments), raised, [])
            raise raised from (None if raised is error else error)
        finally:
            self.meter.note(name, ended, time.perf_counter() - began)

    return operation


def request(method: Method[S, P, R]) -> Method[S, P, R]:
    """An operation that moves no file data; it raises OSError only and ends within
    ``FsConfig.request_deadline``."""
    return _bounded(method, "request_deadline")


def transfer(method: Method[S, P, R]) -> Method[S, P, R]:
    """An operation that may move a whole file or folder; bounded by ``transfer_deadline``."""
    return _bounded(method, "transfer_deadline")
