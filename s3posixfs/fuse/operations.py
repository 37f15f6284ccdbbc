"""pyfuse3's handlers, one line each, and the one boundary that errors cross to the kernel.

pyfuse3 catches FUSEError only: whatever else leaves a handler ends the mount with a request
unanswered, so ``answered`` wraps every one of them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import pyfuse3
import trio

from s3posixfs.fs.attributes import AttributeChanges, FileAttributes, NoEntry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.filesystem import FileSystem

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

BLOCK_SIZE = 1024 * 1024  # what programs are advised to read and write at a time


def answered(handler: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Turn every exception of a handler into an errno, and log those that are our fault."""

    @functools.wraps(handler)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            if error.errno is None:
                logger.exception("%s failed without an errno", handler.__name__)
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except Exception:
            logger.exception("%s failed", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None
        except BaseExceptionGroup as group:
            ours, rest = group.split(Exception)
            if rest is not None:
                raise
            logger.exception("%s failed", handler.__name__, exc_info=ours)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return guarded


def caller_of(context: pyfuse3.RequestContext) -> Caller:
    """Who asked. A pid of 0 is a process of another pid namespace."""
    return Caller(context.uid, context.gid, context.pid)


def to_kernel(found: FileAttributes) -> pyfuse3.EntryAttributes:
    """The answer in pyfuse3's form; times to live are always set, its defaults are 300 s."""
    attributes = found.attributes
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = found.inode
    entry.entry_timeout = found.entry_valid
    entry.attr_timeout = found.attributes_valid
    entry.st_mode = attributes.mode
    entry.st_nlink = found.links
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_rdev = attributes.rdev
    entry.st_size = attributes.size
    entry.st_blksize = BLOCK_SIZE
    entry.st_blocks = found.blocks
    entry.st_atime_ns = attributes.atime_ns
    entry.st_mtime_ns = attributes.mtime_ns
    entry.st_ctime_ns = attributes.ctime_ns
    return entry


def changes_of(
    attributes: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields
) -> AttributeChanges:
    """What setattr asks for."""
    return AttributeChanges(
        mode=stat.S_IMODE(attributes.st_mode) if fields.update_mode else None,
        uid=attributes.st_uid if fields.update_uid else None,
        gid=attributes.st_gid if fields.update_gid else None,
        size=attributes.st_size if fields.update_size else None,
        atime_ns=attributes.st_atime_ns if fields.update_atime else None,
        mtime_ns=attributes.st_mtime_ns if fields.update_mtime else None,
    )


class FuseOperations(pyfuse3.Operations):
    """The kernel's requests, handed to a :class:`FileSystem`."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, filesystem: FileSystem) -> None:
        super().__init__()
        self._fs = filesystem

    @answered
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        try:
            return to_kernel(await self._fs.lookup(parent_inode, name, caller_of(ctx)))
        except NoEntry as missing:
            if missing.valid <= 0:
                raise
            absent = pyfuse3.EntryAttributes()
            absent.st_ino = 0  # the kernel remembers that there is no such name
            absent.entry_timeout = missing.valid
            absent.attr_timeout = 0
            return absent

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        # pyfuse3 has no catch here at all.
        try:
            for inode, count in inode_list:
                self._fs.forget(inode, count)
        except Exception:
            logger.exception("forget failed")

    @answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return to_kernel(await self._fs.getattr(inode, caller_of(ctx)))

    @answered
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changes = changes_of(attr, fields)
        return to_kernel(await self._fs.setattr(inode, changes, fh, caller_of(ctx)))

    @answered
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._fs.readlink(inode, caller_of(ctx))

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return to_kernel(await self._fs.mknod(parent_inode, name, mode, rdev, caller_of(ctx)))

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return to_kernel(await self._fs.mkdir(parent_inode, name, mode, caller_of(ctx)))

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.unlink(parent_inode, name, caller_of(ctx))

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.rmdir(parent_inode, name, caller_of(ctx))

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return to_kernel(await self._fs.symlink(parent_inode, name, target, caller_of(ctx)))

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        await self._fs.rename(
            parent_inode_old, name_old, parent_inode_new, name_new, flags, caller_of(ctx)
        )

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        # An object has one key. link(2): EPERM where the filesystem has no hard links.
        raise pyfuse3.FUSEError(errno.EPERM)

    @answered
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        opened = await self._fs.open(inode, flags, caller_of(ctx))
        if opened.outdated:
            # Close-to-open: the size that the kernel remembers would cut what is read.
            with contextlib.suppress(OSError):
                pyfuse3.invalidate_inode(inode, attr_only=True)
        return pyfuse3.FileInfo(fh=opened.handle, keep_cache=opened.keep_cache)

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        found, opened = await self._fs.create(parent_inode, name, mode, flags, caller_of(ctx))
        info = pyfuse3.FileInfo(fh=opened.handle, keep_cache=opened.keep_cache)
        return info, to_kernel(found)

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # pyfuse3 takes any contiguous buffer; its annotation knows bytes only.
        return cast(bytes, await self._fs.read(fh, off, size))

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._fs.write(fh, off, buf)

    @answered
    async def flush(self, fh: int) -> None:
        await self._fs.flush(fh)

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._fs.fsync(fh, datasync)

    @answered
    async def release(self, fh: int) -> None:
        await self._fs.release(fh)

    @answered
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._fs.opendir(inode, caller_of(ctx))

    @answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        def emit(name: bytes, found: FileAttributes, next_offset: int) -> bool:
            return bool(pyfuse3.readdir_reply(token, name, to_kernel(found), next_offset))

        await self._fs.readdir(fh, start_id, emit)

    @answered
    async def releasedir(self, fh: int) -> None:
        await self._fs.releasedir(fh)

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        # Names are in S3 when the call that made them returns.
        await trio.lowlevel.checkpoint()

    @answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        await trio.lowlevel.checkpoint()
        space = self._fs.statfs()
        data = pyfuse3.StatvfsData()
        data.f_bsize = space.block_size
        data.f_frsize = space.block_size
        data.f_blocks = data.f_bfree = data.f_bavail = space.blocks
        data.f_files = data.f_ffree = data.f_favail = space.files
        data.f_namemax = space.name_max
        return data

    @answered
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        await self._fs.setxattr(inode, name, value, caller_of(ctx))

    @answered
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._fs.getxattr(inode, name, caller_of(ctx))

    @answered
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return await self._fs.listxattr(inode, caller_of(ctx))

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._fs.removexattr(inode, name, caller_of(ctx))

    @answered
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        return await self._fs.access(inode, mode, caller_of(ctx))
