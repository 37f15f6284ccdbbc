"""Who signs: the store as the daemon sees it, and as each identity does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import PosixOwner
from s3posixfs.identity.map import IdentityMap


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """An S3 identity and the store bound to its credentials.

    ``owner`` is the uid and gid its objects get on this host; ``None`` for the daemon, whose
    objects carry their ownership as metadata. ``trusted`` says that metadata on its objects is
    believed (the daemon, and users with the role admin). Two signers are the same identity
    when their names are equal.
    """

    name: str
    store: ObjectStore
    owner: PosixOwner | None = None
    trusted: bool = False


class Signers(Protocol):
    """The identities of a mount. Methods return at once; credentials are fetched by the store."""

    def daemon(self) -> Signer:
        """The daemon's own identity; trusted, with no owner."""
        ...

    def for_uid(self, uid: int) -> Signer | None:
        """The identity of a host's user, where the mount has credentials for it."""
        ...

    def for_owner(self, owner_id: str) -> Signer | None:
        """The identity behind an S3 owner ID (also the daemon's), where it has credentials."""
        ...

    def for_name(self, name: str) -> Signer | None:
        """The identity of this name (also the daemon's), where it has credentials: what an
        earlier run left is signed by whom it is owed."""
        ...

    def identity_map(self) -> IdentityMap:
        """The map as it is now."""
        ...

    def trusts(self, owner_id: str) -> bool:
        """Whether the objects of this owner may state their ownership: the daemon's own
        objects and those of users with the role admin."""
        ...
