"""``s3posixfs user update --reown``: a user's existing objects get its POSIX ids of now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError, S3Error

if TYPE_CHECKING:
    from s3posixfs.core.types import PosixOwner
    from s3posixfs.store.backend.directory import DirectoryBackend
    from s3posixfs.store.backend.records import ObjectRecord
    from s3posixfs.store.state import State

# What the running store began before it saw the change ends while the first pass goes on.
_MOST_PASSES = 5


@dataclass(slots=True)
class Reowned:
    """How much was given to its owner anew; ``complete``: at last there was nothing left."""

    objects: int = 0
    folders: int = 0
    buckets: int = 0
    uploads: int = 0
    complete: bool = False

    @property
    def total(self) -> int:
        return self.objects + self.folders + self.buckets + self.uploads


def check_root(root: Path) -> None:
    """OperatorError unless ``root`` is a store's, and this process may change it as the store."""
    internal = root / ".s3posixfs"
    try:
        there = (internal / "seal-key").exists()
        owner = internal.stat().st_uid if there else -1
    except PermissionError:
        there, owner = True, -1
    except OSError:
        there = False
    if not there:
        raise OperatorError(f"{root} is no store's folder of objects: give that of `serve --root`")
    if owner != os.geteuid():
        raise OperatorError(f"the objects in {root} are another user's: run as who runs the store")


def reown_objects(state: State, name: str, root: Path) -> Reowned:
    """Give all objects of a user to its POSIX ids, with a bar on a terminal's standard error.

    The store may be running: each object is changed under its lock. Passes go on until one
    finds nothing. One that is interrupted is taken up by the next call.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from s3posixfs.store.backend.directory import DirectoryBackend

    check_root(root)
    owner = state.user(name).owner
    left = state.left_owners(name)
    uids = {old.uid for old in left}

    def user_of_uid(uid: int) -> str | None:
        known = state.user_of_uid(uid)
        return name if known is None and uid in uids else known

    done = Reowned()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        closing(DirectoryBackend(root, user_of_uid=user_of_uid, clock=SystemClock())) as backend,
        Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        ) as progress,
    ):
        buckets = [bucket.name for bucket in backend.list_buckets()]
        task = progress.add_task("counting objects", total=None)
        total = sum(1 for bucket in buckets for _ in _objects(backend, bucket))
        for number in range(_MOST_PASSES):
            before = done.total
            progress.reset(task, total=total, description="again" if number else "giving objects")
            for bucket in buckets:
                for record in _bucket(backend, bucket, name, owner, left, done):
                    progress.advance(task, 1 if record else 0)
            if done.total == before:
                # Each object's own fsync would take most of the time; a crash before this one
                # leaves the old ids noted in the state, and the next call begins anew.
                os.sync()
                state.finish_reown(name)
                done.complete = True
                break
    return done


def _bucket(
    backend: DirectoryBackend,
    bucket: str,
    name: str,
    owner: PosixOwner,
    left: tuple[PosixOwner, ...],
    done: Reowned,
) -> Iterator[ObjectRecord]:
    reowning = backend.reowning
    try:
        done.buckets += reowning.bucket(bucket, name, owner)
        done.uploads += reowning.uploads(bucket, name, owner)
    except S3Error as error:
        if error.code != "NoSuchBucket":
            raise
        return
    above: list[str] = []
    for record in _objects(backend, bucket):
        # The second is what a pass that was cut short left behind, or another user's.
        if record.owner_id == name or record.owner.uid == owner.uid:
            done.objects += reowning.object(bucket, record.key, name, owner)
        folders = _folders(record.key)
        for depth, folder in enumerate(folders):
            if depth >= len(above) or above[depth] != folder:
                done.folders += reowning.folder(bucket, folder, left, owner)
        above = folders
        yield record


def _objects(backend: DirectoryBackend, bucket: str) -> Iterator[ObjectRecord]:
    """All objects of a bucket; none once the bucket is gone."""
    after = ""
    while True:
        try:
            page = backend.list(bucket, start_after=after)
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            return
        yield from page.objects
        if not page.truncated:
            return
        after = page.next_after


def _folders(key: str) -> list[str]:
    """The prefixes above a key that end in a slash, the shortest first."""
    return [key[: index + 1] for index, character in enumerate(key) if character == "/"]
