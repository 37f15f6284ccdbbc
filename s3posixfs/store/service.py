"""What the handlers work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.store.authorise import Authoriser
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.configurations import Configurations
from s3posixfs.store.ingest import Ingestor
from s3posixfs.store.state import State

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Service:
    """The store's parts. ``threads`` bounds the blocking calls in flight.

    ``least_session`` is the shortest life of temporary credentials in seconds, ``day_seconds``
    the length of a day for lifecycle rules; only tests shorten either.
    """

    state: State
    backend: DirectoryBackend
    authoriser: Authoriser
    ingestor: Ingestor
    configurations: Configurations
    clock: Clock
    region: str
    threads: trio.CapacityLimiter
    least_session: int = 900
    day_seconds: int = 86_400

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Run a blocking function in a thread. Cancellation waits for it."""
        return await trio.to_thread.run_sync(function, *arguments, limiter=self.threads)
