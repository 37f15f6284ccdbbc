"""The stores that are mounted: the embedded one, over http or https, and a real Ceph gateway."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import Target
from benchmarks.peers import daemons_of
from benchmarks.serving import BUCKET, served_store
from benchmarks.stores import family
from tests.rgw.gateway import running_gateway
from tests.store.certificates import make_certificates

_GATEWAY_GIB = 60  # overwritten objects take space until the gateway collects them


@dataclass(frozen=True, slots=True)
class Site:
    """A running store with a bucket and the key pair of who may do everything in it."""

    name: str
    url: str
    region: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    credentials: Path  # a file of profiles; ``profile`` has the key pair
    profile: str
    rclone_provider: str
    pids: Callable[[], list[int]]
    far: bool = False  # it is said to be: what it is to reach is for one nearby
    ca: Path | None = None  # where it speaks https: who vouches for it

    @property
    def target(self) -> Target:
        """For the plain client, which speaks http only."""
        port = int(self.url.rpartition(":")[2])
        return Target(self.name, port, self.region, self.access_key, self.secret_key)


@contextmanager
def embedded(folder: Path, *, https: bool = False) -> Iterator[Site]:
    """The store of this project, with one worker; its files are below ``folder``."""
    ca: Path | None = None
    arguments: list[str] = []
    if https:
        ca, certificate, key = make_certificates(folder)
        arguments = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    with served_store(folder, arguments=arguments, ca=ca) as store:
        yield Site(
            name="embedded store" + (", https" if https else ""),
            url=store.url,
            region="us-east-1",
            bucket=BUCKET,
            access_key=store.access_key,
            secret_key=store.secret_key,
            credentials=store.credentials,
            profile="admin",
            rclone_provider="Other",
            pids=lambda: family(store.pid),
            ca=ca,
        )


@contextmanager
def gateway(folder: Path) -> Iterator[Site]:
    """A Ceph gateway with a cluster of its own on a sparse file."""
    with running_gateway(_GATEWAY_GIB) as running:
        user = running.users["alice"]
        bucket = f"benchmark-{secrets.token_hex(4)}"
        client = running.s3("alice")
        client.create_bucket(Bucket=bucket)
        client.close()
        yield Site(
            name="Ceph RGW",
            url=running.endpoint,
            region=running.region,
            bucket=bucket,
            access_key=user.access_key,
            secret_key=user.secret_key,
            credentials=running.credentials_file(folder),
            profile="alice",
            rclone_provider="Ceph",
            pids=lambda: daemons_of(running),
        )
