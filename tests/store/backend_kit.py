"""What the backend's tests share: a backend below a directory, and puts in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

from s3posixfs.core.clock import Clock, OffsetClock
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import ALWAYS, Condition, ObjectFacts, ObjectRecord

BUCKET = "bucket"
ALICE = PosixOwner(1001, 1001)
BOB = PosixOwner(1002, 1002)
USERS = {0: "admin", 1001: "alice", 1002: "bob"}


def backend_at(
    root: Path,
    *,
    xattrs: bool | None = None,
    clock: Clock | None = None,
    min_part_bytes: int = 10,
    bucket: bool = True,
) -> DirectoryBackend:
    backend = DirectoryBackend(
        root,
        user_of_uid=USERS.get,
        clock=clock or OffsetClock(),
        min_part_bytes=min_part_bytes,
        xattrs=xattrs,
    )
    if bucket and not (root / BUCKET).exists():
        backend.create_bucket(BUCKET, "alice", ALICE)
    return backend


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def facts_of(
    data: bytes = b"",
    *,
    owner_id: str = "alice",
    owner: PosixOwner = ALICE,
    metadata: dict[str, str] | None = None,
) -> ObjectFacts:
    return ObjectFacts(
        owner_id,
        owner,
        etag=md5(data),
        metadata=metadata or {},
        headers={"content-type": "text/plain"},
        checksums={"crc32": "AAAAAA=="},
        checksum_type="FULL_OBJECT",
    )


def put(
    backend: DirectoryBackend,
    key: str,
    data: bytes = b"data",
    facts: ObjectFacts | None = None,
    condition: Condition = ALWAYS,
) -> ObjectRecord:
    with backend.begin_put(BUCKET, key) as pending:
        pending.write(data)
        return pending.commit(facts or facts_of(data), condition)


def read(backend: DirectoryBackend, key: str) -> bytes:
    with backend.open_object(BUCKET, key) as opened:
        if opened.fd < 0:
            return b""
        with open(opened.fd, "rb", closefd=False) as file:
            return file.read()


def keys(backend: DirectoryBackend) -> list[str]:
    """All keys, by pages of 7."""
    found: list[str] = []
    after = ""
    while True:
        page = backend.list(BUCKET, start_after=after, max_keys=7)
        found += [record.key for record in page.objects]
        if not page.truncated:
            return found
        after = page.next_after


# Keys that a POSIX path can't hold, or that get in each other's way.
NASTY = [
    "a",
    "a/",
    "a/b",
    "a/b/",
    "a/b/c",
    "a!",
    "a0",
    "a//",
    "a//b",
    "/",
    "//",
    "/a",
    ".",
    "..",
    "../../etc/passwd",
    "a/../b",
    "a/./b",
    "./",
    ".~s3~",
    ".~s3~oa",
    ".~s3~d",
    ".~s3~/x",
    ".s3posixfs/seal-key",
    "%00",
    "%",
    "nul\0in",
    "\0",
    "line\nbreak",
    "tab\t",
    "\x7f",
    "ü/é",
    "\U0001f600",
    "￿",
    "x" * 255,
    "x" * 256,
    "x" * 1024,
    "x" * 250 + "/y",
    "é" * 130,
    "é" * 130 + "/" + "z" * 300,
    "%" * 200,
    "a" * 255 + "/" + "b" * 255,
    "a" * 255,
]
