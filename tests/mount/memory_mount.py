"""A real kernel mount over a store in memory, in a process of its own: for the mount tests.

``python -m tests.mount.memory_mount MOUNTPOINT CACHE_DIR all|plain|small`` prints ``ready`` once
the mount answers and, after it has ended, the keys of the bucket with size and owner. With
``small`` a part of an upload has 64 KiB and less, so that little files go through every path.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import trio

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.types import MIN_PART_BYTES
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagingArea, StagingSettings
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.filesystem import FileSystem
from s3posixfs.fuse.session import SessionOptions, serve
from tests.filesystem_bed import BUCKET, IDENTITIES, MIB, PLAIN, MemorySigners
from tests.memory_store import ALL_CAPABILITIES, MemoryStore

KIB = 1024
SMALL = StagingSettings(
    memory_file=16 * KIB,
    batch=64 * KIB,
    upload=UploadSettings(
        put_limit=64 * KIB, part_size=64 * KIB, copy_size=256 * KIB, min_part=20 * KIB
    ),
)


def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
    """carol may do nothing, the others anything."""
    return identity != "carol"


async def run(mountpoint: str, cache_dir: Path, kind: str) -> None:
    """Serve until unmounted or stopped."""
    capabilities = PLAIN if kind == "plain" else ALL_CAPABILITIES
    least = SMALL.upload.min_part if kind == "small" else MIN_PART_BYTES
    store = MemoryStore(
        BUCKET, capabilities=capabilities, authorize=authorize, min_part_bytes=least
    )
    store.acting_as("alice").put_now(BUCKET, "from-alice", b"alice's")
    store.acting_as("bob").put_now(BUCKET, "by/bob", b"bob's")
    link = {"mode": str(0o120777)}
    store.acting_as("alice").put_now(BUCKET, "by/link", b"bob", metadata=link)
    clock = SystemClock()
    async with trio.open_nursery() as nursery:
        readers = Readers(
            cache=BlockCache(64 * MIB), budget=MemoryBudget(64 * MIB), nursery=nursery
        )
        staging = StagingArea(
            cache_dir,
            memory_limit=64 * MIB,
            disk_limit=None,
            clock=clock,
            readers=readers,
            settings=SMALL if kind == "small" else None,
        )
        filesystem = FileSystem(
            FsConfig(bucket=BUCKET),
            MemorySigners(store, IDENTITIES),
            readers=readers,
            staging=staging,
            clock=clock,
            nursery=nursery,
        )
        await filesystem.start()

        def ready() -> None:
            print("ready", flush=True)

        left = await serve(
            filesystem, mountpoint, SessionOptions(BUCKET, allow_other=True), ready=ready
        )
        staging.close()
        nursery.cancel_scope.cancel()
    for key in store.keys(BUCKET):
        stat = store.stat(BUCKET, key)
        print(stat.size, stat.owner.id if stat.owner else "-", key, sep="\t")
    assert store.state.uploads == {}
    print("left", *left)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    trio.run(run, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
