"""``s3posixfs policy``: IAM policies, whom they are attached to, and why they decide as they do."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    state_option,
)
from s3posixfs.cli.user import open_state
from s3posixfs.core.errors import OperatorError

if TYPE_CHECKING:
    from s3posixfs.identity.policy import PolicyDocument
    from s3posixfs.store.state import PolicyRecord, UserRecord

_MAX_FILE_BYTES = 1024 * 1024


@click.group()
@group_state_option
def policy() -> None:
    """IAM policies: what users may do. Without one, a user may do nothing.

    readonly, writeonly and readwrite are always there.
    """


def _read_policy(name: str, *, bucket_policy: bool = False) -> PolicyDocument:
    from s3posixfs.identity.policy import PolicyError, parse_policy

    with click.open_file(name, "rb") as file:
        text = file.read(_MAX_FILE_BYTES)
    try:
        return parse_policy(text, bucket_policy=bucket_policy)
    except PolicyError as error:
        raise OperatorError(
            f"{'standard input' if name == '-' else name}: {error}; "
            "mend that; s3posixfs-policy(5) describes the language"
        ) from None


def _describe(record: PolicyRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "predefined": record.predefined,
        "bytes": record.document.size,
        "users": list(record.users),
    }


@policy.command()
@click.argument("name")
@click.argument("file")
@click.option("--replace", is_flag=True, help="Change a policy that exists, wherever attached.")
@state_option
@json_option
def add(name: str, file: str, replace: bool, state: Path, as_json: bool) -> None:
    """Add a policy from a JSON FILE (- : standard input), as AWS Policy Generator writes it.

    At most 2,048 bytes as compact JSON. What this store does not know is refused, not ignored.
    """
    document = _read_policy(file)
    with open_state(state, create=True) as opened:
        opened.add_policy(name, document, replace=replace)
        described = _describe(opened.policy(name))
    if as_json:
        echo_json(described)
    else:
        note(f"added {name} ({document.size:,} bytes)")


@policy.command("list")
@state_option
@json_option
def list_policies(state: Path, as_json: bool) -> None:
    """List all policies."""
    with open_state(state) as opened:
        rows = [_describe(record) for record in opened.policies()]
    if as_json:
        echo_json(rows)
    else:
        columns = ["name", "predefined", "bytes", "users"]
        echo_table(columns, [[row[column] for column in columns] for row in rows])


@policy.command()
@click.argument("name")
@state_option
@json_option
def show(name: str, state: Path, as_json: bool) -> None:
    """Print a policy's JSON document (with --json: and what is known of it)."""
    with open_state(state) as opened:
        record = opened.policy(name)
    document = json.loads(record.document.compact)
    echo_json({**_describe(record), "document": document} if as_json else document)


@policy.command()
@click.argument("name")
@state_option
@json_option
def remove(name: str, state: Path, as_json: bool) -> None:
    """Remove a policy that is attached to nobody."""
    with open_state(state) as opened:
        opened.remove_policy(name)
    if as_json:
        echo_json({"removed": name})
    else:
        note(f"removed {name}")


@policy.command()
@click.argument("name")
@click.argument("user")
@state_option
@json_option
def attach(name: str, user: str, state: Path, as_json: bool) -> None:
    """Make NAME the policy of USER, in place of the one it has, if any."""
    with open_state(state) as opened:
        replaced = opened.attach(name, user)
    if as_json:
        echo_json({"user": user, "policy": name, "replaced": replaced})
    else:
        note(f"attached {name} to {user}" + (f", in place of {replaced}" if replaced else ""))


@policy.command()
@click.argument("user")
@state_option
@json_option
def detach(user: str, state: Path, as_json: bool) -> None:
    """Take the policy of USER away, and with it all access."""
    with open_state(state) as opened:
        detached = opened.detach(user)
    if as_json:
        echo_json({"user": user, "policy": None, "detached": detached})
    else:
        note(f"detached {detached} from {user}, who may do nothing now")


def _context(user: UserRecord, conditions: Sequence[str]) -> dict[str, str | Sequence[str]]:
    """What every request of ``user`` has, and what ``--condition`` adds to or changes in it."""
    from s3posixfs.identity.policy import is_known_key

    now = datetime.now(UTC)
    given: dict[str, list[str]] = {}
    for text in conditions:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(
                f"--condition {text!r} is not KEY=VALUE; write it as aws:SourceIp=10.0.0.1"
            )
        if not is_known_key(key):
            raise OperatorError(
                f"unknown condition key {key!r}; see s3posixfs-policy(5) for those that there are"
            )
        given.setdefault(key.lower(), []).append(value)
    context: dict[str, str | Sequence[str]] = {
        "aws:username": user.name,
        "aws:userid": user.name,
        "aws:principaltype": "User",
        "aws:principalarn": user.arn,
        "aws:currenttime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(int(now.timestamp())),
    }
    for key, values in given.items():
        context[key] = values[0] if len(values) == 1 else tuple(values)
    return context


def _arn(resource: str) -> str:
    from s3posixfs.identity.policy import S3_ARN_PREFIX

    return resource if resource.startswith("arn:") else S3_ARN_PREFIX + resource


@policy.command()
@click.argument("user")
@click.argument("action")
@click.argument("resource")
@click.option(
    "--condition", "conditions", multiple=True, metavar="KEY=VALUE",
    help="A property of the request, such as aws:SourceIp=192.0.2.1. Twice for several values.",
)  # fmt: skip
@click.option("--session-policy", metavar="FILE", help="As a session that this policy limits.")
@click.option("--bucket-policy", metavar="FILE", help="Where the bucket has this policy.")
@state_option
@json_option
def explain(
    user: str,
    action: str,
    resource: str,
    conditions: tuple[str, ...],
    session_policy: str | None,
    bucket_policy: str | None,
    state: Path,
    as_json: bool,
) -> None:
    """Say whether USER may do ACTION on RESOURCE, and which statement decides that.

    ACTION is such as s3:GetObject; RESOURCE an ARN, or BUCKET or BUCKET/KEY.
    """
    from s3posixfs.identity.policy import AccessRequest, canonical_action, decide

    known = canonical_action(action)
    if known is None:
        raise OperatorError(f"unknown action {action!r}; give one action, such as s3:GetObject")
    session = None if session_policy is None else _read_policy(session_policy)
    bucket = None if bucket_policy is None else _read_policy(bucket_policy, bucket_policy=True)
    with open_state(state) as opened:
        record = opened.user(user)
        identity = opened.policies_for(record)
    request = AccessRequest(known, _arn(resource), _context(record, conditions), record.arn)
    if record.is_admin:
        # As the store does it: who may do everything can also mend a bucket's policy.
        bucket = None
    decision = decide(request, identity=identity, session=session, bucket=bucket)
    shown: dict[str, object] = {
        "decision": "allowed" if decision.allowed else "denied",
        "reason": decision.reason,
        "sid": decision.sid,
        "policy": decision.policy,
        "statement": decision.statement,
    }
    if not record.enabled:
        shown |= {"decision": "denied", "reason": "the user is disabled", "sid": None}
    if as_json:
        echo_json({"user": user, "action": known, "resource": request.resource, **shown})
    else:
        echo_table(["", ""], [[key, value] for key, value in shown.items()])
