"""Where a symbolic link points: the body of its object."""

from __future__ import annotations

import stat
from errno import EINVAL

from s3posixfs.fs.attributes import MAX_TARGET_BYTES
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.resolver import Resolver


async def read_target(state: MountState, resolver: Resolver, inode: Inode, caller: Caller) -> bytes:
    """The target, which S3 must let the caller read. EINVAL for what is not a link."""
    if not stat.S_ISLNK(inode.attributes.mode):
        raise refusal(EINVAL)
    signer = state.access.reading(state.access.signer(caller))
    if inode.detached and inode.target is not None:
        return inode.target[1]
    await resolver.refresh(inode)
    bucket, key = state.table.key(inode)
    await state.access.require_read(signer, bucket, key)
    found = inode.entry.stat
    etag = found.etag if found is not None else ""
    if inode.target is None or inode.target[0] != etag:
        read, body = await signer.store.get(bucket, key, length=MAX_TARGET_BYTES + 1)
        if read.etag != etag:
            await resolver.fetch(inode)  # ESTALE where it is no link any more
        inode.target = (read.etag, bytes(body))
    target = inode.target[1]
    if not target or len(target) > MAX_TARGET_BYTES or b"\0" in target:
        raise refusal(EINVAL)
    return target
