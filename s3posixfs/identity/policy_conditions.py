"""The Condition element: operators, ``IfExists``, ``ForAllValues``/``ForAnyValue``, ``Null``.

Operators are ANDed, keys are ANDed, values are ORed; a negated operator holds where none of
the values match. Source: AWS IAM User Guide, "IAM JSON policy elements: Condition operators"
and "Set operators for multi-valued context keys".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Literal

from s3posixfs.identity.policy_errors import EvaluationError, PolicyError
from s3posixfs.identity.policy_keys import is_known_key
from s3posixfs.identity.policy_patterns import (
    ARN_FIELDS,
    Context,
    Pattern,
    Variable,
    pattern,
    split_arn,
    tokenize,
    unresolved,
)

# Whether one value of the request matches one value of the policy.
Test = Callable[[str, Context], bool]
# From a value of the policy, and whether variables are replaced in it (Version 2012-10-17).
TestFactory = Callable[[str, bool], Test]


def _string_equals(text: str, variables: bool) -> Test:
    return pattern(text, variables=variables, wildcards=False).matches


def _string_equals_ignoring_case(text: str, variables: bool) -> Test:
    return pattern(text, variables=variables, wildcards=False, fold=True).matches


def _string_like(text: str, variables: bool) -> Test:
    return pattern(text, variables=variables).matches


_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})")


def _number(text: str) -> Decimal:
    if _NUMBER.fullmatch(text) is None or not text.isascii():
        raise ValueError(text)
    return Decimal(text)


_DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?)?",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"-?\d{5,15}(\.\d{1,9})?|0")


def _date(text: str) -> Decimal:
    """Seconds since the epoch, from ISO 8601 (UTC where no offset is given) or from digits.

    Four digits alone could be a year or an epoch time, so they are neither.
    """
    if not text.isascii():
        raise ValueError(text)
    if _EPOCH.fullmatch(text):
        return Decimal(text)
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    zone = UTC
    if offset and offset.upper() != "Z":
        sign = -1 if offset[0] == "-" else 1
        digits = offset[1:].replace(":", "")
        zone = timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))
    moment = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
        tzinfo=zone,
    )  # fmt: skip
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return Decimal(seconds) + Decimal(f"0.{fraction or 0}")


def _comparison(
    read: Callable[[str], Decimal], compare: Callable[[Decimal, Decimal], bool], kind: str
) -> TestFactory:
    def factory(text: str, variables: bool) -> Test:
        try:
            expected = read(text)
        except ValueError:
            raise PolicyError(f"'{text}' is no {kind}") from None

        def test(value: str, context: Context) -> bool:
            try:
                actual = read(value)
            except ValueError:
                raise EvaluationError(f"the request's value is no {kind}") from None
            return compare(actual, expected)

        return test

    return factory


def _bool(text: str, variables: bool) -> Test:
    expected = text.lower()
    if expected not in ("true", "false"):
        raise PolicyError(f"'{text}' is neither true nor false")
    return lambda value, context: value.lower() == expected


def _binary_equals(text: str, variables: bool) -> Test:
    try:
        expected = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PolicyError(f"'{text}' is not base64") from None
    return lambda value, context: value.encode("utf-8", "surrogateescape") == expected


_PREFIX_LENGTH = re.compile(r"[0-9]{1,3}")


def _ip_address(text: str, variables: bool) -> Test:
    _, slash, length = text.partition("/")
    try:
        if slash and _PREFIX_LENGTH.fullmatch(length) is None:
            raise ValueError(text)
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise PolicyError(f"'{text}' is no IP address or CIDR range") from None

    def test(value: str, context: Context) -> bool:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise EvaluationError("the request's value is no IP address") from None
        if address in network:
            return True
        # A dual-stack socket names an IPv4 peer ::ffff:192.0.2.1.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return mapped is not None and mapped in network

    return test


def _arn_like(text: str, variables: bool) -> Test:
    """ArnEquals and ArnLike are the same in IAM: each of the six fields may hold wildcards."""
    if text == "*":
        return lambda value, context: value.startswith("arn:") and value.count(":") >= 5
    fields = split_arn(tokenize(text, variables=variables, wildcards=True))
    if len(fields) != ARN_FIELDS:
        raise PolicyError(f"'{text}' is no ARN")
    patterns = tuple(Pattern(field) for field in fields)

    def test(value: str, context: Context) -> bool:
        parts = value.split(":", ARN_FIELDS - 1)
        return len(parts) == ARN_FIELDS and all(
            compiled.matches(part, context) for compiled, part in zip(patterns, parts, strict=True)
        )

    return test


_ORDERINGS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}

# Operator → how it tests, and whether it is negated.
OPERATORS: dict[str, tuple[TestFactory, bool]] = {
    "StringEquals": (_string_equals, False),
    "StringNotEquals": (_string_equals, True),
    "StringEqualsIgnoreCase": (_string_equals_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_string_equals_ignoring_case, True),
    "StringLike": (_string_like, False),
    "StringNotLike": (_string_like, True),
    **{
        f"Numeric{name}": (_comparison(_number, compare, "number"), False)
        for name, compare in _ORDERINGS.items()
    },
    "NumericNotEquals": (_comparison(_number, operator.eq, "number"), True),
    **{
        f"Date{name}": (_comparison(_date, compare, "date"), False)
        for name, compare in _ORDERINGS.items()
    },
    "DateNotEquals": (_comparison(_date, operator.eq, "date"), True),
    "Bool": (_bool, False),
    "BinaryEquals": (_binary_equals, False),
    "IpAddress": (_ip_address, False),
    "NotIpAddress": (_ip_address, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
}

Quantifier = Literal["", "ForAllValues", "ForAnyValue"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key.

    ``required`` are variables without whose values it does not hold: "differs from what nobody
    knows" must not open a door.
    """

    key: str
    tests: tuple[Test, ...]
    negated: bool
    quantifier: Quantifier
    if_exists: bool
    required: tuple[Variable, ...]

    def holds(self, context: Context) -> bool:
        """Raises :class:`EvaluationError` where the request's value can't be compared."""
        found = context.get(self.key)
        values = () if found is None else (found,) if isinstance(found, str) else found
        if not values:
            if self.if_exists or self.quantifier == "ForAllValues":
                return True
            return self.negated and not self.quantifier and not unresolved(self.required, context)
        if unresolved(self.required, context):
            return False
        if self.quantifier == "ForAllValues":
            return all(self._holds_for(value, context) for value in values)
        if self.quantifier == "ForAnyValue":
            return any(self._holds_for(value, context) for value in values)
        matched = any(test(value, context) for value in values for test in self.tests)
        return matched is not self.negated

    def _holds_for(self, value: str, context: Context) -> bool:
        return any(test(value, context) for test in self.tests) is not self.negated


