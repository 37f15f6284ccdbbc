"""AssumeRole over this package's own connections: no thread, and dated by the store's clock.

boto3's client takes 90 ms of CPU for one call with a client of its own, all of it at the cost of
the event loop that the files go through, and it signs by this host's clock alone.
Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import trio

from s3posixfs.core.clock import StoreClock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials
from s3posixfs.s3 import xml
from s3posixfs.s3.answers import refusal
from s3posixfs.s3.body import Pieces
from s3posixfs.s3.endpoint import parse_endpoint
from s3posixfs.s3.errors import ConnectionFailed, Refused
from s3posixfs.s3.http import Response, request_head
from s3posixfs.s3.pool import ConnectionPool
from s3posixfs.s3.retry import RetryPolicy, is_transient
from s3posixfs.s3.wire import tls_context
from s3posixfs.sigv4.signing import Signer

# Someone may be waiting for the credentials; who refreshes ahead of time comes again anyway.
POLICY = RetryPolicy(attempts=3, base=0.2, cap=1.0, deadline=10.0)
TIMEOUT_SECONDS = 10.0
MAX_CONNECTIONS = 8
MAX_STALE = 3
MAX_ANSWER_BYTES = 256 * 1024
# Dates have whole seconds, and answers take a while: less is no difference of clocks.
_AGREE_SECONDS = 3.0
# Of a refusal that does not name the clock: AWS's STS says SignatureDoesNotMatch.
_SKEW_SECONDS = 240.0


class StsClient:
    """One STS endpoint, for any number of identities.

    An async context manager that closes the connections. ``clock`` is the store's and learns
    from the answers. Raises OperatorError for a ``url`` or ``ca_file`` that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        region: str,
        clock: StoreClock,
        random: Callable[[], float],
        ca_file: Path | None = None,
    ) -> None:
        self._endpoint = parse_endpoint(url)
        self._region = region
        self._clock = clock
        self._random = random
        self._pool = ConnectionPool(
            context=tls_context(ca_file) if self._endpoint.tls else None,
            max_connections=MAX_CONNECTIONS,
            connect_timeout=5.0,
        )
        self._threads = trio.CapacityLimiter(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections now and those in use after their answer."""
        self._pool.close()

    async def assume_role(
        self,
        source: Credentials,
        *,
        role_arn: str,
        session_name: str,
        duration: int,
        policy: str | None,
    ) -> Credentials:
        """Temporary credentials for ``duration`` seconds, asked for as ``source``.

        ``policy`` is a session policy as compact JSON. Raises S3Error. Cancellation leaves
        nothing but a session that nobody uses.
        """
        form = {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": role_arn,
            "RoleSessionName": session_name,
            "DurationSeconds": str(duration),
        }
        if policy is not None:
            form["Policy"] = policy
        answer, asked_at = await self._send(
            Signer(source, self._region, "sts"), urlencode(form).encode()
        )
        # What it says of the end of a life is by its own clock. It may have answered long ago: who
        # slept reads it now, and must not take the time that it slept for a wrong clock.
        agree = asked_at - _AGREE_SECONDS <= answer.date <= self._clock.time() + _AGREE_SECONDS
        if answer.date and not agree:
            self._clock.learn(answer.date)
        return _credentials(answer)

    async def _send(self, signer: Signer, body: bytes) -> tuple[Response, float]:
        """The answer, and when it was asked for."""
        give_up_at = trio.current_time() + POLICY.deadline
        failures = stale = 0
        skewed = False
        while True:
            error: S3Error
            signed_at = self._clock.time()
            try:
                answer = await self._attempt(signer, body, signed_at)
                if answer.status < 300:
                    return answer, signed_at
                refused = error = refusal("POST", "", "", answer)
                if not skewed and self._is_skew(refused, signed_at):
                    skewed = True
                    continue
            except ConnectionFailed as failure:
                error = failure
                if failure.stale and stale < MAX_STALE:
                    stale += 1
                    continue
            failures += 1
            pause = POLICY.wait(failures, self._random, error)
            late = trio.current_time() + pause > give_up_at
            if late or failures >= POLICY.attempts or not is_transient(error):
                raise error
            await trio.sleep(pause)

    async def _attempt(self, signer: Signer, body: bytes, now: float) -> Response:
        host, authority, path = self._endpoint.address("", "")
        headers = [
            ("host", authority),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("content-length", str(len(body))),
        ]
        digest = hashlib.sha256(body).hexdigest()
        headers += signer.sign("POST", path, "", headers, digest, now)
        return await self._pool.exchange(
            host,
            self._endpoint.port,
            "POST",
            request_head("POST", path, headers),
            Pieces(body, self._threads),
            limit=MAX_ANSWER_BYTES,
            timeout=TIMEOUT_SECONDS,
        )

    def _is_skew(self, error: Refused, signed_at: float) -> bool:
        told = error.code in ("RequestTimeTooSkewed", "RequestExpired")
        if not error.date or error.status not in (400, 401, 403):
            return told
        if abs(error.date - self._clock.time()) > _AGREE_SECONDS and (
            told or abs(error.date - signed_at) > _SKEW_SECONDS
        ):
            self._clock.learn(error.date)
        return told or abs(error.date - signed_at) > _SKEW_SECONDS


def _credentials(answer: Response) -> Credentials:
    root = xml.parse(answer.body)
    result = next(xml.children(root, "AssumeRoleResult"), None)
    inner = next(xml.children(result, "Credentials"), None) if result is not None else None
    values = xml.fields(inner) if inner is not None else {}
    try:
        return Credentials(
            values["AccessKeyId"],
            values["SecretAccessKey"],
            values["SessionToken"],
            _moment(values["Expiration"]),
        )
    except KeyError as missing:
        raise S3Error(
            "InvalidResponse", f"the answer of the STS endpoint has no {missing}"
        ) from None


def _moment(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time; one without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise S3Error(
            "InvalidResponse", f"the STS endpoint says {text[:40]!r} is when they expire"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
