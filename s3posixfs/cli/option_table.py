"""The one table of mount options: how each is read, its default, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from s3posixfs.core.types import MAX_PART_BYTES, MIB, MIN_PART_BYTES
from s3posixfs.metrics.address import parse_address
from s3posixfs.s3.traits import parse_settings

Value = str | int | float | bool | tuple[str, ...] | None


class OptionError(Exception):
    """A value that an option does not take; the text says what it takes."""


_UNSAID = ("off", "none", "see below")
_LINK = re.compile(r" ?\(\[[^]]*\]\([^)]*\)\)")


def _text(text: str) -> str:
    if not text:
        raise OptionError("needs a value")
    return text


def _number(minimum: float, maximum: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise OptionError(f"needs a number, not {text!r}") from None
        if not minimum <= number <= maximum:
            raise OptionError(f"must be between {minimum:g} and {maximum:g}")
        return number

    return parse


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit():
            raise OptionError(f"needs a whole number, not {text!r}")
        number = int(text)
        if not minimum <= number <= maximum:
            raise OptionError(f"must be between {minimum} and {maximum}")
        return number

    return parse


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise OptionError(f"needs a mode in octal such as 0644, not {text!r}")
    return mode


def _size(text: str) -> int:
    units = {"k": 1024, "m": MIB, "g": 1024 * MIB, "t": 1024 * 1024 * MIB}
    digits, factor = text.strip().lower().removesuffix("ib").removesuffix("b"), 1
    if digits and digits[-1] in units:
        digits, factor = digits[:-1], units[digits[-1]]
    if not digits.isascii() or not digits.isdigit():
        raise OptionError(f"needs a size such as 64M or 10G, not {text!r}")
    return int(digits) * factor


def _part_size(text: str) -> int:
    size = _size(text)
    if not MIN_PART_BYTES <= size <= MAX_PART_BYTES:
        raise OptionError("is what S3 takes for a part: 5M to 5G")
    return size


def _duration(text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    digits, factor = text.strip().lower(), 1
    if digits and digits[-1] in units:
        digits, factor = digits[:-1], units[digits[-1]]
    if not digits.isascii() or not digits.isdigit() or int(digits) == 0:
        raise OptionError(f"needs a duration such as 900, 15m, 1h or 2d, not {text!r}")
    return int(digits) * factor


def read_flag(text: str) -> bool:
    lowered = text.lower()
    if lowered in {"", "1", "on", "yes", "true"}:
        return True
    if lowered in {"0", "off", "no", "false"}:
        return False
    raise OptionError(f"is on or off, not {text!r}")


@dataclass(frozen=True, slots=True)
class Choice:
    """Takes one of a few words."""

    choices: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text not in self.choices:
            raise OptionError(f"is one of {', '.join(self.choices)}, not {text!r}")
        return text


def _choice(*choices: str) -> Choice:
    return Choice(choices)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.replace(":", " ").split() if name)


def _settings(text: str) -> str:
    try:
        return " ".join(f"{name}:{value}" for name, value in parse_settings(text))
    except ValueError as error:
        raise OptionError(f"- {error}") from None


def _address(text: str) -> str:
    try:
        parse_address(text)
    except ValueError as error:
        raise OptionError(str(error)) from None
    return text


@dataclass(frozen=True, slots=True)
class Option:
    """One mount option: its name, how its text is read, its default, and the two columns of
    docs/CONFIGURATION.md, in Markdown: the default as it is ``said``, and what the option ``does``.
    """

    name: str
    parse: Callable[[str], Value]
    default: Value
    said: str
    does: str
    is_flag: bool = False

    @property
    def help(self) -> str:
        """The same in plain words, for terminals and man pages."""
        said = "" if self.said in _UNSAID else f"; default: {self.said}"
        text = _LINK.sub("", f"{self.does}{said}").replace("`", "")
        return text.replace(": see below", "")


OPTIONS: tuple[Option, ...] = (
    Option("endpoint_url", _text, None, "the profile's, else AWS", "URL of the S3 store"),
    Option("region", _text, None, "the profile's, else `us-east-1`", "region to sign for"),
    Option("profile", _text, None, "`default`", "AWS profile with the mount's own credentials"),
    Option(
        "credentials_file",
        _text,
        None,
        "AWS's own; in a systemd unit, what `LoadCredential=aws-credentials:…` gives",
        "AWS shared-credentials file to read profiles from",
    ),
    Option(
        "ca_file",
        _text,
        None,
        "the system's",
        "PEM file of the authorities that may vouch for the endpoint",
    ),
    Option(
        "role_arn",
        _text,
        None,
        "none",
        "role that the mount assumes through STS for its own requests",
    ),
    Option("sts_endpoint_url", _text, None, "`endpoint_url`", "URL of STS"),
    Option(
        "session_duration",
        _duration,
        3600,
        "`1h`",
        "life of the temporary credentials that it asks for",
    ),
    Option(
        "identities",
        _text,
        None,
        "`/etc/s3posixfs/identities.toml`",
        "identity file, or `auto` to ask the embedded store",
    ),
    Option(
        "cache_dir",
        _text,
        None,
        "one below `/var/cache/s3posixfs`",
        "folder for staged data, used by this mount alone",
    ),
    Option("memory_limit", _size, 128 * MIB, "`128M`", "memory for read-ahead and cached blocks"),
    Option(
        "disk_cache",
        _size,
        0,
        "`0`",
        "disk space in `cache_dir` for what was read, such as `10G`; the next mount finds it there",
    ),
    Option(
        "allow_other", read_flag, False, "off", "let users other than the mounter in", is_flag=True
    ),
    Option("ro", read_flag, False, "off", "mount read-only", is_flag=True),
    Option(
        "uid",
        _whole(0, 2**32 - 2),
        65534,
        "65534",
        "owner of objects whose S3 owner is in no identity",
    ),
    Option(
        "gid",
        _whole(0, 2**32 - 2),
        65534,
        "65534",
        "group of objects whose S3 owner is in no identity",
    ),
    Option("file_mode", _mode, 0o644, "`0644`", "permissions of files whose objects carry none"),
    Option("dir_mode", _mode, None, "see below", "permissions of folders whose objects carry none"),
    Option(
        "metadata_ttl", _number(0, 86400), 1.0, "1", "seconds that attributes and listings are kept"
    ),
    Option(
        "cached_entries",
        _whole(0, 2**32),
        1_000_000,
        "1000000",
        "names kept in memory; beyond that the kernel is asked to forget files used longest ago "
        "(by a daemon that is root on the host itself); `0`: only the kernel decides",
    ),
    Option(
        "capabilities",
        _settings,
        None,
        "probed",
        "what the store does, where probing errs or is not wanted: see below",
    ),
    Option(
        "attributes",
        _choice("head", "listing"),
        "head",
        "`head`",
        "where listings carry no metadata (Ceph RGW, AWS): ask for each object's, or with "
        "`listing` take its row as it is: see below",
    ),
    Option(
        "access",
        _choice("both", "posix", "s3"),
        "both",
        "`both`",
        "who decides: `posix` permissions, `s3`'s policy for the caller, or both",
    ),
    Option("access_ttl", _number(0, 3600), 5.0, "5", "seconds that S3's word on a caller is kept"),
    Option(
        "sign_as",
        _choice("caller", "daemon"),
        "caller",
        "`caller`",
        "sign as the calling user, or as the `daemon` for all",
    ),
    Option(
        "unmapped",
        _choice("daemon", "deny"),
        "daemon",
        "`daemon`",
        "callers without an identity: use the daemon's credentials, or `deny`",
    ),
    Option(
        "trusted_owners",
        _names,
        (),
        "none",
        "S3 owners whose objects may name any uid; several as `a:b`",
    ),
    Option(
        "part_size",
        _part_size,
        16 * MIB,
        "`16M`",
        "larger files go to S3 in parts of this size, while they are written where that is in "
        "sequence (`5M` to `5G`; what S3's 10,000 parts need beyond it is added by itself)",
    ),
    Option(
        "writeback",
        read_flag,
        False,
        "off",
        "return from `close` and `fsync` once the data is on this host's disk, in `cache_dir`; it "
        "goes to S3 behind ([SEMANTICS.md](SEMANTICS.md))",
    ),
    Option(
        "writeback_limit",
        _size,
        10 * 1024 * MIB,
        "`10G`",
        "most that may wait for its upload; then `close` waits",
    ),
    Option(
        "conflict",
        _choice("keep-both", "fail", "last-writer"),
        "keep-both",
        "`keep-both`",
        "of an object that others changed while this host had newer data for it: `keep-both`, "
        "`fail`, `last-writer` ([SEMANTICS.md](SEMANTICS.md#when-others-change-the-same-file))",
    ),
    Option(
        "drain_timeout",
        _number(0, 86400),
        60.0,
        "60",
        "with `writeback`, seconds for which an ending mount goes on uploading; the rest stays in "
        "`cache_dir` for the next mount",
    ),
    Option(
        "audit_log",
        _text,
        None,
        "none",
        "file for one JSON line an operation ([SECURITY.md](SECURITY.md)); outside the mount",
    ),
    Option(
        "audit_size",
        _size,
        100 * MIB,
        "`100M`",
        "size at which the audit log is set aside (0: never)",
    ),
    Option(
        "audit_keep", _whole(1, 10_000), 10, "10", "how many audit logs that were set aside stay"
    ),
    Option(
        "log_file", _text, None, "`mount.log` in the cache folder", "file that the daemon logs to"
    ),
    Option(
        "log_level",
        _choice("debug", "info", "warning", "error"),
        "info",
        "`info`",
        "least level that is logged: `debug`, `info`, `warning`, `error`",
    ),
    Option(
        "log_format",
        _choice("auto", "text", "json"),
        "auto",
        "`auto`",
        "of the log on stderr: fields where systemd connects it to the journal, else `text`; or "
        "`json`",
    ),
    Option(
        "metrics",
        _address,
        None,
        "none",
        "where Prometheus may scrape: `127.0.0.1:PORT`, or the path of a socket "
        "([MONITORING.md](MONITORING.md))",
    ),
    Option(
        "foreground",
        read_flag,
        False,
        "off",
        "stay in the foreground and log to stderr (as `-f`)",
        is_flag=True,
    ),
)
BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}
