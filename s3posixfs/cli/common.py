"""What all commands share: options, tables, JSON, and the one place where errors become text."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from s3posixfs.core.errors import OperatorError, S3Error

PROGRAM = "s3posixfs"
DEBUG_VARIABLE = "S3POSIXFS_DEBUG"
FAILED = 1
INTERRUPTED = 130

# What to do about an error of the system that nothing nearer to it explained.
_REMEDIES = {
    errno.ENOENT: "check the name, or make it",
    errno.EACCES: "run this as a user who may use it, often root",
    errno.EPERM: "run this as a user who may do so, often root",
    errno.EROFS: "name something on a filesystem that is not read-only",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room in that quota",
    errno.EISDIR: "name a file instead",
    errno.ENOTDIR: "name a folder instead",
    errno.ECONNREFUSED: "check that what listens there is running",
}
_REMEDY = "see `s3posixfs doctor`, and the log of the kernel (dmesg)"

_Command = TypeVar("_Command", bound=Callable[..., Any])


def default_state_dir() -> Path:
    """``/var/lib/s3posixfs`` for root, else below the user's state folder (XDG)."""
    if os.geteuid() == 0:
        return Path("/var/lib/s3posixfs")
    state_home = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(state_home) if state_home.startswith("/") else Path.home() / ".local/state"
    return base / "s3posixfs"


_GROUP_STATE = f"{PROGRAM}.group_state"


def _remember_state_dir(
    context: click.Context, parameter: click.Parameter, value: Path | None
) -> None:
    # ``meta`` is what a context shares with those below it.
    if value is not None:
        context.meta[_GROUP_STATE] = value


def _chosen_state_dir(
    context: click.Context, parameter: click.Parameter, value: Path | None
) -> Path:
    if value is None:
        value = context.meta.get(_GROUP_STATE)
    return default_state_dir() if value is None else value


_STATE_HELP = (
    "Folder of the store's users, keys and policies"
    " [default: /var/lib/s3posixfs, or $XDG_STATE_HOME/s3posixfs when not root]."
)


def state_option(command: _Command) -> _Command:
    """``--state DIR``, given to the function as ``state: Path``."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path, readable=False),
        metavar="DIR",
        callback=_chosen_state_dir,
        help=_STATE_HELP,
    )(command)


def group_state_option(command: _Command) -> _Command:
    """``--state DIR`` before the verb as well: ``s3posixfs user --state DIR list``."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path, readable=False),
        metavar="DIR",
        callback=_remember_state_dir,
        expose_value=False,
        help=_STATE_HELP,
    )(command)


def json_option(command: _Command) -> _Command:
    """``--json``, given to the function as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def echo_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; nothing in it is ever cut off or wrapped.

    Without headings where all of ``columns`` are empty.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([len(column), *(len(row[index]) for row in cells)])
        for index, column in enumerate(columns)
    ]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()

    if any(columns):
        click.secho(line(columns), bold=True)
    for row in cells:
        click.echo(line(row))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) if value else "-"
    return str(value)


def note(message: str) -> None:
    """Something for the person at the terminal that is no result: on standard error."""
    click.echo(message, err=True)


def read_secret_file(name: str) -> str:
    """The secret in a file, or on standard input for ``-``; a line end after it is not of it."""
    try:
        if name == "-":
            text = sys.stdin.read(65_537)
        else:
            with open(name, encoding="utf-8") as file:
                text = file.read(65_537)
    except UnicodeDecodeError:
        raise OperatorError(
            f"the secret in {name} is not UTF-8 text; write it anew as such"
        ) from None
    lines = text.splitlines()
    if len(lines) != 1:
        raise OperatorError(
            f"{'standard input' if name == '-' else name} must hold one line, the secret key; "
            "write that alone into it"
        )
    return lines[0]


def _fail(message: str) -> int:
    # One line, whatever a message was made of.
    click.echo(f"{PROGRAM}: {' '.join(message.split())}", err=True)
    return FAILED


def run_command(command: Callable[[], object]) -> None:
    """Run ``command``; where it fails, one line on standard error and SystemExit.

    The status is 1 for refused or failed, 2 for wrong usage, 130 for interrupted, or the
    integer that ``command`` returns; with 0 this returns. It may be nested. With
    ``S3POSIXFS_DEBUG`` set, what was not foreseen shows its traceback.
    """
    status = _status_of(command)
    if status:
        raise SystemExit(status)


def _status_of(command: Callable[[], object]) -> int:
    try:
        result = command()
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OperatorError as error:
        return _fail(str(error))
    except S3Error as error:
        return _fail(f"{error}; see `s3posixfs doctor`")
    except BrokenPipeError:
        # Whoever read our output has had enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        text = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
        return _fail(f"{where}{text}; {_REMEDIES.get(error.errno or 0, _REMEDY)}")
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        # Its text may hold what must not be shown; its type never does.
        return _fail(
            f"internal error ({type(error).__name__});"
            f" set {DEBUG_VARIABLE}=1 to see where, and please report it"
        )
    return result if isinstance(result, int) and not isinstance(result, bool) else 0
