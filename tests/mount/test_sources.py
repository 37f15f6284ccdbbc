"""Where an identity's credentials may come from: whatever the AWS configuration can name.

Each source hands out sessions of a few seconds, and has to be asked again and again.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.mount.bed import BUCKET, add_people
from tests.mount.mount_process import MountProcess
from tests.store.iam_kit import client_of
from tests.store_process import PROGRAM, StoreProcess, User, secret_of

pytestmark = [pytest.mark.mount, pytest.mark.slow]
LIFE = 5
LIVES = 3
ALICE, BOB = 1001, 1002
ROLE = "arn:aws:iam::123456789012:role/any"
SSO_START = "https://example.awsapps.com/start"


class Issuer(ThreadingHTTPServer):
    """Gives alice's sessions as SSO's portal does, as STS to who brings a web identity's token, and
    as the agent of a container. The sessions are the store's own."""

    def __init__(self, store: StoreProcess, alice: User) -> None:
        super().__init__(("127.0.0.1", 0), _Issuing)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self._store = store
        self._alice = alice

    def session(self) -> dict[str, Any]:
        sts = client_of(self._store, "sts", self._alice, parameter_validation=False)
        try:
            found: dict[str, Any] = sts.assume_role(
                RoleArn=ROLE, RoleSessionName="issued", DurationSeconds=LIFE
            )["Credentials"]
        finally:
            sts.close()
        return found


