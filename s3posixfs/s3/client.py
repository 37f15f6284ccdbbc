"""The client of one S3 endpoint: connections and knowledge shared by all identities."""

from __future__ import annotations

import random as random_module
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from s3posixfs.core.clock import Clock, StoreClock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Capabilities
from s3posixfs.credentials.provider import CredentialsProvider
from s3posixfs.s3.binding import Pipelines
from s3posixfs.s3.endpoint import parse_endpoint
from s3posixfs.s3.pool import ConnectionPool
from s3posixfs.s3.probe import EMBEDDED, NotWritable, Probe, is_embedded, look_without_writing
from s3posixfs.s3.retry import RetryBudget, RetryPolicy
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.traits import ALL_SETTINGS, Traits, with_settings
from s3posixfs.s3.transport import Acting, Transport
from s3posixfs.s3.wire import tls_context

# In a mount of all buckets, how many are tried for one that takes a scratch object.
PROBED_BUCKETS = 5


class S3Client:
    """Talks to one endpoint; :meth:`acting_as` gives the store as one identity sees it.

    An async context manager that closes the connections. ``clock`` is for signatures and
    expiry, ``random`` ([0, 1)) for the jitter of retries. ``settings`` are what somebody knows
    better than a probe (:func:`~s3posixfs.s3.traits.parse_settings`). Raises OperatorError for an
    ``endpoint_url`` or ``ca_file`` that cannot be used.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        region: str = "us-east-1",
        clock: Clock,
        path_style: bool = True,
        ca_file: Path | None = None,
        max_connections: int = 64,
        connect_timeout: float = 5.0,
        retry: RetryPolicy | None = None,
        random: Callable[[], float] = random_module.random,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        endpoint = parse_endpoint(endpoint_url, path_style=path_style)
        self._pool = ConnectionPool(
            context=tls_context(ca_file) if endpoint.tls else None,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
        )
        self._clock = StoreClock(clock)
        self._transport = Transport(
            endpoint,
            self._pool,
            region=region,
            clock=self._clock,
            random=random,
            policy=retry or RetryPolicy(),
            budget=RetryBudget(),
            # Hashing and reading of large bodies: more threads than cores only queue.
            threads=trio.CapacityLimiter(8),
        )
        self._settings = dict(settings or {})
        self._traits = with_settings(Traits(), self._settings)
        self._probing = trio.Lock()
        self._summed_uploads: set[str] = set()
        self._pipelines = Pipelines()

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

    @property
    def endpoint_url(self) -> str:
        return self._transport.endpoint.url

    @property
    def transport(self) -> Transport:
        return self._transport

    @property
    def traits(self) -> Traits:
        return self._traits

    @property
    def sums_bodies(self) -> bool:
        """Whether large bodies are proven by their checksum, and only that is signed."""
        return self._traits.crc64nvme and self._transport.endpoint.private

    @property
    def pipelines(self) -> Pipelines:
        return self._pipelines

    @property
    def summed_uploads(self) -> set[str]:
        """IDs of multipart uploads under way whose parts come with their CRC-64/NVME."""
        return self._summed_uploads

    @property
    def clock(self) -> StoreClock:
        """The store's clock, for whoever else signs for it or judges what it gave."""
        return self._clock

    @property
    def clock_offset(self) -> float:
        """Seconds the store's clock is ahead of this host's, once a store has complained."""
        return self._clock.offset

    @property
    def server(self) -> str:
        """The Server header of the latest answer."""
        return self._transport.server

    def acting_as(self, provider: CredentialsProvider, name: str = "") -> S3ObjectStore:
        """The store as the identity of ``provider`` sees it. Cheap; keep it for its signer."""
        return S3ObjectStore(self, Acting(name, provider))

    async def probe(
        self,
        store: S3ObjectStore,
        bucket: str | None,
        *,
        prefix: str = "",
        may_write: bool = True,
    ) -> Capabilities:
        """What the endpoint does, found out once on a scratch key below ``prefix``.

        Without ``may_write`` nothing is written and only what reading shows is known.
        ``bucket`` None tries the first few that ``store`` lists. Where nothing may be written,
        the result is what is safe, and the next call looks again. Raises S3Error when the
        store cannot be asked. Cancellation removes the scratch key.
        """
        async with self._probing:
            if self._settings.keys() == ALL_SETTINGS:
                self._traits = replace(self._traits, unprobed=False)
            if self._traits.unprobed:
                found = await self._look(store, bucket, prefix, may_write)
                self._traits = with_settings(found, self._settings)
            return self._traits.capabilities

    async def _look(
        self, store: S3ObjectStore, bucket: str | None, prefix: str, may_write: bool
    ) -> Traits:
        if bucket is None:
            names = [found.name for found in await store.list_buckets()][:PROBED_BUCKETS]
        else:
            names = [bucket]
        for name in names if may_write else ():
            try:
                return await Probe(store, name, prefix, secrets.token_hex(8)).run()
            except NotWritable:
                continue
            except S3Error as error:
                if bucket is not None or error.code not in ("AccessDenied", "NoSuchBucket"):
                    raise
        if await is_embedded(store):
            return EMBEDDED
        if names:
            try:
                return await look_without_writing(store, names[0])
            except S3Error as error:
                if error.code != "AccessDenied":
                    raise
        return Traits()

    def status(self) -> dict[str, object]:
        """Counters for people and programs: JSON values only."""
        counters = self._transport.counters
        return {
            "endpoint": self.endpoint_url,
            "server": self.server,
            "requests": counters.requests,
            "requests_by_kind": dict(counters.kinds),
            "requests_by_api": self._transport.meter.summary(),
            "retries": counters.retries,
            "refreshes": counters.refreshes,
            "bytes_sent": counters.bytes_sent,
            "bytes_received": counters.bytes_received,
            "errors": dict(counters.errors),
            "connections_opened": self._pool.counts.opened,
            "connections_stale": self._pool.counts.stale,
            "connections_idle": self._pool.idle,
            "clock_offset_seconds": round(self.clock_offset, 1),
            "conditions": self._traits.conditions(),
            "body_checksum": "crc64nvme" if self.sums_bodies else "sha256",
            "set_by_option": self._settings,
        }
