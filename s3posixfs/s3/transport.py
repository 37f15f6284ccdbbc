"""A request on its way: signed afresh for each attempt, sent, and sent again when that helps."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from s3posixfs.core.clock import StoreClock
from s3posixfs.core.errors import EXPIRED_CREDENTIALS, S3Error
from s3posixfs.core.measuring import Meter
from s3posixfs.core.objectstore import Body
from s3posixfs.core.request_ids import note
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import CredentialsProvider
from s3posixfs.s3.answers import refusal
from s3posixfs.s3.api_names import API_NAMES, api_name
from s3posixfs.s3.body import Pieces, length_of, sha256_hex
from s3posixfs.s3.endpoint import Endpoint
from s3posixfs.s3.errors import ConnectionFailed, Refused
from s3posixfs.s3.http import Response, request_head
from s3posixfs.s3.pool import ConnectionPool
from s3posixfs.s3.retry import RetryBudget, RetryPolicy, is_transient
from s3posixfs.s3.xml import MAX_XML_BYTES, parse_error
from s3posixfs.sigv4.constants import EMPTY_SHA256, UNSIGNED_PAYLOAD
from s3posixfs.sigv4.signing import Signer
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

MAX_SKEW_SECONDS = 600.0
MAX_STALE = 3
MAX_ERROR_BYTES = 64 * 1024
NO_ANSWER = "no_answer"
# What requests end with, for counting: HTTP statuses, or none at all.
RESULTS = (
    *("200", "204", "206", "301", "304", "307", "400", "403", "404", "405", "409", "411", "412"),
    *("413", "416", "429", "500", "501", "502", "503", "504", "507", NO_ANSWER),
)


@dataclass(slots=True, unsafe_hash=True)
class S3Request:
    """What is asked for. ``query`` is as on the wire, percent-encoded, without the ``?``.

    ``limit`` is the largest answer body that is taken, ``timeout`` the seconds without a byte
    moving after which an attempt is given up. ``accepts`` lists statuses from 300 up that are an
    answer, too. The signature leaves the body out where it is ``unsigned``.
    """

    method: Final[str]
    bucket: Final[str] = ""
    key: Final[str] = ""
    query: Final[str] = ""
    headers: Final[tuple[tuple[str, str], ...]] = ()
    body: Final[Body] = b""
    limit: Final[int] = MAX_XML_BYTES
    timeout: Final[float] = 30.0
    accepts: Final[tuple[int, ...]] = ()
    unsigned: Final[bool] = False

    @property
    def kind(self) -> str:
        """What it is about, to be counted by: ``HEAD object``, ``GET bucket``."""
        subject = "object" if self.key else "bucket" if self.bucket else "service"
        return f"{self.method} {subject}"


@dataclass(slots=True, unsafe_hash=True)
class Answer:
    """An answer, and whether an attempt before it ended without one (see :class:`Refused`)."""

    response: Final[Response]
    repeated: Final[bool]


@dataclass(slots=True)
class Counters:
    """What the client has done since it was made."""

    requests: int = 0
    retries: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    refreshes: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Acting:
    """An identity in use: where its credentials come from, and the signer for the present ones."""

    name: str
    provider: CredentialsProvider
    signer: Signer | None = None
    signed_for: Credentials | None = None
    region: str = ""

    def signer_of(self, credentials: Credentials, region: str) -> Signer:
        """The signer of these credentials, made once and kept with its derived key."""
        if self.signer is None or self.signed_for is not credentials or self.region != region:
            self.signer = Signer(credentials, region)
            self.signed_for = credentials
            self.region = region
        return self.signer


class Transport:
    """Sends requests to one endpoint for any number of identities.

    It learns two things from the store's refusals: what its clock says, and the region to sign
    for. Both are kept for later requests.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        pool: ConnectionPool,
        *,
        region: str,
        clock: StoreClock,
        random: Callable[[], float],
        policy: RetryPolicy,
        budget: RetryBudget,
        threads: trio.CapacityLimiter,
    ) -> None:
        self.endpoint = endpoint
        self.region = region
        self.counters = Counters()
        self.meter = Meter(API_NAMES, RESULTS)
        self.server = ""
        self._pool = pool
        self.clock = clock
        self._random = random
        self._policy = policy
        self._budget = budget
        self.threads = threads

    async def send(
        self, request: S3Request, acting: Acting, policy: RetryPolicy | None = None
    ) -> Answer:
        """The answer with a status below 300 (or in ``accepts``). Raises S3Error.

        Transient failures are retried within the policy and the endpoint's budget; expired
        credentials are refreshed once, a skewed clock and a wrong region are corrected once.
        """
        await waiting()
        return await _Sending(self, request, acting, policy or self._policy).run()

    async def attempt(
        self, request: S3Request, acting: Acting, credentials: Credentials, payload_hash: str
    ) -> Response:
        """One attempt: any answer at all, or ConnectionFailed."""
        endpoint = self.endpoint
        host, authority, path = endpoint.address(request.bucket, request.key)
        headers = [("host", authority), *request.headers]
        length = length_of(request.body)
        if length or request.method in ("PUT", "POST"):
            headers.append(("content-length", str(length)))
        signer = acting.signer_of(credentials, self.region)
        headers += signer.sign(
            request.method, path, request.query, headers, payload_hash, self.clock.time()
        )
        target = f"{path}?{request.query}" if request.query else path
        head = request_head(request.method, target, headers)
        self.counters.requests += 1
        self.counters.kinds[request.kind] += 1
        api = api_name(request.method, request.bucket, request.key, request.query, request.headers)
        began, result = trio.current_time(), NO_ANSWER
        try:
            response = await self._pool.exchange(
                host,
                endpoint.port,
                request.method,
                head,
                Pieces(request.body, self.threads) if length else None,
                limit=request.limit,
                timeout=request.timeout,
            )
            result = str(response.status)
        finally:
            self.meter.note(api, result, trio.current_time() - began)
        self.counters.bytes_sent += length
        self.counters.bytes_received += len(response.body)
        self.server = response.headers.get("server", self.server)
        note(response.headers.get("x-amz-request-id", ""))
        return response

    async def heads(
        self, bucket: str, keys: Sequence[str], acting: Acting, *, timeout: float = 30.0
    ) -> list[Response]:
        """Any answers to HEAD of objects, in order, asked for on one connection one behind the
        other: as many as came at this attempt. Raises ConnectionFailed, and S3Error without
        credentials."""
        await waiting()
        signer = acting.signer_of(await acting.provider.get(), self.region)
        now = self.clock.time()
        heads = []
        for key in keys:
            host, authority, path = self.endpoint.address(bucket, key)
            headers = [("host", authority)]
            headers += signer.sign("HEAD", path, "", headers, EMPTY_SHA256, now)
            heads.append(request_head("HEAD", path, headers))
        counters, began = self.counters, trio.current_time()
        counters.requests += len(keys)
        counters.kinds["HEAD object"] += len(keys)
        answers: list[Response] = []
        try:
            answers = await self._pool.exchange_heads(
                host, self.endpoint.port, heads, timeout=timeout
            )
        finally:
            seconds = trio.current_time() - began
            for answer in answers:
                self.meter.note("HeadObject", str(answer.status), seconds)
                note(answer.headers.get("x-amz-request-id", ""))
            for _ in range(len(keys) - len(answers)):
                self.meter.note("HeadObject", NO_ANSWER, seconds)
        return answers

    def pay(self, error: S3Error) -> bool:
        return self._budget.take(error)

    def succeed(self, retries: int) -> None:
        self._budget.give_back(max(1, retries * RetryBudget.RETRY_COST))

    def draw(self) -> float:
        return self._random()


