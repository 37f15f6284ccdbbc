"""What ``s3posixfs identities check`` looks at: the file by itself, then each identity at the
store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from s3posixfs.cli.findings import Finding, clock, failed
from s3posixfs.cli.mount_credentials import (
    credential_settings,
    own_credentials,
    s3_client,
    sts_client,
)
from s3posixfs.cli.mount_options import MountOptions
from s3posixfs.cli.mount_request import (
    DEFAULT_IDENTITIES,
    Endpoint,
    find_endpoint,
)
from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.credentials.provider import CredentialsError, CredentialsProvider
from s3posixfs.fs.signers_s3 import CredentialSettings, StoreIdentities, provider_of
from s3posixfs.identity.map import Identity, IdentityMap, examine_identities
from s3posixfs.s3 import xml
from s3posixfs.s3.check import POLICY, check, explain
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.store import S3ObjectStore

_AT_ONCE = 8
_EXAMPLES = 20  # owners in no identity that are named one by one

Advance = Callable[[], None]


class Examination:
    """One check of an identity map: of ``file``, else of what the mount options name."""

    def __init__(self, options: MountOptions, file: str | None) -> None:
        self._options = options
        given = file if file is not None else options.text("identities")
        self._auto = given == "auto"
        self._path = Path(given) if given is not None else DEFAULT_IDENTITIES

    def run(self, *, ask_store: bool, bucket: str | None, objects: int) -> list[Finding]:
        """Every finding, in the order of the file. A bar on a terminal's standard error."""
        findings: list[Finding] = []
        found: tuple[Identity, ...] = ()
        if not self._auto:
            findings, found = self._file()
        if not (ask_store or self._auto):
            findings.append(
                Finding("store", "note", "not asked", "give --endpoint-url and --profile to ask it")
            )
            return findings
        try:
            endpoint = find_endpoint(self._options)
        except OperatorError as error:
            return [*findings, failed("store", error)]
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            findings += trio.run(self._store, endpoint, found, bucket, objects, progress)
        return findings

    def _file(self) -> tuple[list[Finding], tuple[Identity, ...]]:
        name = str(self._path)
        try:
            text = self._path.read_text(encoding="utf-8")
            found, problems = examine_identities(text, name)
        except OSError as error:
            remedy = "make it: see `s3posixfs identities import --help`, or docs/CONFIGURATION.md"
            return [Finding("file", "failed", f"{name}: {error.strerror}", remedy)], ()
        except UnicodeDecodeError:
            return [Finding("file", "failed", f"{name} is not UTF-8 text", "save it as UTF-8")], ()
        except OperatorError as error:
            return [Finding("file", "failed", str(error), "mend that line")], ()
        if problems:
            remedy = "mend that line; a running mount keeps its former map until then"
            return [Finding("file", "failed", str(error), remedy) for error in problems], found
        return [Finding("file", "ok", f"{len(found)} identities in {name}")], found

    async def _store(
        self,
        endpoint: Endpoint,
        found: tuple[Identity, ...],
        bucket: str | None,
        objects: int,
        progress: Progress,
    ) -> list[Finding]:
        options = self._options
        findings: list[Finding] = []
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(s3_client(options, endpoint, SystemClock()))
            sts = sts_client(options, endpoint, client.clock)
            stack.callback(sts.close)
            daemon = own_credentials(options, sts, client.clock)
            store = client.acting_as(daemon, "the mount")
            own, usable = await self._mount_itself(store, findings)
            if not usable:
                return findings
            if self._auto:
                try:
                    found = (await StoreIdentities(store).load()).identities
                except (OperatorError, S3Error) as error:
                    return [*findings, failed("identities", error)]
                findings.append(Finding("identities", "ok", f"{len(found)} from the store (auto)"))
            settings = credential_settings(options, sts)
            task = progress.add_task("acting as each identity", total=len(found))
            acting = _Acting(client, daemon, settings, lambda: progress.advance(task))
            findings += await acting.all(found)
            if bucket is not None:
                task = progress.add_task("looking at owners", total=None)
                owners = _Owners(store, IdentityMap(found), own, lambda: progress.advance(task))
                findings += await owners.look(bucket, objects)
        return findings

    async def _mount_itself(
        self, store: S3ObjectStore, findings: list[Finding]
    ) -> tuple[str, bool]:
        """The owner ID of the mount's own objects, and whether the store can be asked at all."""
        subject = "the mount itself"
        try:
            await store.acting.provider.get()
            answer = await store.request("GET", policy=POLICY)
        except CredentialsError as error:
            findings.append(
                Finding(subject, "failed", error.cause, "give profile=NAME of one that has some")
            )
            return "", False
        except S3Error as error:
            if error.code != "AccessDenied":
                findings.append(failed(subject, OperatorError(explain(error, store, None))))
                return "", False
            findings.append(Finding(subject, "note", "may not list buckets, so it has no owner ID"))
            return "", True
        own = _owner_of(answer.body)
        findings.append(Finding(subject, "ok", f"acts as S3 owner {own!r}"))
        off = answer.date - time.time() if answer.date else 0.0
        findings.append(clock(off))
        return own, True


