"""What mount(8) runs for ``-t s3posixfs``: its flags, turned into ``s3posixfs mount``.

mount(8), "external helpers": ``/sbin/mount.SUFFIX SPEC DIR [-sfnv] [-N NS] [-o OPTIONS]``.
There ``-f`` means "fake" (do nothing), which is not what it means to ``s3posixfs mount``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from s3posixfs.cli.main import run

_WITH_VALUE = ("-N", "-t")
USAGE = 1  # mount(8): "incorrect invocation or permissions"
FAILED = 32  # mount(8): "mount failure"


def translate(arguments: Sequence[str]) -> list[str] | None:
    """The arguments for ``s3posixfs``; None where nothing is to be done. ValueError if wrong."""
    positional: list[str] = []
    options: list[str] = []
    fake = False
    rest = iter(arguments)
    for argument in rest:
        if argument == "-o":
            options.append(next(rest, ""))
        elif argument in _WITH_VALUE:
            next(rest, None)
        elif argument.startswith("-") and len(argument) > 1:
            letters = argument[1:]
            if set(letters) - set("sfnvrw"):
                raise ValueError(argument)
            fake = fake or "f" in letters
            if "r" in letters:
                options.append("ro")
        else:
            positional.append(argument)
    if len(positional) != 2:
        raise ValueError("SOURCE and MOUNTPOINT are needed")
    if fake:
        return None
    lists = [text for option in options for text in ("-o", option)]
    return ["mount", *lists, "--", *positional]


def main() -> None:
    """The entry point that is installed as ``mount.s3posixfs``."""
    try:
        arguments = translate(sys.argv[1:])
    except ValueError as error:
        print(
            f"mount.s3posixfs: {error}; usage: mount.s3posixfs SOURCE MOUNTPOINT [-sfnvr] "
            "[-o OPTIONS]",
            file=sys.stderr,
        )
        sys.exit(USAGE)
    if arguments is None:
        return
    try:
        run(arguments)
    except SystemExit as stop:
        sys.exit(FAILED if stop.code else 0)
