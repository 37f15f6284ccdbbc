"""boto3 as a client of the store's IAM, and policies for the users of its tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

from tests.store_process import StoreProcess, User

ACCOUNT = "arn:aws:iam::000000000000"


def client_of(
    store: StoreProcess, service: str, user: User, *, token: str | None = None, **options: Any
) -> Any:
    """A client of ``service`` that tries once."""
    make: Any = boto3.client  # typed only for services that are named in the text
    return make(
        service,
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id=user.access_key,
        aws_secret_access_key=user.secret_key,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60, **options),
    )


@contextmanager
def iam_of(
    store: StoreProcess, user: User, *, token: str | None = None, **options: Any
) -> Iterator[Any]:
    """IAM as ``user``."""
    client = client_of(store, "iam", user, token=token, **options)
    try:
        yield client
    finally:
        client.close()


def audited(store: StoreProcess, operation: str, **fields: str) -> dict[str, Any]:
    """The last audit line of an operation with these fields; waits until it is written."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = (store.state / "audit.log").read_text().splitlines()
        for line in reversed(lines):
            entry: dict[str, Any] = json.loads(line)
            if entry["operation"] == operation and fields.items() <= entry.items():
                return entry
        time.sleep(0.02)
    raise AssertionError(f"the audit log has no line of {operation} with {fields}")


def as_user(name: str, made: dict[str, Any]) -> User:
    """A user by what CreateAccessKey or AssumeRole answered (the inner part of it)."""
    return User(name, made["AccessKeyId"], made["SecretAccessKey"], 0, 0)


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions: str, on: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on, **more}


def deny(*actions: str, on: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": list(actions), "Resource": on, **more}