def _owner_of(body: memoryview) -> str:
    for owner in xml.children(xml.parse(body), "Owner"):
        return xml.fields(owner).get("ID", "")
    return ""


class _Acting:
    """One request as each identity."""

    def __init__(
        self,
        client: S3Client,
        daemon: CredentialsProvider,
        settings: CredentialSettings,
        advance: Advance,
    ) -> None:
        self._client = client
        self._daemon = daemon
        self._settings = settings
        self._advance = advance

    async def all(self, identities: tuple[Identity, ...]) -> list[Finding]:
        """A finding for each, in their order."""
        results: dict[int, Finding] = {}
        limit = trio.CapacityLimiter(_AT_ONCE)

        async def one(index: int, identity: Identity) -> None:
            async with limit:
                results[index] = await self._one(identity)
                self._advance()

        async with trio.open_nursery() as nursery:
            for index, identity in enumerate(identities):
                nursery.start_soon(one, index, identity)
        return [results[index] for index in range(len(identities))]

    async def _one(self, identity: Identity) -> Finding:
        subject = f"identity {identity.name}"
        provider = provider_of(identity, self._daemon, self._settings, self._client.clock)
        if provider is None:
            return Finding(subject, "note", "has no profile or role: the mount signs for it")
        store = self._client.acting_as(provider, identity.name)
        try:
            await provider.get()
        except CredentialsError as error:
            if identity.role_arn is not None:
                what = f"{identity.role_arn} cannot be assumed: {error.cause}"
                return Finding(subject, "failed", what, "let it assume the role, or give a profile")
            return Finding(
                subject,
                "failed",
                f"profile {identity.profile}: {error.cause}",
                "put its key pair into that profile (credentials_file=FILE says where)",
            )
        try:
            answer = await store.request("GET", policy=POLICY)
        except S3Error as error:
            if error.code == "AccessDenied":
                return Finding(subject, "note", "acts; may not list buckets, so as whom is unknown")
            return failed(subject, OperatorError(explain(error, store, None)))
        owner_id = _owner_of(answer.body)
        if owner_id in (*identity.owner_ids, *identity.access_keys):
            return Finding(subject, "ok", f"uid {identity.owner.uid} acts as S3 owner {owner_id!r}")
        return Finding(
            subject,
            "failed",
            f"acts as S3 owner {owner_id!r}, which is none of its owner_ids",
            "what it writes would not be its own: add that ID, or give its own credentials",
        )


class _Owners:
    """Owners of objects who are in no identity."""

    def __init__(
        self, store: S3ObjectStore, known: IdentityMap, own: str, advance: Advance
    ) -> None:
        self._store = store
        self._known = known
        self._own = own
        self._advance = advance

    async def look(self, source: str, most: int) -> list[Finding]:
        """A finding an owner, or one that all are known."""
        bucket, _, prefix = source.strip("/").partition("/")
        if not self._store.capabilities.listing_owner:
            said = "its listings name no owners, says capabilities=listing_owner:no"
            return [Finding(f"bucket {bucket}", "note", said)]
        unknown: Counter[str] = Counter()
        example: dict[str, str] = {}
        seen, token = 0, None
        try:
            await check(self._store, bucket, prefix=prefix)
            while seen < most:
                page = await self._store.list_objects(bucket, prefix=prefix, token=token)
                for row in page.objects:
                    owner_id = row.owner.id if row.owner is not None else ""
                    if owner_id == self._own or self._known.by_owner_id(owner_id) is not None:
                        continue
                    unknown[owner_id] += 1
                    example.setdefault(owner_id, row.key)
                seen += len(page.objects)
                self._advance()
                token = page.next_token
                if token is None:
                    break
        except (OperatorError, S3Error) as error:
            return [failed(f"bucket {bucket}", error)]
        subject = f"bucket {bucket}"
        looked = f"{seen:,} objects" + ("" if token is None else " and more")
        if not unknown:
            return [Finding(subject, "ok", f"the owners of {looked} are known")]
        findings = [
            Finding(
                subject,
                "warning",
                f"{count:,} of {looked} are of owner {owner_id!r}, such as {example[owner_id]!r}",
                "add it to an identity's owner_ids; until then they have the mount's uid",
            )
            for owner_id, count in unknown.most_common(_EXAMPLES)
        ]
        if len(unknown) > _EXAMPLES:
            rest = len(unknown) - _EXAMPLES
            findings.append(Finding(subject, "warning", f"{rest} more owners in no identity", ""))
        return findings
