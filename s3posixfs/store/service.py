"""What the handlers work with."""

from __future__ import annotations

from dataclasses import dataclass

from s3posixfs.core.clock import Clock
from s3posixfs.store.authorise import Authoriser
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.configurations import Configurations
from s3posixfs.store.ingest import Ingestor
from s3posixfs.store.state import State
from s3posixfs.store.threads import Threads


@dataclass(frozen=True, slots=True)
class Service:
    """The store's parts. What changes nothing runs in ``reading``, the rest in ``writing``.

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
    reading: Threads
    writing: Threads
    least_session: int = 900
    day_seconds: int = 86_400
