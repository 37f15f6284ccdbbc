"""Refusals are logged so many in a time, and each operation's requests are told apart."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio

from s3posixfs.core.clock import OffsetClock
from s3posixfs.core.request_ids import MOST, collected, note
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.watching import BURST, SECONDS, RefusalLimit
from tests.filesystem_bed import ALICE, BOB, BUCKET, DAVE, filesystem_bed
from tests.unit.test_fs_identity import allow, has_errno


def test_so_many_at_once_and_then_one_in_a_time() -> None:
    clock = OffsetClock()
    limit = RefusalLimit(clock)
    assert [limit.take() for _ in range(BURST)] == [0] * BURST
    assert [limit.take() for _ in range(500)] == [None] * 500
    clock.offset += SECONDS * 1.01
    assert limit.take() == 500
    assert limit.take() is None
    clock.offset += SECONDS * BURST * 10
    assert [limit.take() for _ in range(BURST + 1)] == [1, *[0] * (BURST - 1), None]


async def test_a_refusal_names_uid_identity_and_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = FsConfig(bucket=BUCKET, unmapped="deny")
    async with filesystem_bed(tmp_path, config=config, authorize=allow) as bed:
        await bed.write("line\nbreak", b"x", ALICE)
        with caplog.at_level(logging.WARNING), has_errno(13):
            await bed.fs.lookup(1, b"line\nbreak", DAVE)
        assert bed.fs.status()["refusals"] == 1
        (said,) = [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]
        assert said == ('lookup refused to uid 1500 (process 0) as nobody: "/line\\nbreak": EACCES')
        with caplog.at_level(logging.WARNING), has_errno(1):
            await bed.chmod("line\nbreak", 0o600, BOB)
        assert "setattr refused to uid 1002" in caplog.text
        found = await bed.walk("line\nbreak")
        opened = await bed.fs.open(found.inode, os.O_RDONLY, ALICE)
        await bed.fs.release(opened.handle)
        assert bed.fs.status()["refusals"] == 2


async def test_request_ids_of_operations_do_not_mix() -> None:
    found: dict[int, list[str]] = {}

    async def operation(number: int) -> None:
        async def part(name: str) -> None:
            await trio.lowlevel.checkpoint()
            note(name)

        with collected() as ids:
            async with trio.open_nursery() as nursery:
                for part_number in range(3):
                    nursery.start_soon(part, f"{number}-{part_number}")
        found[number] = sorted(ids)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(operation, number)
    assert found == {n: [f"{n}-{p}" for p in range(3)] for n in range(5)}
    note("of nobody")
    with collected() as ids:
        for number in range(MOST * 2):
            note(str(number))
        note("")
    assert ids == [str(number) for number in range(MOST)]
