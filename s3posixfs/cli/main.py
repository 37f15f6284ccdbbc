"""The command ``s3posixfs``: one module a noun, each loaded only when it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from s3posixfs import __version__
from s3posixfs.cli import completion as _  # noqa: F401 - registers itself with click
from s3posixfs.cli.common import PROGRAM, run_command


@dataclass(frozen=True, slots=True)
class Noun:
    """Where a command is, and what `--help` says of it without loading it."""

    module: str
    attribute: str
    help: str


NOUNS: dict[str, Noun] = {
    "serve": Noun("s3posixfs.cli.serve", "serve", "Run the embedded S3 store."),
    "user": Noun("s3posixfs.cli.user", "user", "S3 users, their POSIX ids and access keys."),
    "policy": Noun("s3posixfs.cli.policy", "policy", "IAM policies: what users may do."),
    "sts": Noun("s3posixfs.cli.sts", "sts", "Temporary credentials."),
    "identities": Noun(
        "s3posixfs.cli.identities", "identities", "Which S3 owner is which uid on this host."
    ),
    "mount": Noun("s3posixfs.cli.mount", "mount", "Mount a bucket, or all of them."),
    "umount": Noun("s3posixfs.cli.umount", "umount", "Unmount when all is written to S3."),
    "status": Noun("s3posixfs.cli.status", "status", "Health of the mounts of this host."),
    "log-level": Noun(
        "s3posixfs.cli.log_level", "log_level", "Change how much a running mount logs."
    ),
    "doctor": Noun(
        "s3posixfs.cli.doctor", "doctor", "Check what a mount needs, and say what to do."
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        noun = NOUNS.get(cmd_name)
        if noun is None:
            return None
        command = getattr(importlib.import_module(noun.module), noun.attribute)
        assert isinstance(command, click.Command)  # noqa: S101 (a mistake of ours, not of input)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, noun.help) for name, noun in NOUNS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """S3 for hosts with many users: a POSIX mount and an S3 store that share one identity."""


def run(arguments: Sequence[str]) -> None:
    """Run the program with these arguments; SystemExit with the status where it is not 0."""
    run_command(lambda: cli.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False))


def main() -> None:
    """The entry point that is installed as ``s3posixfs``."""
    run(sys.argv[1:])
