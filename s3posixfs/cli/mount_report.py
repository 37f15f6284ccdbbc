"""What a running mount says of itself: to `s3posixfs status`, and to Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3posixfs import __version__
from s3posixfs.credentials.refresher import Refresher
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagingArea
from s3posixfs.fs.filesystem import FileSystem
from s3posixfs.fs.signers_s3 import S3Signers
from s3posixfs.metrics.exposition import Family, counter, gauge, labelled, of_meter
from s3posixfs.metrics.loop_watch import LoopWatch
from s3posixfs.s3.client import S3Client

_PREFIX = "s3posixfs_mount_"
# Identities that get a line of their own among the metrics; the daemon's is one more.
_MOST_IDENTITIES = 200


@dataclass(frozen=True, slots=True)
class MountReport:
    """Reads the counters of the parts of one mount. Nothing here waits or blocks."""

    source: str
    read_only: bool
    started: float  # seconds since the epoch
    filesystem: FileSystem
    client: S3Client
    signers: S3Signers
    credentials: Refresher
    readers: Readers
    staging: StagingArea
    loop: LoopWatch

    def status(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        own = self.credentials.status
        capabilities = self.client.traits.capabilities
        return {
            "health": "ok",
            "source": self.source,
            "read_only": self.read_only,
            "version": __version__,
            "pid": os.getpid(),
            "since": self.started,
            "daemon_credentials_expire": self.signers.by_host_clock(own.expires_at),
            "daemon_refreshes": own.refreshes,
            "daemon_last_error": own.last_error,
            "filesystem": self.filesystem.status(),
            "client": self.client.status(),
            "cache": self._cache(),
            "memory": {"resident_bytes": resident_bytes(), **self._staged()},
            "loop_stalls": self.loop.status(),
            "capabilities": {name: getattr(capabilities, name) for name in capabilities.__slots__},
            "identities_error": self.signers.map_error,
            "identities": self.signers.status(),
        }

    def _cache(self) -> dict[str, int]:
        cache, disk = self.readers.cache, self.readers.disk
        return {
            "hits": cache.hits,
            "misses": cache.misses,
            "used_bytes": cache.used,
            "limit_bytes": cache.memory_limit,
            "disk_hits": disk.hits if disk is not None else 0,
            "disk_misses": disk.misses if disk is not None else 0,
            "disk_used_bytes": disk.used if disk is not None else 0,
            "disk_limit_bytes": disk.limit if disk is not None else 0,
        }

    def _staged(self) -> dict[str, int]:
        return {
            "staged_memory_bytes": self.staging.memory_used,
            "staged_disk_bytes": self.staging.disk_used,
        }

    def families(self) -> list[Family]:
        """The same for Prometheus."""
        return [*self._work(), *self._data(), *self._state()]

    def _work(self) -> Iterator[Family]:
        transport = self.client.transport
        counters = transport.counters
        yield from of_meter(
            self.filesystem.meter, f"{_PREFIX}operations", "operations of the kernel", "operation"
        )
        yield from of_meter(
            transport.meter, f"{_PREFIX}s3_requests", "requests to the store", "api"
        )
        yield counter(f"{_PREFIX}s3_retries", "Requests sent again.", counters.retries)
        yield labelled(
            "counter",
            f"{_PREFIX}s3_errors",
            "Answers of the store that were errors, by code.",
            "code",
            _bounded(counters.errors),
        )
        yield counter(
            f"{_PREFIX}s3_sent_bytes", "Bytes of bodies sent to the store.", counters.bytes_sent
        )
        yield counter(
            f"{_PREFIX}s3_received_bytes",
            "Bytes of bodies received from the store.",
            counters.bytes_received,
        )
        connections = self.client.status()
        yield counter(
            f"{_PREFIX}s3_connections_opened",
            "Connections made to the store.",
            float(str(connections["connections_opened"])),
        )
        yield gauge(
            f"{_PREFIX}s3_clock_offset_seconds",
            "How far the store's clock is ahead, once it has complained.",
            self.client.clock_offset,
        )

    def _data(self) -> Iterator[Family]:
        filesystem, cache, staged = self.filesystem, self._cache(), self._staged()
        yield counter(
            f"{_PREFIX}read_bytes", "Bytes that programs have read.", filesystem.bytes_read
        )
        yield counter(
            f"{_PREFIX}written_bytes", "Bytes that programs have written.", filesystem.bytes_written
        )
        yield counter(f"{_PREFIX}cache_hits", "Reads of blocks in memory.", cache["hits"])
        yield counter(f"{_PREFIX}cache_misses", "Reads of blocks that were not.", cache["misses"])
        yield gauge(f"{_PREFIX}cache_bytes", "Bytes of blocks in memory.", cache["used_bytes"])
        yield gauge(
            f"{_PREFIX}cache_limit_bytes", "Bytes that blocks may take.", cache["limit_bytes"]
        )
        for name, text in (
            ("hits", "Ranges that were on the local disk."),
            ("misses", "Ranges that were not."),
        ):
            yield counter(f"{_PREFIX}disk_cache_{name}", text, cache[f"disk_{name}"])
        for name, text in (
            ("used", "Bytes of the local disk that what was read takes."),
            ("limit", "Bytes of the local disk that it may take."),
        ):
            yield gauge(f"{_PREFIX}disk_cache_{name}_bytes", text, cache[f"disk_{name}_bytes"])
        yield labelled(
            "gauge",
            f"{_PREFIX}staged_bytes",
            "Bytes of changed files that are held until they are stored, by where.",
            "where",
            {"memory": staged["staged_memory_bytes"], "disk": staged["staged_disk_bytes"]},
        )

    def _state(self) -> Iterator[Family]:
        status = self.filesystem.status()

        def number(name: str) -> float:
            return float(str(status.get(name, 0)))

        for name, text in (
            ("inodes", "Names that are in memory."),
            ("packed_inodes", "Names of which what is known is packed, as nobody asked for them."),
            ("open_files", "File handles that are open."),
            ("dirty_files", "Changed files that are not in S3 yet."),
            ("dirty_bytes", "Bytes of changed files that are not in S3 yet."),
            ("queued_files", "Closed files that wait in the journal for their upload."),
            ("queued_bytes", "Bytes of closed files that wait for their upload."),
            ("failing_files", "Waiting files whose last upload failed."),
        ):
            yield gauge(f"{_PREFIX}{name}", text, number(name))
        yield gauge(
            f"{_PREFIX}queue_oldest_seconds",
            "Age of the closed file that waits longest for its upload.",
            number("oldest_seconds"),
        )
        for name, source, text in (
            ("uploads", ("uploads", "queue_uploads"), "Files stored."),
            ("upload_failures", ("failed_uploads", "queue_failures"), "Uploads that failed."),
            (
                "evicted_inodes",
                ("evicted_inodes",),
                "Names that the kernel forgot as there were more than cached_entries.",
            ),
            ("refusals", ("refusals",), "Operations refused with EACCES or EPERM."),
        ):
            yield counter(f"{_PREFIX}{name}", text, sum(number(one) for one in source))
        yield from loop_families(_PREFIX, self.loop)
        yield from self._identities()
        yield gauge(f"{_PREFIX}resident_memory_bytes", "Memory of the daemon.", resident_bytes())
        yield gauge(
            f"{_PREFIX}start_time_seconds", "When the mount began, since the epoch.", self.started
        )
        info = labelled("gauge", f"{_PREFIX}info", "The version.", "version", {__version__: 1})
        yield info

    def _identities(self) -> Iterator[Family]:
        own = self.credentials.status
        expiry = {"daemon": self.signers.by_host_clock(own.expires_at)}
        failing = {"daemon": float(own.last_error is not None)}
        for row in self.signers.status():
            if row["used"] and len(failing) <= _MOST_IDENTITIES:
                name = f"identity:{row['name']}" if row["name"] == "daemon" else str(row["name"])
                expiry[name] = row["expires_at"]
                failing[name] = float(row["last_error"] is not None)
        now = time.time()
        yield labelled(
            "gauge",
            f"{_PREFIX}credentials_expiry_seconds",
            "Seconds until the credentials in use end, by identity; none where they do not.",
            "identity",
            {name: at - now for name, at in expiry.items() if at is not None},
        )
        yield labelled(
            "gauge",
            f"{_PREFIX}credentials_failing",
            "1 where the last attempt to get credentials failed.",
            "identity",
            failing,
        )
        yield gauge(
            f"{_PREFIX}identities_error",
            "1 where the identity file has an error and the one before is in use.",
            float(bool(self.signers.map_error)),
        )


def _bounded(counts: dict[str, int], most: int = 40) -> dict[str, float]:
    """The first few codes by name, the rest together: a store may invent what it likes."""
    names = list(counts)[:most]
    found = {name: float(counts[name]) for name in names if name.isalnum() and len(name) <= 64}
    rest = sum(counts.values()) - sum(found.values())
    return {**found, **({"other": rest} if rest else {})}


def loop_families(prefix: str, loop: LoopWatch) -> Iterator[Family]:
    """How often and how long the event loop stood still."""
    yield counter(
        f"{prefix}loop_stalls",
        "Times that the loop was seen not to answer within 5 ms.",
        loop.count,
    )
    yield counter(f"{prefix}loop_stall_seconds", "Time of these stalls.", loop.seconds)


def resident_bytes() -> int:
    """Memory of this process (proc(5))."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
