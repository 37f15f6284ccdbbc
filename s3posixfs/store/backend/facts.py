"""The bytes in which an object's S3 facts are kept, sealed so that only the store can make them.

Users own their files and may set their ``user.*`` attributes. Facts therefore carry a keyed
hash: what the store did not write itself counts as not there, and facts copied from another
user's file do not make that user the owner (the uid of the file is in them).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final

import msgpack

from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.records import (
    LOCAL_OWNER_PREFIX,
    BucketRecord,
    ObjectFacts,
    ObjectRecord,
)

SEAL_BYTES = 16
_NANOSECONDS = 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """Seconds as whole nanoseconds, the same for the same float."""
    return round(seconds * _NANOSECONDS)


@dataclass(slots=True, unsafe_hash=True)
class StoredFacts:
    """Facts as kept: with the state of the file that they speak of.

    ``size`` and ``mtime_ns`` are the file's when the facts were written: a file that differs was
    changed by a local program since. ``file_uid`` and ``file_gid`` are whose the file was, which
    differs from ``facts.owner`` when the store does not run as root. ``inode`` is 0 except in a
    sidecar. ``upload_id`` is the multipart upload that made the object.
    """

    facts: Final[ObjectFacts]
    size: Final[int]
    mtime_ns: Final[int]
    last_modified_ns: Final[int]
    file_uid: Final[int]
    file_gid: Final[int]
    inode: Final[int] = 0
    upload_id: Final[str] = ""


def pack_sizes(sizes: tuple[int, ...] | None) -> list[list[int]] | None:
    """Run lengths ``[count, size]``: ten thousand equal parts take a few bytes."""
    if sizes is None:
        return None
    runs: list[list[int]] = []
    for size in sizes:
        if runs and runs[-1][1] == size:
            runs[-1][0] += 1
        else:
            runs.append([1, size])
    return runs


def unpack_sizes(runs: list[list[int]] | None) -> tuple[int, ...] | None:
    """The inverse of :func:`pack_sizes`."""
    if runs is None:
        return None
    return tuple(size for count, size in runs for _ in range(count))


def pack_object_facts(facts: ObjectFacts) -> dict[str, Any]:
    """Facts as a msgpack-able map; empty fields are left out."""
    fields: dict[str, Any] = {
        "o": facts.owner_id,
        "u": facts.owner.uid,
        "g": facts.owner.gid,
        "e": facts.etag,
        "x": dict(facts.metadata),
        "h": dict(facts.headers),
        "c": dict(facts.checksums),
        "ct": facts.checksum_type,
        "p": pack_sizes(facts.part_sizes),
        "tg": dict(facts.tags),
        "pd": facts.part_digests,
    }
    return {name: value for name, value in fields.items() if value not in ({}, None, "", b"")}


def unpack_object_facts(fields: Mapping[str, Any]) -> ObjectFacts:
    """The inverse of :func:`pack_object_facts`."""
    return ObjectFacts(
        fields.get("o", ""),
        PosixOwner(fields["u"], fields["g"]),
        fields.get("e", ""),
        fields.get("x") or {},
        fields.get("h") or {},
        fields.get("c") or {},
        fields.get("ct"),
        unpack_sizes(fields.get("p")),
        fields.get("tg") or {},
        fields.get("pd") or b"",
    )


class FactsCodec:
    """Seals and opens facts with the store's key (32 bytes)."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "FactsCodec()"

    def seal(self, payload: bytes) -> bytes:
        """The payload with its keyed hash before it."""
        return self._hash(payload) + payload

    def open(self, sealed: bytes) -> bytes | None:
        """The payload, or None where the seal is not this store's."""
        payload = sealed[SEAL_BYTES:]
        wanted = self._hash(payload)
        return payload if compare_digest(sealed[:SEAL_BYTES], wanted) else None

    def _hash(self, payload: bytes) -> bytes:
        # Keyed BLAKE2b is a MAC by itself (RFC 7693), at half the time of HMAC-SHA256.
        return blake2b(payload, key=self._key, digest_size=SEAL_BYTES).digest()

    def pack(self, stored: StoredFacts) -> bytes:
        fields = pack_object_facts(stored.facts)
        fields["s"] = stored.size
        fields["m"] = stored.mtime_ns
        fields["t"] = stored.last_modified_ns
        fields["fu"] = stored.file_uid
        fields["fg"] = stored.file_gid
        if stored.inode:
            fields["i"] = stored.inode
        if stored.upload_id:
            fields["up"] = stored.upload_id
        return self.seal(msgpack.packb(fields))

    def unpack(self, sealed: bytes) -> StoredFacts | None:
        """The facts, or None where the store did not write them."""
        payload = self.open(sealed)
        if payload is None:
            return None
        fields = msgpack.unpackb(payload)
        return StoredFacts(
            unpack_object_facts(fields),
            fields["s"],
            fields["m"],
            fields["t"],
            fields["fu"],
            fields["fg"],
            fields.get("i", 0),
            fields.get("up", ""),
        )


