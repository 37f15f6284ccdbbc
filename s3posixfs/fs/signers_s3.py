"""The signers of a mount over a real store: who has credentials, and how they stay alive.

The identity map is reread while the mount runs. A map that cannot be read keeps the old one. An
identity that did not change keeps its credentials; one that changed, or went, loses them.
"""

from __future__ import annotations

import json
import logging
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.credentials.provider import (
    AssumeRoleProvider,
    CredentialsProvider,
    ProfileProvider,
)
from s3posixfs.credentials.refresher import Refresher
from s3posixfs.fs.signers import Signer
from s3posixfs.identity.map import (
    Identity,
    IdentityMap,
    identities_from_json,
    parse_identities,
)
from s3posixfs.s3 import xml
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.sts import StsClient

logger = logging.getLogger(__name__)

# The map follows its source within this many seconds; a file is only looked at (stat).
FILE_SECONDS = 1.0
STORE_SECONDS = 5.0


class IdentitySource(Protocol):
    """Where the map comes from. Both methods raise OperatorError or S3Error."""

    interval: float

    async def load(self) -> IdentityMap: ...

    async def changed(self) -> bool:
        """Whether a ``load`` could give something new."""
        ...


class NoIdentities:
    """A mount for which all S3 owners are unknown and that signs as the daemon only."""

    interval = float("inf")

    async def load(self) -> IdentityMap:
        return IdentityMap(())

    async def changed(self) -> bool:
        return False


