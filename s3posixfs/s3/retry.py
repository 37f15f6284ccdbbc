"""When to ask again, how long to wait before, and when the store has had enough. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s3posixfs.core.errors import S3Error
from s3posixfs.s3.errors import ConnectionFailed, Refused

_TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",  # 409: a write raced this one; AWS says to try again
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How persistent one request is. Times are in seconds.

    The wait before attempt n+1 is drawn between half of and all of ``base * 2**(n-1)``, at most
    ``cap``. No attempt begins later than ``deadline`` after the first.
    """

    attempts: int = 10
    base: float = 0.1
    cap: float = 5.0
    deadline: float = 60.0

    def wait(self, attempt: int, random: Callable[[], float], error: S3Error) -> float:
        """Seconds to wait after ``attempt`` (from 1) failed; ``random`` gives [0, 1)."""
        longest = min(self.cap, self.base * 2.0 ** (attempt - 1))
        if isinstance(error, Refused) and error.code == "SlowDown":
            longest = min(self.cap, longest * 2)
        pause = longest * (0.5 + 0.5 * random())
        if isinstance(error, Refused) and error.retry_after > 0:
            pause = max(pause, min(error.retry_after, 2 * self.cap))
        return pause


class RetryBudget:
    """A bucket of tokens for all requests to one endpoint.

    A retry takes some, a success returns one. When an endpoint fails everything, the bucket
    runs dry and requests fail at their first attempt, so that retries do not multiply the load
    on a store that is down (the scheme of the AWS SDKs' standard mode).
    """

    __slots__ = ("_capacity", "_tokens")

    RETRY_COST = 5
    TIMEOUT_COST = 10

    def __init__(self, capacity: int = 500) -> None:
        self._capacity = capacity
        self._tokens = capacity

    @property
    def tokens(self) -> int:
        return self._tokens

    def take(self, error: S3Error) -> bool:
        """Pay for one retry after ``error``; False when there is not enough left."""
        cost = self.TIMEOUT_COST if error.code == "RequestTimeout" else self.RETRY_COST
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def give_back(self, tokens: int = 1) -> None:
        """A request has succeeded: what its retries cost comes back, or one token."""
        self._tokens = min(self._capacity, self._tokens + tokens)


def is_transient(error: S3Error) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, ConnectionFailed):
        return error.kind != "tls"
    return error.status in _TRANSIENT_STATUS or error.code in _TRANSIENT_CODES
