"""What the kernel says of mounts, and where a running mount is found."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from s3posixfs.core.errors import OperatorError

FILESYSTEM_TYPE = "fuse.s3posixfs"


@dataclass(frozen=True, slots=True)
class KernelMount:
    """One line of ``/proc/self/mountinfo`` (proc(5))."""

    mountpoint: str
    filesystem: str
    source: str
    device: str  # MAJOR:MINOR


def _unescape(text: str) -> str:
    # Spaces, tabs, newlines and backslashes are octal in mountinfo.
    raw = os.fsencode(text).decode("unicode_escape").encode("latin-1")
    return os.fsdecode(raw)


def kernel_mounts() -> list[KernelMount]:
    """Every mount that this process sees, in the kernel's order (a later one covers)."""
    mounts: list[KernelMount] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.rstrip("\n").partition(" - ")
            fields, rest = left.split(" "), right.split(" ")
            mounts.append(KernelMount(_unescape(fields[4]), rest[0], _unescape(rest[1]), fields[2]))
    return mounts


def mount_at(mountpoint: Path) -> KernelMount | None:
    """The mount that is on top at exactly this path."""
    found = None
    for mount in kernel_mounts():
        if mount.mountpoint == str(mountpoint):
            found = mount
    return found


def resolve_mountpoint(text: str) -> Path:
    """The absolute path of a mountpoint, without touching what may be a dead mount there."""
    path = Path(os.path.abspath(text))
    return Path(os.path.realpath(path.parent)) / path.name if path.name else path


def check_mountpoint(path: Path) -> None:
    """Raise OperatorError unless something can be mounted here; a dead mount of ours is freed."""
    here = mount_at(path)
    if here is not None and here.filesystem == FILESYSTEM_TYPE and is_dead(path):
        unmount_lazily(path)
        here = mount_at(path)
    # An automount (x-systemd.automount in fstab) is there to be mounted on. stat(2) does not
    # trigger it; what would, open(2) say, waits for the mount and so for itself.
    if here is not None and here.filesystem != "autofs":
        raise OperatorError(
            f"{path} is in use: {here.source} ({here.filesystem}) is mounted there; "
            f"unmount it first: `s3posixfs umount {path}`"
        )
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        raise OperatorError(
            f"mountpoint {path} does not exist; make it: `mkdir -p {path}`"
        ) from None
    except OSError as error:
        raise OperatorError(
            f"mountpoint {path}: {error.strerror}; give a folder that you may reach"
        ) from None
    if not stat.S_ISDIR(kind):
        raise OperatorError(f"mountpoint {path} is not a folder; give one")


def is_dead(path: Path) -> bool:
    """Whether a FUSE mount has lost its daemon ("Transport endpoint is not connected")."""
    try:
        os.statvfs(path)
    except OSError as error:  # EACCES is another user's, alive
        return error.errno == errno.ENOTCONN
    return False


def unmount_lazily(path: Path) -> None:
    """Detach a mount whatever uses it."""
    subprocess.run(
        ["fusermount3", "-u", "-z", str(path)], check=False, capture_output=True, timeout=30
    )


def runtime_folder() -> Path:
    """Where running mounts keep their control sockets."""
    if os.geteuid() == 0:
        return Path("/run/s3posixfs")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/s3posixfs-{os.geteuid()}") / "s3posixfs"  # noqa: S108 - checked to be ours before use


def mount_id(mountpoint: Path) -> str:
    """A short name for a mountpoint that is safe as a file name."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


def control_socket(mountpoint: Path) -> Path:
    return runtime_folder() / f"{mount_id(mountpoint)}.sock"


def default_cache_folder(mountpoint: Path, source: str) -> Path:
    """A folder of its own for each mount; see file-hierarchy(7) and the XDG base directories."""
    if os.geteuid() == 0:
        base = Path("/var/cache/s3posixfs")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3posixfs"
    return base / f"{source.strip('/').replace('/', '_') or 'all'}-{mount_id(mountpoint)}"