@dataclass(frozen=True, slots=True)
class NullCondition:
    """``Null``: whether the key is absent (true) or present (false)."""

    key: str
    absent: frozenset[bool]

    def holds(self, context: Context) -> bool:
        found = context.get(self.key)
        return (found is None or (not isinstance(found, str) and not found)) in self.absent


AnyCondition = Condition | NullCondition


def _values(key: str, value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise PolicyError(f"the condition key '{key}' has no value")
    texts: list[str] = []
    for item in values:
        if isinstance(item, bool):
            texts.append("true" if item else "false")
        elif isinstance(item, str | int | float):
            texts.append(str(item))
        else:
            raise PolicyError(f"a value of the condition key '{key}' is no string")
    return texts


def _variables(texts: list[str]) -> tuple[Variable, ...]:
    tokens = [token for text in texts for token in tokenize(text, variables=True, wildcards=False)]
    return tuple(token for token in tokens if isinstance(token, Variable))


def _parse_operator(name: str) -> tuple[TestFactory, bool, Quantifier, bool]:
    quantifier: Quantifier = ""
    base = name
    if base.startswith("ForAllValues:"):
        quantifier = "ForAllValues"
    elif base.startswith("ForAnyValue:"):
        quantifier = "ForAnyValue"
    base = base.removeprefix(f"{quantifier}:") if quantifier else base
    if_exists = base.endswith("IfExists")
    found = OPERATORS.get(base.removesuffix("IfExists"))
    if found is None:
        raise PolicyError(f"unknown condition operator '{name}'")
    return *found, quantifier, if_exists


def parse_condition(element: object, *, variables: bool, allow: bool) -> tuple[AnyCondition, ...]:
    """Compile a Condition element; raises :class:`PolicyError` for anything not understood.

    In a statement that allows (``allow``), a negated operator needs the values of its variables.
    """
    if not isinstance(element, Mapping):
        raise PolicyError("Condition is no object")
    conditions: list[AnyCondition] = []
    for name, keys in element.items():
        if not isinstance(keys, Mapping) or not keys:
            raise PolicyError(f"the condition operator '{name}' names no key")
        parsed = None if name == "Null" else _parse_operator(name)
        seen: set[str] = set()
        for key, value in keys.items():
            lower = key.lower()
            if not is_known_key(lower):
                raise PolicyError(f"unknown condition key '{key}'")
            if lower in seen:
                raise PolicyError(f"the condition key '{key}' appears twice under '{name}'")
            seen.add(lower)
            texts = _values(key, value)
            if parsed is None:
                if any(text.lower() not in ("true", "false") for text in texts):
                    raise PolicyError(f"Null of '{key}' is neither true nor false")
                absent = frozenset(text.lower() == "true" for text in texts)
                conditions.append(NullCondition(lower, absent))
                continue
            factory, negated, quantifier, if_exists = parsed
            try:
                tests = tuple(factory(text, variables) for text in texts)
            except PolicyError as error:
                raise PolicyError(f"{name} of '{key}': {error}") from None
            required = _variables(texts) if variables and negated and allow else ()
            conditions.append(Condition(lower, tests, negated, quantifier, if_exists, required))
    return tuple(conditions)
