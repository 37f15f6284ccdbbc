"""``s3posixfs doctor``: what a mount needs, whether it is there, and what to do where it is not."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from s3posixfs.cli.common import json_option
from s3posixfs.cli.findings import Finding, show
from s3posixfs.cli.mount_options import MountOptions, parse_options
from s3posixfs.cli.mount_request import (
    DEFAULT_IDENTITIES,
    bucket_of,
    find_endpoint,
    optional_path,
)
from s3posixfs.core.errors import OperatorError

# S3 refuses a request whose clock differs by 15 minutes; half of it is close.
_SKEW_SECONDS = 450.0


def _device() -> Finding:
    path = "/dev/fuse"
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return Finding(path, "failed", "missing", "load the kernel module: modprobe fuse")
    if not stat.S_ISCHR(mode) or not os.access(path, os.R_OK | os.W_OK):
        return Finding(path, "failed", "not accessible", "chmod 0666 /dev/fuse, as udev does")
    return Finding(path, "ok", "readable and writable")


def _helper() -> Finding:
    path = shutil.which("fusermount3")
    if path is None:
        return Finding("fusermount3", "failed", "not installed", "apt-get install fuse3")
    if os.geteuid() != 0 and not os.stat(path).st_mode & stat.S_ISUID:
        return Finding("fusermount3", "failed", "not setuid root", f"chmod u+s {path}")
    return Finding("fusermount3", "ok", path)


def _allow_other() -> Finding:
    try:
        lines = Path("/etc/fuse.conf").read_text().splitlines()
    except OSError:
        lines = []
    if any(line.strip() == "user_allow_other" for line in lines):
        return Finding("user_allow_other", "ok", "set in /etc/fuse.conf")
    if os.geteuid() == 0:
        return Finding("user_allow_other", "ok", "not set; root needs it not")
    return Finding(
        "user_allow_other",
        "warning",
        "not set, so allow_other is refused to you",
        "put the line user_allow_other into /etc/fuse.conf",
    )


def _identity_file(options: MountOptions) -> Finding:
    from s3posixfs.identity.map import parse_identities

    given = options.text("identities")
    if given == "auto":
        return Finding("identities", "ok", "asked of the store (auto)")
    path = Path(given) if given is not None else DEFAULT_IDENTITIES
    if given is None and not path.exists():
        return Finding(
            "identities",
            "warning",
            f"{path} does not exist: every object belongs to the mount's uid",
            "write it, or mount with identities=auto where the store is s3posixfs",
        )
    try:
        count = len(parse_identities(path.read_text(), str(path)).identities)
    except (OSError, UnicodeDecodeError) as error:
        return Finding("identities", "failed", f"{path}: {error}", "make it readable")
    except OperatorError as error:
        return Finding("identities", "failed", str(error), "mend that line")
    return Finding("identities", "ok", f"{count} in {path}")


def _endpoint(source: str | None, options: MountOptions) -> Iterator[Finding]:
    import trio

    from s3posixfs.core.clock import SystemClock
    from s3posixfs.credentials.provider import CredentialsError, ProfileProvider
    from s3posixfs.s3.check import check
    from s3posixfs.s3.client import S3Client

    try:
        endpoint = find_endpoint(options)
    except OperatorError as error:
        yield Finding("endpoint", "failed", str(error), "name a profile that exists")
        return
    credentials_file = optional_path(options.text("credentials_file"))
    provider = ProfileProvider(
        options.text("profile"),
        clock=SystemClock(),
        credentials_file=credentials_file,
    )
    bucket = bucket_of(source or "")

    async def ask() -> float:
        await provider.get()
        async with S3Client(
            endpoint.url,
            region=endpoint.region,
            clock=SystemClock(),
            ca_file=optional_path(options.text("ca_file")),
        ) as client:
            await check(client.acting_as(provider), bucket)
            return client.clock_offset

    try:
        offset = trio.run(ask)
    except CredentialsError as error:
        yield Finding("credentials", "failed", error.cause, "give profile=NAME that has some")
        return
    except OperatorError as error:
        text, _, remedy = str(error).partition("; ")
        yield Finding("endpoint", "failed", text, remedy or "see the message")
        return
    yield Finding("credentials", "ok", f"profile {options.text('profile') or 'default'}")
    yield Finding("endpoint", "ok", f"{endpoint.url} answers")
    if abs(offset) > _SKEW_SECONDS:
        yield Finding(
            "clock", "warning", f"{offset:+.0f} s off the store's", "set it: timedatectl set-ntp on"
        )
    else:
        yield Finding("clock", "ok", "close enough to the store's")


def examine(source: str | None, options: MountOptions) -> list[Finding]:
    """Every finding, in the order in which a mount would meet it."""
    looks: tuple[Callable[[], Finding], ...] = (_device, _helper, _allow_other)
    findings = [look() for look in looks]
    findings.extend(_endpoint(source, options))
    findings.append(_identity_file(options))
    return findings


@click.command(short_help="Check what a mount needs, and say what to do.")
@click.argument("source", required=False)
@click.option("-o", "comma_lists", multiple=True, metavar="OPT[,OPT…]", help="Mount options.")
@json_option
@click.pass_context
def doctor(
    context: click.Context, source: str | None, comma_lists: tuple[str, ...], as_json: bool
) -> None:
    """Check this host, and the endpoint and credentials that the mount options name."""
    findings = examine(source, parse_options(comma_lists, {}))
    show(findings, as_json=as_json)
    context.exit(1 if any(finding.verdict == "failed" for finding in findings) else 0)
