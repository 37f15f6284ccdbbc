"""Credentials from profiles and from STS, as boto3 finds them in configuration files."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trio

from s3posixfs.core.clock import OffsetClock, SystemClock
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import (
    AssumeRoleProvider,
    CredentialsError,
    ProfileProvider,
    StaticProvider,
    margin_of,
    session_name_of,
)
from tests.unit.scripted_server import ScriptedServer, error, reply


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the AWS configuration; nothing of the host's is seen."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def write_key(aws: Path, profile: str, access_key: str) -> None:
    (aws / "credentials").write_text(
        f"[{profile}]\naws_access_key_id = {access_key}\naws_secret_access_key = s\n"
    )


async def test_profile(aws: Path) -> None:
    write_key(aws, "alice", "AK1")
    provider = ProfileProvider("alice", clock=SystemClock())
    first = await provider.get()
    assert first == Credentials("AK1", "s")
    assert await provider.get() is first


async def test_rotated_key_is_found_when_the_old_one_is_rejected(aws: Path) -> None:
    write_key(aws, "alice", "AK1")
    provider = ProfileProvider("alice", clock=SystemClock())
    first = await provider.get()
    assert await provider.refresh(first) is first, "the same pair is the same object"
    write_key(aws, "alice", "AK2")
    assert (await provider.get()).access_key == "AK1"
    assert (await provider.refresh(first)).access_key == "AK2"


async def test_missing_profile_names_identity_and_cause(aws: Path) -> None:
    with pytest.raises(CredentialsError, match=r"'alice'.*nosuch") as caught:
        await ProfileProvider("nosuch", clock=SystemClock(), identity="alice").get()
    assert caught.value.errno == 13


async def test_no_credentials_at_all(aws: Path) -> None:
    with pytest.raises(CredentialsError, match="has no credentials"):
        await ProfileProvider(None, clock=SystemClock()).get()


async def test_credential_process_with_expiry(aws: Path) -> None:
    program = aws / "process"
    count = aws / "count"
    program.write_text(
        f"#!{sys.executable}\nimport json, time\n"
        f"open({str(count)!r}, 'a').write('x')\n"
        "end = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 3600))\n"
        "print(json.dumps(dict(Version=1, AccessKeyId='ASIA1', SecretAccessKey='s',"
        " SessionToken='t', Expiration=end)))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (aws / "config").write_text(f"[profile p]\ncredential_process = {program}\n")
    clock = OffsetClock()
    provider = ProfileProvider("p", clock=clock)
    pair = await provider.get()
    assert pair.expires_at == pytest.approx(time.time() + 3600, abs=5)
    assert await provider.get() is pair
    assert len(count.read_text()) == 1
    clock.offset = 7200
    with pytest.raises(CredentialsError, match="expired"):
        await provider.get()
    assert len(count.read_text()) == 2


def assumed(access_key: str, seconds: float) -> bytes:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
        f"<Credentials><AccessKeyId>{access_key}</AccessKeyId>"
        "<SecretAccessKey>temporary</SecretAccessKey><SessionToken>token</SessionToken>"
        f"<Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


def provider_of(server: ScriptedServer, clock: OffsetClock | None = None) -> AssumeRoleProvider:
    return AssumeRoleProvider(
        StaticProvider(Credentials("daemon", "daemon-secret")),
        sts_url=server.url,
        region="us-east-1",
        role_arn="arn:aws:iam:::user/alice",
        session_name="host 7/alice",
        clock=clock or OffsetClock(),
        duration=3600,
        policy='{ "Version": "2012-10-17",\n "Statement": [] }',
        identity="alice",
    )


async def test_assume_role(nursery: trio.Nursery) -> None:
    server = ScriptedServer(reply(200, assumed("ASIA1", 3600)), reply(200, assumed("ASIA2", 3600)))
    await server.start(nursery)
    clock = OffsetClock()
    provider = provider_of(server, clock)
    pair = await provider.get()
    assert (pair.access_key, pair.secret_key, pair.session_token) == ("ASIA1", "temporary", "token")
    asked = parse_qs(server.seen[0].body.decode())
    assert asked["RoleArn"] == ["arn:aws:iam:::user/alice"]
    assert asked["RoleSessionName"] == ["host-7-alice"]
    assert asked["DurationSeconds"] == ["3600"]
    assert asked["Policy"] == ['{"Version":"2012-10-17","Statement":[]}']
    assert "Credential=daemon/" in server.seen[0].headers["authorization"]
    assert await provider.get() is pair
    assert (await provider.refresh(pair)).access_key == "ASIA2"


async def test_concurrent_callers_assume_once(nursery: trio.Nursery) -> None:
    server = ScriptedServer(reply(200, assumed("ASIA1", 3600)))
    await server.start(nursery)
    provider = provider_of(server)
    async with trio.open_nursery() as inner:
        for _ in range(10):
            inner.start_soon(provider.get)
    assert len(server.seen) == 1


async def test_refused_assume_role_says_why_and_no_secret(nursery: trio.Nursery) -> None:
    server = ScriptedServer(error(403, "AccessDenied", "not allowed to sts:AssumeRole"))
    await server.start(nursery)
    with pytest.raises(CredentialsError) as caught:
        await provider_of(server).get()
    assert "'alice'" in str(caught.value)
    assert "AccessDenied: not allowed" in str(caught.value)
    assert "daemon-secret" not in str(caught.value)


async def test_unreachable_sts() -> None:
    server = ScriptedServer()
    server.port = 1
    with pytest.raises(CredentialsError, match="'alice'"):
        await provider_of(server).get()


def test_session_names() -> None:
    assert session_name_of("a") == "a-"
    assert session_name_of("ü /x") == "---x"
    assert len(session_name_of("x" * 99)) == 64


def test_margin_is_a_minute_or_a_tenth() -> None:
    assert margin_of(3600) == 60
    assert margin_of(2) == pytest.approx(0.2)
    assert margin_of(-5) == 0


def test_secrets_hide() -> None:
    text = repr(Credentials("ak", "very-secret", "very-token"))
    assert "very" not in text
