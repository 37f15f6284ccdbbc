"""``s3posixfs doctor``: what a mount needs, whether it is there, and what to do where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from s3posixfs.cli.common import json_option, note
from s3posixfs.cli.doctor_files import about_cache, about_config, about_identities
from s3posixfs.cli.doctor_host import about_host, about_mounts, about_units
from s3posixfs.cli.findings import Finding, failed, show
from s3posixfs.cli.mount_options import parse_options
from s3posixfs.cli.option_completion import mount_options
from s3posixfs.core.errors import OperatorError


def examine(source: str | None, comma_lists: Sequence[str]) -> list[Finding]:
    """Every finding, in the order in which a mount would meet it."""
    findings = [*about_host(), *about_config(comma_lists)]
    try:
        options = parse_options(comma_lists, {})
    except OperatorError as error:
        findings.append(failed("options", error))
    else:
        from s3posixfs.cli.doctor_store import about_store

        findings.extend(about_identities(options))
        findings.extend(about_store(source, options))
        findings.extend(about_cache(options))
    return [*findings, *about_mounts(), *about_units()]


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    text = f"{counts['failed']} failed, {counts['warning']} to be looked at, {counts['ok']} ok"
    return text if not counts["failed"] else f"{text}: mend what failed, from the top"


@click.command(short_help="Check what a mount needs, and say what to do.")
@click.argument("source", required=False)
@click.option(
    "-o",
    "comma_lists",
    multiple=True,
    metavar="OPT[,OPT…]",
    help="Mount options.",
    shell_complete=mount_options,
)
@json_option
@click.pass_context
def doctor(
    context: click.Context, source: str | None, comma_lists: tuple[str, ...], as_json: bool
) -> None:
    """Check this host, its mounts, and the store that the mount options name.

    Give SOURCE and -o as to a mount: its bucket is looked at as well, and what the store can do is
    found out on a scratch object that is removed at once, unless -o ro is given. Exit status 1
    where a line says FAIL (in JSON: failed).
    """
    findings = examine(source, comma_lists)
    show(findings, as_json=as_json)
    if not as_json:
        note(_summary(findings))
    context.exit(int(any(finding.verdict == "failed" for finding in findings)))
