"""What a test of the mount stands on: a store with its people and a bucket that they share.

There are two, the embedded store and a real Ceph RADOS gateway, and the tests do not know which.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tests.mount.mount_process import DaemonProcess, MountProcess
from tests.rgw.gateway import Gateway, GatewayMount
from tests.store_process import StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "shared"  # of the embedded store
NOT_IN = "carol"  # the one whom no policy lets in
MEMBERS = {"alice": 1001, "bob": 1002}
PUTS_AT_ONCE = 8


class Bed(ABC):
    """A running store. admin (the mount's identity), alice and bob may do everything in
    ``bucket``, which is admin's on the gateway and alice's on the embedded store; carol nothing.
    """

    kind: str
    bucket: str
    endpoint: str
    # What takes a reasonable time: files of the largest tree that a test copies, and copies of
    # the package that go into a repository.
    tree_files: int
    commits: int

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self._lister: S3Client | None = None

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @abstractmethod
    def s3(self, name: str) -> S3Client:
        """A boto3 client as one of the users."""

    @abstractmethod
    def mount(
        self, folder: Path, source: str = "/", options: Mapping[str, str | None] | None = None
    ) -> DaemonProcess:
        """A mount, to be entered; ``source`` may name ``bucket``."""

    @abstractmethod
    def newcomer(self, uid: int) -> User:
        """A user made now, who may do everything in the bucket and whom mounts come to know."""

    @abstractmethod
    def let_in(self, names: Sequence[str]) -> None:
        """Let these of admin, alice and bob do everything in the bucket, and nobody else."""

    @abstractmethod
    @contextmanager
    def denied(self, name: str, prefix: str) -> Iterator[None]:
        """A time in which this user is denied everything below a prefix of the bucket."""

    @abstractmethod
    def kill(self) -> None:
        """The store dies."""

    @abstractmethod
    def start(self) -> None:
        """The store comes back."""

    def logs(self) -> list[Path]:
        """What programs of the project have logged, beside mounts."""
        return []

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """A time in which this user may do nothing."""
        everyone = ["admin", *MEMBERS]
        self.let_in([other for other in everyone if other != name])
        try:
            yield
        finally:
            self.let_in(everyone)

    def put_empty(self, keys: Sequence[str]) -> None:
        """Many empty objects of alice's."""
        client = self.s3("alice")
        with ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
            for put in [
                pool.submit(client.put_object, Bucket=self.bucket, Key=key) for key in keys
            ]:
                put.result()
        client.close()

    def owners(self, prefix: str) -> dict[str, str]:
        """The S3 owner of every object whose key begins so, by the rest of its key."""
        if self._lister is None:
            self._lister = self.s3("admin")
        found: dict[str, str] = {}
        pages = self._lister.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, FetchOwner=True
        )
        for page in pages:
            for row in page.get("Contents", []):
                found[row["Key"].removeprefix(prefix)] = row["Owner"]["ID"]
        return found

    def close(self) -> None:
        """Let go of connections."""
        if self._lister is not None:
            self._lister.close()


class EmbeddedBed(Bed):
    """``s3posixfs serve`` in a folder, for one test file."""

    kind = "embedded"
    bucket = BUCKET
    tree_files = 2000
    commits = 5

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.store = StoreProcess(folder / "store")

    def __enter__(self) -> Self:
        self.store.start()
        self.endpoint = self.store.endpoint
        self.users = {"admin": self.store.admin(), **add_people(self.store)}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self.store.stop()

    def s3(self, name: str) -> S3Client:
        return self.store.s3(self.users[name])

    def mount(
        self, folder: Path, source: str = "/", options: Mapping[str, str | None] | None = None
    ) -> DaemonProcess:
        return MountProcess(self.store, folder, source, options)

    def newcomer(self, uid: int) -> User:
        user = self.store.add_user(f"new-{uid}", uid, policy="readwrite")
        self.users[user.name] = user
        return user

    def let_in(self, names: Sequence[str]) -> None:
        for name in MEMBERS:
            self.store.command("policy", "detach", name, check=False)
            if name in names:
                self.store.command("policy", "attach", "readwrite", name)

    @contextmanager
    def denied(self, name: str, prefix: str) -> Iterator[None]:
        allow: dict[str, Any] = {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}
        document = {"Version": "2012-10-17", "Statement": [allow, *denials(self.bucket, prefix)]}
        name_of = f"but-one-folder-{secrets.token_hex(4)}"
        self.store.add_policy(name_of, json.dumps(document))
        self.store.command("policy", "detach", name)
        self.store.command("policy", "attach", name_of, name)
        try:
            yield
        finally:
            self.store.command("policy", "detach", name)
            self.store.command("policy", "attach", "readwrite", name)

    def kill(self) -> None:
        self.store.kill()

    def start(self) -> None:
        self.store.start()

    def logs(self) -> list[Path]:
        return [self.store.log, *self.store.folder.rglob("*.log")]


