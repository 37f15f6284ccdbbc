"""Whether a bucket policy makes its bucket public.

Source: the S3 user guide, "Blocking public access to your Amazon S3 storage", "The meaning of
'public'": a statement that allows anybody is public unless a condition with fixed values, on
one of certain keys, narrows who that is.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

_NARROWING_KEYS = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:sourceowner",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "aws:username",
        "s3:dataaccesspointaccount",
        "s3:dataaccesspointarn",
    }
)
# Operators that fail where the key is missing.
_NARROWING_OPERATORS = frozenset(
    {
        "arnequals",
        "arnlike",
        "ipaddress",
        "stringequals",
        "stringequalsignorecase",
        "stringlike",
    }
)
_BROADEST_IPV4 = 8
_BROADEST_IPV6 = 32


def is_public(policy: str | bytes) -> bool:
    """Whether a valid bucket policy (JSON) lets anybody in."""
    return any(_lets_anybody(statement) for statement in _many(json.loads(policy)["Statement"]))


def _lets_anybody(statement: Mapping[str, Any]) -> bool:
    if statement["Effect"] != "Allow":
        return False
    if "NotPrincipal" not in statement and not _anybody(statement.get("Principal")):
        return False
    conditions: Mapping[str, Mapping[str, Any]] = statement.get("Condition") or {}
    return not any(
        _narrows(operator, key, list(_many(values)))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


def _anybody(principal: object) -> bool:
    if isinstance(principal, Mapping):
        return any("*" in list(_many(names)) for names in principal.values())
    return principal == "*"


def _narrows(operator: str, key: str, values: list[Any]) -> bool:
    plain = operator.lower().removeprefix("foranyvalue:")
    if plain not in _NARROWING_OPERATORS or key.lower() not in _NARROWING_KEYS:
        return False
    if plain == "ipaddress":
        return all(_is_narrow_network(str(value)) for value in values)
    return not any(mark in str(value) for value in values for mark in "*?$")


def _is_narrow_network(text: str) -> bool:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    broadest = _BROADEST_IPV4 if network.version == 4 else _BROADEST_IPV6
    return network.prefixlen >= broadest or network.is_private


def _many(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]
