"""The STS client: what its answers say of the store's clock."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
import trio

from s3posixfs.core.clock import OffsetClock, StoreClock
from s3posixfs.core.types import Credentials
from s3posixfs.s3.sts import StsClient
from tests.unit.scripted_server import ScriptedServer, Seen, Step, Stream, reply

KEY = Credentials("AKIA", "secret")


def answer(store_time: float, host: OffsetClock, slept: float) -> Step:
    """An AssumeRole answer, which the host reads ``slept`` seconds after it was given."""
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(store_time + 3))
    body = (
        "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
        "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>t</SessionToken><Expiration>{expiration}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()

    async def step(stream: Stream, seen: Seen) -> bool:
        host.offset += slept
        return await reply(200, body, Date=formatdate(store_time, usegmt=True))(stream, seen)

    return step


@pytest.mark.parametrize(
    ("ahead", "slept", "offset"),
    [(0, 0, 0), (0, 600, 0), (600, 0, 600), (-600, 0, -600), (600, 60, 540)],
    ids=["agree", "slept", "ahead", "behind", "ahead and slept"],
)
async def test_the_time_that_the_host_slept_is_no_wrong_clock(
    nursery: trio.Nursery, ahead: float, slept: float, offset: float
) -> None:
    host = OffsetClock()
    clock = StoreClock(host)
    server = ScriptedServer(answer(host.time() + ahead, host, slept))
    await server.start(nursery)
    async with StsClient(server.url, region="us-east-1", clock=clock, random=lambda: 0.5) as sts:
        given = await sts.assume_role(
            KEY, role_arn="arn", session_name="it", duration=900, policy=None
        )
    assert given.access_key == "ASIA"
    assert clock.offset == pytest.approx(offset, abs=2)
