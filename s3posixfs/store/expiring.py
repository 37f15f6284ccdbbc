"""Does what lifecycle rules say: removes expired objects and ends forgotten uploads.

One process at a time does it, however many workers share the store. An object is removed only
if it is still the one that expired: what was written meanwhile stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.store.audit import AuditLog
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import Condition, ObjectRecord
from s3posixfs.store.configurations import Configurations
from s3posixfs.store.lifecycle import LifecycleRule
from s3posixfs.store.single import single

log = logging.getLogger(__name__)

_ROUNDS_PER_DAY = 24
_LEAST_WAIT_SECONDS = 0.5
_FIRST_WAIT_SECONDS = 60.0
_PAGE = 200  # small enough that the store need not wait for one when it ends
_GONE = frozenset({404, 412})
# What was done by itself, as the audit log names it.
_EXPIRE, _ABORT = "lifecycle:ExpireObject", "lifecycle:AbortMultipartUpload"
# A key, and the ID of the rule that it fell under.
_Done = tuple[str, str]


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
        audit: AuditLog,
        *,
        lock: Path,
        day: int,
    ) -> None:
        self._backend = backend
        self._configurations = configurations
        self._clock = clock
        self._audit = audit
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
        with single(self._lock) as mine:
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
                    await self._pages(bucket.name, rules, _EXPIRE, self._expire_page)
                    await self._pages(bucket.name, rules, _ABORT, self._abort_page)

    async def _pages(
        self,
        bucket: str,
        rules: Sequence[LifecycleRule],
        operation: str,
        page: Callable[[str, Sequence[LifecycleRule], str], tuple[list[_Done], str]],
    ) -> None:
        done, after = 0, ""
        try:
            while True:
                found, after = await trio.to_thread.run_sync(page, bucket, rules, after)
                done += len(found)
                for key, rule in found:
                    self._audit.record_lifecycle(operation, bucket, key, rule)
                if not after:
                    break
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
        if done:
            log.info("lifecycle of bucket %s: %s of %d", bucket, operation, done)

    def _expire_page(
        self, bucket: str, rules: Sequence[LifecycleRule], after: str
    ) -> tuple[list[_Done], str]:
        """Remove what has expired of one page; that, and where the next page starts."""
        removing = [r for r in rules if r.expire_days is not None or r.expire_date is not None]
        if not removing:
            return [], ""
        prefix = _common_prefix([rule.prefix for rule in removing])
        page = self._backend.list(bucket, prefix=prefix, start_after=after, max_keys=_PAGE)
        now = self._clock.time()
        removed: list[_Done] = []
        for record in page.objects:
            due = (r for r in removing if _is_past(r.expires_at(record, self._day), now))
            rule = next(due, None)
            if rule is not None and self._remove(bucket, record):
                removed.append((record.key, rule.id))
        return removed, page.next_after if page.truncated else ""

    def _remove(self, bucket: str, record: ObjectRecord) -> bool:
        condition = Condition(
            if_match=record.etag, size=record.size, last_modified=record.last_modified
        )
        return self._tolerant(lambda: self._backend.delete(bucket, record.key, condition))

    def _abort_page(
        self, bucket: str, rules: Sequence[LifecycleRule], after: str
    ) -> tuple[list[_Done], str]:
        """End the uploads of one page that are overdue."""
        aborting = [rule for rule in rules if rule.abort_days is not None]
        if not aborting:
            return [], ""
        key_marker, _, id_marker = after.rpartition("\0")
        page = self._backend.list_uploads(bucket, key_marker=key_marker, upload_id_marker=id_marker)
        now = self._clock.time()
        ended: list[_Done] = []
        for upload in page.uploads:
            key, name, begun = upload.key, upload.upload_id, upload.initiated
            due = (r for r in aborting if _is_past(r.aborts_at(key, begun, self._day), now))
            rule = next(due, None)
            if rule is not None and self._abort(bucket, key, name):
                ended.append((key, rule.id))
        # A NUL is in no key, so it can stand between the two markers.
        following = f"{page.next_key_marker}\0{page.next_upload_id_marker}"
        return ended, following if page.truncated else ""

    def _abort(self, bucket: str, key: str, upload_id: str) -> bool:
        def abort() -> bool:
            self._backend.abort_upload(bucket, key, upload_id)
            return True

        return self._tolerant(abort)

    def _tolerant(self, action: Callable[[], bool]) -> bool:
        """Whether ``action`` did it; what somebody else did first is no error."""
        try:
            return action()
        except S3Error as error:
            if error.status not in _GONE:
                log.error("lifecycle: %s", error.message)
            return False


def _is_past(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now


def _common_prefix(texts: Sequence[str]) -> str:
    """What all of ``texts`` begin with: so do the first and the last in order."""
    first, last = min(texts), max(texts)
    same = 0
    while same < len(first) and first[same] == last[same]:
        same += 1
    return first[:same]
