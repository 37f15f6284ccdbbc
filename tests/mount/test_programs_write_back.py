"""The same programs with write-back: what they wrote is in the store as they left it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.mount.bed import EmbeddedBed
from tests.mount.programs import EDITOR, GIT, LOGGING, MEDIA, SQLITE
from tests.mount.test_programs import run, run_python

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(300)]


def test_programs(embedded: EmbeddedBed, module_folder: Path) -> None:
    folder = module_folder / "later"
    folder.mkdir(mode=0o755)
    with embedded.mount(folder, embedded.bucket, {"writeback": "on"}) as mount:
        mount.sh("chmod 777 .")
        mount.sh("mkdir git sqlite logging editor media", uid=1001)
        top = mount.mountpoint
        run(mount, top / "git", GIT)
        for name, script in (
            ("sqlite", SQLITE),
            ("logging", LOGGING),
            ("editor", EDITOR),
            ("media", MEDIA),
        ):
            run_python(mount, top / name, script)
        kept = module_folder / "kept"
        subprocess.run(["cp", "-a", str(top), str(kept)], check=True)
        assert mount.umount() == 0
        stored = embedded.store.root / embedded.bucket
        compare = ["diff", "-r", "--no-dereference"]
        for name in ("sqlite", "logging", "editor", "media"):
            subprocess.run([*compare, str(kept / name), str(stored / name)], check=True)
        mount.start()
        subprocess.run([*compare, str(kept), str(top)], check=True)
