"""What a mount was asked to be; the values of its ``-o`` options that the filesystem heeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Access = Literal["both", "posix", "s3"]
SignAs = Literal["caller", "daemon"]
Unmapped = Literal["daemon", "deny"]
AttributesFrom = Literal["head", "listing"]
Conflict = Literal["keep-both", "fail", "last-writer"]

# A directory that nobody made says nothing about who may write into it. Where S3's policy
# decides too it is left to that policy. What is in it stays its owners' all the same, as in a
# sticky directory, but without that bit: Linux forbids even root to write to others' files with
# O_CREAT there, and others to follow symlinks (fs.protected_regular, fs.protected_symlinks).
OPEN_DIRECTORY = 0o777
CLOSED_DIRECTORY = 0o755
# Seconds, see FsConfig.absence_ttl and new_folder_ttl.
MOST_ABSENCE = 0.005
NEW_FOLDER = 0.25


@dataclass(frozen=True, slots=True)
class FsConfig:
    """``bucket`` ``None`` shows all buckets as top-level folders; ``prefix`` is empty or ends
    with a slash. ``uid`` and ``gid`` own what has no known owner. Modes are permission bits;
    ``dir_mode`` ``None`` chooses by ``access``. Times to live are in seconds.
    """

    bucket: str | None = None
    prefix: str = ""
    uid: int = 65534
    gid: int = 65534
    file_mode: int = 0o644
    dir_mode: int | None = None
    metadata_ttl: float = 1.0
    # Where listings carry no metadata: each object is asked for its own, or its row is taken as
    # it is (a plain file of its S3 owner) until somebody opens or changes it.
    attributes: AttributesFrom = "head"
    access: Access = "both"
    access_ttl: float = 5.0
    sign_as: SignAs = "caller"
    unmapped: Unmapped = "daemon"
    read_only: bool = False
    trusted_owners: frozenset[str] = frozenset()  # S3 owner IDs; "*" trusts all of them
    known_metadata: int = 100_000  # versions whose metadata is remembered
    listed_entries: int = 200_000  # entries kept in cached listings
    cached_entries: int = 1_000_000  # names in memory, 0: as many as the kernel remembers
    request_deadline: float = 60.0  # for a handler that moves no file data
    transfer_deadline: float = 3600.0  # for one that may move a whole file or folder
    parallel_requests: int = 16  # of one rename of a folder
    writeback_limit: int = 10 * 1024**3  # bytes that wait for their upload, with writeback
    conflict: Conflict = "keep-both"  # of an object that others changed meanwhile

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash")
        if self.prefix and self.bucket is None:
            raise ValueError("a prefix needs a bucket")

    @property
    def unowned_dir_mode(self) -> int:
        """Permission bits of a directory with no marker and of a bucket."""
        if self.dir_mode is not None:
            return self.dir_mode
        return CLOSED_DIRECTORY if self.access == "posix" else OPEN_DIRECTORY

    @property
    def absence_ttl(self) -> float:
        """Seconds for which a name that was not there is taken to be missing.

        A program that makes a file asks for its name twice at once. It is no longer than that:
        who puts an object through S3 and then looks for it here is to find it.
        """
        return min(self.metadata_ttl, MOST_ABSENCE)

    @property
    def new_folder_ttl(self) -> float:
        """Seconds for which a folder that this mount made holds nothing but what came by it."""
        return min(self.metadata_ttl, NEW_FOLDER)

    @property
    def owned_dir_mode(self) -> int:
        """Permission bits of a directory whose marker has an owner but no mode."""
        return self.dir_mode if self.dir_mode is not None else CLOSED_DIRECTORY

    def is_nobodys(self, uid: int, mode: int) -> bool:
        """Whether a directory shown with this uid and mode has no owner, unless its metadata says
        ``MADE``: only who owns an entry may take it away."""
        open_to_all = self.dir_mode is None and mode & 0o7777 == OPEN_DIRECTORY
        return open_to_all and uid == self.uid

    @property
    def posix_decides(self) -> bool:
        """Whether owner, group and mode can refuse."""
        return self.access != "s3"

    @property
    def s3_decides(self) -> bool:
        """Whether S3's policy in the caller's name can refuse reading."""
        return self.access != "posix"
