"""``s3posixfs mount``: checks, starts the daemon, and returns when the mount answers."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

from s3posixfs.cli.mount_options import MountOptions, parse_options, with_service_credentials
from s3posixfs.cli.mount_request import cache_folder
from s3posixfs.cli.mountpoints import (
    check_mountpoint,
    resolve_mountpoint,
)
from s3posixfs.cli.option_completion import mount_options
from s3posixfs.cli.option_table import OPTIONS
from s3posixfs.cli.utab import name_umount_helper
from s3posixfs.core.errors import OperatorError

# Longer than the client's own deadlines, so that the daemon's reason is heard first, and enough for
# a machine that is emulated, or boots with much else to do.
_START_SECONDS = 300.0


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        dashed, name = option.name.replace("_", "-"), option.name
        spellings = list(dict.fromkeys((f"--{dashed}", f"--{name}", name)))
        if option.is_flag:
            command = click.option(*spellings, is_flag=True, help=option.help)(command)
        else:
            command = click.option(*spellings, metavar="VALUE", help=option.help)(command)
    return command


@click.command(short_help="Mount a bucket, a prefix of one, or all buckets.")
@click.argument("source")
@click.argument("mountpoint")
@click.option(
    "-o",
    "comma_lists",
    multiple=True,
    metavar="OPT[,OPT…]",
    help="Options as in fstab.",
    shell_complete=mount_options,
)
@click.option("-f", "stay", is_flag=True, help="Stay in the foreground.")
@_with_options
def mount(
    source: str,
    mountpoint: str,
    comma_lists: tuple[str, ...],
    stay: bool,
    **named: str | bool | None,
) -> None:
    """Mount SOURCE (BUCKET, BUCKET/PREFIX, or / for all buckets) at MOUNTPOINT.

    Returns 0 when the mount answers; the daemon runs on in the background. Each option may be
    written -o name=value, --name value, or name = value in a TOML file given by -o config=FILE.
    """
    options = with_service_credentials(parse_options(comma_lists, named), os.environ)
    path = resolve_mountpoint(mountpoint)
    check_mountpoint(path)
    if not os.path.exists("/dev/fuse"):
        raise OperatorError("/dev/fuse is missing; load the kernel module: `modprobe fuse`")
    request = {
        "source": source,
        "mountpoint": str(path),
        "values": dict(options.values),
        "kernel": sorted(options.kernel),
    }
    if stay or options.flag("foreground"):
        # Imported late: the parent of a background mount needs none of it.
        from s3posixfs.cli.daemon import run_in_foreground

        run_in_foreground(request)
    else:
        _start_daemon(request, _log_path(options, path, source))


def _log_path(options: MountOptions, path: Path, source: str) -> Path:
    given = options.text("log_file")
    if given is not None:
        return Path(given)
    return cache_folder(options, path, source) / "mount.log"


def _start_daemon(request: dict[str, Any], log_path: Path) -> None:
    try:
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(
            f"cannot write the log {log_path}: {error.strerror}; name another with log_file=FILE"
        ) from None
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as ready, os.fdopen(descriptor, "ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "s3posixfs.cli.daemon"),
                *(request["source"], request["mountpoint"], str(writing)),
            ],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            # In this process group until it has mounted: an automount lets only the group of who
            # serves it, which systemd has mount(8) run in, look at the mountpoint meanwhile.
            cwd="/",
        )
        os.close(writing)
        if process.stdin is None:
            raise RuntimeError("no pipe to the daemon")
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        try:
            answer = _await_ready(process, ready)
        except KeyboardInterrupt:
            process.terminate()
            raise
    if answer.get("ready") is True:
        # The daemon outlives this process on purpose.
        process.returncode = 0
        name_umount_helper(Path(request["mountpoint"]))
        return
    raise OperatorError(str(answer.get("error") or f"the mount daemon ended early; see {log_path}"))


def _await_ready(process: subprocess.Popen[bytes], ready: IO[bytes]) -> dict[str, Any]:
    os.set_blocking(ready.fileno(), False)
    received = b""
    deadline = time.monotonic() + _START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(ready, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                process.terminate()
                return {
                    "error": f"the mount did not answer within {_START_SECONDS:.0f} s; "
                    "see its log, and `s3posixfs doctor`"
                }
            data = ready.read(65536)
            if data == b"":
                break
            received += data or b""
    try:
        answer = json.loads(received)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
