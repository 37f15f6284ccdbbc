"""The one table of mount options, and the three ways to spell them.

``-o name=value`` (fstab), ``--name value`` (command line, ``_`` or ``-``) and ``name = value`` in
a TOML file given by ``-o config=FILE``. A later source wins: file, then ``-o``, then ``--name``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3posixfs.cli.generic_options import (
    KERNEL_FLAGS,
    SECRETS,
    is_for_others,
    is_generic,
    opposite,
)
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.types import MAX_PART_BYTES, MIB, MIN_PART_BYTES
from s3posixfs.metrics.address import parse_address
from s3posixfs.s3.traits import parse_settings

Value = str | int | float | bool | tuple[str, ...] | None


class OptionError(Exception):
    """A value that an option does not take; the text says what it takes."""


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


def _flag(text: str) -> bool:
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
    """One mount option: its name, how its text is read, its default and what it does."""

    name: str
    parse: Callable[[str], Value]
    default: Value
    help: str
    is_flag: bool = False


OPTIONS: tuple[Option, ...] = (
    Option("endpoint_url", _text, None, "URL of the S3 store; default: the profile's, else AWS"),
    Option("region", _text, None, "region to sign for; default: the profile's, else us-east-1"),
    Option("profile", _text, None, "AWS profile with the daemon's own credentials"),
    Option("credentials_file", _text, None, "AWS shared-credentials file to read profiles from"),
    Option("ca_file", _text, None, "PEM file of the authorities that may vouch for the endpoint"),
    Option("role_arn", _text, None, "role the daemon assumes through STS for its own requests"),
    Option("sts_endpoint_url", _text, None, "URL of STS; default: endpoint_url"),
    Option(
        "session_duration", _duration, 3600, "life of temporary credentials; seconds, or 15m, 1h"
    ),
    Option("identities", _text, None, "identity file, or auto to ask the embedded store"),
    Option("cache_dir", _text, None, "folder for staged data, used by this mount alone"),
    Option("memory_limit", _size, 128 * MIB, "memory for read-ahead and cached blocks"),
    Option("allow_other", _flag, False, "let users other than the mounter in", is_flag=True),
    Option("ro", _flag, False, "mount read-only", is_flag=True),
    Option("uid", _whole(0, 2**32 - 2), 65534, "owner of objects whose S3 owner is unknown"),
    Option("gid", _whole(0, 2**32 - 2), 65534, "group of objects whose S3 owner is unknown"),
    Option("file_mode", _mode, 0o644, "permissions of files that carry none"),
    Option("dir_mode", _mode, None, "permissions of folders that carry none"),
    Option("metadata_ttl", _number(0, 86400), 1.0, "seconds that attributes and listings are kept"),
    Option("capabilities", _settings, None, "what the store does, where probing errs: rename:no"),
    Option(
        "attributes",
        _choice("head", "listing"),
        "head",
        "where listings carry no metadata: ask for each object's, or take its row until it is "
        "opened",
    ),
    Option(
        "access",
        _choice("both", "posix", "s3"),
        "both",
        "who decides: POSIX permissions, S3's policy for the caller, or both",
    ),
    Option("access_ttl", _number(0, 3600), 5.0, "seconds that S3's word on a caller is kept"),
    Option(
        "sign_as",
        _choice("caller", "daemon"),
        "caller",
        "sign requests as the calling user, or as the daemon for all",
    ),
    Option(
        "unmapped",
        _choice("daemon", "deny"),
        "daemon",
        "callers without an identity: use the daemon's, or refuse",
    ),
    Option("trusted_owners", _names, (), "S3 owners whose objects may name a uid, a:b"),
    Option("part_size", _part_size, 16 * MIB, "larger files are uploaded in parts of this size"),
    Option("writeback", _flag, False, "return from close once the data is on the local disk"),
    Option(
        "writeback_limit",
        _size,
        10 * 1024 * MIB,
        "most that waits for its upload; then close waits",
    ),
    Option(
        "conflict",
        _choice("keep-both", "fail", "last-writer"),
        "keep-both",
        "of an object that others changed while this host had newer data for it",
    ),
    Option(
        "drain_timeout",
        _number(0, 86400),
        60.0,
        "with writeback, seconds that an ending mount uploads; the rest stays for the next",
    ),
    Option("audit_log", _text, None, "file for a JSON line an operation; default: none"),
    Option("audit_size", _size, 100 * MIB, "size at which the audit log is set aside; 0: never"),
    Option("audit_keep", _whole(1, 10_000), 10, "audit logs set aside that are kept"),
    Option("log_file", _text, None, "file the daemon logs to; default: in cache_dir"),
    Option("log_level", _choice("debug", "info", "warning", "error"), "info", "least level logged"),
    Option(
        "log_format",
        _choice("auto", "text", "json"),
        "auto",
        "auto: the journal's fields where stderr is the journal, else text",
    ),
    Option("metrics", _address, None, "127.0.0.1:PORT or a socket, for Prometheus; default: none"),
    Option("foreground", _flag, False, "stay in the foreground, log to stderr", is_flag=True),
)
# The name under which a unit's LoadCredential= gives an AWS shared-credentials file.
SERVICE_CREDENTIAL = "aws-credentials"
BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Every option with its value, and the flags that go to the kernel."""

    values: Mapping[str, Value]
    kernel: frozenset[str]

    def text(self, name: str) -> str | None:
        value = self.values[name]
        return None if value is None else str(value)

    def number(self, name: str) -> float:
        value = self.values[name]
        if not isinstance(value, int | float):
            raise TypeError(name)
        return value

    def whole(self, name: str) -> int:
        return int(self.number(name))

    def flag(self, name: str) -> bool:
        return bool(self.values[name])

    def names(self, name: str) -> tuple[str, ...]:
        value = self.values[name]
        return value if isinstance(value, tuple) else ()


