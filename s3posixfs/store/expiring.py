"""Does what lifecycle rules say: removes expired objects and ends forgotten uploads.

One process at a time does it, however many workers share the store. An object is removed only
if it is still the one that expired: what was written meanwhile stays.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import Condition, ObjectRecord
from s3posixfs.store.configurations import Configurations
from s3posixfs.store.lifecycle import LifecycleRule

log = logging.getLogger(__name__)

_ROUNDS_PER_DAY = 24
_LEAST_WAIT_SECONDS = 0.5
_FIRST_WAIT_SECONDS = 60.0
_PAGE = 200  # small enough that the store need not wait for one when it ends
_GONE = frozenset({404, 412})


class Expirer:
    """Looks through the buckets that have rules, once an hour.

    ``lock`` is the file that says which process does; ``day`` is the length of a day in
    seconds, which only tests shorten.
    """

    def __init__(
        self,
        backend: DirectoryBackend,
        configurations: Configurations,
        clock: Clock,
        *,
        lock: Path,
        day: int,
    ) -> None:
        self._backend = backend
        self._configurations = configurations
        self._clock = clock
        self._lock = lock
        self._day = day

    async def run(self) -> None:
        """Work until cancelled; between two pages of a listing it can be."""
        wait = max(self._day / _ROUNDS_PER_DAY, _LEAST_WAIT_SECONDS)
        await trio.sleep(min(wait, _FIRST_WAIT_SECONDS))
        while True:
            try:
                await self._round()
            except Exception:
                log.exception("lifecycle rules could not be applied; trying again later")
            await trio.sleep(wait)

    async def _round(self) -> None:
        with self._locked() as mine:
            if not mine:
                return
            for bucket in await trio.to_thread.run_sync(self._backend.list_buckets):
                rules = [
                    rule
                    for rule in await trio.to_thread.run_sync(
                        self._configurations.lifecycle.of, bucket.name
                    )
                    if rule.enabled
                ]
                if rules:
                    await self._pages(bucket.name, rules, self._expire_page, "objects removed")
                    await self._pages(bucket.name, rules, self._abort_page, "uploads ended")

    async def _pages(
        self,
        bucket: str,
        rules: Sequence[LifecycleRule],
        page: Callable[[str, Sequence[LifecycleRule], str], tuple[int, str]],
        what: str,
    ) -> None:
        done, after = 0, ""
        try:
            while True:
                count, after = await trio.to_thread.run_sync(page, bucket, rules, after)
                done += count
                if not after:
                    break
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
        if done:
            log.info("lifecycle of bucket %s: %d %s", bucket, done, what)

    def _expire_page(
        self, bucket: str, rules: Sequence[LifecycleRule], after: str
    ) -> tuple[int, str]:
        """Remove what has expired of one page; how many, and where the next page starts."""
        removing = [r for r in rules if r.expire_days is not None or r.expire_date is not None]
        if not removing:
            return 0, ""
        prefix = _common_prefix([rule.prefix for rule in removing])
        page = self._backend.list(bucket, prefix=prefix, start_after=after, max_keys=_PAGE)
        now = self._clock.time()
        removed = 0
        for record in page.objects:
            moments = (rule.expires_at(record, self._day) for rule in removing)
            if any(moment is not None and moment <= now for moment in moments):
                removed += self._remove(bucket, record)
        return removed, page.next_after if page.truncated else ""

    def _remove(self, bucket: str, record: ObjectRecord) -> bool:
        condition = Condition(
            if_match=record.etag, size=record.size, last_modified=record.last_modified
        )
        return self._tolerant(lambda: self._backend.delete(bucket, record.key, condition))

    def _abort_page(
        self, bucket: str, rules: Sequence[LifecycleRule], after: str
    ) -> tuple[int, str]:
        """End the uploads of one page that are overdue."""
        aborting = [rule for rule in rules if rule.abort_days is not None]
        if not aborting:
            return 0, ""
        key_marker, _, id_marker = after.rpartition("\0")
        page = self._backend.list_uploads(bucket, key_marker=key_marker, upload_id_marker=id_marker)
        now = self._clock.time()
        ended = 0
        for upload in page.uploads:
            moments = (rule.aborts_at(upload.key, upload.initiated, self._day) for rule in aborting)
            if any(moment is not None and moment <= now for moment in moments):

                def abort(key: str = upload.key, name: str = upload.upload_id) -> bool:
                    self._backend.abort_upload(bucket, key, name)
                    return True

                ended += self._tolerant(abort)
        # A NUL is in no key, so it can stand between the two markers.
        following = f"{page.next_key_marker}\0{page.next_upload_id_marker}"
        return ended, following if page.truncated else ""

    def _tolerant(self, action: Callable[[], bool]) -> bool:
        """Whether ``action`` did it; what somebody else did first is no error."""
        try:
            return action()
        except S3Error as error:
            if error.status not in _GONE:
                log.error("lifecycle: %s", error.message)
            return False

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Whether no other process does this now; none begins while the block runs."""
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)


def _common_prefix(texts: Sequence[str]) -> str:
    """What all of ``texts`` begin with: so do the first and the last in order."""
    first, last = min(texts), max(texts)
    same = 0
    while same < len(first) and first[same] == last[same]:
        same += 1
    return first[:same]