class GatewayBed(Bed):
    """A bucket of the gateway that all test files share."""

    kind = "rgw"
    tree_files = 300
    commits = 1

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway
        self.endpoint = gateway.endpoint
        self.users = dict(gateway.users)
        self._newcomers: list[User] = []
        self._identities: list[Path] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.bucket = self._open.enter_context(self.gateway.bucket(["admin", *MEMBERS]))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        for user in self._newcomers:
            self.gateway.administer("user", "rm", f"--uid={user.name}", "--purge-data")
        self._open.close()

    def s3(self, name: str) -> S3Client:
        return self.gateway.s3(self.users[name])

    def mount(
        self, folder: Path, source: str = "/", options: Mapping[str, str | None] | None = None
    ) -> DaemonProcess:
        mount = GatewayMount(self.gateway, folder, source, options)
        self._identities.append(mount.identities)
        return mount

    def newcomer(self, uid: int) -> User:
        name = f"new-{secrets.token_hex(4)}"
        user = User(name, f"KEY{name}", f"secret-of-{name}", uid, uid)
        self.gateway.administer(
            *("user", "create", f"--uid={name}", f"--display-name={name}"),
            *(f"--access-key={user.access_key}", f"--secret-key={user.secret_key}"),
        )
        self._newcomers.append(user)
        self.users[name] = user
        self.let_in(["admin", *MEMBERS])
        row = f'[[identity]]\nname = "{name}"\nowner_ids = ["{name}"]\nuid = {uid}\ngid = {uid}\n'
        for path in self._identities:
            if path.exists():
                path.write_text(path.read_text() + row)
        return user

    def let_in(self, names: Sequence[str]) -> None:
        client = self.s3("admin")
        everyone = [*names, *(user.name for user in self._newcomers)]
        self.gateway.let_in(client, self.bucket, everyone)
        client.close()

    @contextmanager
    def denied(self, name: str, prefix: str) -> Iterator[None]:
        who = {"Principal": {"AWS": [f"arn:aws:iam:::user/{name}"]}}
        client = self.s3("admin")
        everyone = ["admin", *MEMBERS]
        denied = [{**statement, **who} for statement in denials(self.bucket, prefix)]
        self.gateway.let_in(client, self.bucket, everyone, denied)
        try:
            yield
        finally:
            self.gateway.let_in(client, self.bucket, everyone)
            client.close()

    def kill(self) -> None:
        os.kill(self.gateway.pid, signal.SIGKILL)

    def start(self) -> None:
        self.gateway.restart()


def denials(bucket: str, prefix: str) -> list[dict[str, Any]]:
    """Statements that deny everything below a prefix, listing too."""
    return [
        {"Effect": "Deny", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/{prefix}*"},
        {
            "Effect": "Deny",
            "Action": "s3:ListBucket",
            "Resource": f"arn:aws:s3:::{bucket}",
            "Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}},
        },
    ]


def place_of(path: Path) -> tuple[str, str]:
    """Bucket and key of a file in a mount of all buckets."""
    bucket, _, key = str(path).partition("/mnt/")[2].partition("/")
    return bucket, key


def add_people(store: StoreProcess) -> dict[str, User]:
    """alice and bob with readwrite, carol with nothing, and the bucket that they share."""
    people = {name: store.add_user(name, uid, policy="readwrite") for name, uid in MEMBERS.items()}
    people[NOT_IN] = store.add_user(NOT_IN, 1003)
    client = store.s3(people["alice"])
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return people
