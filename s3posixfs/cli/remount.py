"""``mount -o remount``: what can be changed of a mount that is in use.

The kernel's flags can: ``ro``, ``rw`` and ``nosuid``, ``nodev``, ``noexec``, ``noatime`` with their
opposites. The daemon's own options are those that it was started with, until the next mount: to ask
for others is an error. mount(8) hands those of fstab on as well, which may be the same.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from s3posixfs.cli.common import note
from s3posixfs.cli.control_client import ask
from s3posixfs.cli.generic_options import READ_ONLY_FLAG, remount_flags
from s3posixfs.cli.mount_options import given_values, split_commas
from s3posixfs.cli.mountpoints import FILESYSTEM_TYPE, control_socket, mount_at
from s3posixfs.cli.option_table import Value
from s3posixfs.core.errors import OperatorError

# The kernel's at a remount, and the one that says how to start.
_NOT_COMPARED = frozenset({"ro", "rw", "remount", "foreground"})


def remount(path: Path, lists: Sequence[str]) -> None:
    """Give the mount at ``path`` the kernel's flags among the options ``lists``, as after ``-o``.

    Raises OperatorError, and changes nothing, where there is no mount of ours, where files are open
    for writing that ``ro`` forbids, where ``rw`` is asked of a daemon that was started with ``ro``,
    or where an option is asked for that the daemon was not started with.
    """
    pairs = split_commas(lists)
    here = mount_at(path)
    if here is None or here.filesystem != FILESYSTEM_TYPE:
        raise OperatorError(
            f"{path} is not a mount of s3posixfs, so there is nothing to remount; "
            "see `s3posixfs status`"
        )
    _refuse_other_options(path, pairs)
    flags = remount_flags([name for name, _ in pairs])
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


def _refuse_other_options(path: Path, pairs: Iterable[tuple[str, str | None]]) -> None:
    """Raises OperatorError where an option wants of the daemon what it was not started with."""
    wanted = given_values(pair for pair in pairs if pair[0] not in _NOT_COMPARED)
    if not wanted:
        return
    try:
        answer = ask(control_socket(path), "options")
    except TimeoutError:
        raise OperatorError(
            f"{path} stays as it is: its daemon does not answer; see its log"
        ) from None
    if answer is None:  # it has ended: nobody does anything by these options
        return
    now = answer.get("values")
    if now is None:
        note(f"{path}: its daemon, of an older version, keeps the options that it was started with")
        return
    # As JSON has them: names are a list there.
    others = [name for name, value in wanted.items() if _plain(value) != now.get(name)]
    if others:
        raise OperatorError(
            f"{path} stays as it is: its daemon was started with other values of "
            f"{', '.join(others)}; unmount it and mount it anew"
        )


def _plain(value: Value) -> object:
    return list(value) if isinstance(value, tuple) else value
