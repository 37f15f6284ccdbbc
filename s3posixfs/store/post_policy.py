"""The policy of a browser's form: until when and under which conditions it may be sent.

Source: the S3 API reference, "POST policy".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from s3posixfs.core.errors import S3Error
from s3posixfs.store.errors import access_denied

# Fields that no condition need mention.
_UNMENTIONED = frozenset({"file", "policy", "x-amz-signature"})
_IGNORED_PREFIX = "x-ignore-"
_EXPIRATION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")


@dataclass(frozen=True, slots=True)
class FieldCondition:
    """``field`` (lower case) is ``value``, or begins with it; ``dollar``: written as it must be."""

    operator: str
    field: str
    value: str
    dollar: bool = True

    def holds(self, fields: Mapping[str, str]) -> bool:
        given = fields.get(self.field)
        if not self.dollar:
            return False
        if self.operator == "eq":
            return given == self.value
        # A field that is not there begins with nothing, which allows it to be left out.
        return (given or "").startswith(self.value)

    def __str__(self) -> str:
        name = f"${self.field}" if self.dollar else self.field
        return json.dumps([self.operator, name, self.value], ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """What a form is held to. ``least`` and ``most`` are the bytes of the file."""

    expires_at: float
    conditions: tuple[FieldCondition, ...]
    least: int = 0
    most: int | None = None

    def check(self, fields: Mapping[str, str], now: float) -> None:
        """Raise AccessDenied unless the fields, the bucket among them, are what it allows."""
        if now >= self.expires_at:
            raise _against("Policy expired.")
        lower = {name.lower(): value for name, value in fields.items()}
        for condition in self.conditions:
            if not condition.holds(lower):
                raise _against(f"Policy Condition failed: {condition}")
        covered = {condition.field for condition in self.conditions} | _UNMENTIONED
        extra = [
            name
            for name in fields
            if name.lower() not in covered and not name.lower().startswith(_IGNORED_PREFIX)
        ]
        if extra:
            raise _against(f"Extra input fields: {', '.join(sorted(extra))}")


def parse_post_policy(text: str) -> PostPolicy:
    """The policy of a ``policy`` field (base64 of JSON); S3Error InvalidPolicyDocument."""
    try:
        document = json.loads(base64.b64decode(text, validate=True).decode("utf-8"))
    except (ValueError, binascii.Error, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    if not isinstance(document.get("expiration"), str):
        raise _invalid("Policy missing expiration.")
    if not isinstance(document.get("conditions"), list):
        raise _invalid("Policy missing conditions.")
    for name in document:
        if name not in ("expiration", "conditions"):
            raise _invalid(f"Unexpected: '{name}'")
    conditions: list[FieldCondition] = []
    least, most = 0, None
    for condition in document["conditions"]:
        if isinstance(condition, list) and condition[:1] == ["content-length-range"]:
            first, last = _range(condition)
            least = max(least, first)
            most = last if most is None else min(most, last)
        else:
            conditions.append(_condition(condition))
    return PostPolicy(_expiration(document["expiration"]), tuple(conditions), least, most)


def _expiration(text: str) -> float:
    try:
        if _EXPIRATION.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        pass
    raise _invalid(f"Invalid 'expiration' value: '{text}'")


def _condition(condition: Any) -> FieldCondition:
    if isinstance(condition, dict):
        if len(condition) != 1:
            raise _invalid(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property "
                "specified."
            )
        ((name, value),) = condition.items()
        if not isinstance(value, str):
            raise _invalid("Invalid Simple-Condition: value must be a string.")
        return FieldCondition("eq", name.lower(), value)
    if not isinstance(condition, list) or len(condition) != 3:
        raise _invalid("Invalid Condition: a condition has three elements.")
    operator, name, value = condition
    if not all(isinstance(part, str) for part in condition):
        raise _invalid("Invalid Condition: its elements must be strings.")
    if operator.lower() not in ("eq", "starts-with"):
        raise _invalid(f"Invalid Condition: unknown operation '{operator}'.")
    dollar = name.startswith("$")
    return FieldCondition(operator.lower(), name.removeprefix("$").lower(), value, dollar)


def _range(condition: list[Any]) -> tuple[int, int]:
    numbers = condition[1:]
    if len(numbers) == 2 and all(_is_size(number) for number in numbers):
        return int(numbers[0]), int(numbers[1])
    raise _invalid("Invalid content-length-range: it has two whole numbers of bytes.")


def _is_size(number: object) -> bool:
    if isinstance(number, str):
        return number.isascii() and number.isdigit() and len(number) < 19
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _invalid(reason: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {reason}", status=400)


def _against(reason: str) -> S3Error:
    return access_denied(f"Invalid according to Policy: {reason}")
