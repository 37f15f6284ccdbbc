"""What ``s3posixfs doctor`` looks at among files: options, identities, credentials, the cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from s3posixfs.cli.findings import Finding, failed
from s3posixfs.cli.mount_options import MountOptions, split_commas
from s3posixfs.cli.mount_request import DEFAULT_IDENTITIES, optional_path
from s3posixfs.cli.mountpoints import default_cache_folder
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import MIB
from s3posixfs.data.journal import Journal
from s3posixfs.data.journal_records import SEGMENT_HEADER, decode_header, decode_record

_LITTLE_SPACE = 1024 * MIB  # bytes free, below which a large file may not fit
_GROUP_OR_OTHERS_WRITE = 0o022
_GROUP_OR_OTHERS = 0o077


def about_config(comma_lists: Sequence[str]) -> Iterator[Finding]:
    """The file that ``-o config=FILE`` names; what it says is the options' to check."""
    for name, text in split_commas(comma_lists):
        if name == "config" and text and os.path.exists(text):
            yield _unwritable(f"config {text}", Path(text)) or Finding(
                f"config {text}", "ok", "only its owner can change it"
            )


def _unwritable(subject: str, path: Path) -> Finding | None:
    """What is wrong where others than root and this user may change a file."""
    status = path.stat()
    if status.st_mode & _GROUP_OR_OTHERS_WRITE:
        found = f"mode {stat.S_IMODE(status.st_mode):04o}: others can change it"
        return Finding(subject, "failed", found, f"chmod go-w {path}")
    if status.st_uid not in (0, os.geteuid()):
        found = f"uid {status.st_uid} owns it and can change it"
        return Finding(subject, "warning", found, f"chown root {path}")
    return None


def about_identities(options: MountOptions) -> Iterator[Finding]:
    """The identity file: there, safe, and free of mistakes."""
    from s3posixfs.identity.map import examine_identities

    given = options.text("identities")
    subject = "identities"
    if given == "auto":
        yield Finding(subject, "ok", "asked of the store (auto)")
        return
    path = Path(given) if given is not None else DEFAULT_IDENTITIES
    if given is None and not path.exists():
        yield Finding(
            subject,
            "warning",
            f"{path} does not exist: every object belongs to the mount's uid",
            "write it, or mount with identities=auto where the store is s3posixfs",
        )
        return
    try:
        identities, problems = examine_identities(path.read_text(encoding="utf-8"), str(path))
        unsafe = _unwritable(subject, path)
    except OSError as error:
        yield Finding(subject, "failed", f"{path}: {error.strerror}", "make it readable")
        return
    except UnicodeDecodeError:
        yield Finding(subject, "failed", f"{path} is not UTF-8 text", "save it as UTF-8")
        return
    except OperatorError as error:
        yield failed(subject, error)
        return
    if unsafe is not None:
        yield unsafe
    # Duplicates, and names that the host does not know, are among these.
    yield from (failed(subject, problem) for problem in problems)
    if not problems:
        yield Finding(subject, "ok", f"{len(identities)} in {path}")


def about_credentials_file(path: Path) -> Finding | None:
    """What is wrong with a file that holds secrets; ``None`` where nothing is."""
    try:
        status = path.stat()
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if mode & _GROUP_OR_OTHERS:
        found = f"mode {mode:04o}: others can read or change the secrets in it"
        return Finding(f"file {path}", "warning", found, f"chmod 600 {path}")
    return None


def about_cache(options: MountOptions) -> Iterator[Finding]:
    """``cache_dir``; without that option the folders of all mounts at its usual place."""
    given = optional_path(options.text("cache_dir"))
    if given is not None:
        yield from _one_cache(given, options)
        return
    base = default_cache_folder(Path("/"), "").parent
    yield from _space(base, options)
    if not os.access(base, os.R_OK):
        return
    for folder in sorted(base.iterdir()):
        # Of other mounts only what nobody uploads matters here.
        if (folder / "lock").exists() and _holder(folder) is None:
            yield from _pending(folder)


def _one_cache(folder: Path, options: MountOptions) -> Iterator[Finding]:
    subject = f"cache_dir {folder}"
    if folder.exists():
        status = folder.stat()
        if status.st_uid != os.geteuid():
            yield Finding(
                subject,
                "failed",
                f"belongs to uid {status.st_uid}, and it will hold all users' data",
                "give a folder of the user who mounts",
            )
            return
        if status.st_mode & _GROUP_OR_OTHERS_WRITE:
            found = f"mode {stat.S_IMODE(status.st_mode):04o}: others can write to it"
            yield Finding(subject, "failed", found, f"chmod 700 {folder}")
            return
    yield from _space(folder, options)
    holder = _holder(folder)
    if holder is not None:
        found = f"in use by the mount of process {holder}, and no second one may use it"
        yield Finding(subject, "note", found)
    yield from _pending(folder, uploads=holder is not None)


def _space(folder: Path, options: MountOptions) -> Iterator[Finding]:
    subject = f"cache_dir {folder}"
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        remedy = "give cache_dir=FOLDER that this user may write to"
        yield Finding(subject, "failed", f"{there} is not writable", remedy)
        return
    free = shutil.disk_usage(there).free
    text = f"{free / (1024 * MIB):,.1f} GiB free"
    needed = options.whole("writeback_limit") if options.flag("writeback") else _LITTLE_SPACE
    if free < needed:
        found = f"{text}, and as much as {needed / (1024 * MIB):,.1f} GiB may be staged there"
        remedy = "make room, or name a larger disk with cache_dir (or a smaller writeback_limit)"
        yield Finding(subject, "warning", found, remedy)
    else:
        yield Finding(subject, "ok", f"writable, {text}")


def _holder(folder: Path) -> str | None:
    """The process that uses a cache folder; ``None`` where nobody does."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, so that two who look do not take each other for a mount.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None


def _pending(folder: Path, *, uploads: bool = False) -> Iterator[Finding]:
    try:
        count = owed(folder)
    except OSError as error:
        yield Finding(
            f"cache_dir {folder}", "warning", f"its journal: {error.strerror}", "run this as root"
        )
        return
    if not count:
        return
    found = f"{count} files in its journal are not in S3 yet"
    if uploads:
        yield Finding(f"cache_dir {folder}", "note", f"{found}; its mount uploads them")
    else:
        remedy = f"mount what they belong to with writeback=on,cache_dir={folder}"
        yield Finding(f"cache_dir {folder}", "warning", found, remedy)


def owed(folder: Path) -> int:
    """How many files the journal in a cache folder owes to S3. It is read, and left as it is."""
    entries: set[int] = set()
    expected: int | None = None
    for number in Journal.numbers(folder / "journal"):
        data = memoryview((folder / "journal" / f"{number:016d}.log").read_bytes())
        if decode_header(data) != number:
            continue
        offset = SEGMENT_HEADER.size
        while (found := decode_record(data, number, offset, expected)) is not None:
            record, offset = found
            expected = record.sequence + 1
            entries.update(state.entry for state in record.states)
            entries.difference_update(record.gone)
    return len(entries)
