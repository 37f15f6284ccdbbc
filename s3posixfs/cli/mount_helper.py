"""What mount(8) runs for ``-t s3posixfs``: its flags, turned into ``s3posixfs mount``.

mount(8), "external helpers": ``/sbin/mount.SUFFIX SPEC DIR [-sfnv] [-N NS] [-o OPTIONS]``.
There ``-f`` means "fake" (do nothing), which is not what it means to ``s3posixfs mount``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s3posixfs.cli.common import PROGRAM, run_command
from s3posixfs.cli.main import cli
from s3posixfs.cli.mount_options import known, parse_options, split_commas
from s3posixfs.cli.mountpoints import FILESYSTEM_TYPE, is_dead, mount_at, resolve_mountpoint
from s3posixfs.cli.remount import remount
from s3posixfs.core.errors import OperatorError, S3Error

# Exit statuses of mount(8).
USAGE = 1  # "incorrect invocation or permissions"
SYSTEM = 2  # "system error (out of memory, cannot fork, …)"
BUG = 4  # "internal mount bug"
INTERRUPTED = 8  # "user interrupt"
FAILED = 32  # "mount failure"

_WITH_VALUE = ("-N", "-t")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What mount(8) asked for: ``lists`` are texts as after ``-o``."""

    source: str
    mountpoint: str
    lists: tuple[str, ...]
    fake: bool = False
    sloppy: bool = False

    @property
    def names(self) -> list[str]:
        """The options' names, in their order."""
        return [name for name, _ in split_commas(self.lists)]


def translate(arguments: Sequence[str]) -> Wanted:
    """The helper's arguments. ValueError for wrong ones."""
    positional: list[str] = []
    lists: list[str] = []
    flags: set[str] = set()
    rest = iter(arguments)
    for argument in rest:
        if argument == "-o":
            lists.append(next(rest, ""))
        elif argument in _WITH_VALUE:
            next(rest, None)
        elif argument.startswith("-") and len(argument) > 1:
            if set(argument[1:]) - set("sfnvrw"):
                raise ValueError(f"unknown flag {argument}")
            flags |= set(argument[1:])
        else:
            positional.append(argument)
    if len(positional) != 2:
        raise ValueError("SOURCE and MOUNTPOINT are needed")
    if "r" in flags:
        lists.append("ro")
    source, mountpoint = positional
    return Wanted(source, mountpoint, tuple(lists), fake="f" in flags, sloppy="s" in flags)


def exit_status(command: Callable[[], object]) -> int:
    """Run ``command`` with its errors in one line on stderr; the status as mount(8) has them."""
    status = 0

    def noting() -> object:
        nonlocal status
        try:
            return command()
        except (OperatorError, S3Error, SystemExit):
            status = FAILED
            raise
        except KeyboardInterrupt:
            status = INTERRUPTED
            raise
        except OSError:
            status = SYSTEM
            raise
        except Exception:
            status = BUG
            raise

    try:
        run_command(noting)
    except SystemExit:
        return status or FAILED
    return 0


def check_options(wanted: Wanted) -> None:
    """Raises OperatorError for options that are not to be had."""
    parse_options([text for text in wanted.lists if text], {})


def do_mount(wanted: Wanted) -> None:
    """Mount, or change the mount that is there. Raises what ``s3posixfs mount`` raises."""
    if "remount" in wanted.names:
        remount(resolve_mountpoint(wanted.mountpoint), wanted.lists)
        return
    if _is_done(wanted):
        return
    lists = [word for text in wanted.lists for word in ("-o", text)]
    arguments = ["mount", *lists, "--", wanted.source, wanted.mountpoint]
    cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)


def _is_done(wanted: Wanted) -> bool:
    """Whether all buckets are mounted there already.

    The kernel's table must not name ``/`` as what is mounted, so `mount -a` cannot find its line
    of fstab there, and asks for that mount again.
    """
    if wanted.source.strip("/"):
        return False
    path = resolve_mountpoint(wanted.mountpoint)
    here = mount_at(path)
    same = here is not None and (here.filesystem, here.source) == (FILESYSTEM_TYPE, "s3posixfs#/")
    return same and not is_dead(path)


def main() -> None:
    """The entry point that is installed as ``mount.s3posixfs``."""
    try:
        wanted = translate(sys.argv[1:])
    except ValueError as error:
        print(
            f"mount.s3posixfs: {error}; usage: mount.s3posixfs SOURCE MOUNTPOINT [-sfnvrw] "
            "[-o OPTIONS]",
            file=sys.stderr,
        )
        sys.exit(USAGE)
    if wanted.sloppy:
        wanted = Wanted(wanted.source, wanted.mountpoint, tuple(known(wanted.lists)), wanted.fake)
    if "remount" not in wanted.names and exit_status(lambda: check_options(wanted)):
        sys.exit(USAGE)
    if not wanted.fake:
        sys.exit(exit_status(lambda: do_mount(wanted)))