class _Issuing(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        made = self.server.session()
        self.server.asked.append(self.path.split("?")[0])
        if self.path.startswith("/federation/credentials"):
            assert self.headers["x-amz-sso_bearer_token"] == "sso-token"
            answer: dict[str, Any] = {
                "roleCredentials": {
                    "accessKeyId": made["AccessKeyId"],
                    "secretAccessKey": made["SecretAccessKey"],
                    "sessionToken": made["SessionToken"],
                    "expiration": int(made["Expiration"].timestamp() * 1000),
                }
            }
        else:
            answer = {
                "AccessKeyId": made["AccessKeyId"],
                "SecretAccessKey": made["SecretAccessKey"],
                "Token": made["SessionToken"],
                "Expiration": made["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        self._send(json.dumps(answer).encode(), "application/json")

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["content-length"])).decode()
        assert "Action=AssumeRoleWithWebIdentity" in form
        assert "WebIdentityToken=web-token" in form
        made = self.server.session()
        self.server.asked.append("web identity")
        end = made["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ")
        self._send(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{made['AccessKeyId']}</AccessKeyId>"
            f"<SecretAccessKey>{made['SecretAccessKey']}</SecretAccessKey>"
            f"<SessionToken>{made['SessionToken']}</SessionToken><Expiration>{end}</Expiration>"
            "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>".encode(),
            "text/xml",
        )

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def short_store(module_folder: Path) -> Iterator[StoreProcess]:
    environment = {"S3POSIXFS_TEST_MIN_SESSION": "1"}
    with StoreProcess(module_folder / "short", environment=environment) as store:
        add_people(store)
        yield store


@pytest.fixture(scope="module")
def issuer(short_store: StoreProcess) -> Iterator[Issuer]:
    alice = User("alice", "alice", secret_of("alice"), ALICE, ALICE)
    with Issuer(short_store, alice) as issuer:
        thread = threading.Thread(target=issuer.serve_forever)
        thread.start()
        yield issuer
        issuer.shutdown()
        thread.join()


def keys(*names: str) -> str:
    return "".join(
        f"[profile {name}]\naws_access_key_id = {name}\naws_secret_access_key = {secret_of(name)}\n"
        for name in names
    )


def mounted(store: StoreProcess, folder: Path, config: str) -> MountProcess:
    """A mount in which alice is the profile ``source`` of ``config``, and bob has a key pair."""
    (folder / "config").write_text(keys("bob") + config)
    (folder / "config").chmod(0o600)
    (folder / "identities.toml").write_text(
        "".join(
            f'[[identity]]\nname = "{name}"\nowner_ids = {json.dumps(owners)}\nuid = {uid}\n'
            f'gid = {uid}\nprofile = "{profile}"\n'
            for name, owners, uid, profile in (
                ("alice", ["alice", "frank"], ALICE, "source"),
                ("bob", ["bob"], BOB, "bob"),
            )
        )
    )
    mount = MountProcess(
        store,
        folder,
        BUCKET,
        {"identities": str(folder / "identities.toml"), "access_ttl": "1"},
    )
    mount.environment = {"AWS_CONFIG_FILE": str(folder / "config"), "HOME": str(folder)}
    return mount


def by_process(store: StoreProcess, issuer: Issuer, folder: Path) -> str:
    command = f"{PROGRAM} sts assume-role --endpoint-url {store.endpoint} --profile alice"
    program = folder / "process"
    program.write_text(
        f"#!/bin/sh\necho x >> {folder}/count\nexec {command} --duration {LIFE}s --json\n"
    )
    program.chmod(0o755)
    return keys("alice") + f"[profile source]\ncredential_process = {program}\n"


def by_role(store: StoreProcess, issuer: Issuer, folder: Path) -> str:
    return (
        keys("alice") + f"[profile source]\nrole_arn = {ROLE}\nsource_profile = alice\n"
        f"duration_seconds = {LIFE}\nparameter_validation = false\nregion = us-east-1\n"
        f"services = here\n[services here]\nsts =\n  endpoint_url = {store.endpoint}\n"
    )


def by_sso(store: StoreProcess, issuer: Issuer, folder: Path) -> str:
    cache = folder / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    name = hashlib.sha1(SSO_START.encode()).hexdigest()  # noqa: S324 - botocore's name of it
    token = {"startUrl": SSO_START, "region": "us-east-1", "accessToken": "sso-token"}
    (cache / f"{name}.json").write_text(json.dumps({**token, "expiresAt": "2099-01-01T00:00:00Z"}))
    return (
        f"[profile source]\nsso_start_url = {SSO_START}\nsso_region = us-east-1\n"
        "sso_account_id = 123456789012\nsso_role_name = any\n"
        f"services = here\n[services here]\nsso =\n  endpoint_url = {issuer.url}\n"
    )


def by_web_identity(store: StoreProcess, issuer: Issuer, folder: Path, url: str = "") -> str:
    (folder / "token").write_text("web-token")
    return (
        f"[profile source]\nrole_arn = {ROLE}\nweb_identity_token_file = {folder}/token\n"
        "role_session_name = alice\nregion = us-east-1\n"
        f"services = here\n[services here]\nsts =\n  endpoint_url = {url or issuer.url}\n"
    )


SOURCES: dict[str, Callable[[StoreProcess, Issuer, Path], str]] = {
    "credential_process": by_process,
    "role of a profile": by_role,
    "SSO": by_sso,
    "web identity": by_web_identity,
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_asked_again_before_each_end(
    short_store: StoreProcess, issuer: Issuer, open_folder: Path, name: str
) -> None:
    config = SOURCES[name](short_store, issuer, open_folder)
    with mounted(short_store, open_folder, config) as mount:
        end = time.monotonic() + LIFE * LIVES
        file = f"{open_folder.name}-alice"
        while time.monotonic() < end:
            mount.sh(f"date > {file} && cat {file}", uid=ALICE)
        row = next(row for row in mount.status()["identities"] if row["name"] == "alice")
        assert row["refreshes"] >= LIVES - 1
        assert row["last_error"] is None
        log = mount.log_tail(1_000_000)
        assert log.count("credentials of alice live only") == 1
        assert secret_of("alice") not in log
        assert "token" not in log
    client = short_store.s3(short_store.admin())
    (found,) = client.list_objects_v2(Bucket=BUCKET, Prefix=file, FetchOwner=True)["Contents"]
    client.close()
    assert found["Owner"]["ID"] == "alice"


REFUSALS: dict[str, tuple[Callable[[StoreProcess, Issuer, Path], str], str]] = {
    "web identity at the store, which has none": (
        lambda store, issuer, folder: by_web_identity(store, issuer, folder, store.endpoint),
        "AssumeRoleWithWebIdentity",
    ),
    "SSO without a login": (
        lambda store, issuer, folder: by_sso(store, issuer, folder).replace(SSO_START, "https://x"),
        "SSO",
    ),
    "a process that fails": (
        lambda store, issuer, folder: "[profile source]\ncredential_process = /bin/false\n",
        "process",
    ),
    "no such profile": (lambda store, issuer, folder: "", "source"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", REFUSALS)
def test_a_source_that_fails_is_one_line_and_one_users_trouble(
    short_store: StoreProcess, issuer: Issuer, open_folder: Path, name: str
) -> None:
    make, words = REFUSALS[name]
    with mounted(short_store, open_folder, make(short_store, issuer, open_folder)) as mount:
        for number in range(3):
            done = mount.run("/bin/sh", "-c", f"echo no > no-{number}", uid=ALICE)
            assert "Permission denied" in done.stderr
        mount.sh("echo yes > yes && rm yes", uid=BOB)
        lines = [line for line in mount.log_tail(1_000_000).splitlines() if "not refreshed" in line]
        row = next(row for row in mount.status()["identities"] if row["name"] == "alice")
    assert len(lines) == 1, lines
    assert "credentials of alice were not refreshed: " in lines[0]
    assert words in lines[0]
    assert row["last_error"] in lines[0]


@pytest.mark.timeout(60)
def test_a_key_pair_that_is_rotated_is_read_anew(
    short_store: StoreProcess, issuer: Issuer, open_folder: Path
) -> None:
    frank = short_store.add_user("frank", ALICE, policy="readwrite")
    config = "[profile source]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    old = config.format(frank.access_key, frank.secret_key)
    with mounted(short_store, open_folder, old) as mount:
        mount.sh("echo before > of-frank", uid=ALICE)
        made = short_store.command("user", "keys", "frank", "--add", "--json").stdout
        new = json.loads(made)
        short_store.command("user", "keys", "frank", "--remove", frank.access_key)
        (open_folder / "config").write_text(
            keys("bob") + config.format(new["access_key"], new["secret_key"])
        )
        time.sleep(5.5)  # credentials this new are not replaced because a store refused them
        mount.sh("echo after >> of-frank && cat of-frank && rm of-frank", uid=ALICE)
