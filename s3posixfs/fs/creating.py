"""Making names: create, mknod, mkdir, symlink."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from errno import EACCES, EEXIST, EINVAL, ENAMETOOLONG, EPERM

from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import MAX_TARGET_BYTES, PERMISSIONS, Attributes, Opened
from s3posixfs.fs.buckets_folder import BucketsFolder
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.files import Files
from s3posixfs.fs.folders import Folders
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import MADE
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import key_segment, new_segment
from s3posixfs.fs.ownership import alike
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.rewriting import DIRECTORY_TYPE
from s3posixfs.fs.signers import Signer

SPECIAL = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK, stat.S_IFCHR})
DEVICES = frozenset({stat.S_IFBLK, stat.S_IFCHR})


class Creator:
    """New names in folders. Each operation holds the folder's name lock and keeps it in place."""

    def __init__(
        self,
        state: MountState,
        resolver: Resolver,
        buckets: BucketsFolder,
        files: Files,
        folders: Folders,
    ) -> None:
        self._state = state
        self._resolver = resolver
        self._buckets = buckets
        self._files = files
        self._folders = folders

    async def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Inode, Opened]:
        """open(2) with O_CREAT. With O_EXCL the name is put at once, under the condition that it
        is not there, so that it holds between hosts; else, and with write-back, it goes to S3
        with its content."""
        state = self._state
        async with self._folders.changing(parent), state.gate.working_in(parent):
            # Another host's new file may not be written over in the belief that there is none.
            # With write-back the upload sees it.
            replaces = bool(flags & (os.O_EXCL | os.O_TRUNC)) or state.writes_back
            existing = await self._resolver.existing(
                parent, name, caller.pid, "create", certain=not replaces
            )
            if existing is not None:
                if flags & os.O_EXCL:
                    raise refusal(EEXIST)
                return existing, await self._files.open(existing, flags, caller)
            bucket, key = self._new_key(parent, name, directory=False)
            signer = await self._may_add(parent, caller)
            kind = stat.S_IFREG | (mode & PERMISSIONS)
            attributes, keeper = self._new_attributes(parent, kind, caller, signer)
            exclusive = (
                bool(flags & os.O_EXCL)
                and keeper.store.capabilities.conditional_put
                and not state.writes_back
            )
            if not exclusive or keeper is not signer:
                await state.access.require_write(signer, bucket, key)
            if exclusive:
                found = await self._folders.put_new(bucket, key, b"", attributes, keeper)
            else:
                found = ObjectStat(key, 0, "", state.clock.time(), metadata={}, headers={})
            inode = self._folders.publish(parent, name, attributes, found, keeper)
            writer = keeper if keeper is not signer else None
            opened = self._files.open_new(inode, flags, caller, fresh=not exclusive, writer=writer)
            return inode, opened

    async def mknod(
        self, parent: Inode, name: bytes, mode: int, rdev: int, caller: Caller
    ) -> Inode:
        """mknod(2): a regular file, fifo, socket, or, for root, a device."""
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        if kind in DEVICES and not caller.is_root:
            raise refusal(EPERM)
        if kind != stat.S_IFREG and kind not in SPECIAL:
            raise refusal(EINVAL)
        number = rdev if kind in DEVICES else 0
        return await self._make(parent, name, kind | (mode & PERMISSIONS), caller, b"", number)

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Inode:
        """mkdir(2): a marker object, or a bucket in the folder of all buckets."""
        if self._state.table.is_buckets_folder(parent):
            return await self._make_bucket(parent, name, caller)
        return await self._make(parent, name, stat.S_IFDIR | (mode & PERMISSIONS), caller, b"")

    async def symlink(self, parent: Inode, name: bytes, target: bytes, caller: Caller) -> Inode:
        """symlink(2): the object's body is the target."""
        if not target or len(target) > MAX_TARGET_BYTES:
            raise refusal(ENAMETOOLONG if target else EINVAL)
        return await self._make(parent, name, stat.S_IFLNK | 0o777, caller, target)

    async def _make(
        self, parent: Inode, name: bytes, mode: int, caller: Caller, body: bytes, rdev: int = 0
    ) -> Inode:
        state = self._state
        directory = stat.S_ISDIR(mode)
        async with self._folders.changing(parent), state.gate.working_in(parent):
            if await self._resolver.existing(parent, name, caller.pid, "other") is not None:
                raise refusal(EEXIST)
            bucket, key = self._new_key(parent, name, directory=directory)
            signer = await self._may_add(parent, caller)
            size = 0 if directory else len(body)
            attributes, keeper = self._new_attributes(parent, mode, caller, signer, size=size)
            attributes = replace(attributes, rdev=rdev)
            if attributes.type != stat.S_IFMT(mode):
                raise refusal(EPERM)  # the identity's metadata would not be believed
            if keeper is not signer:
                await state.access.require_write(signer, bucket, f"{key}/" if directory else key)
            found = await self._folders.put_new(
                bucket,
                f"{key}/" if directory else key,
                body,
                attributes,
                keeper,
                DIRECTORY_TYPE if directory else None,
                MADE if directory and state.config.is_nobodys(attributes.uid, mode) else None,
            )
            inode = self._folders.publish(parent, name, attributes, found, keeper)
            if directory:
                state.listings.begin_empty(inode, state.now())
            return inode

    async def _make_bucket(self, parent: Inode, name: bytes, caller: Caller) -> Inode:
        async with self._folders.changing(parent):
            if await self._resolver.existing(parent, name, caller.pid, "other") is not None:
                raise refusal(EEXIST)
            self._state.writable()
            signer = self._state.access.signer(caller)
            bucket = key_segment(name)
            if bucket is None:
                raise refusal(EINVAL)
            await signer.store.create_bucket(bucket)
            self._buckets.forget()
            if name not in await self._buckets.buckets():
                # On Ceph RGW it is its maker's alone, and nothing in it could be shown here.
                await signer.store.delete_bucket(bucket)
                raise refusal(EACCES)
            self._folders.names_changed(parent)
            parent.listing = None
            # It is to be empty for S3 clients, too: no object of ours, so no owner and mode.
            return self._buckets.inode(name)

    async def _may_add(self, parent: Inode, caller: Caller) -> Signer:
        """Who signs a new name in the folder; EROFS, EACCES."""
        self._state.writable()
        await self._resolver.refresh(parent)
        self._state.require(parent, caller, os.W_OK | os.X_OK)
        return self._state.access.signer(caller)

    def _new_key(self, parent: Inode, name: bytes, *, directory: bool) -> tuple[str, str]:
        if self._state.table.is_buckets_folder(parent):
            raise refusal(EPERM)  # only buckets can be here
        bucket, prefix = self._state.table.place(parent)
        return bucket, prefix + new_segment(name, prefix, directory=directory)

    def _new_attributes(
        self, parent: Inode, mode: int, caller: Caller, signer: Signer, *, size: int = 0
    ) -> tuple[Attributes, Signer]:
        """Owner, group and mode of a new file: the group is the folder's where that is setgid,
        and then a new folder is setgid too (inode(7)). And who is to sign it: the daemon where
        the metadata of the caller's identity would not be believed in a group that the calling
        process is in."""
        gid = caller.gid
        if parent.attributes.mode & stat.S_ISGID:
            gid = parent.attributes.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        now = self._state.now_ns()
        wanted = Attributes(mode, caller.uid, gid, size, now, now, now)
        rules = self._state.rules
        settled = rules.settle(wanted, signer)
        if alike(wanted, settled) or not caller.in_group(gid):
            return settled, signer
        daemon = self._state.signers.daemon()
        return rules.settle(wanted, daemon), daemon
