"""Programs that know nothing of S3 do their work in the mount."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.mount.mount_process import DaemonProcess
from tests.mount.programs import (
    EDITOR,
    FOLLOWED,
    GIT,
    LOCKED,
    LOGGING,
    MAKE,
    MEDIA,
    RSYNC,
    SQLITE,
    TAR,
)

pytestmark = pytest.mark.mount


def run(mount: DaemonProcess, folder: Path, script: str) -> None:
    """A shell script as uid 1001, in the folder."""
    mount.sh(f"cd {folder}\n{script}", uid=1001, seconds=110)


def run_python(mount: DaemonProcess, folder: Path, script: str) -> None:
    where = f"import os; os.chdir({str(folder)!r})\n"
    mount.python(where + script, uid=1001, seconds=110)


def library() -> str:
    """A folder of some thirty files that every host with Python has."""
    return sysconfig.get_paths()["stdlib"] + "/email"


def need(*programs: str) -> None:
    for program in programs:
        assert shutil.which(program) is not None, f"{program} is missing: scripts/test installs it"


def test_sqlite_in_every_journal_mode(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, SQLITE)


def test_logs_that_are_appended_to_and_rotated(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, LOGGING)


def test_an_editor_saves(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, EDITOR)


def test_a_film_is_written_cut_and_played(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, MEDIA)


def test_appending_under_locks(mount: DaemonProcess, folder: Path) -> None:
    run_python(mount, folder, LOCKED)


def test_a_log_is_followed(mount: DaemonProcess, folder: Path) -> None:
    run(mount, folder, FOLLOWED)


def test_make_builds_what_changed(mount: DaemonProcess, folder: Path) -> None:
    need("make", "cc", "strip")
    run(mount, folder, MAKE)


def test_tar_there_and_back(mount: DaemonProcess, folder: Path) -> None:
    run(mount, folder, TAR.format(library=library()))


def test_rsync_default_and_in_place(mount: DaemonProcess, folder: Path) -> None:
    need("rsync", "setfattr")
    run(mount, folder, RSYNC.format(library=library()))


def test_git_rebase_and_gc(mount: DaemonProcess, folder: Path) -> None:
    need("git")
    run(mount, folder, GIT)


def test_a_virtual_environment(mount: DaemonProcess, folder: Path) -> None:
    """A wheel of our own goes into a virtual environment in the mount with pip."""
    package = folder.parent.parent.parent / "wheel"
    (package / "tiny").mkdir(parents=True, exist_ok=True)
    (package / "tiny" / "__init__.py").write_text("ANSWER = 42\n")
    info = package / "tiny-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (info / "WHEEL").write_text(
        "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    (info / "RECORD").write_text(
        "tiny/__init__.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\n"
        "tiny-1.0.dist-info/RECORD,,\n"
    )
    wheel = shutil.make_archive(str(package.parent / "tiny-1.0-py3-none-any"), "zip", package)
    shutil.move(wheel, package.parent / "tiny-1.0-py3-none-any.whl")
    script = f"""
{sys.executable} -m venv --without-pip venv
{sys.executable} -m pip --python venv/bin/python install -q --no-index --no-cache-dir \
    --disable-pip-version-check {package.parent}/tiny-1.0-py3-none-any.whl
test "$(venv/bin/python -c 'import tiny; print(tiny.ANSWER, tiny.__file__)')" = \
    "42 $PWD/$(cd venv/lib/*/site-packages && pwd | sed "s,^$PWD/,,")/tiny/__init__.py" ||
    venv/bin/python -c 'import tiny; assert tiny.ANSWER == 42'
{sys.executable} -m pip --python venv/bin/python uninstall -q -y tiny
! venv/bin/python -c 'import tiny' 2> /dev/null
"""
    run(mount, folder, script)
