"""Errors that cross layers, and the one table from S3's error codes to errno."""

from __future__ import annotations

import errno


class OperatorError(Exception):
    """What the person at the command line can mend: one clear line, exit status 1.

    The message says what is wrong and what to do about it; it never carries a secret.
    """


class IntegrityError(Exception):
    """Bytes that are not what their checksum says."""


class S3Error(Exception):
    """A refusal by an S3 store, or the failure to reach it.

    ``code`` is S3's error code (``NoSuchKey``); failures that have none are
    ``RequestTimeout``, ``ConnectionError`` or ``InvalidResponse`` with status 0.
    ``status`` is the HTTP status, 0 where no answer came.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int = 0,
        request_id: str = "",
        resource: str = "",
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.resource = resource

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.message else self.code
        return f"{text} (request {self.request_id})" if self.request_id else text

    @property
    def unreachable(self) -> bool:
        """Whether the store did not answer, or not as one that works: another try may help."""
        return self.status == 0 or self.status >= 500

    @property
    def errno(self) -> int:
        """The errno a program sees for this error."""
        return errno_of(self.code, self.status)


_ERRNO_BY_CODE = {
    "AccessDenied": errno.EACCES,
    "AccountProblem": errno.EACCES,
    "AllAccessDisabled": errno.EACCES,
    "BucketAlreadyExists": errno.EEXIST,
    "BucketAlreadyOwnedByYou": errno.EEXIST,
    "BucketNotEmpty": errno.ENOTEMPTY,
    "ConditionalRequestConflict": errno.EEXIST,
    "EntityTooLarge": errno.EFBIG,
    "ExpiredToken": errno.EACCES,
    "FolderNotEmpty": errno.ENOTEMPTY,
    "InvalidAccessKeyId": errno.EACCES,
    "InvalidBucketName": errno.EINVAL,
    "InvalidObjectState": errno.EACCES,
    "InvalidRange": errno.EINVAL,
    "InvalidToken": errno.EACCES,
    "InvalidURI": errno.EINVAL,
    "KeyTooLongError": errno.ENAMETOOLONG,
    "MetadataTooLarge": errno.E2BIG,
    "MethodNotAllowed": errno.EPERM,
    "NoSuchBucket": errno.ENOENT,
    "NoSuchKey": errno.ENOENT,
    "NoSuchUpload": errno.EIO,
    "NotImplemented": errno.ENOTSUP,
    "PreconditionFailed": errno.EEXIST,
    "QuotaExceeded": errno.EDQUOT,
    "RequestTimeTooSkewed": errno.EACCES,
    "RequestTimeout": errno.ETIMEDOUT,
    "SignatureDoesNotMatch": errno.EACCES,
    "SlowDown": errno.EAGAIN,
    "StorageFull": errno.ENOSPC,
    "TooManyBuckets": errno.ENOSPC,
    # MinIO's own, from its source (cmd/api-errors.go).
    "XMinioAdminBucketQuotaExceeded": errno.EDQUOT,
    "XMinioInvalidObjectName": errno.EINVAL,
    "XMinioObjectExistsAsDirectory": errno.EISDIR,
    "XMinioParentIsObject": errno.ENOTDIR,
    "XMinioStorageFull": errno.ENOSPC,
}

_ERRNO_BY_STATUS = {
    401: errno.EACCES,
    403: errno.EACCES,
    404: errno.ENOENT,
    405: errno.EPERM,
    409: errno.EBUSY,
    412: errno.EEXIST,
    413: errno.EFBIG,
    501: errno.ENOTSUP,
    507: errno.ENOSPC,
}


def errno_of(code: str, status: int) -> int:
    """The errno for an S3 error code; where the code is unknown, for the HTTP status."""
    found = _ERRNO_BY_CODE.get(code)
    if found is None:
        found = _ERRNO_BY_STATUS.get(status, errno.EIO)
    return found


# An answer that says only that these credentials have run out: refresh once, then retry.
EXPIRED_CREDENTIALS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
)
