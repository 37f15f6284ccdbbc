"""``s3posixfs identities``: the file that says which S3 owner is which uid."""

from __future__ import annotations

import os
import pwd
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import click

from s3posixfs.cli.common import echo_json, echo_table, json_option, note, run_command
from s3posixfs.cli.mount_options import MountOptions, parse_options
from s3posixfs.cli.mount_request import DEFAULT_IDENTITIES
from s3posixfs.cli.progress import progress
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.importing import (
    Choices,
    ForeignUser,
    Imported,
    import_users,
    radosgw_users,
    to_toml,
    weka_users,
)
from s3posixfs.identity.map import Identity, IdentityMap, PasswdUsers, parse_identities

_READERS: dict[str, Callable[[str], list[ForeignUser]]] = {
    "radosgw-admin": radosgw_users,
    "weka": weka_users,
}
_LARGEST = 256 * 1024 * 1024  # bytes of JSON


@click.group()
def identities() -> None:
    """Which S3 owner is which uid: import, check and list an identity file."""


def _read(name: str) -> str:
    """A file's text, or standard input's for ``-``."""
    try:
        if name == "-":
            text = sys.stdin.read(_LARGEST)
        else:
            with open(name, encoding="utf-8") as file:
                text = file.read(_LARGEST)
    except UnicodeDecodeError:
        raise OperatorError(f"{name} is not UTF-8 text; save it as UTF-8") from None
    if len(text) >= _LARGEST:
        raise OperatorError(f"{name} is too large; give it in parts of less than 256 MiB")
    return text


def _host(passwd: Path | None) -> tuple[Callable[[str], PosixOwner | None], Callable[[int], bool]]:
    """Users by name, and whether a uid is taken: of this host, or of a file like passwd(5)."""
    if passwd is None:
        return _host_user, _host_has
    users: dict[str, PosixOwner] = {}
    for number, line in enumerate(_read(str(passwd)).splitlines(), 1):
        if not line.strip() or line.startswith(("#", "+", "-")):
            continue
        fields = line.split(":")
        if len(fields) < 4 or not (fields[2].isdecimal() and fields[3].isdecimal()):
            raise OperatorError(
                f"{passwd}, line {number}: not as passwd(5) says; write it by `getent passwd`"
            )
        users.setdefault(fields[0], PosixOwner(int(fields[2]), int(fields[3])))
    uids = {owner.uid for owner in users.values()}
    return users.get, uids.__contains__


def _host_user(name: str) -> PosixOwner | None:
    try:
        return PasswdUsers().user(name)
    except (KeyError, ValueError):  # a NUL in the name
        return None


def _host_has(uid: int) -> bool:
    return _host_name(uid) is not None


def _host_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def load(path: Path) -> IdentityMap:
    """An identity file's map. Raises OperatorError."""
    return parse_identities(_read(str(path)), str(path))


@identities.command("import")
@click.option(
    "--from",
    "system",
    required=True,
    type=click.Choice(list(_READERS)),
    help="What printed FILE: `radosgw-admin user info` of each user, or `weka user -J`.",
)
@click.argument("file")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="F",
    help="The identity file to write [default: standard output].",
)
@click.option("--update", is_flag=True, help="Add who is missing in F; leave the rest as it is.")
@click.option("--force", is_flag=True, help="Write F anew where it exists.")
@click.option(
    "--passwd",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take uid and gid of a name from this file like passwd(5), not from this host.",
)
@click.option(
    "--uid-from",
    type=click.IntRange(1, 2**32 - 2),
    metavar="N",
    help="Number those whose names are not known from N on, instead of leaving them out.",
)
@click.option(
    "--uid-min",
    type=click.IntRange(0, 2**32 - 2),
    default=1000,
    show_default=True,
    metavar="N",
    help="Leave out who would get a uid below N, as system accounts have.",
)
@click.option("--profiles", is_flag=True, help="Each acts by the AWS profile of its own name.")
@json_option
def import_(
    system: str,
    file: str,
    output: Path | None,
    update: bool,
    force: bool,
    passwd: Path | None,
    uid_from: int | None,
    uid_min: int,
    profiles: bool,
    as_json: bool,
) -> None:
    """Write an identity file from what another system prints of its users; FILE may be -.

    \b
    radosgw-admin user info --uid=alice | s3posixfs identities import --from radosgw-admin -

    A user's uid is the other system's (WEKA), else that of the same name on this host or in
    --passwd, else one from --uid-from on. No secret is read or written.
    """
    if update and force:
        raise click.UsageError("give --update or --force, not both")
    if update and output is None:
        raise click.UsageError("--update needs a file; give --output F")

    def run() -> None:
        present, before = _present(output, update=update, force=force)
        try:
            users = _READERS[system](_read(file))
        except OperatorError as error:
            raise OperatorError(f"{file}: {error}") from None
        host, has_uid = _host(passwd)
        # Each name may be asked of a directory service far away.
        with progress("looking names up", len(users)) as advance:

            def look_up(name: str) -> PosixOwner | None:
                advance()
                return host(name)

            choices = Choices(look_up, has_uid, uid_from, uid_min, profiles)
            imported = import_users(users, choices, present)
        text = before + _heading(system, before) + to_toml(imported.identities)
        parse_identities(text, str(output or "the result"))
        if not imported.identities and not imported.kept:
            reasons = "; ".join(f"{left.name}: {left.reason}" for left in imported.left_out[:3])
            raise OperatorError(
                f"nobody could be imported ({reasons}); "
                "give --passwd FILE that has them, or --uid-from N"
            )
        if output is not None:
            _write(output, text, replace=update or force)
        if as_json:
            echo_json(_report(imported))
        elif output is None:
            click.echo(text, nl=False)
        _tell(imported, output, profiles=profiles)

    run_command(run)


