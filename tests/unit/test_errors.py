"""The table from S3's codes to errno."""

from __future__ import annotations

import errno

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("AccessDenied", 403, errno.EACCES),
        ("NoSuchKey", 404, errno.ENOENT),
        ("", 403, errno.EACCES),
        ("", 404, errno.ENOENT),
        ("Unheard", 500, errno.EIO),
        ("ConnectionError", 0, errno.EIO),
        ("SlowDown", 503, errno.EAGAIN),
        ("ExpiredToken", 400, errno.EACCES),
    ],
)
def test_errno(code: str, status: int, expected: int) -> None:
    assert S3Error(code, status=status).errno == expected


def test_credentials_hide_their_secrets() -> None:
    shown = repr(Credentials("AK", "very-secret", "very-token", 1.0))
    assert "AK" in shown
    assert "very" not in shown