def local_etag(stat: os.stat_result) -> str:
    """An ETag for a file whose bytes no one hashed; it changes when the file does.

    It ends in ``-1`` so that no client takes it for an MD5.
    """
    state = f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}".encode()
    return blake2b(state, digest_size=16).hexdigest() + "-1"


def local_owner_id(uid: int, user_of_uid: Callable[[int], str | None]) -> str:
    """The S3 user of a uid, or ``posix:UID``."""
    return user_of_uid(uid) or f"{LOCAL_OWNER_PREFIX}{uid}"


def object_record(
    key: str,
    stat: os.stat_result,
    stored: StoredFacts | None,
    user_of_uid: Callable[[int], str | None],
) -> ObjectRecord:
    """What a file is as an object: the facts as far as they still hold of it.

    A file that was given to another uid belongs to that uid's user; one whose bytes were changed
    by a local program gets another ETag and time, and loses its checksums and part sizes.
    """
    if stored is None:
        return ObjectRecord(
            key,
            stat.st_size,
            local_etag(stat),
            stat.st_mtime_ns / _NANOSECONDS,
            local_owner_id(stat.st_uid, user_of_uid),
            PosixOwner(stat.st_uid, stat.st_gid),
        )
    facts = stored.facts
    owner_id, owner = facts.owner_id, facts.owner
    if stored.file_uid != stat.st_uid:
        owner_id = local_owner_id(stat.st_uid, user_of_uid)
        owner = PosixOwner(stat.st_uid, stat.st_gid)
    elif stored.file_gid != stat.st_gid:
        owner = PosixOwner(owner.uid, stat.st_gid)
    if stored.size != stat.st_size or stored.mtime_ns != stat.st_mtime_ns:
        return ObjectRecord(
            key,
            stat.st_size,
            local_etag(stat),
            stat.st_mtime_ns / _NANOSECONDS,
            owner_id,
            owner,
            facts.metadata,
            facts.headers,
            tags=facts.tags,
        )
    return ObjectRecord(
        key,
        stat.st_size,
        facts.etag,
        stored.last_modified_ns / _NANOSECONDS,
        owner_id,
        owner,
        facts.metadata,
        facts.headers,
        facts.checksums,
        facts.checksum_type,
        facts.part_sizes,
        facts.tags,
        facts.part_digests,
    )


def marker_record(
    key: str,
    stat: os.stat_result,
    stored: StoredFacts,
    user_of_uid: Callable[[int], str | None],
) -> ObjectRecord:
    """What a directory with facts is as an object: empty, whatever lies in it."""
    facts = stored.facts
    owner_id, owner = facts.owner_id, facts.owner
    if stored.file_uid != stat.st_uid:
        owner_id = local_owner_id(stat.st_uid, user_of_uid)
        owner = PosixOwner(stat.st_uid, stat.st_gid)
    return ObjectRecord(
        key,
        0,
        facts.etag,
        stored.last_modified_ns / _NANOSECONDS,
        owner_id,
        owner,
        facts.metadata,
        facts.headers,
        facts.checksums,
        facts.checksum_type,
        facts.part_sizes,
        facts.tags,
        facts.part_digests,
    )


def bucket_record(
    name: str,
    stat: os.stat_result,
    stored: StoredFacts | None,
    user_of_uid: Callable[[int], str | None],
) -> BucketRecord:
    """A bucket from its directory; one made by hand belongs to the user of its uid."""
    owner = PosixOwner(stat.st_uid, stat.st_gid)
    if stored is None:
        owner_id = local_owner_id(stat.st_uid, user_of_uid)
        return BucketRecord(name, stat.st_mtime_ns / _NANOSECONDS, owner_id, owner)
    owner_id = stored.facts.owner_id
    if stored.file_uid == stat.st_uid:
        owner = stored.facts.owner
    else:
        owner_id = local_owner_id(stat.st_uid, user_of_uid)
    return BucketRecord(name, stored.last_modified_ns / _NANOSECONDS, owner_id, owner)