def _present(output: Path | None, *, update: bool, force: bool) -> tuple[IdentityMap | None, str]:
    """What the output file has that is to stay: its map and its text."""
    if output is None or not os.path.lexists(output) or force:
        return None, ""
    if not update:
        raise OperatorError(
            f"{output} exists; give --update to add who is missing there, or --force to write "
            "it anew"
        )
    text = _read(str(output))
    return parse_identities(text, str(output)), text


def _heading(system: str, before: str) -> str:
    if before:
        return "" if before.endswith("\n\n") else "\n" if before.endswith("\n") else "\n\n"
    return (
        f"# Written by `s3posixfs identities import --from {system}`; yours to edit.\n"
        "# A mount reads it again when it changes; `s3posixfs identities check` looks it over.\n\n"
    )


def _write(path: Path, text: str, *, replace: bool) -> None:
    """The whole file or nothing of it; what a symbolic link names is replaced, not the link."""
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    made = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if replace:
            os.replace(made, target)
        else:
            os.link(made, target)  # fails where the file came into being meanwhile
    finally:
        made.unlink(missing_ok=True)


def _report(imported: Imported) -> dict[str, object]:
    return {
        "imported": [_row(identity) for identity in imported.identities],
        "kept": imported.kept,
        "gone": imported.gone,
        "left_out": [{"name": left.name, "reason": left.reason} for left in imported.left_out],
    }


def _tell(imported: Imported, output: Path | None, *, profiles: bool) -> None:
    for left in imported.left_out:
        note(f"left out: {left.name}: {left.reason}")
    for name in imported.gone:
        note(f"in {output}, but not known there: {name}")
    counts = f"{len(imported.identities)} imported"
    if imported.kept:
        counts += f", {len(imported.kept)} kept as they were"
    if imported.left_out:
        counts += f", {len(imported.left_out)} left out"
    note(counts)
    if profiles and imported.identities:
        name = imported.identities[0].name
        note(f"put each one's key pair into the AWS profile of its name, such as [{name}]")


def _row(identity: Identity) -> dict[str, object]:
    signs_by = f"profile {identity.profile}" if identity.profile else None
    return {
        "name": identity.name,
        "uid": identity.owner.uid,
        "gid": identity.owner.gid,
        "host_user": _host_name(identity.owner.uid),
        "owner_ids": list(identity.owner_ids),
        "access_keys": list(identity.access_keys),
        "signs_by": identity.role_arn or signs_by or "the mount",
    }


@identities.command("list")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def list_(file: Path | None, as_json: bool) -> None:
    """Show the identities in FILE [default: /etc/s3posixfs/identities.toml]."""

    def run() -> None:
        rows = [_row(identity) for identity in load(file or DEFAULT_IDENTITIES).identities]
        if as_json:
            echo_json(rows)
            return
        columns = ("name", "uid", "gid", "host_user", "owner_ids", "access_keys", "signs_by")
        titles = [column.replace("_", " ") for column in columns]
        echo_table(titles, [[row[column] for column in columns] for row in rows])

    run_command(run)


_STORE_OPTIONS = (
    "endpoint_url",
    "profile",
    "credentials_file",
    "region",
    "ca_file",
    "sts_endpoint_url",
)


def _with_store_options(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(_STORE_OPTIONS):
        spelling = f"--{name.replace('_', '-')}"
        command = click.option(spelling, name, metavar="VALUE", help=f"As -o {name}=VALUE.")(
            command
        )
    return command


@identities.command("check")
@click.argument("file", required=False)
@click.option("-o", "comma_lists", multiple=True, metavar="OPT[,OPT…]", help="Mount options.")
@_with_store_options
@click.option(
    "--bucket", metavar="BUCKET[/PREFIX]", help="Look for owners there who are in no identity."
)
@click.option(
    "--objects",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Look at no more objects than these.",
)
@json_option
def check(
    file: str | None,
    comma_lists: tuple[str, ...],
    bucket: str | None,
    objects: int,
    as_json: bool,
    **named: str | None,
) -> None:
    """Check the identities in FILE [default: that of the mount options].

    By itself it looks at the file: duplicates, unknown names, missing fields. With the store
    (--endpoint-url, --profile, or -o as for a mount) it acts once as each identity: does its
    profile have credentials, may its role be assumed, is the S3 owner the one that is meant; and
    compares the clocks. Exit status 1 where a line says failed or warning.
    """
    from s3posixfs.cli.findings import show
    from s3posixfs.cli.identities_check import Examination

    def run() -> int:
        asks = bool(comma_lists) or bucket is not None or any(named.values())
        options: MountOptions = parse_options(comma_lists, named)
        findings = Examination(options, file).run(ask_store=asks, bucket=bucket, objects=objects)
        show(findings, as_json=as_json)
        return int(any(finding.verdict in ("failed", "warning") for finding in findings))

    run_command(run)
