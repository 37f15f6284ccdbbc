"""What the shells complete after ``-o``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from s3posixfs.cli.generic_options import KERNEL_FLAGS
from s3posixfs.cli.option_table import OPTIONS, Choice

_FILES = frozenset(
    {
        *("credentials_file", "ca_file", "identities", "cache_dir", "audit_log", "log_file"),
        *("metrics", "config"),
    }
)
_GENERIC = ("ro", "rw", "noauto", "nofail", "_netdev", "user", "config=", *KERNEL_FLAGS)


def mount_options(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Candidates for what is being typed after ``-o``: the last option of the list."""
    before, comma, item = incomplete.rpartition(",")
    return [
        CompletionItem(f"{before}{comma}{text}", help=told or None)
        for text, told in _candidates(item)
        if text.startswith(item)
    ]


def _candidates(item: str) -> Iterator[tuple[str, str]]:
    name, equals, value = item.partition("=")
    for option in OPTIONS:
        if not equals:
            yield (option.name if option.default is False else f"{option.name}="), option.help
        elif option.name == name and isinstance(option.parse, Choice):
            yield from ((f"{name}={choice}", "") for choice in option.parse.choices)
    if not equals:
        yield from ((text, "") for text in _GENERIC)
    elif name in _FILES:
        yield from ((f"{name}={path}", "") for path in _paths(value))
        if name == "identities":
            yield "identities=auto", ""


def _paths(begun: str) -> Iterator[str]:
    folder = os.path.dirname(begun)
    try:
        with os.scandir(folder or ".") as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = os.path.join(folder, entry.name)
                yield f"{path}/" if entry.is_dir() else path
    except OSError:
        return
