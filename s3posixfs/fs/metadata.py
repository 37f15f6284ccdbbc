"""POSIX attributes as user metadata: three dialects are read, s3fs-fuse's is written.

s3fs-fuse and geesefs: ``uid gid mode mtime atime ctime rdev`` (ids and mode decimal, times in
seconds with up to nine decimals). AWS (S3 Files, FSx, DataSync, File Gateway): ``file-owner
file-group file-permissions file-mtime file-atime`` (permissions octal, times in ns with the
suffix ``ns``, else in ms). rclone: ``mode`` octal, ``rdev`` hexadecimal, times in seconds or
RFC 3339.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from s3posixfs.fs.attributes import NS, Attributes

MAX_ID = 2**32 - 2  # (uid_t) -1 means "leave it" in chown(2)
MAX_TIME_NS = 2**63 - 1

_FILE_TYPES = frozenset(
    {
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFBLK,
        stat.S_IFCHR,
    }
)
_DEVICES = frozenset({stat.S_IFBLK, stat.S_IFCHR})
_AWS_KEYS = ("file-owner", "file-group", "file-permissions", "file-mtime", "file-atime")
_SECONDS = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9})\d*)?")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_DIGITS = re.compile(r"\d{1,20}")
_HEX = re.compile(r"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class PosixMetadata:
    """What an object's metadata says of itself; ``None`` where it says nothing sensible.

    ``mode`` has a file type only where the metadata names one. Nothing here is proven: see
    :mod:`s3posixfs.fs.ownership`.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    ctime_ns: int | None = None
    rdev: int | None = None


NOTHING = PosixMetadata()

# On a folder that looks like one that nobody made (``FsConfig.is_nobodys``): somebody wanted it so.
MADE = {"s3posixfs-made": "1"}


def _valid_mode(value: int) -> bool:
    return value <= 0o177777 and stat.S_IFMT(value) in _FILE_TYPES


def _octal(text: str) -> int | None:
    return int(text, 8) if all(digit in "01234567" for digit in text) else None


def parse_mode(text: str | None) -> int | None:
    """A mode in decimal (s3fs) or octal (rclone): whichever has a valid file type.

    Where both have one it is decimal; where none has, up to four octal digits are permissions.
    """
    if text is None or not _DIGITS.fullmatch(text):
        return None
    octal = _octal(text)
    decimal = int(text)
    if not text.startswith("0") and _valid_mode(decimal):
        return decimal
    if octal is not None and (_valid_mode(octal) or octal <= 0o7777):
        return octal
    return decimal if decimal <= 0o7777 else None


def parse_permissions(text: str | None) -> int | None:
    """AWS's ``file-permissions``: octal, with a file type or without, with a leading 0 or not."""
    if text is None or not _DIGITS.fullmatch(text):
        return None
    octal = _octal(text)
    if octal is None or not (_valid_mode(octal) or octal <= 0o7777):
        return None
    return octal


def parse_id(text: str | None) -> int | None:
    """A uid or gid in decimal."""
    if text is None or not _DIGITS.fullmatch(text):
        return None
    value = int(text)
    return value if value <= MAX_ID else None


def _bounded(value: int) -> int | None:
    return value if abs(value) <= MAX_TIME_NS else None


def parse_time(text: str | None) -> int | None:
    """Seconds with decimals, or RFC 3339: ns since the epoch."""
    if text is None:
        return None
    seconds = _SECONDS.fullmatch(text)
    if seconds:
        sign, whole, fraction = seconds.groups()
        value = int(whole) * NS + int((fraction or "").ljust(9, "0"))
        return _bounded(-value if sign else value)
    written = _RFC3339.fullmatch(text)
    if written is None:
        return None
    moment, fraction, zone = written.groups()
    try:
        when = datetime.fromisoformat(moment + zone.replace("Z", "+00:00"))
    except ValueError:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    elapsed = when - epoch
    whole_seconds = elapsed.days * 86400 + elapsed.seconds
    return _bounded(whole_seconds * NS + int((fraction or "").ljust(9, "0")))


def parse_aws_time(text: str | None) -> int | None:
    """AWS's times: ns with the suffix ``ns``, else milliseconds; ns since the epoch."""
    if text is None:
        return None
    digits = text.removesuffix("ns")
    if not _DIGITS.fullmatch(digits):
        return None
    return _bounded(int(digits) * (1 if text.endswith("ns") else 1_000_000))


def _rdev(text: str | None, *, hexadecimal: bool) -> int | None:
    if text is None:
        return None
    if hexadecimal:
        return int(text, 16) if _HEX.fullmatch(text) else None
    return int(text) if _DIGITS.fullmatch(text) and int(text) < 2**32 else None


def decode(metadata: Mapping[str, str]) -> PosixMetadata:
    """What the metadata states; keys are in lower case. Never raises."""
    if not metadata:
        return NOTHING
    get = metadata.get
    mode_text = get("mode")
    mode = parse_mode(mode_text)
    octal_mode = mode_text is not None and mode is not None and mode != int(mode_text)

    def first(value: int | None, fallback: int | None) -> int | None:
        return value if value is not None else fallback

    return PosixMetadata(
        mode=first(mode, parse_permissions(get("file-permissions"))),
        uid=first(parse_id(get("uid")), parse_id(get("file-owner"))),
        gid=first(parse_id(get("gid")), parse_id(get("file-group"))),
        mtime_ns=first(parse_time(get("mtime")), parse_aws_time(get("file-mtime"))),
        atime_ns=first(parse_time(get("atime")), parse_aws_time(get("file-atime"))),
        ctime_ns=parse_time(get("ctime")),
        rdev=_rdev(get("rdev"), hexadecimal=octal_mode),
    )


def format_time(time_ns: int) -> str:
    """s3fs-fuse's form: seconds, with nine decimals where there are some."""
    sign = "-" if time_ns < 0 else ""
    seconds, rest = divmod(abs(time_ns), NS)
    return f"{sign}{seconds}.{rest:09d}" if rest else f"{sign}{seconds}"


def encode(attributes: Attributes, kept: Mapping[str, str]) -> dict[str, str]:
    """``kept`` with its POSIX keys replaced by the attributes in s3fs-fuse's form.

    Other keys stay as they are. AWS's keys go, since they would contradict from now on.
    """
    result = {key: value for key, value in kept.items() if key not in _AWS_KEYS}
    result.pop("rdev", None)
    result["uid"] = str(attributes.uid)
    result["gid"] = str(attributes.gid)
    result["mode"] = str(attributes.mode)
    result["mtime"] = format_time(attributes.mtime_ns)
    result["atime"] = format_time(attributes.atime_ns)
    result["ctime"] = format_time(attributes.ctime_ns)
    if attributes.type in _DEVICES:
        result["rdev"] = str(attributes.rdev)
    return result


def size_of(metadata: Mapping[str, str]) -> int:
    """Bytes as S3 counts them for its limit of 2 KB: names and values in UTF-8."""
    return sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
