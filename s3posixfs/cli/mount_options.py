"""Mount options in the three ways to spell them.

``-o name=value`` (fstab), ``--name value`` (command line, ``_`` or ``-``) and ``name = value`` in
a TOML file given by ``-o config=FILE``. A later source wins: file, then ``-o``, then ``--name``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3posixfs.cli.generic_options import (
    KERNEL_FLAGS,
    SECRETS,
    is_for_others,
    is_generic,
    opposite,
)
from s3posixfs.cli.option_table import BY_NAME, OPTIONS, OptionError, Value, read_flag
from s3posixfs.core.errors import OperatorError

# The name under which a unit's LoadCredential= gives an AWS shared-credentials file.
SERVICE_CREDENTIAL = "aws-credentials"


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
    if text is None and option.parse is not read_flag:
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


def given_values(pairs: Iterable[tuple[str, str | None]]) -> dict[str, Value]:
    """The filesystem's own among the options of ``-o``, and those of the file that they name.

    Raises OperatorError that names the option and says what it takes.
    """
    values: dict[str, Value] = {}
    config: Path | None = None
    for name, text in pairs:
        if name == "config":
            config = Path(text or "")
        elif name == "rw":
            values["ro"] = False
        elif name not in KERNEL_FLAGS and not is_for_others(name):
            key, value = _read(name, text, "-o")
            values[key] = value
    return {**_from_file(config), **values} if config is not None else values


def parse_options(
    comma_lists: Sequence[str], named: Mapping[str, str | bool | None]
) -> MountOptions:
    """All options from ``-o`` texts and ``--name`` values (``None`` where not given).

    Raises OperatorError that names the option and says what it takes.
    """
    pairs = split_commas(comma_lists)
    kernel: set[str] = set()
    for name, _ in pairs:
        if name in KERNEL_FLAGS:
            kernel.discard(opposite(name))
            kernel.add(name)
    values: dict[str, Value] = {option.name: option.default for option in OPTIONS}
    values.update(given_values(pairs))
    for name, given in named.items():
        if given is None or given is False:
            continue
        key, value = _read(name, None if given is True else given, f"--{name}")
        values[key] = value
    if values["writeback"] and ("sync", None) in pairs:
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
