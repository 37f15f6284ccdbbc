"""``s3posixfs umount``: everything written is in S3 before it returns."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from s3posixfs.cli.common import note
from s3posixfs.cli.control_client import ask
from s3posixfs.cli.mountpoints import (
    FILESYSTEM_TYPE,
    control_socket,
    is_dead,
    mount_at,
    resolve_mountpoint,
    unmount_lazily,
)
from s3posixfs.cli.progress import waiting
from s3posixfs.core.errors import OperatorError

# A wait shorter than this needs no progress bar.
_PATIENCE_SECONDS = 1.5
# What was dirty is uploaded before; this is for what programs closed since.
_END_SECONDS = 600.0


def _detach(path: Path) -> None:
    done = subprocess.run(
        ["fusermount3", "-u", str(path)], check=False, capture_output=True, text=True, timeout=60
    )
    if done.returncode == 0:
        return
    if "busy" in done.stderr.lower():
        raise OperatorError(
            f"{path} is busy: programs have files or folders open there; "
            f"`fuser -vm {path}` names them"
        )
    raise OperatorError(f"cannot unmount {path}: {done.stderr.strip()}; see `s3posixfs doctor`")


@contextmanager
def _process(pid: int | None) -> Iterator[int | None]:
    """A descriptor that is readable once the process has ended, reaped or not (pidfd_open(2))."""
    try:
        descriptor = os.pidfd_open(pid) if pid is not None else None
    except ProcessLookupError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _drained(socket: Path) -> dict[str, Any] | None:
    """What is left after a moment of uploading; ``None`` where no daemon is there any more."""
    try:
        return ask(socket, "drain", seconds=5.0, wait=0.5)
    except TimeoutError:
        pass
    # An upload that has begun is not left, and a store that hangs makes it long.
    try:
        status = ask(socket, "status", seconds=60.0)
    except TimeoutError:
        raise OperatorError(
            "not unmounted: the daemon does not answer; see its log, or unmount with umount -l"
        ) from None
    if status is None:
        return None
    left = status["filesystem"]
    return {
        f"dirty_{name}": max(int(left.get(f"{kind}_{name}") or 0) for kind in ("dirty", "queued"))
        for name in ("files", "bytes")
    }


def _upload_everything(socket: Path) -> str | None:
    """Ask the daemon to upload what is dirty, with a bar where that takes long.

    What it says of data that cannot be stored now but is safe on this host's disk, else ``None``.
    Raises OperatorError where data would be lost.
    """
    started = time.monotonic()
    show: Callable[[str], None] | None = None
    with ExitStack() as stack:
        while True:
            answer = _drained(socket)
            if answer is None or not answer.get("dirty_files"):
                return None
            failed = answer.get("error")
            if failed and answer.get("kept"):
                return str(failed)
            if failed:
                raise OperatorError(
                    f"not unmounted, data is still staged: {failed}; mend it and try again"
                )
            if show is None and time.monotonic() - started > _PATIENCE_SECONDS:
                show = stack.enter_context(waiting("uploading"))
            if show is not None:
                show(f"{answer['dirty_files']} files, {answer['dirty_bytes']:,} bytes left")


def unmount(path: Path, *, leave_kept: bool = False) -> None:
    """Unmount once everything written there is in S3, and the daemon has ended.

    With ``leave_kept`` data that cannot be stored now, but is safe in ``cache_dir``, does not
    keep the mount: standard error says what is left and where. Raises OperatorError.
    """
    here = mount_at(path)
    if here is None:
        raise OperatorError(f"nothing is mounted at {path}; `s3posixfs status` lists all mounts")
    if here.filesystem != FILESYSTEM_TYPE:
        raise OperatorError(
            f"{path} is a {here.filesystem} mount, not one of s3posixfs; use umount(8)"
        )
    socket = control_socket(path)
    try:
        status = ask(socket, "status")
    except TimeoutError:
        status = None
    if status is None and is_dead(path):
        unmount_lazily(path)
        return
    pid = int(status["pid"]) if status is not None else None
    with _process(pid) as daemon:
        kept = _upload_everything(socket) if status is not None else None
        if kept is not None and not leave_kept:
            raise OperatorError(
                f"not unmounted: {kept}; mend that and try again, or unmount with "
                "fusermount3 -u: the next mount with this cache_dir goes on with them"
            )
        _detach(path)
        if kept is not None:
            note(f"{path}: {kept}; the next mount with this cache_dir goes on with them")
        # The kernel lets go at once; the daemon ends when its last upload is done.
        if daemon is not None and not select.select([daemon], [], [], _END_SECONDS)[0]:
            raise OperatorError(
                f"{path} is unmounted, but its daemon (process {pid}) still has something to "
                "upload; see its log for what"
            )


@click.command(short_help="Unmount, once everything written is in S3.")
@click.argument("mountpoint")
@click.option(
    "--if-dead",
    is_flag=True,
    help="Only free what a daemon that has ended left behind; nothing there is no error.",
)
def umount(mountpoint: str, if_dead: bool) -> None:
    """Unmount MOUNTPOINT; returns when everything written there is in S3."""
    path = resolve_mountpoint(mountpoint)
    if not if_dead:
        unmount(path)
        return
    here = mount_at(path)
    if here is not None and here.filesystem == FILESYSTEM_TYPE and is_dead(path):
        unmount_lazily(path)
        note(f"{path}: freed a mount whose daemon had ended")
