"""A few calls at once, with the first error as itself rather than in a group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from s3posixfs.waiting.deadlines import waiting

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


async def both(
    first: Callable[[], Awaitable[A]], second: Callable[[], Awaitable[B]]
) -> tuple[A, B]:
    """Run two calls at once; an error of either cancels the other."""
    firsts: list[A] = []
    seconds: list[B] = []

    async def run_first(_: None) -> None:
        firsts.append(await first())

    async def run_second(_: None) -> None:
        seconds.append(await second())

    runners = [run_first, run_second]
    await for_each(runners, lambda run: run(None), limit=2)
    return firsts[0], seconds[0]


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, limit: int) -> None:
    """Call ``work`` on every item, ``limit`` at a time. The first error stops the rest and is
    raised once all have ended."""
    remaining = iter(items)
    failures: list[Exception] = []

    async def worker(scope: trio.CancelScope) -> None:
        for item in remaining:
            try:
                await work(item)
            except Exception as error:
                failures.append(error)
                scope.cancel()
                return

    await waiting()
    async with trio.open_nursery() as nursery:
        for _ in range(limit):
            nursery.start_soon(worker, nursery.cancel_scope)
    if failures:
        raise failures[0]
