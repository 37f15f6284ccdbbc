"""Durable writes beside the loop without a thread: the kernel's own asynchronous I/O.

A thread that waits for the disk costs turns of Python's lock when it begins and ends, while the
loop holds that: more than the disk takes. And a write into the page cache waits, where other
programs have filled that with what is still to be written. io_submit(2) with O_DIRECT and RWF_DSYNC
(Linux 4.13 on) does neither: the disk has the data when the eventfd, which the loop waits for like
for a socket, says so.

Source: io_setup(2), io_submit(2), io_getevents(2), linux/aio_abi.h, open(2) on O_DIRECT.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import sys

import trio

BLOCK = 4096  # what O_DIRECT wants offsets, lengths and memory to be multiples of

# io_setup, io_destroy, io_getevents, io_submit, of little-endian machines.
_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
_PWRITE = 1
_RESULT_TO_EVENTFD = 1


class _Request(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("operation", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("memory", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class DirectWriter:
    """Writes one piece after the other. Used by one task of the loop."""

    def __init__(self, most: int) -> None:
        """For pieces of ``most`` bytes. OSError where this kernel, or who confines this process,
        has no asynchronous I/O."""
        numbers = _CALLS.get(platform.machine()) if sys.maxsize > 2**32 else None
        if numbers is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._setup, self._destroy, self._getevents, self._submit = numbers
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        self._call(self._setup, ctypes.c_uint(1), ctypes.byref(self._context))
        try:
            self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            self._call(self._destroy, self._context)
            raise
        self._memory = mmap.mmap(-1, -(-most // BLOCK) * BLOCK)  # whole pages
        self._request = _Request(
            operation=_PWRITE,
            rw_flags=os.RWF_DSYNC,
            memory=ctypes.addressof(ctypes.c_char.from_buffer(self._memory)),
            flags=_RESULT_TO_EVENTFD,
            eventfd=self._eventfd,
        )
        self._requests = (ctypes.POINTER(_Request) * 1)(ctypes.pointer(self._request))
        self._result = _Result()

    def _call(self, number: int, *arguments: object) -> int:
        answer = int(self._syscall(ctypes.c_long(number), *arguments))
        if answer < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return answer

    def begin(self, fd: int, offset: int, data: bytes) -> bool:
        """Have ``data``, and zeros up to the end of its last block, written at ``offset``, where a
        block begins; :meth:`end` says how it ended. ``fd`` was opened with O_DIRECT. Whether the
        kernel took it: else nothing was begun."""
        padding = -len(data) % BLOCK
        length = len(data) + padding
        if length > len(self._memory) or offset % BLOCK:
            return False
        self._memory[:length] = data + bytes(padding)
        request = self._request
        request.fd, request.offset, request.length = fd, offset, length
        try:
            return self._call(self._submit, self._context, ctypes.c_long(1), self._requests) == 1
        except OSError:
            return False

    async def end(self) -> None:
        """Wait until what was begun is on the disk. OSError of the disk; then some of it may be
        there. Not ended by cancellation, as what is on disk would not be known."""
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._eventfd)
        os.eventfd_read(self._eventfd)
        one = ctypes.c_long(1)
        self._call(self._getevents, self._context, one, one, ctypes.byref(self._result), None)
        result = int(self._result.result)
        if result != self._request.length:
            code = -result if result < 0 else errno.EIO
            raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """Give it back to the kernel, which waits for what is under way."""
        self._call(self._destroy, self._context)
        os.close(self._eventfd)
