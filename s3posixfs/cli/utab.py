"""How umount(8) comes to run its helper, and so to wait for what is not in S3 yet.

Called by root, umount(8) of util-linux 2.38 and later does not look up what is mounted: it asks
statfs(2), which says "fuse" and no more, and looks for ``umount.fuse``. It does look it up where
``/run/mount/utab`` knows the mountpoint, which so far only options such as ``_netdev`` bring about.
"""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

from s3posixfs.cli.mountpoints import FILESYSTEM_TYPE, mount_at

logger = logging.getLogger(__name__)

_TABLE = Path("/run/mount/utab")
_HELPER = "uhelper=s3posixfs"  # mount(8): umount.s3posixfs it is


def name_umount_helper(mountpoint: Path) -> None:
    """Have umount(8) look up the mount at ``mountpoint``; nothing where another user mounted it.

    What fails is only logged: the mount works, and its daemon uploads after its end as well. Calls
    mount(8), so the daemon must be able to answer meanwhile.
    """
    if os.geteuid() != 0 or _is_known(mountpoint):
        return
    here = mount_at(mountpoint)
    if here is None:
        return
    # A fake mount that asks no helper only notes what it is told, as libfuse has it noted.
    words = ["mount", "--no-canonicalize", "-i", "-f", "-t", FILESYSTEM_TYPE, "-o", _HELPER]
    try:
        done = subprocess.run(
            [*words, "--", here.source, str(mountpoint)],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("umount(8) will not wait for uploads: mount(8) cannot note it: %s", error)
        return
    if done.returncode:
        said = done.stderr.strip()
        logger.warning("umount(8) will not wait for uploads: mount(8) cannot note it: %s", said)


def _is_known(mountpoint: Path) -> bool:
    try:
        lines = _TABLE.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    # Blanks are octal there, as in mountinfo; one that is not found is noted once more.
    return any(f"TARGET={mountpoint}" in line.split() and _HELPER in line for line in lines)
