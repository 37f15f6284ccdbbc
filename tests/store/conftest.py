"""A running store with two users, and ways to talk to it: boto3, and bytes on a socket."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.store.certificates import make_certificates
from tests.store.conformance_kit import Site, Wire
from tests.store.raw import RawClient
from tests.store_process import StoreProcess, User, secret_of

BUCKET = "photos"
Refusal = Callable[..., tuple[str, int]]


@pytest.fixture(scope="module")
def running(module_folder: Path) -> Iterator[StoreProcess]:
    """A store with alice (readwrite), bob (no policy) and the bucket ``photos``."""
    environment = {"S3POSIXFS_TEST_MIN_SESSION": "1"}
    with StoreProcess(module_folder / "store", environment=environment) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        store.add_user("bob", 1002)
        client = store.s3(alice)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield store
        assert store.stop() == 0
        log = store.log.read_text()
        assert "Traceback" not in log, log
        assert secret_of("alice") not in log


@pytest.fixture(scope="module")
def alice() -> User:
    return User("alice", "alice", secret_of("alice"), 1001, 1001)


@pytest.fixture(scope="module")
def bob() -> User:
    return User("bob", "bob", secret_of("bob"), 1002, 1002)


@pytest.fixture(scope="module")
def client(running: StoreProcess, alice: User) -> Iterator[Any]:
    """boto3 as alice."""
    client = running.s3(alice)
    yield client
    client.close()


@pytest.fixture
def raw(running: StoreProcess, alice: User) -> Iterator[RawClient]:
    """A connection of bytes, signing as alice."""
    with RawClient(running.port, alice) as raw:
        yield raw


@pytest.fixture(scope="module", params=["http", "https"])
def site(request: pytest.FixtureRequest, module_folder: Path) -> Iterator[Site]:
    """A store with alice, bob and the bucket ``photos``, once in the clear and once with TLS."""
    folder = module_folder / request.param
    folder.mkdir()
    arguments: list[str] = []
    options: dict[str, Any] = {}
    trust: ssl.SSLContext | None = None
    if request.param == "https":
        authority, certificate, key = make_certificates(folder)
        arguments = ["--tls-cert", str(certificate), "--tls-key", str(key)]
        options["verify"] = str(authority)
        trust = ssl.create_default_context(cafile=str(authority))
    with StoreProcess(folder, arguments=arguments) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        site = Site(store, alice, store.add_user("bob", 1002), options, trust)
        client = site.s3()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield site
        assert store.stop() == 0
        log = store.log.read_text()
        assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def s3(site: Site) -> Iterator[Any]:
    """boto3 as alice, at both sites."""
    client = site.s3()
    yield client
    client.close()


@pytest.fixture
def wire(site: Site) -> Iterator[Wire]:
    """A connection of bytes as alice, at both sites."""
    with site.wire() as wire:
        yield wire


@pytest.fixture(scope="session")
def refusal() -> Refusal:
    """Calls boto3 and gives the error code and HTTP status that it is refused with."""

    def call(method: Any, **arguments: Any) -> tuple[str, int]:
        with pytest.raises(ClientError) as caught:
            method(**arguments)
        response = caught.value.response
        return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]

    return call
