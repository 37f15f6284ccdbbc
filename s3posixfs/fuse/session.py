"""A mount's life: init, serve until unmounted or told to stop, drain, close."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyfuse3
import trio

from s3posixfs.fs.filesystem import FileSystem
from s3posixfs.fuse.operations import FuseOperations
from s3posixfs.fuse.waiting import wait_quickly

logger = logging.getLogger(__name__)

FORGETTING_SECONDS = 2.0  # an operation that nobody answers any more may hold a folder
READ_AHEAD_KIB = 4096  # lets the kernel ask for 1 MiB at a time


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """``source`` is what ``df`` shows. ``extra`` are further options of libfuse, as they are
    (``nosuid``, ``noatime`` …). ``drain_seconds`` bounds the upload of what is dirty when the
    mount ends by a signal."""

    source: str
    allow_other: bool = False
    extra: frozenset[str] = field(default_factory=frozenset)
    drain_seconds: float = 3600.0


def fuse_options(options: SessionOptions, filesystem: FileSystem) -> set[str]:
    """The options for libfuse. A comma in the source would end the option, so it is escaped.

    The kernel's table shows the source as it was given, so that mount(8) knows a line of fstab
    again; but not a bare ``/``, which programs would take for the root filesystem's.
    """
    source = options.source.replace("\\", "\\\\").replace(",", "\\,")
    name = source if source.strip("/") else "s3posixfs#/"
    chosen = {f"fsname={name}", "subtype=s3posixfs", *options.extra}
    if options.allow_other:
        chosen.add("allow_other")
    if filesystem.config.posix_decides:
        chosen.add("default_permissions")
    if filesystem.config.read_only:
        chosen.add("ro")
    return chosen


def raise_read_ahead(mountpoint: str) -> None:
    """Let the kernel read ahead far enough for large requests; needs root, helps speed only."""
    device = os.lstat(mountpoint).st_dev
    control = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        control.write_text(str(READ_AHEAD_KIB))
    except OSError as error:
        logger.info("read-ahead of the mount stays as it is: %s", error)


def forget_names(names: Sequence[tuple[int, bytes]]) -> None:
    """Have the kernel forget names of folders; what it uses it keeps. Blocks while an operation in
    the folder is under way, which this mount's loop has to answer."""
    for folder, name in names:
        with contextlib.suppress(OSError):  # it does not know the name any more
            pyfuse3.invalidate_entry(pyfuse3.InodeT(folder), pyfuse3.FileNameT(name))


async def serve(
    filesystem: FileSystem,
    mountpoint: str,
    options: SessionOptions,
    *,
    ready: Callable[[], None],
    ending: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Mount and serve until unmounted, SIGTERM or SIGINT; then upload what is dirty.

    ``ready`` is called once the mount answers, ``ending`` before what is dirty is uploaded.
    Returns the paths that could not be uploaded. RuntimeError where the mount fails.
    ``filesystem.start()`` is the caller's to call before. Not to be cancelled: pyfuse3 leaves
    requests without an answer then.
    """
    operations = FuseOperations(filesystem)
    wait_quickly(negotiate=True)
    pyfuse3.init(operations, mountpoint, fuse_options(options, filesystem))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal)
            nursery.start_soon(_announce, mountpoint, ready)
            filesystem.evictor.forget = forget_names
            await pyfuse3.main()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(FORGETTING_SECONDS):
            await filesystem.evictor.stop()
        ending()
        with trio.move_on_after(options.drain_seconds):
            return await filesystem.drain()
        return filesystem.left()
    finally:
        pyfuse3.close()  # libfuse sees for itself whether it is unmounted already
        with trio.CancelScope(shield=True):
            await filesystem.close()


async def _announce(mountpoint: str, ready: Callable[[], None]) -> None:
    # The first stat is served by main(), so it must not run on this thread.
    with contextlib.suppress(OSError):
        await trio.to_thread.run_sync(raise_read_ahead, mountpoint, abandon_on_cancel=True)
    ready()


async def _stop_on_signal(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            logger.info("stopping on signal %d", number)
            pyfuse3.terminate()
