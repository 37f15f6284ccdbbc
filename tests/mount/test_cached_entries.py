"""More names than a mount is to remember: the kernel forgets files used longest ago, and nothing
that somebody uses, or that something is mounted on."""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.mount.bed import EmbeddedBed

pytestmark = pytest.mark.mount
LIMIT, FILES = 100, 600
DEADLINE = 60.0


def inodes(folder: Path) -> dict[str, int]:
    """The inode numbers of all files."""
    return {entry.name: os.stat(entry.path).st_ino for entry in os.scandir(folder)}


def test_files_used_longest_ago_are_forgotten(embedded: EmbeddedBed, open_folder: Path) -> None:
    bed, bucket = embedded, embedded.bucket
    bed.put_empty([f"many/{number:03}" for number in range(FILES)])
    over = open_folder / "over"
    over.write_text("mounted")
    with bed.mount(open_folder, bucket, {"cached_entries": str(LIMIT)}) as mount:
        many = mount.mountpoint / "many"
        for name in ("open", "mapped"):
            (many / name).write_text(name)
        subprocess.run(["mount", "--bind", over, many / "300"], check=True, timeout=30)
        here = subprocess.Popen(["cat"], cwd=many, stdin=subprocess.PIPE)
        try:
            with (many / "open").open() as opened, (many / "mapped").open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                file.close()
                path_only = os.open(many / "007", os.O_PATH)
                numbers = inodes(many)
                assert len(numbers) == FILES + 2
                end = time.monotonic() + DEADLINE
                known = mount.status()["filesystem"]
                while known["inodes"] > LIMIT or not known["evicted_inodes"]:
                    assert time.monotonic() < end, known
                    if known["inodes"] <= LIMIT:  # another test has dropped the kernel's caches
                        inodes(many)
                    time.sleep(0.2)
                    known = mount.status()["filesystem"]
                assert os.readlink(f"/proc/self/fd/{opened.fileno()}") == str(many / "open")
                assert os.readlink(f"/proc/{here.pid}/cwd") == str(many)
                assert (opened.read(), bytes(mapped)) == ("open", b"mapped")
                assert (many / "300").read_text() == "mounted"
                assert os.stat(path_only).st_ino == numbers["007"]
                os.close(path_only)
                mapped.close()
            assert inodes(many) == numbers
        finally:
            here.communicate(timeout=30)
            subprocess.run(["umount", many / "300"], check=True, timeout=30)
        assert (many / "300").read_text() == ""
