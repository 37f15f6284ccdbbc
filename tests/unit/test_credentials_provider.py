"""Credentials from profiles and from STS, as boto3 finds them in configuration files."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trio
import trio.testing

from s3posixfs.core.clock import OffsetClock, StoreClock, SystemClock
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import (
    AssumeRoleProvider,
    CredentialsError,
    CredentialsProvider,
    ProfileProvider,
    StaticProvider,
    margin_of,
    session_name_of,
)
from s3posixfs.s3.sts import StsClient
from tests.unit.scripted_server import ScriptedServer, Step, error, reply


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
    # One end for both answers: two calls may fall in two seconds.
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    program.write_text(
        f"#!{sys.executable}\nimport json\n"
        f"open({str(count)!r}, 'a').write('x')\n"
        "print(json.dumps(dict(Version=1, AccessKeyId='ASIA1', SecretAccessKey='s',"
        f" SessionToken='t', Expiration={end!r})))\n"
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
    again = await provider.get()
    assert again == pair, "by this host's clock it has ended, but that clock may be wrong"
    assert len(count.read_text()) == 2


def assumed(access_key: str, seconds: float) -> bytes:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
        f"<Credentials><AccessKeyId>{access_key}</AccessKeyId>"
        "<SecretAccessKey>temporary</SecretAccessKey><SessionToken>token</SessionToken>"
        f"<Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


Provided = Callable[..., AssumeRoleProvider]


@pytest.fixture
async def provider_of(nursery: trio.Nursery) -> AsyncIterator[Provided]:
    async with AsyncExitStack() as stack:

        def make(
            server: ScriptedServer,
            source: CredentialsProvider | None = None,
            clock: OffsetClock | None = None,
        ) -> AssumeRoleProvider:
            common = StoreClock(clock or OffsetClock())
            sts = StsClient(server.url, region="us-east-1", clock=common, random=lambda: 0.0)
            stack.callback(sts.close)
            return AssumeRoleProvider(
                source or StaticProvider(Credentials("daemon", "daemon-secret")),
                sts,
                role_arn="arn:aws:iam:::user/alice",
                session_name="host 7/alice",
                clock=common,
                duration=3600,
                policy='{ "Version": "2012-10-17",\n "Statement": [] }',
                identity="alice",
            )

        yield make


async def test_assume_role(nursery: trio.Nursery, provider_of: Provided) -> None:
    server = ScriptedServer(reply(200, assumed("ASIA1", 3600)), reply(200, assumed("ASIA2", 3600)))
    await server.start(nursery)
    provider = provider_of(server)
    pair = await provider.get()
    assert (pair.access_key, pair.secret_key, pair.session_token) == ("ASIA1", "temporary", "token")
    asked = parse_qs(server.seen[0].body.decode())
    assert asked["RoleArn"] == ["arn:aws:iam:::user/alice"]
    assert asked["RoleSessionName"] == ["host-7-alice"]
    assert asked["DurationSeconds"] == ["3600"]
    assert asked["Policy"] == ['{"Version":"2012-10-17","Statement":[]}']
    assert "Credential=daemon/" in server.seen[0].headers["authorization"]
    assert "/us-east-1/sts/aws4_request" in server.seen[0].headers["authorization"]
    assert await provider.get() is pair
    assert (await provider.refresh(pair)).access_key == "ASIA2"


async def test_concurrent_callers_assume_once(nursery: trio.Nursery, provider_of: Provided) -> None:
    server = ScriptedServer(reply(200, assumed("ASIA1", 3600)))
    await server.start(nursery)
    provider = provider_of(server)
    async with trio.open_nursery() as inner:
        for _ in range(10):
            inner.start_soon(provider.get)
    assert len(server.seen) == 1


async def test_refused_assume_role_says_why_and_no_secret(
    nursery: trio.Nursery, provider_of: Provided
) -> None:
    server = ScriptedServer(error(403, "AccessDenied", "not allowed to sts:AssumeRole"))
    await server.start(nursery)
    with pytest.raises(CredentialsError) as caught:
        await provider_of(server).get()
    assert "'alice'" in str(caught.value)
    assert "AccessDenied: not allowed" in str(caught.value)
    assert "daemon-secret" not in str(caught.value)


async def test_unreachable_sts(provider_of: Provided) -> None:
    server = ScriptedServer()
    server.port = 1
    with pytest.raises(CredentialsError, match=r"'alice'.*127\.0\.0\.1"):
        await provider_of(server).get()


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "SignatureDoesNotMatch"])
async def test_sts_says_that_this_clock_is_wrong(
    nursery: trio.Nursery, provider_of: Provided, code: str
) -> None:
    now = formatdate(time.time(), usegmt=True)
    server = ScriptedServer(error(403, code, Date=now), reply(200, assumed("ASIA1", 900), Date=now))
    await server.start(nursery)
    clock = OffsetClock(-86_400.0)
    provider = provider_of(server, clock=clock)
    pair = await provider.get()
    assert server.seen[1].headers["x-amz-date"][:8] == time.strftime("%Y%m%d", time.gmtime())
    assert await provider.get() is pair
    assert len(server.seen) == 2


async def test_lives_are_measured_by_the_clock_that_gave_them(
    nursery: trio.Nursery, provider_of: Provided
) -> None:
    """Ten minutes' difference is below what a store refuses, and most of a life of 15."""
    now = formatdate(time.time(), usegmt=True)
    server = ScriptedServer(
        reply(200, assumed("ASIA1", 30), Date=now), reply(200, assumed("ASIA2", 900), Date=now)
    )
    await server.start(nursery)
    clock = OffsetClock(-600.0)
    provider = provider_of(server, clock=clock)
    await provider.get()
    clock.offset += 30
    assert (await provider.get()).access_key == "ASIA2"


