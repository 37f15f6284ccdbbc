"""A filesystem of its own whose power can be cut: what was not synced by then is lost."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path

_BYTES = 2 * 1024**3
# XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN are one number; 2: the log is not flushed either.
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)


class CutDisk:
    """An image in ``folder`` with a journalled filesystem (``xfs`` or ``ext4``), mounted."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._image = folder / "disk.image"
        self.path = folder / "disk"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_BYTES)
        subprocess.run([f"mkfs.{kind}", "-q", str(self._image)], check=True, timeout=60)
        self._mount()

    def cut(self) -> None:
        """From now on nothing reaches the disk, and every call that needs it fails."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def again(self) -> None:
        """What a start of the host finds; nobody may have a file open."""
        self.close()
        self._mount()

    def close(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True, timeout=60)

    def _mount(self) -> None:
        command = ["mount", "-o", "loop", str(self._image), str(self.path)]
        subprocess.run(command, check=True, timeout=60)
        self.path.chmod(0o755)
