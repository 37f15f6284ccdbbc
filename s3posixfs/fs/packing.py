"""What is known of an inode in a tenth of the memory, for those that nobody asks for. No I/O.

An :class:`Entry` with its attributes, its object and their strings takes some 500 bytes. Packed it
is one bytes object: what many files have alike (mode, owner …) is kept once and numbered, an ETag
of 32 hex digits is 16 bytes, what follows from something else is a flag, and all that is rare
comes behind in ``marshal``'s form. What does not come out as it went in is not packed.
"""

from __future__ import annotations

import marshal
import stat
import struct
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

from s3posixfs.core.types import ObjectStat, Owner
from s3posixfs.fs.attributes import NS, Attributes, Entry

MOST_KINDS = 10_000

# flags, number of the kind, stamp, when it was fetched and last modified, size
_HEAD = struct.Struct("<HHHddq")
_ETAG_BYTES = 16
_STAMP = struct.Struct("<H")
_STAMP_AT = 4
STAMPS = 1 << 16

_HAS_STAT = 1
_ODD_KEY = 2
_HEX_ETAG = 4
_ODD_SIZE = 8  # that of the attributes is another one than the object's
_ODD_TIMES = 16
_NO_METADATA = 32
_ODD_METADATA = 64  # neither none nor empty
_NO_HEADERS = 128
_ODD_HEADERS = 256
_TOLD = 512  # the kernel has these attributes
_ODD_TOLD = 1024
_KEPT = 2048  # the kernel's pages are of this version
_ODD_KEPT = 4096
_ODD_KIND = 8192
_TIMES = 16384  # names_ns, renamed_ns

# What an inode holds beside its entry: attributes that the kernel was told, the ETag of the version
# that the kernel's pages are of, names_ns and renamed_ns.
Held = tuple[Attributes | None, str | None, int, int]
# mode, uid, gid, rdev, exact, writer, the owner's ID and name, type, storage class
_Text = str | None
_Kind = tuple[int, int, int, int, bool, _Text, _Text, _Text, _Text, _Text]