async def test_key_that_calls_sts_is_read_anew_when_refused(
    aws: Path, nursery: trio.Nursery, provider_of: Provided
) -> None:
    server = ScriptedServer(
        error(403, "InvalidClientTokenId"),
        reply(200, assumed("ASIA1", 900)),
        error(403, "AccessDenied"),
    )
    await server.start(nursery)
    write_key(aws, "alice", "AK1")
    provider = provider_of(server, ProfileProvider("alice", clock=SystemClock()))
    await provider._source.get()
    write_key(aws, "alice", "AK2")
    pair = await provider.get()
    assert "Credential=AK2/" in server.seen[1].headers["authorization"]
    with pytest.raises(CredentialsError, match="AccessDenied"):
        await provider.refresh(pair)
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(200, b"<html>"), "cannot be read"),
        (reply(200, b"<AssumeRoleResponse/>"), "AccessKeyId"),
        (reply(200, assumed("ASIA1", 5).replace(b"Z</Exp", b"?</Exp")), "when they expire"),
    ],
)
async def test_an_answer_that_is_none(
    nursery: trio.Nursery, provider_of: Provided, answer: Step, words: str
) -> None:
    server = ScriptedServer(answer)
    await server.start(nursery)
    with pytest.raises(CredentialsError, match=words):
        await provider_of(server).get()


async def test_expiry_as_ceph_writes_it(nursery: trio.Nursery, provider_of: Provided) -> None:
    text = assumed("ASIA1", 900)
    end = text.split(b"<Expiration>")[1].split(b"Z<")[0]
    server = ScriptedServer(reply(200, text.replace(end + b"Z", end + b".123456789Z")))
    await server.start(nursery)
    pair = await provider_of(server).get()
    assert pair.expires_at == pytest.approx(time.time() + 900, abs=3)


async def test_a_process_that_hangs_is_given_up_and_not_started_again(
    aws: Path, autojump_clock: trio.testing.MockClock
) -> None:
    count = aws / "count"
    program = aws / "process"
    program.write_text(f"#!/bin/sh\necho x >> {count}\nsleep 30\nexit 1\n")
    program.chmod(0o755)
    (aws / "config").write_text(f"[profile p]\ncredential_process = {program}\n")
    provider = ProfileProvider("p", clock=SystemClock())
    for _ in range(2):
        with pytest.raises(CredentialsError, match="within 60 s"):
            await provider.get()
    while not count.exists():
        time.sleep(0.01)  # noqa: ASYNC251
    assert count.read_text() == "x\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "process"),
        ("echo no JSON: s3cr3t", "cannot be read"),
        ("echo '{\"Version\": 2}'", "version"),
        ('echo \'{"Version": 1, "AccessKeyId": "s3cr3t"}\'', "SecretAccessKey"),
    ],
)
async def test_a_process_that_fails_is_one_line(aws: Path, script: str, words: str) -> None:
    program = aws / "process"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    (aws / "config").write_text(f"[profile p]\ncredential_process = {program}\n")
    with pytest.raises(CredentialsError, match=words) as caught:
        await ProfileProvider("p", clock=SystemClock(), identity="alice").get()
    assert "'alice'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_short_lives_are_warned_of_once(aws: Path, caplog: pytest.LogCaptureFixture) -> None:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 900))
    program = aws / "process"
    program.write_text(
        '#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s",'
        f' "SessionToken": "t", "Expiration": "{end}"}}\'\n'
    )
    program.chmod(0o755)
    (aws / "config").write_text(f"[profile p]\ncredential_process = {program}\n")
    provider = ProfileProvider("p", clock=SystemClock(), identity="alice")
    pair = await provider.get()
    await provider.refresh(pair)
    assert len(caplog.records) == 1
    assert "credentials of alice live only 900 s" in caplog.text.replace("899", "900")


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
