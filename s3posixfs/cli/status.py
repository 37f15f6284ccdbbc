"""``s3posixfs status``: what running mounts say of themselves."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from s3posixfs.cli.common import echo_json, echo_table, json_option
from s3posixfs.cli.control import ask
from s3posixfs.cli.mountpoints import (
    FILESYSTEM_TYPE,
    control_socket,
    kernel_mounts,
    resolve_mountpoint,
)
from s3posixfs.core.errors import OperatorError


def collect(mountpoint: str | None) -> list[dict[str, Any]]:
    """The status of one mount, or of all; a mount whose daemon is silent says so."""
    if mountpoint is None:
        paths = [m.mountpoint for m in kernel_mounts() if m.filesystem == FILESYSTEM_TYPE]
    else:
        paths = [str(resolve_mountpoint(mountpoint))]
        if not any(m.mountpoint == paths[0] for m in kernel_mounts()):
            raise OperatorError(f"nothing is mounted at {paths[0]}")
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            answer = ask(control_socket(resolve_mountpoint(path)), "status")
        except TimeoutError:
            answer = {"health": "does not answer"}
        found.append(
            {"mountpoint": path, **(answer or {"health": "dead: its daemon is not running"})}
        )
    return found


def _lifetime(row: dict[str, Any]) -> str:
    if not row["used"]:
        return "not used yet"
    expires_at = row["expires_at"]
    if expires_at is None:
        return "none" if row["last_error"] else "does not expire"
    left = expires_at - time.time()
    return f"in {left:,.0f} s" if left > 0 else "expired"


# Seconds since the epoch in JSON, text for people.
_TIMES = frozenset({"since", "daemon_credentials_expire"})


def _show(mount: dict[str, Any]) -> None:
    plain = {
        key: value
        for key, value in mount.items()
        if not isinstance(value, dict | list) and value is not None
    }
    for name in _TIMES & plain.keys():
        plain[name] = datetime.fromtimestamp(plain[name], UTC).isoformat(" ", "seconds")
    for name in ("filesystem", "client", "capabilities"):
        inner = mount.get(name)
        if isinstance(inner, dict):
            plain.update({f"{name} {key}": value for key, value in inner.items()})
    echo_table(["", mount["mountpoint"]], [[key, str(value)] for key, value in plain.items()])
    identities = mount.get("identities") or []
    if identities:
        echo_table(
            ["identity", "uid", "gid", "signs by", "credentials expire", "last error"],
            [
                [
                    row["name"],
                    str(row["uid"]),
                    str(row["gid"]),
                    row["signs_by"],
                    _lifetime(row),
                    row["last_error"] or "",
                ]
                for row in identities
            ],
        )


@click.command(short_help="Health, identities, dirty files, cache use, counters.")
@click.argument("mountpoint", required=False)
@json_option
def status(mountpoint: str | None, as_json: bool) -> None:
    """Show the mount at MOUNTPOINT, or all mounts."""
    mounts = collect(mountpoint)
    if as_json:
        echo_json(mounts[0] if mountpoint is not None else mounts)
        return
    if not mounts:
        click.echo("no s3posixfs mounts")
    for mount in mounts:
        _show(mount)
