"""What umount(8) runs for a mount of s3posixfs: it waits until everything is in S3.

umount(8), "external helpers": ``/sbin/umount.SUFFIX DIR [-flnrv] [-N NS] [-t TYPE]``; it looks
for the type that the kernel shows, so the helper is ``umount.fuse.s3posixfs``. Data of
``writeback=on`` that cannot be stored now does not keep the mount: it is safe on this host's
disk, and standard error says where.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from s3posixfs.cli.mount_helper import FAILED, USAGE, exit_status
from s3posixfs.cli.mountpoints import resolve_mountpoint
from s3posixfs.cli.umount import unmount
from s3posixfs.core.errors import OperatorError

_WITH_VALUE = ("-N", "-t")


def translate(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The mountpoint, and those of ``-f`` and ``-l`` that were given. ValueError for wrong use."""
    positional: list[str] = []
    flags: set[str] = set()
    rest = iter(arguments)
    for argument in rest:
        if argument in _WITH_VALUE:
            next(rest, None)
        elif argument.startswith("-") and len(argument) > 1:
            if set(argument[1:]) - set("flnrv"):
                raise ValueError(f"unknown flag {argument}")
            flags |= set(argument[1:])
        else:
            positional.append(argument)
    if len(positional) != 1:
        raise ValueError("MOUNTPOINT is needed")
    return positional[0], [f"-{flag}" for flag in sorted(flags & {"f", "l"})]


def by_force(mountpoint: str, flags: Sequence[str]) -> None:
    """Detach at once, as ``-f`` and ``-l`` ask; the daemon uploads what it has behind that."""
    words = ["umount", "-i", *flags, "--", os.path.abspath(mountpoint)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise OperatorError(
            f"cannot unmount {mountpoint}: {done.stderr.strip()}; see `s3posixfs doctor`"
        )


def main() -> None:
    """The entry point that is installed as ``umount.fuse.s3posixfs``."""
    try:
        mountpoint, flags = translate(sys.argv[1:])
    except ValueError as error:
        print(
            f"umount.s3posixfs: {error}; usage: umount.s3posixfs MOUNTPOINT [-flnrv]",
            file=sys.stderr,
        )
        sys.exit(USAGE)
    if flags:
        sys.exit(FAILED if exit_status(lambda: by_force(mountpoint, flags)) else 0)
    path = resolve_mountpoint(mountpoint)
    sys.exit(exit_status(lambda: unmount(path, leave_kept=True)))
