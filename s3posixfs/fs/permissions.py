"""POSIX's permission rules as functions of values (path_resolution(7), chmod(2), chown(2))."""

from __future__ import annotations

import stat
from errno import EACCES, EPERM
from os import R_OK, W_OK, X_OK, strerror

from s3posixfs.fs.attributes import Attributes
from s3posixfs.fs.caller import Caller


def refusal(code: int) -> OSError:
    """An OSError with an errno and its usual text."""
    return OSError(code, strerror(code))


def allows(attributes: Attributes, caller: Caller, mask: int) -> bool:
    """Whether the mode grants ``mask`` (R_OK | W_OK | X_OK) to the caller."""
    mode = attributes.mode
    if caller.is_root:
        return not mask & X_OK or attributes.is_directory or bool(mode & 0o111)
    if caller.uid == attributes.uid:
        granted = mode >> 6
    elif caller.in_group(attributes.gid):
        granted = mode >> 3
    else:
        granted = mode
    return not mask & ~granted & (R_OK | W_OK | X_OK)


def require(attributes: Attributes, caller: Caller, mask: int) -> None:
    """EACCES unless the mode grants ``mask``."""
    if not allows(attributes, caller, mask):
        raise refusal(EACCES)


def require_removable(
    directory: Attributes, entry: Attributes, caller: Caller, *, nobodys: bool = False
) -> None:
    """EACCES without write permission on the directory; EPERM where it is sticky, or has no
    owner, and the caller owns neither it nor the entry."""
    require(directory, caller, W_OK | X_OK)
    sticky = nobodys or directory.mode & stat.S_ISVTX
    if sticky and not caller.is_root and caller.uid not in (directory.uid, entry.uid):
        raise refusal(EPERM)


def require_owner(attributes: Attributes, caller: Caller) -> None:
    """EPERM unless the caller owns the file or is root."""
    if not caller.is_root and caller.uid != attributes.uid:
        raise refusal(EPERM)


def after_write(now: Attributes, caller: Caller) -> int:
    """The mode after a write or truncate: nothing goes where root wrote."""
    return now.mode if caller.is_root else without_privilege(now, caller)


def without_privilege(now: Attributes, caller: Caller) -> int:
    """The mode after a change of owner, whoever makes it: setuid goes, and setgid where the group
    may execute or the caller is not in it (as Linux has it)."""
    mode = now.mode
    if stat.S_ISDIR(mode):
        return mode
    mode &= ~stat.S_ISUID
    member = caller.is_root or not mode & stat.S_ISGID or caller.in_group(now.gid)
    if mode & stat.S_IXGRP or not member:
        mode &= ~stat.S_ISGID
    return mode


def only_drops_privilege(now: int, wanted: int) -> bool:
    """Whether a change of permission bits takes setuid or setgid away and nothing else. The
    kernel asks for this in the name of whoever is about to write to the file."""
    return wanted != now and wanted | (now & (stat.S_ISUID | stat.S_ISGID)) == now
