"""Folders that lie far from each other on the disk, for files to be made in.

ext4 makes a file near the folder it is made in, and without a journal it looks at every inode
that was given up near there in the last minute or more before it takes one. Where objects are
replaced and removed all the time this was two thirds of the CPU time of a small PUT. Folders
that the kernel was asked to put far from each other (chattr +T) share it out.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

from s3posixfs.store.backend.tree import DIRECTORY_FLAGS

_FOLDERS = 16
# ioctl_iflags(2), and the flag of chattr +T.
_GET_FLAGS, _SET_FLAGS, _APART = 0x8008_6601, 0x4008_6602, 0x2_0000


def open_folders(directory: int) -> list[int]:
    """The folders in an open directory, made where they are missing; the caller's to close.

    Where the filesystem has no such wish the directory itself is the only one. OSError.
    """
    if not keep_apart(directory):
        return [os.dup(directory)]
    names = [f"{number:02d}" for number in range(_FOLDERS)]
    for name in names:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=directory)
    return [os.open(name, DIRECTORY_FLAGS, dir_fd=directory) for name in names]


def keep_apart(directory: int) -> bool:
    """Ask that folders made in an open directory lie far from each other; whether that is heard."""
    try:
        flags = bytearray(struct.calcsize("l"))
        fcntl.ioctl(directory, _GET_FLAGS, flags)
        (found,) = struct.unpack("l", flags)
        fcntl.ioctl(directory, _SET_FLAGS, struct.pack("l", found | _APART))
    except OSError:
        return False
    return True