def split_commas(texts: Iterable[str]) -> list[tuple[str, str | None]]:
    """``a=1,b`` as pairs; ``\\,`` stands for a comma inside a value, as in fstab for overlayfs."""
    pairs: list[tuple[str, str | None]] = []
    for text in texts:
        for item in _items(text):
            name, equals, value = item.replace("\0", ",").partition("=")
            pairs.append((name.strip(), value if equals else None))
    return pairs


def known(lists: Iterable[str]) -> list[str]:
    """``-o`` texts without the options that nobody knows, as mount(8)'s ``-s`` wants it.

    A secret stays: that one was given must be said.
    """
    return [
        ",".join(
            item
            for item, (name, _) in zip(_items(text), split_commas([text]), strict=True)
            if is_generic(name) or name.replace("-", "_") in {"config", *BY_NAME, *SECRETS}
        ).replace("\0", "\\,")
        for text in lists
    ]


def _items(text: str) -> list[str]:
    return [item for item in text.replace("\\,", "\0").split(",") if item.partition("=")[0].strip()]


def _read(name: str, text: str | None, where: str) -> tuple[str, Value]:
    key = name.replace("-", "_")
    option = BY_NAME.get(key)
    if option is None:
        if key in SECRETS:
            raise OperatorError(
                f"{where}: {name} is a secret and is not taken as an option; put it in an AWS "
                "profile and give profile=NAME (and credentials_file=FILE)"
            )
        raise OperatorError(f"{where}: unknown option {name!r}; see `s3posixfs mount --help`")
    if text is None and option.parse is not _flag:
        raise OperatorError(f"{where}: {name} needs a value: {name}=…")
    try:
        return key, option.parse(text or "")
    except OptionError as error:
        raise OperatorError(f"{where}: {name} {error}") from None


def _from_file(path: Path) -> dict[str, Value]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise OperatorError(f"config={path}: {error.strerror}; name a readable TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"config={path}: {error}; mend that line") from None
    values: dict[str, Value] = {}
    for name, value in table.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            text = ":".join(value)
        elif isinstance(value, bool):
            text = "on" if value else "off"
        elif isinstance(value, str | int | float):
            # TOML's 0o644 has become a number; modes are read as octal text.
            is_mode = name in {"file_mode", "dir_mode"} and isinstance(value, int)
            text = f"{value:o}" if is_mode else str(value)
        else:
            raise OperatorError(f"config={path}: {name} needs a text, a number or true/false")
        key, parsed = _read(name, text, f"config={path}")
        values[key] = parsed
    return values


def parse_options(
    comma_lists: Sequence[str], named: Mapping[str, str | bool | None]
) -> MountOptions:
    """All options from ``-o`` texts and ``--name`` values (``None`` where not given).

    Raises OperatorError that names the option and says what it takes.
    """
    kernel: set[str] = set()
    from_o: dict[str, Value] = {}
    config: Path | None = None
    for name, text in split_commas(comma_lists):
        if name == "config":
            config = Path(text or "")
        elif name in KERNEL_FLAGS:
            kernel.discard(opposite(name))
            kernel.add(name)
        elif name == "rw":
            from_o["ro"] = False
        elif is_for_others(name):
            continue
        else:
            key, value = _read(name, text, "-o")
            from_o[key] = value
    values: dict[str, Value] = {option.name: option.default for option in OPTIONS}
    if config is not None:
        values.update(_from_file(config))
    values.update(from_o)
    for name, given in named.items():
        if given is None or given is False:
            continue
        key, value = _read(name, None if given is True else given, f"--{name}")
        values[key] = value
    if values["writeback"] and ("sync", None) in split_commas(comma_lists):
        raise OperatorError("-o: sync and writeback contradict each other: leave one out")
    _check_together(values)
    return MountOptions(values, frozenset(kernel))


def with_service_credentials(options: MountOptions, environment: Mapping[str, str]) -> MountOptions:
    """With the profiles that the service manager hands to this unit, where it does so and no
    ``credentials_file`` is given: systemd.exec(5), LoadCredential=."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / SERVICE_CREDENTIAL if folder else None
    if path is None or options.text("credentials_file") is not None or not path.is_file():
        return options
    return MountOptions({**options.values, "credentials_file": str(path)}, options.kernel)


def _check_together(values: Mapping[str, Value]) -> None:
    endpoint = values["endpoint_url"]
    if endpoint is not None and not str(endpoint).startswith(("http://", "https://")):
        raise OperatorError(f"endpoint_url must begin with http:// or https://, not {endpoint!r}")
    for name in ("ca_file", "credentials_file"):
        path = values[name]
        if path is not None and not Path(str(path)).is_file():
            raise OperatorError(f"{name}={path}: no such file; give the path of one that is there")
