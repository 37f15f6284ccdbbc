"""Removing names: unlink, rmdir."""

from __future__ import annotations

from errno import EISDIR, ENOTDIR, ENOTEMPTY

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.fs.buckets_folder import BucketsFolder
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.folders import Folders
from s3posixfs.fs.handles import OpenFile
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import MADE
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import BUCKET_KEY
from s3posixfs.fs.permissions import refusal, require_removable
from s3posixfs.fs.resolver import Resolver
from s3posixfs.fs.saving import Saver
from s3posixfs.fs.signers import Signer


class Remover:
    """Names taken out of folders. Each operation holds the folder's name lock and keeps it in
    place."""

    def __init__(
        self,
        state: MountState,
        resolver: Resolver,
        buckets: BucketsFolder,
        saver: Saver,
        folders: Folders,
    ) -> None:
        self._state = state
        self._resolver = resolver
        self._buckets = buckets
        self._saver = saver
        self._folders = folders

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """unlink(2), signed as the caller. Open handles can still be read and written."""
        state = self._state
        async with self._folders.changing(parent), state.gate.working_in(parent):
            state.writable()
            inode = await self._resolver.child(parent, name)
            if inode.is_directory:
                raise refusal(EISDIR)
            await self.may_remove(parent, inode, caller)
            await self._remove_object(parent, inode, state.access.signer(caller))
            await self._folders.keep(parent)

    async def may_remove(self, parent: Inode, inode: Inode, caller: Caller) -> None:
        """EACCES or EPERM where the folder does not let the caller take the name away."""
        await self._resolver.refresh(parent)
        folder = parent.attributes
        if self._state.config.posix_decides:
            # Who may remove a bucket is S3's to say alone.
            buckets = self._state.table.is_buckets_folder(parent)
            nobodys = not buckets and self._is_nobodys(parent)
            require_removable(folder, inode.attributes, caller, nobodys=nobodys)

    def _is_nobodys(self, folder: Inode) -> bool:
        """Whether nobody made the folder: neither an identity, nor anybody through a mount."""
        state, shown, marker = self._state, folder.attributes, folder.entry.stat
        if not state.config.is_nobodys(shown.uid, shown.mode):
            return False
        if marker is None:
            return True
        daemon = state.signers.daemon().name
        if marker.owner is not None:
            believed = state.rules.trusts(marker.owner.id)
            known = state.signers.identity_map().by_owner_id(marker.owner.id) is not None
        else:
            believed = folder.entry.writer == daemon
            known = folder.entry.writer is not None
        if believed:
            return not MADE.items() <= (marker.metadata or {}).items()
        return not known

    async def _remove_object(self, parent: Inode, inode: Inode, signer: Signer) -> None:
        """Delete a file's object and name."""
        bucket, key = self._state.table.key(inode)
        open_file = inode.open_file
        if open_file is None:
            await self._state.settle_journal()
            with inode.own_change():
                await signer.store.delete(bucket, key)
                self._folders.unpublish(parent, inode)
            return
        async with open_file.lock:
            if open_file.handles:
                await self._saver.preserve(open_file)
            async with self._saver.holding(open_file):
                with inode.own_change():
                    await self._delete(open_file, bucket, key, signer)
                    self._folders.unpublish(parent, inode)
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
        async with self._folders.changing(parent), state.gate.working_in(parent):
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
                await self._folders.times.settle(inode)
                if buckets:
                    await self._remove_bucket(parent, inode, signer)
                else:
                    await self._remove_marker(parent, inode, signer)
            finally:
                lock.release()
            if not buckets:
                await self._folders.keep(parent)

    async def _remove_bucket(self, parent: Inode, inode: Inode, signer: Signer) -> None:
        bucket, _ = self._state.table.place(inode)
        if any(child.is_local for child in inode.children.values()):
            raise refusal(ENOTEMPTY)
        try:
            await signer.store.delete_bucket(bucket)
        except S3Error as error:
            if error.errno != ENOTEMPTY:
                raise
            page = await self._state.daemon_store.list_objects(bucket, max_keys=2)
            if [found.key for found in page.objects] != [BUCKET_KEY]:
                raise
            await signer.store.delete(bucket, BUCKET_KEY)
            await signer.store.delete_bucket(bucket)
        self._buckets.forget()
        self._folders.unpublish(parent, inode)

    async def _remove_marker(self, parent: Inode, inode: Inode, signer: Signer) -> None:
        await self.require_empty(inode)
        bucket, prefix = self._state.table.place(inode)
        with inode.own_change():
            await signer.store.delete(bucket, prefix)
            self._folders.unpublish(parent, inode)

    async def require_empty(self, inode: Inode) -> None:
        """ENOTEMPTY where the directory has more than its marker, also what is not in S3 yet."""
        if any(child.is_local for child in inode.children.values()):
            raise refusal(ENOTEMPTY)
        bucket, prefix = self._state.table.place(inode)
        page = await self._state.daemon_store.list_objects(bucket, prefix=prefix, max_keys=2)
        if any(found.key != prefix for found in page.objects) or page.prefixes:
            raise refusal(ENOTEMPTY)
