"""How pyfuse3's workers wait: not for what is there, and never so that others starve."""

from __future__ import annotations

import os

import pyfuse3
import pytest
import trio
import trio.testing

from s3posixfs.fuse.waiting import IN_A_ROW, wait_quickly
from s3posixfs.waiting.quick_lock import QuickLock


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> object:
    """What pyfuse3 takes for trio."""
    monkeypatch.setattr(pyfuse3, "trio", trio)
    wait_quickly(negotiate=False)
    return pyfuse3.trio  # type: ignore[attr-defined]


async def test_it_waits_for_nothing_that_is_there_and_lets_others_run(quick: object) -> None:
    assert isinstance(quick.Lock(), QuickLock)  # type: ignore[attr-defined]
    assert quick.ClosedResourceError is trio.ClosedResourceError  # type: ignore[attr-defined]
    lowlevel = quick.lowlevel  # type: ignore[attr-defined]
    assert lowlevel.current_task() is trio.lowlevel.current_task()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    reading, writing = os.pipe()
    try:
        os.write(writing, b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            for _ in range(IN_A_ROW):
                await lowlevel.wait_readable(reading)
            assert turns == 0
            for _ in range(5 * (IN_A_ROW + 1)):
                await lowlevel.wait_readable(reading)
            assert turns > 0
            os.read(reading, 1)
            with trio.move_on_after(0.05) as waited:
                await lowlevel.wait_readable(reading)
            assert waited.cancelled_caught
            os.write(writing, b"x")
            await lowlevel.wait_readable(reading)
            nursery.cancel_scope.cancel()
    finally:
        os.close(reading)
        os.close(writing)
