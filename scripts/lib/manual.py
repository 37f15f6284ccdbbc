"""Makes man pages of the sources in packaging/man: ``manual.py SOURCES TARGET``.

Lines such as ``@COMMANDS@`` are replaced by what the program itself knows of its commands and
options, so that nothing is written twice. Run by a Python that has s3posixfs installed.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from s3posixfs import __version__
from s3posixfs.cli.generic_options import KERNEL_FLAGS
from s3posixfs.cli.main import cli
from s3posixfs.cli.option_table import OPTIONS, Option
from s3posixfs.identity.policy_conditions import OPERATORS
from s3posixfs.identity.policy_predefined import PREDEFINED

_WIDTH = 78


def escaped(text: str) -> str:
    """Text as roff takes it: no line of it is a request, and hyphens stay what they are."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    for character, name in (("…", "\\&...\\&"), ("'", "\\(aq"), ("`", "")):
        text = text.replace(character, name)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def sentence(text: str) -> str:
    """The option table's words as a sentence."""
    text = " ".join(text.split()) or "See above"
    return escaped(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    """A section for each command below, with its arguments and options."""
    if not isinstance(command, click.Group):
        yield from one_command(command, path)
        return
    if len(path) > 1:
        yield f".SS {escaped(' '.join(path))}"
        yield sentence(paragraphs(command)[0])
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None:
            yield from commands(found, (*path, name))


def paragraphs(command: click.Command) -> list[str]:
    """A command's help."""
    return [
        part.strip() for part in (command.help or command.short_help or "").strip().split("\n\n")
    ]


def one_command(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    arguments = " ".join(
        f"[{name}]" if not argument.required else name
        for argument in command.params
        if isinstance(argument, click.Argument)
        for name in [(argument.name or "").upper()]
    )
    yield f".SS {escaped(' '.join(path))} {escaped(arguments)}".rstrip()
    for number, text in enumerate(paragraphs(command)):
        if number:
            yield ".PP"
        # Click's sign of a paragraph that is not to be filled: something to type.
        verbatim = text.startswith("\b")
        yield f".EX\n{escaped(text[1:].strip())}\n.EE" if verbatim else sentence(text)
    if path == ("s3posixfs", "mount"):
        yield ".PP\nAll options of the mount are in\n.BR mount.s3posixfs (8)."
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        if path == ("s3posixfs", "mount") and option.name in {known.name for known in OPTIONS}:
            continue
        value = (
            ""
            if option.is_flag
            else f" \\fI{escaped(option.make_metavar(click.Context(command)))}\\fP"
        )
        names = ", ".join(f"\\fB{escaped(name)}\\fP" for name in option.opts)
        yield f".TP\n{names}{value}"
        yield sentence(option.help or "")


def mount_option(option: Option) -> str:
    value = "" if option.is_flag or option.default is False else "\\fIVALUE\\fP"
    name = f"\\fB{escaped(option.name)}{'=' if value else ''}\\fP{value}"
    return f".TP\n{name}\n{sentence(option.help)}"


PARTS: dict[str, Callable[[], str]] = {
    "COMMANDS": lambda: "\n".join(commands(cli, ("s3posixfs",))),
    "MOUNT_OPTIONS": lambda: "\n".join(map(mount_option, OPTIONS)),
    "KERNEL_OPTIONS": lambda: ", ".join(f"\\fB{name}\\fP" for name in KERNEL_FLAGS),
    "OPERATORS": lambda: ",\n".join(f"\\fB{name}\\fP" for name in [*OPERATORS, "Null"]) + ".",
    "PREDEFINED": lambda: ",\n".join(f"\\fB{name}\\fP" for name in PREDEFINED) + ".",
}


def page(source: str, date: str) -> str:
    """A page of its source. KeyError for a part that there is not."""
    lines = []
    for line in source.replace("@DATE@", date).replace("@VERSION@", __version__).splitlines():
        part = line.removeprefix("@").removesuffix("@") if line.startswith("@") else ""
        lines.append(PARTS[part]() if part else line)
    return "\n".join(wrapped("\n".join(lines).splitlines())) + "\n"


def wrapped(lines: Iterable[str]) -> Iterator[str]:
    """Lines of text no longer than mandoc(1) likes them; requests and examples as they are."""
    filled = True
    for line in lines:
        if line in (".EX", ".EE"):
            filled = line == ".EE"
        if not filled or line.startswith(".") or len(line) <= _WIDTH:
            yield line
            continue
        for part in textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False):
            # No line of it may look like a request.
            yield part if not part.startswith((".", "'")) else f"\\&{part}"


def main() -> None:
    """The program."""
    sources, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(sources.glob("*.[1-8]"))
    newest = max(int(path.stat().st_mtime) for path in paths)
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", newest)))
    for path in paths:
        text = page(path.read_text(encoding="utf-8"), time.strftime("%Y-%m-%d", moment))
        (target / path.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
