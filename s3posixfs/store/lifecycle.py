"""A bucket's lifecycle rules: read, checked as S3 does, written, and what falls under them.

There is one storage class and there are no old versions: rules about noncurrent versions are
kept and have nothing to act on, as in a bucket of S3 without versioning; transitions to other
classes are NotImplemented.
Source: the S3 user guide, "Managing the lifecycle of objects", and the API reference,
PutBucketLifecycleConfiguration.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES
from s3posixfs.store import xml
from s3posixfs.store.backend.records import ObjectRecord
from s3posixfs.store.errors import invalid_argument, invalid_request, not_implemented
from s3posixfs.store.headers import http_date
from s3posixfs.store.response import Headers
from s3posixfs.store.tags import MAX_OBJECT_TAGS, checked, tag_of

DAY_SECONDS = 86_400
_MAX_RULES = 1000
_MAX_ID = 255
_ACTIONS = frozenset(
    {"Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"}
)
_TRANSITIONS = frozenset({"Transition", "NoncurrentVersionTransition"})
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?)?")


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """One rule. Sizes in bytes, dates in seconds since the epoch, the rest in days."""

    id: str
    enabled: bool
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    larger_than: int | None = None
    smaller_than: int | None = None
    expire_days: int | None = None
    expire_date: float | None = None
    abort_days: int | None = None

    def expires_at(self, record: ObjectRecord, day: int) -> float | None:
        """When this rule removes the object, in seconds since the epoch; ``None``: never.

        ``day`` is the length of a day in seconds, which only tests shorten.
        """
        if not self.enabled or not self._covers(record):
            return None
        if self.expire_date is not None:
            return self.expire_date
        if self.expire_days is not None:
            return _midnight_after(record.last_modified + self.expire_days * day, day)
        return None

    def aborts_at(self, key: str, initiated: float, day: int) -> float | None:
        """When this rule ends an upload to ``key`` that is still not complete."""
        if not self.enabled or self.abort_days is None or not key.startswith(self.prefix):
            return None
        return _midnight_after(initiated + self.abort_days * day, day)

    def _covers(self, record: ObjectRecord) -> bool:
        return (
            record.key.startswith(self.prefix)
            and all(record.tags.get(name) == value for name, value in self.tags.items())
            and (self.larger_than is None or record.size > self.larger_than)
            and (self.smaller_than is None or record.size < self.smaller_than)
        )


def _midnight_after(moment: float, day: int) -> float:
    return float((int(moment // day) + 1) * day)


def expiration_headers(
    rules: Sequence[LifecycleRule], record: ObjectRecord, day: int = DAY_SECONDS
) -> Headers:
    """``x-amz-expiration`` of the rule that will remove the object first, where one will."""
    found = [
        (moment, rule.id) for rule in rules if (moment := rule.expires_at(record, day)) is not None
    ]
    if not found:
        return []
    moment, name = min(found)
    value = f'expiry-date="{http_date(moment)}", rule-id="{quote(name, safe="")}"'
    return [("x-amz-expiration", value)]


def normalised(data: bytes) -> bytes:
    """A ``<LifecycleConfiguration>`` as it is kept: checked, and every rule with an ID."""
    root = xml.parse(data, "LifecycleConfiguration")
    namespace = root.tag.removesuffix("LifecycleConfiguration")
    for rule in root:
        if xml.local_name(rule) == "Rule" and not (_text(rule, "ID") or "").strip():
            for old in [child for child in rule if xml.local_name(child) == "ID"]:
                rule.remove(old)
            name = xml.Element(f"{namespace}ID")
            name.text = secrets.token_urlsafe(24)
            rule.insert(0, name)
    _rules(root)
    return xml.document("LifecycleConfiguration", (_rendered(child) for child in root))


def parse_lifecycle(data: bytes) -> tuple[LifecycleRule, ...]:
    """The rules of a ``<LifecycleConfiguration>``; S3Error as S3 refuses it."""
    return _rules(xml.parse(data, "LifecycleConfiguration"))


def _rendered(element: xml.Element) -> str:
    name = xml.local_name(element)
    if len(element):
        return f"<{name}>{''.join(_rendered(child) for child in element)}</{name}>"
    return xml.leaf(name, element.text or "")


def _rules(root: xml.Element) -> tuple[LifecycleRule, ...]:
    rules = tuple(_rule(element) for element in root)
    if not 1 <= len(rules) <= _MAX_RULES:
        raise xml.malformed()
    names = [rule.id for rule in rules]
    if len(set(names)) != len(names):
        raise invalid_argument("Rule ID must be unique. Found same ID for more than one rule")
    return rules


def _rule(element: xml.Element) -> LifecycleRule:
    if xml.local_name(element) != "Rule":
        raise xml.malformed()
    found: dict[str, xml.Element] = {}
    for child in element:
        name = xml.local_name(child)
        if name in _TRANSITIONS:
            raise not_implemented(f"{name} of a lifecycle rule: there is one storage class")
        if name in found or name not in _ACTIONS | {"ID", "Prefix", "Filter", "Status"}:
            raise xml.malformed()
        found[name] = child
    name = found["ID"].text or "" if "ID" in found else ""
    if len(name) > _MAX_ID:
        raise invalid_argument(f"ID length should not exceed allowed limit of {_MAX_ID}")
    status = (found["Status"].text or "").strip() if "Status" in found else ""
    if status not in ("Enabled", "Disabled") or ("Prefix" in found) == ("Filter" in found):
        raise xml.malformed()
    if not _ACTIONS & found.keys():
        raise invalid_request("At least one action needs to be specified in a rule")
    scope = _filter(found["Filter"]) if "Filter" in found else _Scope(found["Prefix"].text or "")
    if len(scope.prefix.encode()) > MAX_KEY_BYTES:
        raise invalid_request(f"The maximum size of a prefix is {MAX_KEY_BYTES}.")
    days, date = _expiration(found.get("Expiration"), scope)
    _noncurrent(found.get("NoncurrentVersionExpiration"))
    return LifecycleRule(
        id=name,
        enabled=status == "Enabled",
        prefix=scope.prefix,
        tags=scope.tags,
        larger_than=scope.larger_than,
        smaller_than=scope.smaller_than,
        expire_days=days,
        expire_date=date,
        abort_days=_abort(found.get("AbortIncompleteMultipartUpload"), scope),
    )


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a rule's filter says."""

    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    larger_than: int | None = None
    smaller_than: int | None = None


