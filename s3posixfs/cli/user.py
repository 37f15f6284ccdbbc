"""``s3posixfs user``: S3 users, their POSIX ids and their access keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3posixfs.cli.common import (
    echo_json,
    echo_table,
    group_state_option,
    json_option,
    note,
    read_secret_file,
    state_option,
)
from s3posixfs.core.types import PosixOwner

if TYPE_CHECKING:
    from s3posixfs.store.state import KeyRecord, State, UserRecord

_ROLE = click.Choice(["s3", "admin"])
_KEY_FILE_OPTION = "--secret-key-file"
_KEY_FILE_HELP = "Read the secret key from this file (- : standard input) instead of making one."


def open_state(path: Path, *, create: bool = False) -> State:
    """The state in ``path``; raises OperatorError. ``create`` says on stderr that it made one."""
    # Imported here so that --help does not load the cryptography.
    from s3posixfs.store.state import ADMIN_CREDENTIALS, State

    state = State.open(path, create=create)
    if state.is_new:
        note(
            f"made a new store state in {path};"
            f" its administrator's keys are in {path / ADMIN_CREDENTIALS}"
        )
    return state


@click.group()
@group_state_option
def user() -> None:
    """S3 users, their POSIX ids and their access keys.

    A running store sees a change at once. A user may do nothing until a policy is attached
    (`s3posixfs policy attach`), except with the role admin, which may do everything.
    """


def _describe(
    record: UserRecord, access_keys: tuple[str, ...], policy: str | None
) -> dict[str, object]:
    return {
        "name": record.name,
        "role": record.role,
        "uid": record.owner.uid,
        "gid": record.owner.gid,
        "enabled": record.enabled,
        "policy": policy,
        "access_keys": list(access_keys),
        "created": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds"),
    }


def _policy_name(state: State, name: str) -> str | None:
    attached = state.policy_of(name)
    return None if attached is None else attached[0]


@user.command()
@click.argument("name")
@click.option(
    "--role",
    type=_ROLE,
    default="s3",
    show_default=True,
    help="s3: what its policy allows; admin: everything.",
)
@click.option(
    "--posix-uid", "--uid", "uid", type=int, default=0, show_default=True, metavar="U",
    help="The user that owns the objects' files.",
)  # fmt: skip
@click.option(
    "--posix-gid", "--gid", "gid", type=int, default=0, show_default=True, metavar="G",
    help="The group that owns the objects' files.",
)  # fmt: skip
@click.option("--access-key", metavar="K", help="The first access key. [default: NAME]")
@click.option(_KEY_FILE_OPTION, metavar="FILE", help=_KEY_FILE_HELP)
@state_option
@json_option
def add(
    name: str,
    role: str,
    uid: int,
    gid: int,
    access_key: str | None,
    secret_key_file: str | None,
    state: Path,
    as_json: bool,
) -> None:
    """Add a user, and print its access key and secret key, once."""
    secret = None if secret_key_file is None else read_secret_file(secret_key_file)
    with open_state(state, create=True) as opened:
        access_key, secret = opened.add_user(name, role, PosixOwner(uid, gid), access_key, secret)
    shown: dict[str, object] = {
        "name": name,
        "access_key": access_key,
        "secret_key": secret,
        "role": role,
        "uid": uid,
        "gid": gid,
    }
    _show_once(shown, as_json=as_json)


def _show_once(shown: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        echo_json(shown)
        return
    echo_table(list(shown), [list(shown.values())])
    note("The secret key is not shown again.")


@user.command("list")
@state_option
@json_option
def list_users(state: Path, as_json: bool) -> None:
    """List all users."""
    with open_state(state) as opened:
        access_keys = opened.access_keys()
        rows = [
            _describe(record, access_keys.get(record.name, ()), _policy_name(opened, record.name))
            for record in opened.users()
        ]
    if as_json:
        echo_json(rows)
        return
    columns = ["name", "role", "uid", "gid", "enabled", "policy", "access_keys"]
    echo_table(columns, [[row[column] for column in columns] for row in rows])


@user.command()
@click.argument("name")
@state_option
@json_option
def show(name: str, state: Path, as_json: bool) -> None:
    """Show one user."""
    with open_state(state) as opened:
        described = _describe(
            opened.user(name), opened.access_keys().get(name, ()), _policy_name(opened, name)
        )
    _show_record(described, as_json=as_json)


def _show_record(record: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        echo_json(record)
    else:
        echo_table(["", ""], [[key, value] for key, value in record.items()])


@user.command()
@click.argument("name")
@click.option("--role", type=_ROLE)
@click.option("--posix-uid", "--uid", "uid", type=int, metavar="U")
@click.option("--posix-gid", "--gid", "gid", type=int, metavar="G")
@click.option(
    "--enable/--disable", "enabled", default=None,
    help="Whether the user may sign in; disabling ends its sessions too.",
)  # fmt: skip
@click.option("--reown", is_flag=True, help="Give its existing objects its POSIX ids as well.")
@click.option(
    "--root", type=click.Path(path_type=Path), metavar="DIR",
    help="With --reown: the store's folder of objects, as for `serve`.",
)  # fmt: skip
@state_option
@json_option
def update(
    name: str,
    role: str | None,
    uid: int | None,
    gid: int | None,
    enabled: bool | None,
    reown: bool,
    root: Path | None,
    state: Path,
    as_json: bool,
) -> None:
    """Change a user. Files that it owns already keep their owner, except with --reown.

    The store may be running. An upload that began before the change and is still going on
    afterwards keeps the old ids: run it with --reown once more.
    """
    if role is None and uid is None and gid is None and enabled is None and not reown:
        raise click.UsageError(
            "nothing to change: give --role, --posix-uid, --posix-gid, --enable, --disable"
            " or --reown"
        )
    if reown is (root is None):
        raise click.UsageError("--reown and --root go together")
    if root is not None:
        from s3posixfs.cli.reown import check_root

        check_root(root)
    with open_state(state) as opened:
        record = opened.update_user(name, role=role, uid=uid, gid=gid, enabled=enabled, reown=reown)
        described = _describe(
            record, opened.access_keys().get(name, ()), _policy_name(opened, name)
        )
        if root is not None:
            described |= _reown(opened, name, root)
    _show_record(described, as_json=as_json)


def _reown(state: State, name: str, root: Path) -> dict[str, object]:
    from s3posixfs.cli.reown import reown_objects

    done = reown_objects(state, name, root)
    if not done.complete:
        note("objects with the old ids kept coming: run it with --reown once more")
    return {
        "reowned_objects": done.objects,
        "reowned_folders": done.folders,
        "reowned_buckets": done.buckets,
        "reowned_uploads": done.uploads,
    }


@user.command()
@click.argument("name")
@state_option
@json_option
def remove(name: str, state: Path, as_json: bool) -> None:
    """Remove a user with its keys and sessions. Its objects stay."""
    with open_state(state) as opened:
        opened.remove_user(name)
    if as_json:
        echo_json({"removed": name})
    else:
        note(f"removed {name}")


def _describe_key(record: KeyRecord) -> dict[str, object]:
    return {
        "access_key": record.access_key,
        "enabled": record.enabled,
        "created": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds"),
    }


@user.command()
@click.argument("name")
@click.option("--add", "adding", is_flag=True, help="Add a key, and print it and its secret, once.")
@click.option("--access-key", metavar="K", help="With --add: the key. [default: a random one]")
@click.option(_KEY_FILE_OPTION, metavar="FILE", help=f"With --add: {_KEY_FILE_HELP}")
@click.option("--remove", "removing", metavar="K", help="Remove this key and end its sessions.")
@click.option("--disable", "disabling", metavar="K", help="Let this key sign in no more.")
@click.option("--enable", "enabling", metavar="K", help="Let this key sign in again.")
@state_option
@json_option
def keys(
    name: str,
    adding: bool,
    access_key: str | None,
    secret_key_file: str | None,
    removing: str | None,
    disabling: str | None,
    enabling: str | None,
    state: Path,
    as_json: bool,
) -> None:
    """List a user's access keys, or add or remove one."""
    if sum([adding, removing is not None, disabling is not None, enabling is not None]) > 1:
        raise click.UsageError("give one of --add, --remove, --disable and --enable")
    if not adding and (access_key is not None or secret_key_file is not None):
        raise click.UsageError(f"--access-key and {_KEY_FILE_OPTION} go with --add")
    secret = None if secret_key_file is None else read_secret_file(secret_key_file)
    with open_state(state) as opened:
        if adding:
            access_key, secret = opened.add_key(name, access_key, secret)
            _show_once(
                {"name": name, "access_key": access_key, "secret_key": secret}, as_json=as_json
            )
            return
        if removing is not None:
            opened.remove_key(name, removing)
        elif disabling is not None:
            opened.enable_key(name, disabling, enabled=False)
        elif enabling is not None:
            opened.enable_key(name, enabling, enabled=True)
        rows = [_describe_key(record) for record in opened.keys(name)]
    if as_json:
        echo_json(rows)
    else:
        echo_table(["access_key", "enabled", "created"], [list(row.values()) for row in rows])