def _is_late_error(request: S3Request, response: Response) -> bool:
    """Whether a 200 is an error after all.

    Copy and Complete send their head before they are done, and then what came of it.
    """
    return (
        response.status == 200
        and request.method in ("PUT", "POST")
        and 0 < len(response.body) < MAX_ERROR_BYTES
        and bool(parse_error(response.body))
    )


class _Sending:
    """The attempts of one request."""

    def __init__(
        self, transport: Transport, request: S3Request, acting: Acting, policy: RetryPolicy
    ) -> None:
        self._transport = transport
        self._request = request
        self._acting = acting
        self._policy = policy
        self._repeated = False
        self._refreshed = False
        self._skewed = False
        self._moved_region = False
        self._stale = 0
        # What the attempt was signed by: another request may learn better meanwhile.
        self._offset = 0.0
        self._region = ""

    async def run(self) -> Answer:
        transport = self._transport
        request = self._request
        if request.unsigned:
            payload_hash = UNSIGNED_PAYLOAD
        elif length_of(request.body):
            payload_hash = await sha256_hex(request.body, transport.threads)
        else:
            payload_hash = EMPTY_SHA256
        give_up_at = trio.current_time() + self._policy.deadline
        failures = 0
        while True:
            credentials = await self._acting.provider.get()
            error: S3Error
            self._offset = transport.clock.offset
            self._region = transport.region
            try:
                response = await transport.attempt(request, self._acting, credentials, payload_hash)
                fine = response.status < 300 or response.status in request.accepts
                if fine and not _is_late_error(request, response):
                    transport.succeed(failures)
                    return Answer(response, self._repeated)
                error = refusal(request.method, request.bucket, request.key, response)
                error.repeated = self._repeated
                if await self._mended(error, credentials):
                    continue
                if response.status != 503 and is_transient(error):
                    self._repeated = True  # it may have been done before the store stumbled
            except ConnectionFailed as failure:
                error = failure
                if not failure.unsent:
                    self._repeated = True
                if failure.stale and self._stale < MAX_STALE:
                    self._stale += 1
                    transport.counters.retries += 1
                    continue
            failures += 1
            transport.counters.errors[error.code] += 1
            if not is_transient(error) or failures >= self._policy.attempts:
                raise error
            pause = self._policy.wait(failures, transport.draw, error)
            if trio.current_time() + pause > give_up_at or not transport.pay(error):
                raise error
            transport.counters.retries += 1
            logger.debug("%s %s: %s; again in %.2f s", request.method, request.bucket, error, pause)
            await trio.sleep(pause)

    async def _mended(self, error: Refused, credentials: Credentials) -> bool:
        """Whether something was learned from the refusal that is worth one more attempt."""
        transport = self._transport
        if not self._skewed and self._is_skew(error):
            self._skewed = True
            return True
        # After a 301 it is another host that is to be asked: nothing that a signature mends.
        elsewhere = error.region and error.region != self._region and error.status == 400
        if not self._moved_region and elsewhere:
            self._moved_region = True
            logger.info("signing for region %s, as the store says", error.region)
            transport.region = error.region
            return True
        if not self._refreshed and self._may_be_outdated(error, credentials):
            self._refreshed = True
            transport.counters.refreshes += 1
            return await self._acting.provider.refresh(credentials) is not credentials
        return False

    def _is_skew(self, error: Refused) -> bool:
        """Whether a signature dated anew may pass; the store's clock is learned on the way.

        The clocks may agree all the same: where this process stood still between signing and
        sending, or another request has learned the difference since.
        """
        clock = self._transport.clock
        told = error.code == "RequestTimeTooSkewed"
        if error.date and (told or error.code == "AccessDenied"):
            # A HEAD's refusal has no code: then only the clocks tell.
            signed_by = clock.time() - clock.offset + self._offset
            differs = abs(error.date - signed_by) > (1.0 if told else MAX_SKEW_SECONDS)
            if differs and clock.offset == self._offset:
                clock.learn(error.date)
            return told or differs
        return told

    def _may_be_outdated(self, error: Refused, credentials: Credentials) -> bool:
        """Whether newer credentials, if there are any, may pass."""
        if error.code in EXPIRED_CREDENTIALS:
            return True
        if error.code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            return True  # a session that the store has forgotten, or a key that was rotated
        if credentials.session_token is None:
            return False
        if self._request.method == "HEAD" and error.status == 400:
            return True  # ExpiredToken, whose code a HEAD cannot say
        # Ceph RGW says AccessDenied when a session has ended.
        expires_at = credentials.expires_at
        return (
            error.status == 403
            and expires_at is not None
            and max(error.date, self._transport.clock.time()) >= expires_at - 5.0
        )
