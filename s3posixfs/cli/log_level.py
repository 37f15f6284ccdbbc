"""``s3posixfs log-level``: a running mount logs more, or less."""

from __future__ import annotations

import click

from s3posixfs.cli.control_client import ask
from s3posixfs.cli.logs import LEVELS
from s3posixfs.cli.mountpoints import control_socket, resolve_mountpoint
from s3posixfs.core.errors import OperatorError


@click.command("log-level", short_help="Change how much a running mount logs.")
@click.argument("mountpoint")
@click.argument("level", type=click.Choice(LEVELS))
def log_level(mountpoint: str, level: str) -> None:
    """Log LEVEL and above at MOUNTPOINT, until the mount ends or this is called again."""
    path = resolve_mountpoint(mountpoint)
    try:
        answer = ask(control_socket(path), "log-level", level=level)
    except TimeoutError:
        raise OperatorError(
            f"the mount at {path} does not answer; send its daemon SIGUSR2 for debug lines"
        ) from None
    if answer is None:
        raise OperatorError(f"no mount of s3posixfs runs at {path}; `s3posixfs status` lists them")
    if "before" not in answer:
        raise OperatorError(
            f"the mount at {path} cannot: {answer.get('error', 'no reason given')}; "
            "its daemon may be an older one: mount it anew"
        )
    click.echo(f"{path}: {answer['level']}, {answer['before']} before")