class Packer:
    """Packs, and remembers what many files have alike."""

    def __init__(self) -> None:
        self._kinds: list[tuple[_Kind, Owner | None]] = []
        self._numbers: dict[_Kind, int] = {}

    def pack(self, entry: Entry, held: Held, key: str | None, stamp: int) -> bytes | None:
        """``key`` is the one that the object has by the inode's name (a folder's without its
        slash), to be given again when it is unpacked. ``None`` where it is to stay as it is."""
        try:
            return self._pack(entry, held, key, stamp)
        except (struct.error, ValueError, TypeError, OverflowError):
            return None  # a number that is too large, a value of another type

    def _pack(self, entry: Entry, held: Held, key: str | None, stamp: int) -> bytes:
        attributes, found = entry.attributes, entry.stat
        told, kept, names_ns, renamed_ns = held
        mode, size, etag = attributes.mode, attributes.size, b""
        modified, modified_ns = 0.0, 0
        owner = owner_id = owner_name = content_type = storage_class = None
        flags, odd = 0, list[Any]()
        if found is not None:
            flags = _HAS_STAT
            owner, content_type, storage_class = (
                found.owner,
                found.content_type,
                found.storage_class,
            )
            if owner is not None:
                owner_id, owner_name = owner.id, owner.display_name
            modified, size = found.last_modified, found.size
            modified_ns = round(modified * NS)
            if found.key != _of_type(key, mode):
                flags |= _ODD_KEY
                odd.append(found.key)
            etag = _from_hex(found.etag)
            if etag:
                flags |= _HEX_ETAG
            else:
                odd.append(found.etag)
            if attributes.size != size:
                flags |= _ODD_SIZE
                odd.append(attributes.size)
            if found.metadata is None:
                flags |= _NO_METADATA
            elif found.metadata:
                flags |= _ODD_METADATA
                odd.append(dict(found.metadata))
            if found.headers is None:
                flags |= _NO_HEADERS
            elif found.headers:
                flags |= _ODD_HEADERS
                odd.append(dict(found.headers))
        if not modified_ns == attributes.mtime_ns == attributes.ctime_ns == attributes.atime_ns:
            flags |= _ODD_TIMES
            odd += (attributes.mtime_ns, attributes.atime_ns, attributes.ctime_ns)
        if told is attributes or told == attributes:
            flags |= _TOLD
        elif told is not None:
            flags |= _ODD_TOLD
            odd.append(astuple(told))
        if kept is not None:
            if found is not None and kept == found.etag:
                flags |= _KEPT
            else:
                flags |= _ODD_KEPT
                odd.append(kept)
        if names_ns or renamed_ns:
            flags |= _TIMES
            odd += (names_ns, renamed_ns)
        kind: _Kind = (
            mode,
            attributes.uid,
            attributes.gid,
            attributes.rdev,
            entry.exact,
            entry.writer,
            owner_id,
            owner_name,
            content_type,
            storage_class,
        )
        number = self._numbers.get(kind)
        if number is None:
            number = len(self._kinds)
            if number < MOST_KINDS:
                self._numbers[kind] = number
                self._kinds.append((kind, owner))
            else:
                flags |= _ODD_KIND
                odd.append(kind)
        head = _HEAD.pack(flags, number, stamp, entry.fetched_at, modified, size) + etag
        return head + marshal.dumps(odd) if odd else head

    def unpack(self, packed: bytes, key: str | None) -> tuple[Entry, Held]:
        """What was packed; ``key`` as it was then."""
        flags, number, _, fetched_at, modified, size = _HEAD.unpack_from(packed)
        at, etag = _HEAD.size, ""
        odd: Iterator[Any] = iter(())
        if flags & _HEX_ETAG:
            at += _ETAG_BYTES
            etag = packed[_HEAD.size : at].hex()
        if len(packed) > at:
            odd = iter(marshal.loads(packed[at:]))  # noqa: S302 - nobody but this process made it
        own_key, own_size, modified_ns, metadata, headers = "", size, 0, None, None
        if flags & _HAS_STAT:
            modified_ns = round(modified * NS)
            if flags & _ODD_KEY:
                own_key = next(odd)
            if not flags & _HEX_ETAG:
                etag = next(odd)
            if flags & _ODD_SIZE:
                own_size = next(odd)
            if not flags & _NO_METADATA:
                metadata = next(odd) if flags & _ODD_METADATA else {}
            if not flags & _NO_HEADERS:
                headers = next(odd) if flags & _ODD_HEADERS else {}
        mtime_ns = atime_ns = ctime_ns = modified_ns
        if flags & _ODD_TIMES:
            mtime_ns, atime_ns, ctime_ns = next(odd), next(odd), next(odd)
        told = Attributes(*next(odd)) if flags & _ODD_TOLD else None
        kept = etag if flags & _KEPT else None
        if flags & _ODD_KEPT:
            kept = next(odd)
        names_ns, renamed_ns = (next(odd), next(odd)) if flags & _TIMES else (0, 0)
        if flags & _ODD_KIND:
            kind: _Kind = next(odd)
            owner = Owner(kind[6], kind[7] or "") if kind[6] is not None else None
        else:
            kind, owner = self._kinds[number]
        mode, uid, gid, rdev, exact, writer, _, _, content_type, storage_class = kind
        attributes = Attributes(mode, uid, gid, own_size, mtime_ns, atime_ns, ctime_ns, rdev)
        if flags & _TOLD:
            told = attributes
        found = None
        if flags & _HAS_STAT:
            if not flags & _ODD_KEY:
                own_key = _of_type(key, mode)
            found = ObjectStat(
                own_key,
                size,
                etag,
                modified,
                owner,
                metadata,
                content_type,
                storage_class,
                headers,
            )
        entry = Entry(attributes, found, fetched_at, exact, writer)
        return entry, (told, kept, names_ns, renamed_ns)


def has_times(packed: bytes) -> bool:
    """Whether it has ``names_ns`` or ``renamed_ns``."""
    return bool((packed[0] | packed[1] << 8) & _TIMES)


def stamp_of(packed: bytes) -> int:
    """The stamp that it was packed with."""
    stamp: int = _STAMP.unpack_from(packed, _STAMP_AT)[0]
    return stamp


def _of_type(key: str | None, mode: int) -> str:
    """The key of a folder's marker has a slash."""
    return f"{key}/" if stat.S_ISDIR(mode) else key or ""


def _from_hex(etag: str) -> bytes:
    """The bytes of an ETag of 32 lower-case hex digits; of any other none."""
    if len(etag) != 2 * _ETAG_BYTES:
        return b""
    try:
        digits = bytes.fromhex(etag)
    except ValueError:
        return b""
    return digits if digits.hex() == etag else b""
