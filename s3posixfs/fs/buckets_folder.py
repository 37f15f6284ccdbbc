"""The folder of all buckets: which there are, and each as an inode."""

from __future__ import annotations

from dataclasses import replace

from s3posixfs.fs.attributes import NS, NoEntry
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.mount_state import MountState


class BucketsFolder:
    """The root of a mount of all buckets."""

    def __init__(self, state: MountState) -> None:
        self._state = state
        self._seen: tuple[float, dict[bytes, float]] = (float("-inf"), {})

    async def buckets(self) -> dict[bytes, float]:
        """Names and creation times (seconds since the epoch) of the buckets the daemon sees."""
        fetched_at, buckets = self._seen
        if self._state.now() - fetched_at >= self._state.config.metadata_ttl:
            found = await self._state.daemon_store.list_buckets()
            buckets = {bucket.name.encode(): bucket.created for bucket in found}
            self._seen = (self._state.now(), buckets)
        return buckets

    def forget(self) -> None:
        """A bucket was made or removed."""
        self._seen = (float("-inf"), {})

    async def child(self, name: bytes) -> Inode:
        """The folder of a bucket; NoEntry."""
        buckets = await self.buckets()
        if name not in buckets:
            self._state.table.gone(self._state.table.root, name)
            raise NoEntry(name, self._state.config.absence_ttl)
        return self.inode(name)

    def inode(self, name: bytes) -> Inode:
        """The folder of a bucket. What POSIX says of it, a new one is to be asked for."""
        root = self._state.table.root
        known = root.children.get(name)
        if known is not None:
            return known
        _, buckets = self._seen
        created = buckets.get(name, 0.0)
        entry = self._state.unmarked_directory(int(created * NS) or None)
        return self._state.table.attach(root, name, replace(entry, fetched_at=float("-inf")))
