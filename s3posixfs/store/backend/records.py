"""What the backend hands out and takes in. All frozen; none does I/O.

Sizes are bytes, times are seconds since the epoch, ETags have no quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from s3posixfs.core.types import PosixOwner

# The owner of a local file whose uid belongs to no S3 user is "posix:UID"; a colon is not
# allowed in user names, so it can never be taken for one.
LOCAL_OWNER_PREFIX = "posix:"

# The response headers that are kept with an object, as keys of ``headers``.
KEPT_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)


@dataclass(slots=True, unsafe_hash=True)
class ObjectFacts:
    """What S3 knows of an object besides its key, its bytes and its time.

    ``etag`` may be empty where the backend keeps or derives it (copy, set_metadata, multipart).
    ``checksums`` maps an algorithm (``crc32c``) to base64; a composite value ends in ``-N``.
    ``checksum_type`` is ``FULL_OBJECT`` or ``COMPOSITE``. ``part_sizes`` are the sizes of the
    parts of a multipart object, in order; ``part_digests`` their checksums one after another,
    as bytes, where the whole's is ``COMPOSITE`` of them.
    """

    owner_id: Final[str]
    owner: Final[PosixOwner]
    etag: Final[str] = ""
    metadata: Final[Mapping[str, str]] = field(default_factory=dict)
    headers: Final[Mapping[str, str]] = field(default_factory=dict)
    checksums: Final[Mapping[str, str]] = field(default_factory=dict)
    checksum_type: Final[str | None] = None
    part_sizes: Final[tuple[int, ...] | None] = None
    tags: Final[Mapping[str, str]] = field(default_factory=dict)
    part_digests: Final[bytes] = b""


@dataclass(slots=True, unsafe_hash=True)
class ObjectRecord:
    """An object as it is stored.

    ``owner_id`` is the S3 user's name, or ``posix:UID`` for a local file of a uid that belongs
    to no user. ``owner`` is who the file belongs to on this host. ``rows`` is for listings: what
    this record looks like there, by the kind of row, written once for as long as it is kept.
    """

    key: Final[str]
    size: Final[int]
    etag: Final[str]
    last_modified: Final[float]
    owner_id: Final[str]
    owner: Final[PosixOwner]
    metadata: Final[Mapping[str, str]] = field(default_factory=dict)
    headers: Final[Mapping[str, str]] = field(default_factory=dict)
    checksums: Final[Mapping[str, str]] = field(default_factory=dict)
    checksum_type: Final[str | None] = None
    part_sizes: Final[tuple[int, ...] | None] = None
    tags: Final[Mapping[str, str]] = field(default_factory=dict)
    part_digests: Final[bytes] = b""
    rows: Final[dict[str, str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def facts(self) -> ObjectFacts:
        """The facts alone, to be changed with :func:`dataclasses.replace` and stored again."""
        return ObjectFacts(
            owner_id=self.owner_id,
            owner=self.owner,
            etag=self.etag,
            metadata=self.metadata,
            headers=self.headers,
            checksums=self.checksums,
            checksum_type=self.checksum_type,
            part_sizes=self.part_sizes,
            tags=self.tags,
            part_digests=self.part_digests,
        )


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """A bucket: its name, when it was made and the S3 user it belongs to."""

    name: str
    created: float
    owner_id: str
    owner: PosixOwner


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the present object for a write to happen.

    ``if_match`` is an ETag without quotes, or ``*`` for any object; ``if_none_match`` asks that
    there be no object (``If-None-Match: *``). ``size`` and ``last_modified`` must be those of the
    object if there is one; a time of whole seconds is compared as such.
    """

    if_match: str | None = None
    if_none_match: bool = False
    size: int | None = None
    last_modified: float | None = None


ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class Listing:
    """One page: objects and common prefixes, each in UTF-8 byte order.

    ``next_after`` is the ``start_after`` of the next page (the last key or prefix of this one);
    empty when the page is empty.
    """

    objects: tuple[ObjectRecord, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_after: str


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A multipart upload in progress; ``facts`` are those the object will have."""

    bucket: str
    key: str
    upload_id: str
    initiated: float
    facts: ObjectFacts
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


@dataclass(frozen=True, slots=True)
class PartRecord:
    """An uploaded part.

    ``offset`` is where it is in the file that many parts share; ``None``: in a file of its own.
    ``edited`` says that it is the file of copied parts, at the places of their source.
    """

    number: int
    etag: str
    size: int
    last_modified: float
    checksums: Mapping[str, str] = field(default_factory=dict)
    offset: int | None = None
    edited: bool = False


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """A part as CompleteMultipartUpload names it; given checksums must match the part's."""

    number: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartsPage:
    """One page of ListParts. ``next_marker`` is the last part number of the page."""

    parts: tuple[PartRecord, ...]
    truncated: bool
    next_marker: int


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """One page of ListMultipartUploads, by key and then by time of initiation."""

    uploads: tuple[UploadRecord, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_key_marker: str
    next_upload_id_marker: str
