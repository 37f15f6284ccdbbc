"""The folder of all buckets: which there are, and each as an inode."""

from __future__ import annotations

from dataclasses import replace

from s3posixfs.fs.attributes import Attributes, NoEntry
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.mount_state import MountState


class BucketsFolder:
    """The root of a mount of all buckets."""

    def __init__(self, state: MountState) -> None:
        self._state = state
        self._seen: tuple[float, dict[bytes, float]] = (float("-inf"), {})
        self.attributes: dict[bytes, Attributes] = {}  # set through this mount

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
        return self.inode(name, buckets[name])

    def inode(self, name: bytes, created: float) -> Inode:
        """The folder of a bucket; attributes that were set on it hold while mounted."""
        root = self._state.table.root
        known = root.children.get(name)
        if known is not None:
            known.entry = replace(known.entry, fetched_at=self._state.now())
            return known
        entry = self._state.unmarked_directory(int(created * 1e9) or None)
        chosen = self.attributes.get(name)
        if chosen is not None:
            entry = replace(entry, attributes=chosen)
        return self._state.table.attach(root, name, entry)
