"""Values that layers hand to each other. All frozen; none does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key pair, with a session token and an expiry when it is temporary.

    ``expires_at`` is seconds since the epoch; ``None`` for a key pair that does not expire.
    The secret and the token never appear in ``repr``.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


@dataclass(slots=True, unsafe_hash=True)
class PosixOwner:
    """The uid and gid that an S3 user has on hosts."""

    uid: Final[int]
    gid: Final[int]


@dataclass(slots=True, unsafe_hash=True)
class Owner:
    """An S3 ``<Owner>``: the ID is what identity is keyed on, the name is for people."""

    id: Final[str]
    display_name: Final[str] = ""


@dataclass(slots=True, unsafe_hash=True)
class ObjectStat:
    """What a HEAD, a GET or one row of a listing says of an object.

    ``last_modified`` is seconds since the epoch. ``metadata`` holds the user metadata,
    keys in lower case without ``x-amz-meta-``; ``None`` where a listing did not give it.
    ``owner`` is ``None`` where the answer did not name one (HEAD never does in S3; the
    embedded store adds the header ``x-s3posixfs-owner``). ``etag`` has no quotes. ``headers``
    are those of :data:`KEPT_HEADERS` that the object has, ``None`` where a listing left them out.
    """

    key: Final[str]
    size: Final[int]
    etag: Final[str]
    last_modified: Final[float]
    owner: Final[Owner | None] = None
    metadata: Final[Mapping[str, str] | None] = None
    content_type: Final[str | None] = None
    storage_class: Final[str | None] = None
    headers: Final[Mapping[str, str] | None] = None


@dataclass(frozen=True, slots=True)
class BucketStat:
    """A bucket's name and its creation time in seconds since the epoch."""

    name: str
    created: float


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing: objects and common prefixes, each in S3's (UTF-8 byte) order."""

    objects: tuple[ObjectStat, ...]
    prefixes: tuple[str, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class PutResult:
    """The ETag (no quotes) the store gave, and when (0.0 where it did not say)."""

    etag: str
    last_modified: float = 0.0


@dataclass(frozen=True, slots=True)
class PartResult:
    """A part that was uploaded: its number (from 1), ETag without quotes and size in bytes."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint was found to do; probed once per endpoint.

    Defaults are the least that any S3 store does, so an unprobed store is safe.
    """

    conditional_put: bool = False  # If-None-Match: * and If-Match on PUT are honoured
    rename_object: bool = False  # RenameObject, owner and data unmoved
    rename_folder: bool = False  # all keys below a prefix in one step (the embedded store)
    listing_metadata: bool = False  # ListObjectsV2 metadata=true gives user metadata
    listing_owner: bool = True  # fetch-owner=true gives owners


# What belongs to an object besides its user metadata and type. A write of the object, and a copy
# that replaces its metadata, loses whatever of this is not sent again.
KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)

MIB = 1024 * 1024
MAX_KEY_BYTES = 1024
MIN_PART_BYTES = 5 * MIB
MAX_PART_BYTES = 5 * 1024 * MIB
MAX_PARTS = 10_000
MAX_OBJECT_BYTES = 5 * 1024 * 1024 * MIB
MAX_USER_METADATA_BYTES = 2048
