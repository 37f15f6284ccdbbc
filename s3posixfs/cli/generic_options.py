"""Options of mount(8) and fstab that are no filesystem's own: which the kernel gets, which not.

mount(8) sees to most of them itself, but hands all but ``x-…`` and ``comment=`` on to its helper.
"""

from __future__ import annotations

# Each with its flag of mount(2), by which a mount is changed; libfuse knows the same names.
KERNEL_FLAGS: dict[str, int] = {
    "nosuid": 0x2,
    "suid": 0,
    "nodev": 0x4,
    "dev": 0,
    "noexec": 0x8,
    "exec": 0,
    "noatime": 0x400,
    "atime": 0,
}
READ_ONLY_FLAG = 0x1
REMOUNT_FLAG = 0x20

# What they mean is done already, by mount(8), by systemd, or because S3 leaves no choice.
IGNORED = frozenset(
    {
        *("defaults", "auto", "noauto", "nofail", "_netdev"),
        *("user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup"),
        *("relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime"),
        *("nodiratime", "diratime", "iversion", "noiversion", "silent", "loud", "nomand"),
        *("async", "sync", "dirsync", "default_permissions"),
        # What a mount shows of itself, and mount(8) gives back at a remount.
        *("user_id", "group_id", "max_read", "blksize", "helper", "uhelper", "seclabel"),
    }
)
_FOR_OTHERS = ("x-", "X-", "comment=")

# Never taken as options: everybody could read them in the list of processes, and in fstab.
SECRETS = frozenset(
    {
        *("access_key", "access_key_id", "secret_key", "secret_access_key", "secret"),
        *("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
        *("token", "session_token", "password", "passwd"),
    }
)


def is_for_others(name: str) -> bool:
    """Whether an option of ``-o`` says nothing to the filesystem."""
    return name in IGNORED or name == "comment" or name.startswith(_FOR_OTHERS)


def is_generic(name: str) -> bool:
    """Whether every filesystem takes this option."""
    return name in KERNEL_FLAGS or name in {"ro", "rw", "remount"} or is_for_others(name)


def opposite(name: str) -> str:
    """The kernel's option that undoes this one: ``exec`` and ``noexec``."""
    return name.removeprefix("no") if name.startswith("no") else f"no{name}"


def remount_flags(names: list[str]) -> int:
    """The flags of mount(2) that these options amount to; of two that differ the later wins."""
    flags = REMOUNT_FLAG
    for name in names:
        if name in {"ro", "rw"}:
            flags = flags & ~READ_ONLY_FLAG | (READ_ONLY_FLAG if name == "ro" else 0)
        elif name in KERNEL_FLAGS:
            flags = flags & ~KERNEL_FLAGS[opposite(name)] | KERNEL_FLAGS[name]
    return flags
