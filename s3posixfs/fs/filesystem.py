"""The filesystem: POSIX operations on inode numbers, over an S3 store."""

from __future__ import annotations

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagingArea
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.signers import Signers


class FileSystem:
    """One mount. Operations raise OSError; ``nursery`` holds its background tasks."""

    def __init__(
        self,
        config: FsConfig,
        signers: Signers,
        *,
        readers: Readers,
        staging: StagingArea,
        clock: Clock,
        nursery: trio.Nursery,
    ) -> None:
        self.config = config
        self._signers = signers
        self._readers = readers
        self._staging = staging
        self._clock = clock
        self._nursery = nursery

    async def start(self) -> None:
        """Look at the source once; S3Error (NoSuchBucket, AccessDenied…) where it cannot be."""
        daemon = self._signers.daemon().store
        if self.config.bucket is None:
            await daemon.list_buckets()
        else:
            await daemon.head_bucket(self.config.bucket)

    async def drain(self) -> tuple[str, ...]:
        """Upload everything dirty; the paths that could not be."""
        await trio.lowlevel.checkpoint()
        return ()

    async def close(self) -> None:
        """Let go of open files and caches; call ``drain`` before."""
        await trio.lowlevel.checkpoint()

    def status(self) -> dict[str, object]:
        """Counters and state, for the status command."""
        return {"dirty_files": 0}
