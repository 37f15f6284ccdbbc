"""Every error becomes an errno: at the edge of the filesystem, and at the edge to the kernel."""

from __future__ import annotations

import errno
import logging

import pyfuse3
import pytest
import trio

from s3posixfs.core.errors import IntegrityError, S3Error
from s3posixfs.core.measuring import Meter
from s3posixfs.fs.boundary import RESULTS, as_oserror, request
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.watching import Watch
from s3posixfs.fuse.operations import answered

ERRORS = [
    (S3Error("NoSuchKey", status=404), errno.ENOENT),
    (S3Error("AccessDenied", status=403), errno.EACCES),
    (S3Error("SlowDown", status=503), errno.EAGAIN),
    (S3Error("ConnectionError"), errno.EIO),
    (IntegrityError("bytes"), errno.EIO),
    (trio.TooSlowError(), errno.ETIMEDOUT),
    (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
    (KeyError("a fault of ours"), errno.EIO),
    (ExceptionGroup("a nursery's", [ValueError("inside")]), errno.EIO),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_errors_of_the_layers_below(error: Exception, code: int) -> None:
    assert as_oserror(error, "operation").errno == code


class Waiting:
    config = FsConfig(request_deadline=0.01)
    watch: Watch | None = None
    meter = Meter(["forever"], RESULTS)

    @request
    async def forever(self) -> None:
        await trio.sleep_forever()


async def test_operations_are_bounded() -> None:
    with pytest.raises(OSError, check=lambda error: error.errno == errno.ETIMEDOUT):
        await Waiting().forever()


@pytest.mark.parametrize(
    ("error", "code", "logged"),
    [
        (OSError(errno.ENOENT, "no"), errno.ENOENT, False),
        (OSError("no errno"), errno.EIO, True),
        (pyfuse3.FUSEError(errno.ENOTSUP), errno.ENOTSUP, False),
        (RuntimeError("a fault of ours"), errno.EIO, True),
        (ExceptionGroup("a nursery's", [ValueError("inside")]), errno.EIO, True),
    ],
    ids=["errno", "no errno", "fuse", "fault", "group"],
)
async def test_nothing_but_fuse_errors_reaches_the_kernel(
    caplog: pytest.LogCaptureFixture, error: Exception, code: int, logged: bool
) -> None:
    @answered
    async def handler() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    with caplog.at_level(logging.ERROR), pytest.raises(pyfuse3.FUSEError) as raised:
        await handler()
    assert raised.value.errno == code
    assert bool(caplog.records) == logged
