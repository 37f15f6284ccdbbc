"""What S3 lets an identity do, asked in its name and remembered for a bounded time.

The memory is keyed by identity, action and place, so that one identity's answer is never
another's. A refusal is an S3Error (AccessDenied), so EACCES.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from errno import EACCES

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.fs.attributes import Entry
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.concurrently import for_each
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.signers import Signer, Signers
from s3posixfs.waiting.deadlines import waiting

logger = logging.getLogger(__name__)

REMEMBERED = 50_000
UNREACHABLE_SECONDS = 1.0  # for which a store that did not answer is not asked before writing
_CONDITION_FAILED = frozenset({"PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict"})
_NO_ETAG = "0" * 32  # no object has it

Question = tuple[str, str, str, str]  # identity, action, bucket, key or prefix


class AccessGate:
    """Chooses who signs for a caller, and asks S3 before something is promised to a program."""

    def __init__(
        self, config: FsConfig, signers: Signers, clock: Clock, *, writes_back: bool = False
    ) -> None:
        """``writes_back``: a store that cannot be reached does not hinder writing, since uploads
        come later and ask again."""
        self._writes_back = writes_back
        self._config = config
        self._signers = signers
        self._clock = clock
        self._unreachable_until = float("-inf")  # only with write-back
        self._answers: OrderedDict[Question, tuple[float, bool]] = OrderedDict()

    def signer(self, caller: Caller) -> Signer:
        """The identity that signs what the caller does; EACCES where there is to be none."""
        daemon = self._signers.daemon()
        if self._config.sign_as == "daemon" or caller.is_root:
            return daemon
        found = self._signers.for_uid(caller.uid)
        if found is not None:
            return found
        mapped = self._signers.identity_map().by_uid(caller.uid) is not None
        if not mapped and self._config.unmapped == "deny":
            raise refusal(EACCES)
        return daemon

    def reading(self, signer: Signer) -> Signer:
        """Who signs reads: the caller's identity, unless POSIX alone decides."""
        return signer if self._config.s3_decides else self._signers.daemon()

    def reads_as_daemon(self, caller: Caller) -> bool:
        """Whether what the caller reads is read as the mount's identity."""
        if not self._config.s3_decides:
            return True
        try:
            return self._is_daemon(self.signer(caller))
        except OSError:  # refused altogether
            return False

    def owner(self, entry: Entry) -> Signer:
        """The identity the object belongs to, where there are credentials for it; else the
        daemon, which keeps the owner as metadata. A copy belongs to who signs it."""
        daemon = self._signers.daemon()
        if self._config.sign_as == "daemon":
            return daemon
        if entry.stat is not None and entry.stat.owner is not None:
            return self._signers.for_owner(entry.stat.owner.id) or daemon
        if entry.writer is not None and entry.writer != daemon.name:
            # S3 has not named the owner yet; whose it is was proven when it was written.
            return self._signers.for_uid(entry.attributes.uid) or daemon
        return daemon

    def _is_daemon(self, signer: Signer) -> bool:
        return signer.name == self._signers.daemon().name

    def _recall(self, question: Question) -> bool | None:
        known = self._answers.get(question)
        if known is None or known[0] <= self._clock.monotonic():
            return None
        return known[1]

    def _remember(self, question: Question, allowed: bool) -> None:
        self._answers[question] = (self._clock.monotonic() + self._config.access_ttl, allowed)
        self._answers.move_to_end(question)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    async def _require(self, question: Question, ask: Callable[[], Awaitable[None]]) -> None:
        """AccessDenied unless the answer is yes: the remembered one, else the one that S3 gives to
        ``ask``, which is remembered."""
        allowed = self._recall(question)
        if allowed is None:
            try:
                await ask()
                allowed = True
            except S3Error as error:
                if error.errno != EACCES:
                    raise
                allowed = False
            self._remember(question, allowed)
        if not allowed:
            raise refusal(EACCES)

    def needs_list_proof(self, signer: Signer, bucket: str, prefix: str) -> bool:
        """Whether S3 has to be asked in the identity's name before it may list the folder."""
        if not self._config.s3_decides or self._is_daemon(signer):
            return False
        return self._recall((signer.name, "list", bucket, prefix)) is None

    def listed(self, signer: Signer, bucket: str, prefix: str) -> None:
        """The identity listed the folder just now."""
        self._remember((signer.name, "list", bucket, prefix), True)

    async def require_list(self, signer: Signer, bucket: str, prefix: str) -> None:
        """AccessDenied unless the identity may list the folder. The daemon's own listing is its
        own answer, so it is not asked for here."""
        if not self._config.s3_decides or self._is_daemon(signer):
            return

        async def ask() -> None:
            await signer.store.list_objects(bucket, prefix=prefix, delimiter="/", max_keys=1)

        await self._require((signer.name, "list", bucket, prefix), ask)

    def needs_read_proof(self, signer: Signer) -> bool:
        """Whether S3 has to be asked in the identity's name before it may read an object."""
        return self._config.s3_decides and not self._is_daemon(signer)

    async def require_read(self, signer: Signer, bucket: str, key: str) -> None:
        """AccessDenied unless S3 shows that the identity may read the object. Of one that is not
        there it shows nothing, also where a policy denies the key."""
        if not self.needs_read_proof(signer):
            return

        async def ask() -> None:
            try:
                await signer.store.head(bucket, key)
            except S3Error as error:
                if error.errno != EACCES and (error.code == "NoSuchKey" or error.status == 404):
                    raise refusal(EACCES) from error  # and not to be remembered
                raise

        await self._require((signer.name, "read", bucket, key), ask)

    async def require_write(
        self, signer: Signer, bucket: str, key: str, *, exact: bool = False
    ) -> None:
        """AccessDenied where it is plain beforehand that the identity may not put the object.

        The upload itself is the judge; this only spares a program from hearing of it at close.
        Where the identity wrote in that folder lately nothing is asked, unless another identity
        will sign the change: then the answer must be of this key (``exact``). Else it puts the
        key under a condition that cannot hold, or begins a multipart upload and drops it: S3
        authorises both before anything else, and neither leaves something behind. With
        ``access=posix`` too: what the caller signs S3 can refuse.
        """
        if not self._config.s3_decides and self._is_daemon(signer):
            return
        folder = key[: key.rstrip("/").rfind("/") + 1]
        if not exact and self._recall((signer.name, "write", bucket, folder)):
            return
        question = (signer.name, "write", bucket, key)
        allowed = self._recall(question)
        if allowed is None:
            if self._clock.monotonic() < self._unreachable_until:
                return
            try:
                if signer.store.capabilities.conditional_put:
                    await self._impossible_put(signer, bucket, key)
                else:
                    await self._dropped_upload(signer, bucket, key)
                allowed = True
                self._remember(question, allowed)
                self.wrote(signer, bucket, key)
            except S3Error as error:
                if self._writes_back and error.unreachable:
                    self._unreachable_until = self._clock.monotonic() + UNREACHABLE_SECONDS
                    return
                if error.errno != EACCES:
                    raise
                allowed = False
                self._remember(question, allowed)
        if not allowed:
            raise refusal(EACCES)

    def wrote(self, signer: Signer, bucket: str, key: str) -> None:
        """The identity put this key just now."""
        folder = key[: key.rstrip("/").rfind("/") + 1]
        self._remember((signer.name, "write", bucket, folder), True)

    async def _impossible_put(self, signer: Signer, bucket: str, key: str) -> None:
        try:
            await signer.store.put(bucket, key, b"", if_match=_NO_ETAG)
        except S3Error as error:
            if error.code not in _CONDITION_FAILED:
                raise

    async def _dropped_upload(self, signer: Signer, bucket: str, key: str) -> None:
        upload_id = await signer.store.create_multipart(bucket, key)
        await waiting()
        with trio.CancelScope(shield=True), trio.move_on_after(10):
            for store in (signer.store, self._signers.daemon().store):
                try:
                    await store.abort_multipart(bucket, key, upload_id)
                except S3Error as error:  # may put, may not abort: the daemon tidies up
                    logger.debug("dropping an upload: %s", error)
                else:
                    return

    async def visible_buckets(self, signer: Signer, names: tuple[str, ...]) -> frozenset[str]:
        """Those of the buckets that the identity may list. Ceph RGW names in ListBuckets only
        those that it owns: what others share with it is asked for by itself."""
        if not self._config.s3_decides or self._is_daemon(signer):
            return frozenset(names)
        seen = {found.name for found in await signer.store.list_buckets()}
        shared: set[str] = set()

        async def ask(name: str) -> None:
            try:
                await self.require_list(signer, name, "")
            except OSError as error:
                if error.errno != EACCES:
                    raise
            else:
                shared.add(name)

        unseen = [name for name in names if name not in seen]
        await for_each(unseen, ask, limit=self._config.parallel_requests)
        return frozenset(name for name in names if name in seen or name in shared)
