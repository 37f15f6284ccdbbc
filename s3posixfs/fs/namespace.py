"""Making and removing names: create, mknod, mkdir, symlink, unlink, rmdir, readlink."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from errno import EACCES, EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOTDIR, ENOTEMPTY, EPERM

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ObjectStat
from s3posixfs.fs.attributes import PERMISSIONS, Attributes, Entry, Opened
from s3posixfs.fs.buckets_folder import BucketsFolder
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.files import Files
from s3posixfs.fs.handles import OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import encode
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import key_segment, new_segment
from s3posixfs.fs.permissions import refusal, require_removable
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.rewriting import DIRECTORY_TYPE
from s3posixfs.fs.saving import Saver
from s3posixfs.fs.signers import Signer

logger = logging.getLogger(__name__)

MAX_TARGET_BYTES = 4095  # PATH_MAX without its final NUL
SPECIAL = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK, stat.S_IFCHR})
DEVICES = frozenset({stat.S_IFBLK, stat.S_IFCHR})


class Namespace:
    """Names in folders. Each operation holds the folder's name lock and keeps it in place."""

    def __init__(
        self,
        state: MountState,
        resolver: Resolver,
        buckets: BucketsFolder,
        files: Files,
        saver: Saver,
    ) -> None:
        self._state = state
        self._resolver = resolver
        self._buckets = buckets
        self._files = files
        self._saver = saver

    @asynccontextmanager
    async def changing(self, *folders: Inode) -> AsyncIterator[None]:
        """The name locks of folders in the order of their numbers."""
        ordered = sorted({folder.number: folder for folder in folders}.items())
        locks = [folder.names_lock() for _, folder in ordered]
        for position, lock in enumerate(locks):
            try:
                await lock.acquire()
            except BaseException:
                for held in locks[:position]:
                    held.release()
                raise
        try:
            yield
        finally:
            for lock in locks:
                lock.release()

    async def _may_add(self, parent: Inode, caller: Caller) -> Signer:
        """Who signs a new name in the folder; EROFS, EACCES."""
        self._state.writable()
        await self._resolver.refresh(parent)
        self._state.require(parent, caller, os.W_OK | os.X_OK)
        return self._state.access.signer(caller)

    def _new_attributes(
        self, parent: Inode, mode: int, caller: Caller, signer: Signer, *, size: int = 0
    ) -> Attributes:
        """Owner, group and mode of a new file: the group is the folder's where that is setgid,
        and then a new folder is setgid too (inode(7))."""
        gid = caller.gid
        if parent.attributes.mode & stat.S_ISGID:
            gid = parent.attributes.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        now = self._state.now_ns()
        wanted = Attributes(mode, caller.uid, gid, size, now, now, now)
        return self._state.rules.settle(wanted, signer)

    def _publish(
        self, parent: Inode, name: bytes, attributes: Attributes, found: ObjectStat, signer: Signer
    ) -> Inode:
        """The name is there: say so everywhere in this step."""
        state = self._state
        entry = Entry(attributes, found, state.now(), exact=True, writer=signer.name)
        inode = state.table.attach(parent, name, entry)
        inode.serial += 1
        inode.names_ns = inode.renamed_ns = 0
        self.names_changed(parent)
        if parent.listing is not None:
            row = None if attributes.is_directory else found
            parent.listing.put(name, row, state.now())
        return inode

    def _unpublish(self, parent: Inode, inode: Inode) -> None:
        self.names_changed(parent)
        if parent.listing is not None:
            parent.listing.remove(inode.name)
        inode.removed = True
        self._state.table.detach(inode)

    def names_changed(self, *folders: Inode) -> None:
        """This mount made, removed or renamed a name in these folders."""
        now = self._state.now_ns()
        for folder in folders:
            folder.serial += 1
            folder.names_ns = now

    # Making.

    async def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Inode, Opened]:
        """open(2) with O_CREAT. With O_EXCL the name is put at once, under the condition that it
        is not there, so that it holds between hosts; else, and with write-back, it goes to S3
        with its content."""
        state = self._state
        async with self.changing(parent), state.gate.working_in(parent):
            # Another host's new file may not be written over in the belief that there is none.
            # With write-back the upload sees it.
            replaces = bool(flags & (os.O_EXCL | os.O_TRUNC)) or state.writes_back
            existing = await self._resolver.existing(parent, name, certain=not replaces)
            if existing is not None:
                if flags & os.O_EXCL:
                    raise refusal(EEXIST)
                return existing, await self._files.open(existing, flags, caller)
            bucket, key = self._new_key(parent, name, directory=False)
            signer = await self._may_add(parent, caller)
            kind = stat.S_IFREG | (mode & PERMISSIONS)
            attributes = self._new_attributes(parent, kind, caller, signer)
            exclusive = (
                bool(flags & os.O_EXCL)
                and signer.store.capabilities.conditional_put
                and not state.writes_back
            )
            if exclusive:
                found = await self._put(bucket, key, b"", attributes, signer)
            else:
                await state.access.require_write(signer, bucket, key)
                found = ObjectStat(key, 0, "", state.clock.time(), metadata={}, headers={})
            inode = self._publish(parent, name, attributes, found, signer)
            return inode, self._files.open_new(inode, flags, caller, fresh=not exclusive)

    def _new_key(self, parent: Inode, name: bytes, *, directory: bool) -> tuple[str, str]:
        if self._state.table.is_buckets_folder(parent):
            raise refusal(EPERM)  # only buckets can be here
        bucket, prefix = self._state.table.place(parent)
        return bucket, prefix + new_segment(name, prefix, directory=directory)

    async def _put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        signer: Signer,
        content_type: str | None = None,
    ) -> ObjectStat:
        """Put a new object that must not be there yet; EEXIST where it is."""
        metadata = encode(attributes, {})
        result = await signer.store.put(
            bucket, key, body, metadata=metadata, content_type=content_type, if_none_match=True
        )
        modified = result.last_modified or self._state.clock.time()
        found = ObjectStat(
            key,
            len(body),
            result.etag,
            modified,
            metadata=metadata,
            content_type=content_type,
            headers={},
        )
        self._state.known.remember(bucket, found)
        self._state.access.wrote(signer, bucket, key)
        return found

    async def _make(
        self, parent: Inode, name: bytes, mode: int, caller: Caller, body: bytes, rdev: int = 0
    ) -> Inode:
        state = self._state
        directory = stat.S_ISDIR(mode)
        async with self.changing(parent), state.gate.working_in(parent):
            if await self._resolver.existing(parent, name) is not None:
                raise refusal(EEXIST)
            bucket, key = self._new_key(parent, name, directory=directory)
            signer = await self._may_add(parent, caller)
            size = 0 if directory else len(body)
            attributes = self._new_attributes(parent, mode, caller, signer, size=size)
            attributes = replace(attributes, rdev=rdev)
            if attributes.type != stat.S_IFMT(mode):
                raise refusal(EPERM)  # the identity's metadata would not be believed
            found = await self._put(
                bucket,
                f"{key}/" if directory else key,
                body,
                attributes,
                signer,
                DIRECTORY_TYPE if directory else None,
            )
            inode = self._publish(parent, name, attributes, found, signer)
            if directory:
                state.listings.begin_empty(inode, state.now())
            return inode

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

    async def symlink(self, parent: Inode, name: bytes, target: bytes, caller: Caller) -> Inode:
        """symlink(2): the object's body is the target."""
        if not target or len(target) > MAX_TARGET_BYTES:
            raise refusal(ENAMETOOLONG if target else EINVAL)
        return await self._make(parent, name, stat.S_IFLNK | 0o777, caller, target)

    async def readlink(self, inode: Inode, caller: Caller) -> bytes:
        """The target, which S3 must let the caller read. EINVAL for what is not a link."""
        if not stat.S_ISLNK(inode.attributes.mode):
            raise refusal(EINVAL)
        state = self._state
        signer = state.access.reading(state.access.signer(caller))
        if inode.detached and inode.target is not None:
            return inode.target[1]
        await self._resolver.refresh(inode)
        bucket, key = state.table.key(inode)
        await state.access.require_read(signer, bucket, key)
        found = inode.entry.stat
        etag = found.etag if found is not None else ""
        if inode.target is None or inode.target[0] != etag:
            _, body = await signer.store.get(bucket, key, length=MAX_TARGET_BYTES + 1)
            inode.target = (etag, bytes(body))
        target = inode.target[1]
        if not target or len(target) > MAX_TARGET_BYTES or b"\0" in target:
            raise refusal(EINVAL)
        return target

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Inode:
        """mkdir(2): a marker object, or a bucket in the folder of all buckets."""
        if self._state.table.is_buckets_folder(parent):
            return await self._make_bucket(parent, name, caller)
        return await self._make(parent, name, stat.S_IFDIR | (mode & PERMISSIONS), caller, b"")

    async def _make_bucket(self, parent: Inode, name: bytes, caller: Caller) -> Inode:
        async with self.changing(parent):
            if await self._resolver.existing(parent, name) is not None:
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
            self.names_changed(parent)
            parent.listing = None
            # Nothing in S3 could hold an owner and a mode: shown as it will be after a remount.
            return self._buckets.inode(name, self._state.clock.time())

    # Removing.

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """unlink(2), signed as the caller. Open handles can still be read and written."""
        state = self._state
        async with self.changing(parent), state.gate.working_in(parent):
            state.writable()
            inode = await self._resolver.child(parent, name)
            if inode.is_directory:
                raise refusal(EISDIR)
            await self.may_remove(parent, inode, caller)
            await self.remove_object(parent, inode, state.access.signer(caller))
            await self.keep_folder(parent)

    async def may_remove(self, parent: Inode, inode: Inode, caller: Caller) -> None:
        """EACCES or EPERM where the folder does not let the caller take the name away."""
        await self._resolver.refresh(parent)
        config, folder = self._state.config, parent.attributes
        if config.posix_decides:
            # Who may remove a bucket is S3's to say alone.
            buckets = self._state.table.is_buckets_folder(parent)
            nobodys = not buckets and config.is_nobodys(folder.uid, folder.mode)
            require_removable(folder, inode.attributes, caller, nobodys=nobodys)

    async def remove_object(self, parent: Inode, inode: Inode, signer: Signer) -> None:
        """Delete a file's object and name."""
        bucket, key = self._state.table.key(inode)
        open_file = inode.open_file
        if open_file is None:
            await self._state.settle_journal()
            with inode.own_change():
                await signer.store.delete(bucket, key)
                self._unpublish(parent, inode)
            return
        async with open_file.lock:
            if open_file.handles:
                await self._saver.preserve(open_file)
            async with self._saver.holding(open_file):
                with inode.own_change():
                    await self._delete(open_file, bucket, key, signer)
                    self._unpublish(parent, inode)
        await self._saver.finish(open_file)

    async def _delete(self, open_file: OpenFile, bucket: str, key: str, signer: Signer) -> None:
        """Delete the object of a file that is open or still to be stored, if there may be one,
        and then what is owed of it: a crash in between leaves the file as it was."""
        pending, writeback = open_file.pending, self._saver.writeback
        if not open_file.fresh or (pending is not None and pending.attempted):
            await self._state.settle_journal()
            await signer.store.delete(bucket, key)
        if pending is not None and writeback is not None:
            await writeback.cancel(pending)

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """rmdir(2): ENOTEMPTY while any key is below it; a bucket in the folder of buckets."""
        state = self._state
        buckets = state.table.is_buckets_folder(parent)
        async with self.changing(parent), state.gate.working_in(parent):
            state.writable()
            inode = await self._resolver.child(parent, name)
            if not inode.is_directory:
                raise refusal(ENOTDIR)
            await self.may_remove(parent, inode, caller)
            signer = state.access.signer(caller)
            lock = inode.names_lock()
            try:
                lock.acquire_nowait()  # waiting here could cross a rename's order of locks
            except trio.WouldBlock:
                raise refusal(ENOTEMPTY) from None  # somebody is making something in it
            try:
                if buckets:
                    await self._remove_bucket(inode, signer)
                    self._unpublish(parent, inode)
                else:
                    await self.require_empty(inode)
                    bucket, prefix = state.table.place(inode)
                    with inode.own_change():
                        await signer.store.delete(bucket, prefix)
                        self._unpublish(parent, inode)
            finally:
                lock.release()
            if not buckets:
                await self.keep_folder(parent)

    async def _remove_bucket(self, inode: Inode, signer: Signer) -> None:
        bucket, _ = self._state.table.place(inode)
        if any(child.is_local for child in inode.children.values()):
            raise refusal(ENOTEMPTY)
        await signer.store.delete_bucket(bucket)
        self._buckets.forget()
        self._buckets.attributes.pop(inode.name, None)

    async def require_empty(self, inode: Inode) -> None:
        """ENOTEMPTY where the directory has more than its marker, also what is not in S3 yet."""
        if any(child.is_local for child in inode.children.values()):
            raise refusal(ENOTEMPTY)
        bucket, prefix = self._state.table.place(inode)
        page = await self._state.daemon_store.list_objects(bucket, prefix=prefix, max_keys=2)
        if any(found.key != prefix for found in page.objects) or page.prefixes:
            raise refusal(ENOTEMPTY)

    async def keep_folder(self, folder: Inode) -> None:
        """A folder without a marker must not vanish with its last file: give it one.

        The daemon writes it, with the attributes that the folder has been shown with. Where it
        cannot, the folder goes; the caller's own work is done all the same.
        """
        state = self._state
        if folder.entry.stat is not None or folder.parent is None:
            return
        bucket, prefix = state.table.place(folder)
        if not prefix:
            return
        listing = folder.listing
        if listing is not None and listing.complete and len(listing.index) > 1:
            return  # others are left, as far as was seen lately
        daemon = state.signers.daemon()
        try:
            page = await daemon.store.list_objects(bucket, prefix=prefix, max_keys=1)
            if page.objects or page.prefixes:
                return
            shown = folder.shown
            found = await self._put(bucket, prefix, b"", shown, daemon, DIRECTORY_TYPE)
        except S3Error as error:
            logger.debug("no marker for %s: %s", folder.path(), error)
            return
        folder.entry = Entry(shown, found, state.now(), exact=True, writer=daemon.name)
        folder.serial += 1
