"""What a mount may be put on: a real automount of the kernel, as systemd sets one up for fstab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.mount
def test_an_automount_waits_for_the_mount_and_is_not_in_its_way(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    reading, writing = os.pipe()
    kernel = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    words = ["mount", "-t", "autofs", "-o", kernel, "systemd-1", str(place)]
    subprocess.run(words, check=True, pass_fds=[writing], timeout=30)
    try:
        program = (
            "import sys; from pathlib import Path; "
            "from s3posixfs.cli.mountpoints import check_mountpoint; "
            "check_mountpoint(Path(sys.argv[1]))"
        )
        # Of another process group, as mount(8) is for systemd: whatever looks into the folder
        # would wait for the mount, and so for itself.
        done = subprocess.run(
            [sys.executable, "-c", program, str(place)],
            start_new_session=True,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, timeout=30)
        os.close(reading)
        os.close(writing)
