"""What goes wrong between the client and a store, as the client needs to tell it apart."""

from __future__ import annotations

from typing import Literal

from s3posixfs.core.errors import S3Error

FailureKind = Literal["resolve", "connect", "tls", "lost", "slow", "garbled"]

_CODES: dict[FailureKind, str] = {
    "resolve": "ConnectionError",
    "connect": "ConnectionError",
    "tls": "ConnectionError",
    "lost": "ConnectionError",
    "slow": "RequestTimeout",
    "garbled": "InvalidResponse",
}


class ConnectionFailed(S3Error):
    """No usable answer came. ``kind`` says how far the attempt got.

    ``resolve``, ``connect`` and ``tls`` happened before any byte of the request was sent, so it
    cannot have taken effect. After ``lost``, ``slow`` and ``garbled`` it may have.
    ``stale`` marks a kept-alive connection that was closed before it gave a byte of an answer.
    """

    def __init__(self, kind: FailureKind, message: str, *, stale: bool = False) -> None:
        super().__init__(_CODES[kind], message)
        self.kind: FailureKind = kind
        self.stale = stale

    @property
    def unsent(self) -> bool:
        """Whether the store cannot have seen the request."""
        return self.kind in ("resolve", "connect", "tls")


class Refused(S3Error):
    """An error answer of the store.

    ``repeated`` says that an earlier attempt of the same request ended without an answer, so
    the refusal may be of a change that this client itself has made. ``region`` is the one that
    the store said to sign for, and ``date`` its clock (seconds since the epoch, 0.0 unknown).
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int = 0,
        request_id: str = "",
        resource: str = "",
        region: str = "",
        date: float = 0.0,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(code, message, status=status, request_id=request_id, resource=resource)
        self.region = region
        self.date = date
        self.retry_after = retry_after
        self.repeated = False
