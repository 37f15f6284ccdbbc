"""setattr and extended attributes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from errno import EINVAL, ENODATA, ENOSPC, ENOTSUP, EPERM

from s3posixfs.core.types import MAX_USER_METADATA_BYTES, ObjectStat
from s3posixfs.fs import xattrs
from s3posixfs.fs.attributes import PERMISSIONS, AttributeChanges, Attributes
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.files import Files
from s3posixfs.fs.folder_times import FolderTimes
from s3posixfs.fs.handles import FileHandle, OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import MADE, size_of
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.permissions import (
    only_drops_privilege,
    refusal,
    require,
    require_owner,
    without_privilege,
)
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.rewriting import Rewriter
from s3posixfs.fs.signers import Signer

USER = b"user."

Change = Callable[[Attributes], Attributes]


class Changes:
    """Changes of attributes. On a file that is being written they go with its upload, else they
    are in S3 when the call returns."""

    def __init__(
        self,
        state: MountState,
        resolver: Resolver,
        files: Files,
        rewriter: Rewriter,
        times: FolderTimes,
    ) -> None:
        self._state = state
        self._resolver = resolver
        self._files = files
        self._rewriter = rewriter
        self._times = times

    async def setattr(
        self, inode: Inode, changes: AttributeChanges, handle: FileHandle | None, caller: Caller
    ) -> None:
        """chmod(2), chown(2), truncate(2), utimensat(2)."""
        self._state.writable()
        began = self._state.now()
        if handle is None:
            await self._resolver.refresh(inode, whole=True)
        if changes.size is not None:
            before = inode.attributes.mode & PERMISSIONS
            await self._files.truncate(inode, changes.size, handle, caller)
            changes = replace(changes, size=None)
            if changes.mode is not None and only_drops_privilege(before, changes.mode):
                changes = replace(changes, mode=None)  # as truncating has done
        if changes == AttributeChanges():
            return
        through = handle is not None

        def change(now: Attributes) -> Attributes:
            return self._wanted(now, changes, caller, through_handle=through)

        wanted = change(inode.shown)  # EPERM before anything is asked of S3
        signer = self._new_owner(inode.attributes, changes)
        if (changes.mode, changes.uid, changes.gid) != (None, None, None):
            keeper = signer or self._state.access.owner(inode.entry)
            if not self._state.rules.keeps(wanted, keeper):
                # The kernel has let the caller have it so, and the daemon's metadata is believed.
                signer = self._state.signers.daemon()
        metadata = None
        if changes.mode is not None or changes.uid is not None:
            metadata = self._made(inode, wanted)
        await self._apply(inode, change, signer, handle, caller, metadata, since=began)

    def _made(self, inode: Inode, wanted: Attributes) -> Mapping[str, str] | None:
        """New metadata for a folder that somebody makes look like one that nobody made."""
        if not (inode.is_directory and self._state.config.is_nobodys(wanted.uid, wanted.mode)):
            return None
        found = inode.entry.stat
        return {**((found.metadata if found is not None else None) or {}), **MADE}

    def _wanted(
        self,
        now: Attributes,
        changes: AttributeChanges,
        caller: Caller,
        *,
        through_handle: bool,
    ) -> Attributes:
        """The attributes asked for; EPERM for who may not ask."""
        wanted = replace(now, ctime_ns=self._state.now_ns())
        if changes.uid is not None or changes.gid is not None:
            uid = now.uid if changes.uid is None else changes.uid
            gid = now.gid if changes.gid is None else changes.gid
            if not caller.is_root:
                require_owner(now, caller)
                if uid != now.uid or (gid != now.gid and not caller.in_group(gid)):
                    raise refusal(EPERM)
            mode = without_privilege(now, caller)
            wanted = replace(wanted, uid=uid, gid=gid, mode=mode)
        if changes.mode is not None:
            mode = changes.mode & PERMISSIONS
            if not only_drops_privilege(now.mode & PERMISSIONS, mode):
                require_owner(now, caller)
            if not caller.is_root and not now.is_directory and not caller.in_group(wanted.gid):
                mode &= ~stat.S_ISGID
            wanted = replace(wanted, mode=now.type | mode)
        if changes.atime_ns is not None or changes.mtime_ns is not None:
            # "Now" needs write permission only, and the kernel does not say which it is.
            if caller.uid != now.uid and not through_handle:
                self._require_write(now, caller)
            if changes.atime_ns is not None:
                wanted = replace(wanted, atime_ns=changes.atime_ns)
            if changes.mtime_ns is not None:
                wanted = replace(wanted, mtime_ns=changes.mtime_ns)
        return wanted

    def _require_write(self, now: Attributes, caller: Caller) -> None:
        if self._state.config.posix_decides:
            require(now, caller, os.W_OK)

    def _new_owner(self, now: Attributes, changes: AttributeChanges) -> Signer | None:
        """Who is to own the object after a change of uid; ``None`` where it does not change."""
        if changes.uid is None or changes.uid == now.uid:
            return None
        signers = self._state.signers
        if self._state.config.sign_as == "daemon":
            return signers.daemon()
        return signers.for_uid(changes.uid) or signers.daemon()

    async def _apply(
        self,
        inode: Inode,
        change: Change,
        signer: Signer | None,
        handle: FileHandle | None,
        caller: Caller,
        metadata: Mapping[str, str] | None = None,
        *,
        since: float,
    ) -> None:
        """Make the change to the attributes as they are once nothing else can change them."""
        state = self._state
        if inode.detached:
            entry = inode.entry
            found = entry.stat
            if metadata is not None and found is not None:
                found = replace(found, metadata=metadata)
            inode.entry = replace(entry, attributes=change(inode.shown), stat=found)
            return
        if not self._staged_with(inode.open_file, handle):
            await self._require_s3_write(inode, caller, signer)
        async with AsyncExitStack() as stack:
            if inode.parent is not None:
                await stack.enter_async_context(state.gate.working_in(inode.parent))
            open_file = inode.open_file
            if open_file is not None:
                await stack.enter_async_context(open_file.lock)
            if inode.is_directory:
                await self._times.settle(inode)
            wanted = change(inode.shown)
            if open_file is not None and self._staged_with(open_file, handle):
                self._stage(open_file, wanted, signer, metadata)
                if handle is None:
                    await self._files.attributes_staged(open_file)
                return
            await self._rewriter.rewrite(inode, wanted, signer, metadata, since=since)

    async def _require_s3_write(self, inode: Inode, caller: Caller, signer: Signer | None) -> None:
        """Where another identity signs the change, the caller's policy is asked all the same."""
        state = self._state
        own = state.access.signer(caller)
        if state.table.is_buckets_folder(inode):
            return
        if caller.is_root or own.name == (signer or state.access.owner(inode.entry)).name:
            return
        bucket, key = state.table.key(inode)
        await state.access.require_write(own, bucket, key, exact=True)

    @staticmethod
    def _staged_with(open_file: OpenFile | None, handle: FileHandle | None) -> bool:
        """Whether a change goes with the file's next upload: it has one to come anyway, or the
        change comes through a handle that is going to be flushed."""
        if open_file is None:
            return False
        return open_file.unsaved or (handle is not None and handle.writable)

    def _stage(
        self,
        open_file: OpenFile,
        wanted: Attributes,
        signer: Signer | None,
        metadata: Mapping[str, str] | None,
    ) -> None:
        inode = open_file.inode
        entry = inode.entry
        if signer is not None:
            open_file.writer, open_file.assigned = signer, True
        settled = self._state.rules.settle(wanted, self._rewriter.owner_to_be(open_file))
        found: ObjectStat | None = entry.stat
        if metadata is not None and found is not None:
            found = replace(found, metadata=metadata)
        inode.entry = replace(entry, attributes=settled, stat=found)
        inode.note_change()
        open_file.changed = True

    # Extended attributes.

    async def _metadata(self, inode: Inode) -> Mapping[str, str]:
        await self._resolver.refresh(inode, whole=True)
        found = inode.entry.stat
        return (found.metadata if found is not None else None) or {}

    async def _require_s3_read(self, inode: Inode, caller: Caller) -> None:
        """Metadata is the object's as its bytes are: S3 must let the caller read it."""
        access = self._state.access
        signer = access.reading(access.signer(caller))
        if inode.detached or self._state.table.is_buckets_folder(inode):
            return
        bucket, key = self._state.table.key(inode)
        new = inode.open_file is not None and inode.open_file.fresh
        if not (new and inode.entry.writer == signer.name):
            await access.require_read(signer, bucket, key)

    async def getxattr(self, inode: Inode, name: bytes, caller: Caller) -> bytes:
        """ENODATA where there is none. Only ``user.*`` exists: the kernel asks for
        ``security.capability`` at every write, so others are answered without looking."""
        if not name.startswith(USER):
            raise refusal(ENOTSUP)
        if name == USER:
            raise refusal(EINVAL)
        value = xattrs.decode(await self._metadata(inode)).get(_text(name))
        if value is None:
            raise refusal(ENODATA)
        await self._require_s3_read(inode, caller)
        return value

    async def listxattr(self, inode: Inode, caller: Caller) -> list[bytes]:
        """Names of the ``user.*`` attributes."""
        names = (name.encode() for name in xattrs.decode(await self._metadata(inode)))
        found = [name for name in names if name.startswith(USER) and b"\0" not in name]
        if found:
            await self._require_s3_read(inode, caller)
        return found

    async def setxattr(
        self, inode: Inode, name: bytes, value: bytes | None, caller: Caller
    ) -> None:
        """Set an attribute, or remove it with ``None``. ENOSPC over S3's 2 KB of metadata."""
        state = self._state
        state.writable()
        if not name.startswith(USER):
            raise refusal(ENOTSUP)
        if name == USER:
            raise refusal(EINVAL)
        began = state.now()
        kept = await self._metadata(inode)
        if state.config.posix_decides:
            self._require_write(inode.attributes, caller)
        present = xattrs.decode(kept)
        if value is None:
            if present.pop(_text(name), None) is None:
                raise refusal(ENODATA)
        else:
            present[_text(name)] = value
        metadata = xattrs.encode(present, kept)
        if size_of(metadata) > MAX_USER_METADATA_BYTES:
            raise refusal(ENOSPC)

        def change(now: Attributes) -> Attributes:
            return replace(now, ctime_ns=state.now_ns())

        await self._apply(inode, change, None, None, caller, metadata, since=began)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise refusal(ENOTSUP) from None