class FileIdentities:
    """``identities.toml``, read anew when it changes."""

    interval = FILE_SECONDS

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    async def load(self) -> IdentityMap:
        return await trio.to_thread.run_sync(self._load)

    def _load(self) -> IdentityMap:
        try:
            seen = self._stamp()
            text = self._path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise OperatorError(
                f"identities={self._path}: not UTF-8 text; save it as UTF-8"
            ) from None
        except OSError as error:
            raise OperatorError(
                f"identities={self._path}: {error.strerror}; name a file that the mount may read"
            ) from None
        found = parse_identities(text, str(self._path))
        # Only now: a name that the host does not know yet may be there a moment later.
        self._seen = seen
        return found

    async def changed(self) -> bool:
        try:
            return await trio.to_thread.run_sync(self._stamp) != self._seen
        except OSError as error:
            raise OperatorError(
                f"identities={self._path}: {error.strerror}; name a file that the mount may read"
            ) from None

    def _stamp(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_ino, found.st_size, found.st_mtime_ns


class StoreIdentities:
    """``identities=auto``: the embedded store is asked, as the daemon."""

    interval = STORE_SECONDS

    def __init__(self, store: S3ObjectStore) -> None:
        self._store = store

    async def load(self) -> IdentityMap:
        try:
            answer = await self._store.request("GET", query={"s3posixfs-identities": ""})
            return identities_from_json(json.loads(bytes(answer.body)))
        except (ValueError, OperatorError):
            raise OperatorError(
                f"identities=auto: {self._store.endpoint_url} is no s3posixfs store; "
                "write an identity file and give identities=FILE"
            ) from None
        except S3Error as error:
            if error.status == 0 or error.status >= 500:
                raise
            raise OperatorError(
                f"identities=auto: {self._store.endpoint_url} does not give the map ({error}); "
                "use a profile with role admin or a policy that allows s3posixfs:ListIdentities, "
                "or write an identity file"
            ) from None

    async def changed(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """How identities get theirs: STS, the life asked for (seconds), the file with profiles."""

    sts: StsClient
    duration: int
    credentials_file: Path | None = None


def provider_of(
    identity: Identity, daemon: CredentialsProvider, settings: CredentialSettings, clock: Clock
) -> CredentialsProvider | None:
    """Where the credentials to act as an identity come from: its profile, or a role assumed with
    the profile's or the ``daemon``'s. ``None`` where it has neither."""
    source = daemon
    if identity.profile is not None:
        source = ProfileProvider(
            identity.profile,
            clock=clock,
            identity=identity.name,
            credentials_file=settings.credentials_file,
        )
    if identity.role_arn is None:
        return source if identity.profile is not None else None
    return AssumeRoleProvider(
        source,
        settings.sts,
        role_arn=identity.role_arn,
        session_name=identity.name,
        clock=clock,
        duration=settings.duration,
        identity=identity.name,
    )


class S3Signers:
    """Implements :class:`~s3posixfs.fs.signers.Signers`; ``run`` keeps the map up to date."""

    def __init__(
        self,
        client: S3Client,
        daemon: CredentialsProvider,
        *,
        daemon_owner_id: str,
        source: IdentitySource,
        settings: CredentialSettings,
        trusted_owners: frozenset[str],
        nursery: trio.Nursery,
    ) -> None:
        self._client = client
        self._daemon_credentials = daemon
        self._daemon_owner_id = daemon_owner_id
        self._daemon = Signer("daemon", client.acting_as(daemon, "daemon"), trusted=True)
        self._source = source
        self._settings = settings
        self._trusted_owners = trusted_owners
        # Signatures and lives by one clock: the store's.
        self._clock = client.clock
        self._nursery = nursery
        self._map = IdentityMap(())
        self.map_error: str | None = None  # why the map is older than its source
        self._signers: dict[str, tuple[Identity, Signer, Refresher]] = {}

    # the protocol of the filesystem

    def daemon(self) -> Signer:
        return self._daemon

    def for_uid(self, uid: int) -> Signer | None:
        # Root acts as the daemon, whatever S3 user is said to have uid 0.
        identity = self._map.by_uid(uid) if uid != 0 else None
        return self._signer(identity) if identity is not None else None

    def for_owner(self, owner_id: str) -> Signer | None:
        if owner_id == self._daemon_owner_id:
            return self._daemon
        identity = self._map.by_owner_id(owner_id)
        return self._signer(identity) if identity is not None else None

    def for_name(self, name: str) -> Signer | None:
        if name == self._daemon.name:
            return self._daemon
        named = (one for one in self._map.identities if one.name == name)
        identity = next(named, None)
        return self._signer(identity) if identity is not None else None

    def identity_map(self) -> IdentityMap:
        return self._map

    def trusts(self, owner_id: str) -> bool:
        return (
            owner_id == self._daemon_owner_id
            or ((owner := self._map.by_owner_id(owner_id)) is not None and owner.admin)
            or owner_id in self._trusted_owners
            or "*" in self._trusted_owners
        )

    # credentials

    def _signer(self, identity: Identity) -> Signer | None:
        known = self._signers.get(identity.name)
        if known is not None and known[0] == identity:
            return known[1]
        provider = provider_of(identity, self._daemon_credentials, self._settings, self._clock)
        if provider is None:
            return None
        refresher = Refresher(
            provider,
            nursery=self._nursery,
            clock=self._clock,
            random=random.random,
            name=identity.name,
        )
        signer = Signer(
            identity.name,
            self._client.acting_as(refresher, identity.name),
            owner=identity.owner,
            # As who reads its objects will: else a chmod of one would lose the uid it states.
            trusted=any(map(self.trusts, (*identity.owner_ids, *identity.access_keys))),
        )
        self._signers[identity.name] = (identity, signer, refresher)
        return signer

    # the map

    async def load(self) -> None:
        """Read the map for the first time. Raises OperatorError or S3Error."""
        self._accept(await self._source.load())

    async def reload(self) -> None:
        """Read the map and the credentials of who has used some anew, whatever their age."""
        await self._follow(anew=True)
        async with trio.open_nursery() as nursery:
            for _, _, refresher in list(self._signers.values()):
                nursery.start_soon(refresher.renew)

    async def run(self) -> None:
        """Follow the source of the map until cancelled."""
        while True:
            await trio.sleep(self._source.interval)
            await self._follow()

    async def _follow(self, *, anew: bool = False) -> None:
        try:
            if anew or await self._source.changed():
                self._accept(await self._source.load())
        except (OperatorError, S3Error) as error:
            if str(error) != self.map_error:
                logger.warning("the identities stay as they were: %s", error)
            self.map_error = str(error)
        except Exception:
            # A defect here must not end the mount that all share.
            logger.exception("reading the identities failed")
        else:
            if self.map_error is not None:
                logger.info("the identities can be read again")
            self.map_error = None

    def _accept(self, found: IdentityMap) -> None:
        if found == self._map:
            return
        self._map = found
        current = {identity.name: identity for identity in found.identities}
        for name, (identity, _, refresher) in list(self._signers.items()):
            if current.get(name) != identity:
                refresher.retire()
                del self._signers[name]
        logger.info("%d identities", len(current))

    def by_host_clock(self, moment: float | None) -> float | None:
        """A moment of the store's clock by that of this host."""
        return moment - self._clock.offset if moment is not None else None

    def status(self) -> list[dict[str, Any]]:
        """A row an identity: how it signs, when its credentials end (by this host's clock), its
        last error."""
        rows: list[dict[str, Any]] = []
        for identity in self._map.identities:
            known = self._signers.get(identity.name)
            state = known[2].status if known is not None else None
            if identity.role_arn is not None:
                signs_by = identity.role_arn
            else:
                signs_by = f"profile {identity.profile}" if identity.profile else "daemon"
            rows.append(
                {
                    "name": identity.name,
                    "uid": identity.owner.uid,
                    "gid": identity.owner.gid,
                    "signs_by": signs_by,
                    "used": known is not None,
                    "expires_at": self.by_host_clock(state.expires_at) if state else None,
                    "last_error": state.last_error if state is not None else None,
                    "refreshes": state.refreshes if state is not None else 0,
                }
            )
        return rows


async def owner_id_of(store: S3ObjectStore) -> str:
    """The S3 owner ID of objects that ``store``'s identity writes: what ListBuckets names.

    Empty where it may not list buckets; its objects then need ``trusted_owners`` to be believed.
    """
    try:
        answer = await store.request("GET")
    except S3Error as error:
        if error.status in (403, 404, 405, 501):
            logger.warning("the daemon may not list buckets, so its own objects are not known")
            return ""
        raise
    for owner in xml.children(xml.parse(answer.body), "Owner"):
        return xml.fields(owner).get("ID", "")
    return ""
