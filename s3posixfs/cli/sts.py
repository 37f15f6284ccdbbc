"""``s3posixfs sts``: temporary credentials from any STS endpoint."""

from __future__ import annotations

import random
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import click
import trio

from s3posixfs.cli.common import echo_json, json_option, read_secret_file, run_command
from s3posixfs.core.clock import StoreClock, SystemClock
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import (
    AssumeRoleProvider,
    CredentialsError,
    CredentialsProvider,
    ProfileProvider,
    StaticProvider,
    compact_json,
)
from s3posixfs.s3.sts import StsClient

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,7})([smhdw]?)")
# STS wants a role; the embedded store takes any other than user/NAME for the caller itself.
CALLER_ARN = "arn:aws:iam:::role/caller"


def parse_duration(text: str) -> int:
    """Seconds of ``900``, ``15m``, ``1h``, ``2d`` or ``1w``. Raises OperatorError."""
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= _UNITS["w"]:
        raise OperatorError(
            f"duration {text!r}: give seconds or 15m, 1h, 2d, 1w; from 15 minutes to 1 week"
        )
    return seconds


@click.group()
def sts() -> None:
    """Temporary credentials."""


@sts.command("assume-role")
@click.option("--endpoint-url", required=True, metavar="URL", help="The STS endpoint.")
@click.option("--profile", metavar="P", help="Profile of the AWS configuration to call with.")
@click.option("--access-key", metavar="K", help="Access key to call with.")
@click.option(
    "--secret-key-file",
    metavar="F",
    help="File with the secret key in one line; - for standard input.",
)
@click.option(
    "--duration",
    default="1h",
    show_default=True,
    help="How long they last: seconds, or 15m, 1h, 2d, 1w (15 minutes to 1 week).",
)
@click.option(
    "--policy-file",
    type=click.Path(path_type=Path),
    metavar="F",
    help="Session policy (JSON): the credentials can do no more than it allows.",
)
@click.option(
    "--role-arn",
    metavar="ARN",
    default=CALLER_ARN,
    help="Role to assume; arn:aws:iam:::user/NAME becomes NAME [default: the caller itself].",
)
@click.option("--region", default="us-east-1", show_default=True, help="Region to sign for.")
@click.option(
    "--ca-file", type=click.Path(path_type=Path), metavar="F", help="CA of an https endpoint."
)
@json_option
def assume_role(
    endpoint_url: str,
    profile: str | None,
    access_key: str | None,
    secret_key_file: str | None,
    duration: str,
    policy_file: Path | None,
    role_arn: str,
    region: str,
    ca_file: Path | None,
    as_json: bool,
) -> None:
    """Get temporary credentials, as lines for a shell to evaluate.

    \b
    eval "$(s3posixfs sts assume-role --endpoint-url http://HOST:9000 --profile alice)"

    With --json, in the form that credential_process of an AWS profile expects.
    """

    def run() -> None:
        clock = StoreClock(SystemClock())

        async def ask() -> Credentials:
            async with StsClient(
                endpoint_url, region=region, clock=clock, random=random.random, ca_file=ca_file
            ) as endpoint:
                provider = AssumeRoleProvider(
                    caller,
                    endpoint,
                    role_arn=role_arn,
                    session_name="s3posixfs-sts",
                    clock=clock,
                    duration=seconds,
                    policy=policy,
                )
                return await provider.get()

        caller = _caller(profile, access_key, secret_key_file)
        seconds = parse_duration(duration)
        policy = _policy(policy_file) if policy_file is not None else None
        try:
            credentials = trio.run(ask)
        except CredentialsError as error:
            raise OperatorError(
                f"no credentials from {endpoint_url}: {error.cause}; "
                "check the URL, the key pair, and that its policy allows sts:AssumeRole"
            ) from error
        _show(credentials, as_json)

    run_command(run)


def _caller(
    profile: str | None, access_key: str | None, secret_key_file: str | None
) -> CredentialsProvider:
    if profile is not None and access_key is None and secret_key_file is None:
        return ProfileProvider(profile, clock=SystemClock())
    if profile is None and access_key is not None and secret_key_file is not None:
        return StaticProvider(Credentials(access_key, read_secret_file(secret_key_file)))
    raise click.UsageError("give either --profile, or --access-key with --secret-key-file")


def _policy(path: Path) -> str:
    try:
        return compact_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OperatorError(f"{path} is not JSON: {error}; mend that") from None


def _show(credentials: Credentials, as_json: bool) -> None:
    expiration = ""
    if credentials.expires_at is not None:
        moment = datetime.fromtimestamp(credentials.expires_at, UTC)
        expiration = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    if as_json:
        echo_json(
            {
                "Version": 1,
                "AccessKeyId": credentials.access_key,
                "SecretAccessKey": credentials.secret_key,
                "SessionToken": credentials.session_token,
                "Expiration": expiration,
            }
        )
        return
    for name, value in (
        ("AWS_ACCESS_KEY_ID", credentials.access_key),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_key),
        ("AWS_SESSION_TOKEN", credentials.session_token or ""),
        ("AWS_CREDENTIAL_EXPIRATION", expiration),
    ):
        click.echo(f"export {name}={shlex.quote(value)}")
