"""The one boundary where an OSError of the backend becomes an S3Error."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from s3posixfs.core.errors import S3Error

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_BY_ERRNO = {
    errno.ENOSPC: ("StorageFull", "the store's disk is full", 507),
    errno.EDQUOT: ("QuotaExceeded", "the disk quota is used up", 507),
    errno.EFBIG: ("EntityTooLarge", "the filesystem allows no file this large", 400),
    errno.EMFILE: ("SlowDown", "too many open files", 503),
    errno.ENFILE: ("SlowDown", "too many open files", 503),
    errno.ENOMEM: ("SlowDown", "out of memory", 503),
    errno.EACCES: ("AccessDenied", "the store may not read or write this file", 403),
    errno.ENOLCK: ("SlowDown", "out of locks", 503),
    errno.ENAMETOOLONG: ("KeyTooLongError", "the filesystem allows no name this long", 400),
}


def from_os_error(error: OSError) -> S3Error:
    """The S3Error for what the filesystem said; its path is not told."""
    code, message, status = _BY_ERRNO.get(
        error.errno or 0, ("InternalError", f"the store's disk: {error.strerror}", 500)
    )
    return S3Error(code, message, status=status)


def translated(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A public function of the backend: raises S3Error instead of OSError."""

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise from_os_error(error) from error

    return wrapper


def no_such_key(key: str) -> S3Error:
    return S3Error("NoSuchKey", "The specified key does not exist.", status=404, resource=key)


def no_such_bucket(bucket: str) -> S3Error:
    message = "The specified bucket does not exist"
    return S3Error("NoSuchBucket", message, status=404, resource=bucket)


def no_such_upload(upload_id: str) -> S3Error:
    message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may"
        " have been aborted or completed."
    )
    return S3Error("NoSuchUpload", message, status=404, resource=upload_id)


def precondition_failed(which: str) -> S3Error:
    message = "At least one of the pre-conditions you specified did not hold"
    return S3Error("PreconditionFailed", message, status=412, resource=which)
