"""A real Ceph RADOS gateway for tests: brought up by ``scripts/rgw-up``, gone afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from tests.mount.mount_process import DaemonProcess
from tests.store_process import User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
REUSED = "S3POSIXFS_TEST_RGW_DIR"
_FOLDERS = "s3posixfs-rgw-"
PORTS_OF_DAEMONS = 40
SIZE_GIB = 8  # of a sparse file
METADATA_TTL = 0.2  # seconds: tests need not wait
IDS = {"admin": 0, "alice": 1001, "bob": 1002, "carol": 1003}


class Gateway:
    """The gateway in ``folder``: its address, its users, and buckets made for tests."""

    def __init__(self, folder: Path, exports: Mapping[str, str], *, kept: bool) -> None:
        self.folder = folder
        self.kept = kept  # it goes on after the tests
        self.endpoint = exports["RGW_ENDPOINT_URL"]
        self.region = exports["RGW_REGION"]
        self.roles = {name: exports[f"RGW_ROLE_{name.upper()}_ARN"] for name in ("full", "read")}
        self.users = {
            name: User(
                name,
                exports[f"RGW_{name.upper()}_ACCESS_KEY"],
                exports[f"RGW_{name.upper()}_SECRET_KEY"],
                uid,
                uid,
            )
            for name, uid in IDS.items()
        }

    @property
    def pid(self) -> int:
        """Process ID of the running radosgw."""
        return int(json.loads((self.folder / "daemons.json").read_text())["rgw"]["pid"])

    def restart(self) -> None:
        """Start what does not run of it."""
        _bring_up(self.folder)

    def administer(self, *arguments: str) -> None:
        """Run radosgw-admin."""
        subprocess.run(
            ["radosgw-admin", "-c", str(self.folder / "ceph.conf"), *arguments],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def s3(self, user: str | User) -> S3Client:
        """A boto3 client as a user. (RGW 16 has no chunked checksums.)"""
        user = self.users[user] if isinstance(user, str) else user
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=user.access_key,
            aws_secret_access_key=user.secret_key,
            config=Config(
                retries={"total_max_attempts": 1},
                read_timeout=60,
                max_pool_connections=16,
                request_checksum_calculation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def credentials_file(self, folder: Path) -> Path:
        """The key pairs of all users, as an AWS shared-credentials file."""
        path = folder / "credentials"
        path.touch(mode=0o600)
        path.write_text(
            "".join(
                f"[{user.name}]\naws_access_key_id={user.access_key}\n"
                f"aws_secret_access_key={user.secret_key}\n"
                for user in self.users.values()
            )
        )
        return path

    @contextmanager
    def bucket(self, people: Sequence[str]) -> Iterator[str]:
        """A bucket of admin's that ``people`` may do everything in; removed where it matters."""
        name = f"shared-{secrets.token_hex(4)}"
        client = self.s3("admin")
        client.create_bucket(Bucket=name)
        try:
            self.let_in(client, name, people)
            yield name
        finally:
            # A mount that is killed while it tries what the store can leaves what it tries with.
            uploads = [
                upload
                for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", [])
                if ".s3posixfs-probe-" not in upload["Key"]
            ]
            if self.kept:
                self._remove(client, name)
            client.close()
        assert not uploads, f"uploads were left behind: {uploads}"

    def _remove(self, client: S3Client, bucket: str) -> None:
        # What the policy of a test kept admin from, it may remove now.
        self.let_in(client, bucket, ["admin"])
        with ThreadPoolExecutor(12) as pool:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for row in page.get("Contents", []):
                    pool.submit(client.delete_object, Bucket=bucket, Key=row["Key"])
        for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            client.abort_multipart_upload(
                Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        client.delete_bucket(Bucket=bucket)

    @staticmethod
    def let_in(
        client: S3Client,
        bucket: str,
        people: Sequence[str],
        more: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """Replace the bucket's policy; ``more`` are statements beside that for these people."""
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam:::user/{name}" for name in people]},
            "Action": "s3:*",
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        document = {"Version": "2012-10-17", "Statement": [statement, *more]}
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document, separators=(",", ":")))


class GatewayMount(DaemonProcess):
    """A mount of a bucket of the gateway; the daemon is admin.

    ``roles`` gives identities a role that they assume, by name. ``options`` come on top of those
    that every test has.
    """

    def __init__(
        self,
        gateway: Gateway,
        folder: Path,
        source: str,
        options: Mapping[str, str | None] | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> None:
        self.gateway = gateway
        self.identities = folder / "identities.toml"
        self.identities.write_text(
            "".join(
                f'[[identity]]\nname = "{name}"\nowner_ids = ["{name}"]\nuid = {uid}\ngid = {uid}\n'
                f'profile = "{name}"\n'
                + (f'role_arn = "{roles[name]}"\n' if roles and name in roles else "")
                for name, uid in IDS.items()
                if name != "admin"
            )
        )
        defaults: dict[str, str | None] = {
            "endpoint_url": gateway.endpoint,
            "region": gateway.region,
            "credentials_file": str(gateway.credentials_file(folder)),
            "profile": "admin",
            "identities": str(self.identities),
            "allow_other": "on",
            "metadata_ttl": str(METADATA_TTL),
            "cache_dir": str(folder / "cache"),
        }
        super().__init__(folder, source, {**defaults, **(options or {})})


@contextmanager
def running_gateway(size_gib: int = SIZE_GIB) -> Iterator[Gateway]:
    """A gateway of its own on free ports; the one in ``$S3POSIXFS_TEST_RGW_DIR`` if that is set.

    ``size_gib`` is of the sparse file that holds all its objects. What an earlier run left behind
    when it was killed is removed first.
    """
    reused = os.environ.get(REUSED)
    if reused:
        yield Gateway(Path(reused), _bring_up(Path(reused)), kept=True)
        return
    _remove_orphans()
    folder = Path(tempfile.mkdtemp(prefix=_FOLDERS))
    with (folder / "owner").open("w") as owner:
        # Held while this process lives, however it ends.
        fcntl.flock(owner, fcntl.LOCK_EX)
        cluster = folder / "cluster"
        try:
            yield Gateway(cluster, _bring_up(cluster, *_free_ports(size_gib)), kept=False)
        finally:
            _remove(folder)


def _bring_up(folder: Path, *options: str) -> dict[str, str]:
    done = subprocess.run(
        [str(SCRIPTS / "rgw-up"), "--dir", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=400,  # packages may have to be fetched
        check=False,
    )
    assert done.returncode == 0, f"no gateway: {done.stderr}"
    words = shlex.split(done.stdout)
    return dict(word.split("=", 1) for word in words if "=" in word)


def _remove(folder: Path) -> None:
    subprocess.run(
        [str(SCRIPTS / "rgw-down"), "--dir", str(folder / "cluster"), "--wipe"],
        timeout=200,
        check=True,
        capture_output=True,
    )
    shutil.rmtree(folder)


def _remove_orphans() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        try:
            with (folder / "owner").open() as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
        except (BlockingIOError, FileNotFoundError):
            continue


def _free_ports(size_gib: int) -> list[str]:
    """Options for rgw-up: ports below those that the kernel gives to clients."""
    generator = random.SystemRandom()
    for _ in range(50):
        base = generator.randrange(15_000, 32_000)
        if all(_is_free(base + number) for number in range(PORTS_OF_DAEMONS + 2)):
            return [
                *("--port", str(base), "--monitor-port", str(base + 1)),
                *("--first-port", str(base + 2), "--size", str(size_gib)),
            ]
    raise AssertionError("no free ports for a gateway")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
