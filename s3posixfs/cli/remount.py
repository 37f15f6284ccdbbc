"""``mount -o remount``: what can be changed of a mount that is in use.

The kernel's flags can: ``ro``, ``rw`` and ``nosuid``, ``nodev``, ``noexec``, ``noatime`` with their
opposites. The daemon's own options are those that it was started with, until the next mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from s3posixfs.cli.control import ask
from s3posixfs.cli.generic_options import READ_ONLY_FLAG, remount_flags
from s3posixfs.cli.mountpoints import FILESYSTEM_TYPE, control_socket, mount_at
from s3posixfs.core.errors import OperatorError


def remount(path: Path, names: list[str]) -> None:
    """Give the mount at ``path`` the kernel's flags among the options ``names``, and no others.

    Raises OperatorError where there is no mount of ours, where files are open for writing that
    ``ro`` forbids, or where ``rw`` is asked of a daemon that was started with ``ro``.
    """
    here = mount_at(path)
    if here is None or here.filesystem != FILESYSTEM_TYPE:
        raise OperatorError(
            f"{path} is not a mount of s3posixfs, so there is nothing to remount; "
            "see `s3posixfs status`"
        )
    flags = remount_flags(names)
    status = None if flags & READ_ONLY_FLAG else ask(control_socket(path), "status")
    if status is not None and status.get("read_only"):
        raise OperatorError(
            f"{path} was mounted with ro, and its daemon stays so: unmount it and mount it anew"
        )
    # mount(2). Not by calling mount(8) once more: it would hand over the daemon's options as well.
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(None, os.fsencode(path), None, ctypes.c_ulong(flags), None) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EBUSY:
        raise OperatorError(
            f"{path} is busy: files are open there for writing; `fuser -vm {path}` names who has"
        )
    raise OperatorError(
        f"cannot remount {path}: {os.strerror(number)}; unmount it and mount it anew"
    )
