"""A store whose temporary credentials may be short, and mounts of it that live on them.

There are two, the embedded store and a real Ceph RADOS gateway. admin is the mount's own identity
and root's; alice, bob and carol have uids. On the embedded store the mount assumes each of them, on
the gateway each assumes a role with a key pair of its own.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.mount.mount_process import DaemonProcess, MountProcess
from tests.rgw.gateway import Gateway, GatewayMount
from tests.store_process import StoreProcess

UIDS = {"admin": 0, "alice": 1001, "bob": 1002, "carol": 1003}
Options = Mapping[str, str | None]


class ShortLives(ABC):
    """A running store, a bucket in which all four may do everything, and the port of its STS."""

    bucket: str
    endpoint: str
    # Whether a session ends with the key pair or user that it was made for. Ceph RGW's goes on for
    # its life, since all that it is checked by is in its token.
    ends_sessions: bool

    @property
    def port(self) -> int:
        """Of S3 and STS on 127.0.0.1."""
        return int(self.endpoint.rstrip("/").rsplit(":", 1)[1])

    @abstractmethod
    def mount(
        self, folder: Path, life: int, options: Options | None = None, *, by_key: str = ""
    ) -> DaemonProcess:
        """A mount of the bucket, to be entered, whose credentials last ``life`` seconds.

        Where the store does not end sessions, the user ``by_key`` has a key pair of its own.
        """

    @abstractmethod
    def revoke(self, name: str) -> None:
        """End the user's key pair, and sessions where the store does that."""

    @abstractmethod
    def restore(self, name: str) -> None:
        """Let the user in again."""

    @abstractmethod
    def client(self) -> Any:
        """A boto3 client as admin."""

    def owners(self) -> dict[str, str]:
        """The S3 owner of every object, by key."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, FetchOwner=True
        )
        found = {
            row["Key"]: row["Owner"]["ID"] for page in pages for row in page.get("Contents", [])
        }
        client.close()
        return found


class EmbeddedLives(ShortLives):
    """``s3posixfs serve``, told to give short sessions."""

    bucket = "shared"
    ends_sessions = True

    def __init__(self, store: StoreProcess) -> None:
        self.store = store
        self.endpoint = store.endpoint
        for name, uid in UIDS.items():
            if name != "admin":
                store.add_user(name, uid, policy="readwrite")
        client = self.client()
        client.create_bucket(Bucket=self.bucket)
        client.close()

    def mount(
        self, folder: Path, life: int, options: Options | None = None, *, by_key: str = ""
    ) -> DaemonProcess:
        own: dict[str, str | None] = {
            "session_duration": str(life),
            "role_arn": "arn:aws:iam:::user/admin",
        }
        return MountProcess(self.store, folder, self.bucket, {**own, **(options or {})})

    def revoke(self, name: str) -> None:
        self.store.command("user", "update", name, "--disable")

    def restore(self, name: str) -> None:
        self.store.command("user", "update", name, "--enable")

    def client(self) -> Any:
        return self.store.s3(self.store.admin())

    def asked_for_roles(self) -> dict[str, list[float]]:
        """When each user's sessions were made (seconds since the epoch), from the audit log."""
        found: dict[str, list[float]] = {}
        for line in (self.store.state / "audit.log").read_text().splitlines():
            row = json.loads(line)
            if row["operation"] == "sts:AssumeRole" and row["status"] == 200:
                name = str(row.get("resource", "")).rpartition("/")[2]
                found.setdefault(name, []).append(float(row["time"]))
        return found


class GatewayLives(ShortLives):
    """The gateway, whose STS is brought up to give short sessions."""

    ends_sessions = False

    def __init__(self, gateway: Gateway, bucket: str) -> None:
        self.gateway = gateway
        self.endpoint = gateway.endpoint
        self.bucket = bucket

    def mount(
        self, folder: Path, life: int, options: Options | None = None, *, by_key: str = ""
    ) -> DaemonProcess:
        role = self.gateway.roles["full"]
        own: dict[str, str | None] = {"session_duration": str(life), "role_arn": role}
        roles = {name: role for name in UIDS if name not in ("admin", by_key)}
        return GatewayMount(self.gateway, folder, self.bucket, {**own, **(options or {})}, roles)

    def revoke(self, name: str) -> None:
        self.gateway.administer("user", "suspend", f"--uid={name}")

    def restore(self, name: str) -> None:
        self.gateway.administer("user", "enable", f"--uid={name}")

    def client(self) -> Any:
        return self.gateway.s3("admin")


@contextmanager
def embedded_lives(folder: Path) -> Iterator[EmbeddedLives]:
    """The embedded store in ``folder``."""
    environment = {"S3POSIXFS_TEST_MIN_SESSION": "1"}
    with StoreProcess(folder / "store", environment=environment) as store:
        yield EmbeddedLives(store)


@contextmanager
def gateway_lives(gateway: Gateway) -> Iterator[GatewayLives]:
    """The gateway, with a bucket of its own."""
    with gateway.bucket(list(UIDS)) as bucket:
        yield GatewayLives(gateway, bucket)
