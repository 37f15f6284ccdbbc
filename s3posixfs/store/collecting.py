"""Removes what is left of objects that local programs removed: at the start and once a day."""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.single import single

log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 120.0


async def collect_leftovers(backend: DirectoryBackend, *, lock: Path, day: int) -> None:
    """Work until cancelled; ``day`` is the length of a day in seconds, which only tests shorten.

    ``lock`` is the file that says which process of the store does it.
    """
    await trio.sleep(min(day, _FIRST_WAIT_SECONDS))
    while True:
        try:
            with single(lock) as mine:
                if mine:
                    removed = await trio.to_thread.run_sync(backend.collect_leftovers, float(day))
                    if removed:
                        log.info("removed the sidecars of %d files that are gone", removed)
        except Exception:
            log.exception("sidecars could not be collected; trying again in a day")
        await trio.sleep(day)
