"""The subtree gate: a folder stands still while it is renamed, and nobody waits in a circle."""

from __future__ import annotations

import stat

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.inodes import Inode, InodeTable
from s3posixfs.fs.subtree_gate import SubtreeGate

FOLDER = Entry(Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0), None, 0.0, exact=True)


def folders() -> tuple[SubtreeGate, Inode, Inode, Inode]:
    table = InodeTable("bucket", "", FOLDER)
    a = table.attach(table.root, b"a", FOLDER)
    b = table.attach(a, b"b", FOLDER)
    c = table.attach(table.root, b"c", FOLDER)
    for inode in (a, b, c):
        inode.lookups = 1
    return SubtreeGate(table), a, b, c


async def test_a_move_waits_for_work_below_and_holds_up_new_work() -> None:
    gate, a, b, c = folders()
    order: list[str] = []
    finish = trio.Event()

    async def work() -> None:
        async with gate.working_in(b):
            order.append("works")
            await finish.wait()
            order.append("worked")

    async def move() -> None:
        async with gate.moving(a), gate.working_in(c):
            order.append("moves")

    async def later() -> None:
        async with gate.working_in(c, b):
            order.append("works later")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await wait_all_tasks_blocked()
        nursery.start_soon(move)
        await wait_all_tasks_blocked()
        nursery.start_soon(later)
        await wait_all_tasks_blocked()
        assert order == ["works"]
        async with gate.working_in(c):
            pass  # elsewhere nobody is held up
        finish.set()
    assert order == ["works", "worked", "moves", "works later"]
    assert a.active == b.active == c.active == 0


async def test_a_cancelled_task_leaves_nothing_behind() -> None:
    gate, a, b, _ = folders()
    async with gate.moving(a):
        with trio.move_on_after(0.01) as scope:
            async with gate.working_in(b):
                pytest.fail("the folder moves")
        assert scope.cancelled_caught
    async with gate.working_in(b):
        with trio.move_on_after(0.01) as scope:
            async with gate.moving(a):
                pytest.fail("there is work below")
        assert scope.cancelled_caught
    async with gate.moving(a), gate.working_in():
        pass
    assert a.moving is None
    assert a.active == b.active == 0
