"""What was found out about an endpoint. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from s3posixfs.core.types import Capabilities


@dataclass(frozen=True, slots=True)
class Traits:
    """Capabilities that the program sees, and those that only the client needs to know.

    The defaults are those of a store nothing is known of: every condition is checked by a HEAD
    first, and If-None-Match is sent along in the hope that it counts.
    """

    capabilities: Capabilities = field(default_factory=Capabilities)
    unprobed: bool = True
    honours_if_none_match: bool = False  # on PUT
    honours_if_match: bool = False  # on PUT
    quoted_if_match: bool = True  # false: If-Match on PUT takes the ETag bare (Ceph RGW)
    conditional_complete: bool = False  # conditions on CompleteMultipartUpload are honoured
    conditional_copy: bool = False  # x-amz-copy-source-if-match is honoured
    crc64nvme: bool = False  # a body that is not signed is compared with its checksum

    def if_match(self, etag: str) -> str:
        """The ETag as this endpoint wants it in a condition."""
        return f'"{etag}"' if self.quoted_if_match else etag

    def conditions(self) -> dict[str, object]:
        """Which conditions the endpoint honours, for people and programs: JSON values only."""
        if_match = ("quoted" if self.quoted_if_match else "bare") if self.honours_if_match else None
        return {
            "put_if_none_match": self.honours_if_none_match,
            "put_if_match": if_match,
            "complete": self.conditional_complete,
            "copy": self.conditional_copy,
        }


Setting = Callable[[Traits, str], Traits]


def _capability(name: str) -> Setting:
    def put(traits: Traits, value: str) -> Traits:
        return replace(traits, capabilities=replace(traits.capabilities, **{name: value == "yes"}))

    return put


def _rename(traits: Traits, value: str) -> Traits:
    # Who says no to renames means those of folders too, unless they say otherwise.
    found = _capability("rename_object")(traits, value)
    return found if value == "yes" else _capability("rename_folder")(found, value)


def _conditional_put(traits: Traits, value: str) -> Traits:
    found = _capability("conditional_put")(traits, value)
    honoured = value == "yes"
    return replace(found, honours_if_none_match=honoured, honours_if_match=honoured)


def _if_match(traits: Traits, value: str) -> Traits:
    honoured = value != "no"
    capabilities = replace(
        traits.capabilities, conditional_put=honoured and traits.honours_if_none_match
    )
    return replace(
        traits,
        capabilities=capabilities,
        honours_if_match=honoured,
        quoted_if_match=value != "bare",
    )


def _conditional_complete(traits: Traits, value: str) -> Traits:
    return replace(traits, conditional_complete=value == "yes")


def _conditional_copy(traits: Traits, value: str) -> Traits:
    return replace(traits, conditional_copy=value == "yes")


def _crc64nvme(traits: Traits, value: str) -> Traits:
    return replace(traits, crc64nvme=value == "yes")


# In the order in which they are applied.
_SETTINGS: Mapping[str, Setting] = {
    "conditional_put": _conditional_put,
    "if_match": _if_match,
    "conditional_complete": _conditional_complete,
    "conditional_copy": _conditional_copy,
    "crc64nvme": _crc64nvme,
    "rename": _rename,
    "rename_folder": _capability("rename_folder"),
    "listing_metadata": _capability("listing_metadata"),
    "listing_owner": _capability("listing_owner"),
}
_YES_NO = ("yes", "no")
_VALUES: Mapping[str, tuple[str, ...]] = {"if_match": ("quoted", "bare", "no")}

# With all of them given nothing is left to be found out.
ALL_SETTINGS = frozenset(_SETTINGS)


def parse_settings(text: str) -> tuple[tuple[str, str], ...]:
    """``NAME:VALUE`` pairs, separated by commas, semicolons, colons or white space.

    Raises ValueError with what is wrong.
    """
    words = [word for word in re.split(r"[\s,;:=]+", text) if word]
    settings: dict[str, str] = {}
    for name, value in zip(words[::2], [*words[1::2], ""], strict=False):
        if name not in _SETTINGS:
            raise ValueError(f"there is no {name!r}: there are {', '.join(_SETTINGS)}")
        allowed = _VALUES.get(name, _YES_NO)
        if value not in allowed:
            raise ValueError(f"{name} is {', '.join(allowed[:-1])} or {allowed[-1]}: {name}:VALUE")
        if settings.setdefault(name, value) != value:
            raise ValueError(f"{name} is given twice")
    return tuple(settings.items())


def with_settings(traits: Traits, settings: Mapping[str, str]) -> Traits:
    """What was found out, with what somebody knows better."""
    for name, setting in _SETTINGS.items():
        if name in settings:
            traits = setting(traits, settings[name])
    return traits
