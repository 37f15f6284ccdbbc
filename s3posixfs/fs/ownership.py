"""Who owns a file: proven by the object's S3 owner, never claimed by its metadata.

In order: POSIX metadata, if the S3 owner is trusted to say so; the owner's identity in the map;
the mount's ``uid`` and ``gid``. Of untrusted owners permission bits and times are taken, a gid
when that user is in the group on this host; never a uid, setuid, a device, and setgid only on
folders in such a group.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import replace

from s3posixfs.core.types import ObjectStat, PosixOwner
from s3posixfs.fs.attributes import MAX_TARGET_BYTES, NS, PERMISSIONS, Attributes
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.metadata import NOTHING, PosixMetadata, decode
from s3posixfs.fs.signers import Signer, Signers

_ANYONES_TYPES = frozenset({stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK})
_TRUSTED_TYPES = _ANYONES_TYPES | {stat.S_IFBLK, stat.S_IFCHR}

GroupMember = Callable[[int, int], bool]  # uid, gid: whether that user is in that group


def alike(one: Attributes, other: Attributes) -> bool:
    """Whether two files have the same owner, group and mode."""
    return (one.uid, one.gid, one.mode) == (other.uid, other.gid, other.mode)


class OwnershipRules:
    """Turns what S3 says of an object into what stat(2) shows. ``member`` answers at once."""

    def __init__(self, config: FsConfig, signers: Signers, member: GroupMember) -> None:
        self._config = config
        self._signers = signers
        self._member = member
        self._default = PosixOwner(config.uid, config.gid)

    def trusts(self, owner_id: str | None) -> bool:
        """Whether metadata of this owner's objects states ownership."""
        trusted = self._config.trusted_owners
        if "*" in trusted:
            return True
        return owner_id is not None and (owner_id in trusted or self._signers.trusts(owner_id))

    def _owner(self, owner_id: str | None) -> PosixOwner | None:
        if owner_id is None:
            return None
        identity = self._signers.identity_map().by_owner_id(owner_id)
        return identity.owner if identity is not None else None

    def file(self, found: ObjectStat, metadata: Mapping[str, str] | None) -> Attributes:
        """Attributes of an object that is not a directory's marker."""
        stated = decode(metadata) if metadata is not None else NOTHING
        owner_id = found.owner.id if found.owner is not None else None
        trusted = self.trusts(owner_id)
        kind = stat.S_IFMT(stated.mode) if stated.mode is not None else 0
        types = _TRUSTED_TYPES if trusted else _ANYONES_TYPES
        if kind not in types or found.size > MAX_TARGET_BYTES:
            kind = stat.S_IFREG
        permissions = stat.S_IMODE(stated.mode) if stated.mode is not None else None
        if kind == stat.S_IFLNK:
            permissions = 0o777
        elif permissions is None:
            permissions = self._config.file_mode
        size = found.size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0
        owned = self._owned(kind | permissions, stated, self._owner(owner_id), trusted)
        times = _times(stated, round(found.last_modified * NS))
        return Attributes(*owned, size, *times, stated.rdev or 0)

    def directory(
        self,
        marker: ObjectStat | None,
        metadata: Mapping[str, str] | None,
        *,
        seen_ns: int,
    ) -> Attributes:
        """Attributes of a directory with this marker object, or with none.

        ``seen_ns`` is its time where there is no marker: ns since the epoch.
        """
        if marker is None:
            mode = stat.S_IFDIR | self._config.unowned_dir_mode
            config = self._config
            return Attributes(mode, config.uid, config.gid, 0, seen_ns, seen_ns, seen_ns)
        stated = decode(metadata) if metadata is not None else NOTHING
        owner_id = marker.owner.id if marker.owner is not None else None
        trusted = self.trusts(owner_id)
        owner = self._owner(owner_id)
        if stated.mode is not None:
            permissions = stat.S_IMODE(stated.mode)
        elif owner is None:
            permissions = self._config.unowned_dir_mode
        else:
            permissions = self._config.owned_dir_mode
        owned = self._owned(stat.S_IFDIR | permissions, stated, owner, trusted)
        return Attributes(*owned, 0, *_times(stated, round(marker.last_modified * NS)))

    def _owned(
        self, mode: int, stated: PosixMetadata, owner: PosixOwner | None, trusted: bool
    ) -> tuple[int, int, int]:
        """Mode, uid and gid."""
        default = owner or self._default
        if trusted:
            uid = stated.uid if stated.uid is not None else default.uid
            gid = stated.gid if stated.gid is not None else default.gid
            return mode, uid, gid
        gid = stated.gid if owner is not None and stated.gid is not None else default.gid
        mode, gid = self._restricted(mode, gid, owner)
        return mode, default.uid, gid

    def _restricted(self, mode: int, gid: int, owner: PosixOwner | None) -> tuple[int, int]:
        """Mode and gid that are left of the wish of an owner who is not trusted."""
        mode &= ~stat.S_ISUID
        if owner is None:
            mode &= ~stat.S_ISGID
        elif gid != owner.gid and not self._member(owner.uid, gid):
            gid = owner.gid
            mode &= ~stat.S_ISGID
        if not stat.S_ISDIR(mode):
            mode &= ~stat.S_ISGID
        if stat.S_IFMT(mode) in (stat.S_IFBLK, stat.S_IFCHR):
            mode = stat.S_IFREG | (mode & PERMISSIONS)
        return mode, gid

    def keeps(self, wanted: Attributes, signer: Signer) -> bool:
        """Whether a file that ``signer`` writes will have this owner, group and mode."""
        return alike(wanted, self.settle(wanted, signer))

    def settle(self, wanted: Attributes, signer: Signer) -> Attributes:
        """How a file that ``signer`` writes with these attributes will look when read again."""
        if signer.trusted:
            return wanted
        owner = signer.owner
        default = owner or self._default
        gid = wanted.gid if owner is not None else default.gid
        mode, gid = self._restricted(wanted.mode, gid, owner)
        return replace(wanted, mode=mode, uid=default.uid, gid=gid)


def _times(stated: PosixMetadata, modified_ns: int) -> tuple[int, int, int]:
    """mtime, atime and ctime, in ns since the epoch."""
    mtime = stated.mtime_ns if stated.mtime_ns is not None else modified_ns
    return (
        mtime,
        stated.atime_ns if stated.atime_ns is not None else mtime,
        stated.ctime_ns if stated.ctime_ns is not None else modified_ns,
    )