def _filter(element: xml.Element) -> _Scope:
    if len(element) > 1:
        raise xml.malformed()
    for child in element:
        if xml.local_name(child) == "And":
            if len(child) < 2:
                raise xml.malformed()
            return _conditions(list(child))
    return _conditions(list(element))


def _conditions(elements: Sequence[xml.Element]) -> _Scope:
    texts: dict[str, str] = {}
    tags: list[tuple[str, str]] = []
    for child in elements:
        name = xml.local_name(child)
        if name == "Tag":
            tags.append(tag_of(child))
        elif name in ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan"):
            if name in texts:
                raise xml.malformed()
            texts[name] = child.text or ""
        else:
            raise xml.malformed()
    if len({name for name, _ in tags}) != len(tags):
        raise invalid_request("Duplicate Tag Keys are not allowed.")
    sizes = {name: _whole(text) for name, text in texts.items() if name != "Prefix"}
    larger, smaller = sizes.get("ObjectSizeGreaterThan"), sizes.get("ObjectSizeLessThan")
    if smaller is not None and (smaller < 1 or (larger is not None and larger >= smaller)):
        raise invalid_request("'ObjectSizeLessThan' should be greater than ObjectSizeGreaterThan")
    return _Scope(texts.get("Prefix", ""), checked(tags, MAX_OBJECT_TAGS), larger, smaller)


def _expiration(element: xml.Element | None, scope: _Scope) -> tuple[int | None, float | None]:
    """Days and date of an ``<Expiration>``, of which it has one or neither."""
    if element is None:
        return None, None
    fields = xml.children(element)
    if len(fields) != 1:
        raise xml.malformed()
    ((name, text),) = fields.items()
    if name == "Days":
        return _positive(text, "'Days' for Expiration action must be a positive integer"), None
    if name == "Date":
        return None, _date(text.strip())
    if name != "ExpiredObjectDeleteMarker" or text.strip() not in ("true", "false"):
        raise xml.malformed()
    if scope.tags:
        raise invalid_request("ExpiredObjectDeleteMarker cannot be specified with Tags.")
    return None, None


def _noncurrent(element: xml.Element | None) -> None:
    if element is None:
        return
    fields = xml.children(element)
    if not fields or fields.keys() - {"NoncurrentDays", "NewerNoncurrentVersions"}:
        raise xml.malformed()
    for name, text in fields.items():
        action = "NoncurrentVersionExpiration action must be a positive integer"
        _positive(text, f"'{name}' for {action}")


def _abort(element: xml.Element | None, scope: _Scope) -> int | None:
    if element is None:
        return None
    fields = xml.children(element)
    if fields.keys() != {"DaysAfterInitiation"}:
        raise xml.malformed()
    if scope.tags:
        raise invalid_request("AbortIncompleteMultipartUpload cannot be specified with Tags.")
    if scope.larger_than is not None or scope.smaller_than is not None:
        raise invalid_request(
            "AbortIncompleteMultipartUpload cannot be specified with Object Size."
        )
    return _positive(
        fields["DaysAfterInitiation"],
        "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive "
        "integer",
    )


def _whole(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise xml.malformed()
    return int(text)


def _positive(text: str, otherwise: str) -> int:
    text = text.strip()
    if re.fullmatch(r"[+-]?[0-9]{1,15}", text) is None:
        raise xml.malformed()
    if not 0 < int(text) < 2**31:
        raise invalid_argument(otherwise)
    return int(text)


def _date(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise xml.malformed()
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = moment.timestamp()
    if seconds % DAY_SECONDS:
        raise invalid_argument("'Date' must be at midnight GMT")
    return seconds


def _text(element: xml.Element, name: str) -> str | None:
    return next((child.text for child in element if xml.local_name(child) == name), None)


def no_such_configuration() -> S3Error:
    return S3Error(
        "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist", status=404
    )
