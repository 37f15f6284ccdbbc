"""What ``s3posixfs doctor`` looks at on the host: FUSE, programs, limits, mounts, units."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from s3posixfs.cli.common import PROGRAM
from s3posixfs.cli.control_client import ask
from s3posixfs.cli.findings import Finding
from s3posixfs.cli.mountpoints import (
    FILESYSTEM_TYPE,
    control_socket,
    is_dead,
    kernel_mounts,
    resolve_mountpoint,
)
from s3posixfs.core.errors import OperatorError

# umount waits for the daemon by pidfd_open(2).
_KERNEL_NEEDED = (5, 3)
_FEW_FILES = 1024
_ANSWER_SECONDS = 5.0


def about_host() -> Iterator[Finding]:
    """FUSE and the programs that a mount is made of."""
    yield _device()
    yield _kernel(platform.release())
    yield _helper()
    yield _allow_other()
    yield _python()
    yield from _packages()
    yield _open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _device() -> Finding:
    path = "/dev/fuse"
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return Finding(path, "failed", "missing", "load the kernel module: modprobe fuse")
    if not stat.S_ISCHR(mode) or not os.access(path, os.R_OK | os.W_OK):
        return Finding(path, "failed", "not accessible", "chmod 0666 /dev/fuse, as udev does")
    return Finding(path, "ok", "readable and writable")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("-")[0])[:3]))


def _kernel(release: str) -> Finding:
    try:
        known = Path("/proc/filesystems").read_text().split()
    except OSError:
        known = []
    needed = ".".join(map(str, _KERNEL_NEEDED))
    if _numbers(release) < _KERNEL_NEEDED:
        return Finding(
            "kernel",
            "failed",
            f"{release}: umount cannot wait for the daemon (pidfd_open is of {needed})",
            f"boot Linux {needed} or newer",
        )
    if "fuse" not in known:
        return Finding(
            "kernel", "warning", f"{release}, without fuse in /proc/filesystems", "modprobe fuse"
        )
    return Finding("kernel", "ok", f"{release}, with fuse")


def _helper() -> Finding:
    path = shutil.which("fusermount3")
    if path is None:
        return Finding("fusermount3", "failed", "not installed", "apt-get install fuse3")
    if os.geteuid() != 0 and not os.stat(path).st_mode & stat.S_ISUID:
        return Finding("fusermount3", "failed", "not setuid root", f"chmod u+s {path}")
    return Finding("fusermount3", "ok", path)


def _allow_other() -> Finding:
    try:
        lines = Path("/etc/fuse.conf").read_text().splitlines()
    except OSError:
        lines = []
    if any(line.strip() == "user_allow_other" for line in lines):
        return Finding("user_allow_other", "ok", "set in /etc/fuse.conf")
    if os.geteuid() == 0:
        return Finding("user_allow_other", "ok", "not set; root needs it not")
    return Finding(
        "user_allow_other",
        "warning",
        "not set, so allow_other is refused to you",
        "put the line user_allow_other into /etc/fuse.conf",
    )


def _python() -> Finding:
    wanted = str(importlib.metadata.metadata(PROGRAM)["Requires-Python"] or "")
    if sys.version_info[:3] < _numbers(wanted):
        return Finding("Python", "failed", platform.python_version(), f"install Python {wanted}")
    return Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    """The packages that this one needs; a line for pyfuse3, and one for each that is wrong."""
    remedy = f"{sys.executable} -m pip install --upgrade {{}}"
    for text in importlib.metadata.requires(PROGRAM) or ():
        requirement, _, condition = text.partition(";")
        name, _, least = requirement.strip().partition(">=")
        if condition:
            continue  # for development
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "failed", "not installed", remedy.format(name))
            continue
        if _numbers(version) < _numbers(least):
            found = f"{version}, and {least} is needed"
            yield Finding(name, "failed", found, remedy.format(name))
        elif name == "pyfuse3":
            yield _pyfuse3(version)


def _pyfuse3(version: str) -> Finding:
    try:
        import s3posixfs.fuse.session as _  # noqa: F401 - whether libfuse3 is found is the question
    except ImportError as error:
        remedy = "apt-get install libfuse3-3, then install pyfuse3 anew"
        return Finding("pyfuse3", "failed", f"{version} cannot be loaded: {error}", remedy)
    return Finding("pyfuse3", "ok", version)


def _open_files(limit: int) -> Finding:
    subject = "open files"
    if limit != resource.RLIM_INFINITY and limit < _FEW_FILES:
        return Finding(
            subject,
            "warning",
            f"at most {limit:,}, and each file that is written to takes one",
            "ulimit -n 4096 before mounting, or LimitNOFILE=4096 in the unit",
        )
    return Finding(subject, "ok", "no limit" if limit < 0 else f"at most {limit:,}")


def about_mounts() -> Iterator[Finding]:
    """The mounts of this host: does each one's daemon answer?"""
    alive = 0
    for mount in kernel_mounts():
        if mount.filesystem != FILESYSTEM_TYPE:
            continue
        subject = f"mount {mount.mountpoint}"
        path = resolve_mountpoint(mount.mountpoint)
        try:
            status = ask(control_socket(path), "status", seconds=_ANSWER_SECONDS)
        except TimeoutError:
            yield Finding(
                subject,
                "warning",
                "its daemon does not answer",
                "see mount.log in its cache_dir, and whether the store answers",
            )
            continue
        except OperatorError:
            yield Finding(subject, "note", "another user's, who alone may ask it")
            continue
        if status is not None:
            alive += 1
        elif is_dead(path):
            yield Finding(
                subject,
                "failed",
                "stale: its daemon has ended, and programs see ENOTCONN there",
                f"s3posixfs umount --if-dead {path}, and mount it anew",
            )
    yield Finding("mounts", "ok", f"{alive} of this user answer")


def about_units() -> Iterator[Finding]:
    """What systemd says of the units of this project, where it runs."""
    if not os.path.isdir("/run/systemd/system"):
        yield Finding("systemd", "note", "does not run here")
        return
    words = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager"]
    try:
        done = subprocess.run(
            [*words, f"{PROGRAM}*"], check=False, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("systemd", "warning", f"cannot be asked: {error}", "systemctl status")
        return
    yield from units(done.stdout)


def units(text: str) -> Iterator[Finding]:
    """A finding for each line of ``systemctl list-units --plain --no-legend``."""
    rows = [line.split(None, 4) for line in text.splitlines() if line.strip()]
    for name, loaded, active, state, *_ in (row for row in rows if len(row) >= 4):
        if active == "failed" or loaded not in ("loaded", "not-found"):
            remedy = f"journalctl -u {name} says why; then systemctl restart {name}"
            yield Finding(f"unit {name}", "failed", f"{loaded}, {active} ({state})", remedy)
        elif active in ("activating", "deactivating", "reloading"):
            remedy = f"wait for it, or see journalctl -u {name}"
            yield Finding(f"unit {name}", "warning", f"{active} ({state})", remedy)
        else:
            yield Finding(f"unit {name}", "ok", f"{active} ({state})")
    if not rows:
        yield Finding("systemd", "note", "has no unit of s3posixfs loaded")
