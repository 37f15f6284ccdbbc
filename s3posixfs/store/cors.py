"""A bucket's CORS rules: read, checked, written, and which of them a request falls under.

Source: the S3 user guide, "Using cross-origin resource sharing (CORS)", and the API reference,
PutBucketCors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s3posixfs.store import xml
from s3posixfs.store.errors import invalid_request
from s3posixfs.store.response import Headers

MAX_RULES = 100
_METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
_MAX_ID = 255
_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


@dataclass(frozen=True, slots=True)
class CorsRule:
    """One rule; ``max_age`` in seconds."""

    methods: tuple[str, ...]
    origins: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age: int | None = None
    id: str = ""

    def element(self) -> str:
        """The rule as S3 writes it."""
        parts = [xml.leaf("ID", self.id)] if self.id else []
        parts += (xml.leaf("AllowedHeader", name) for name in self.headers)
        parts += (xml.leaf("AllowedMethod", method) for method in self.methods)
        parts += (xml.leaf("AllowedOrigin", origin) for origin in self.origins)
        parts += (xml.leaf("ExposeHeader", name) for name in self.exposed)
        if self.max_age is not None:
            parts.append(xml.leaf("MaxAgeSeconds", self.max_age))
        return f"<CORSRule>{''.join(parts)}</CORSRule>"

    def allowed_origin(self, origin: str) -> str | None:
        """The pattern that ``origin`` falls under."""
        return next((pattern for pattern in self.origins if _matches(pattern, origin)), None)

    def allows_headers(self, names: Sequence[str]) -> bool:
        """Whether each of ``names`` (lower case) may be sent."""
        patterns = [pattern.lower() for pattern in self.headers]
        return all(any(_matches(pattern, name) for pattern in patterns) for name in names)


def _matches(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern``, in which one ``*`` stands for anything."""
    start, star, end = pattern.partition("*")
    if not star:
        return pattern == text
    return len(text) >= len(start) + len(end) and text.startswith(start) and text.endswith(end)


def parse_cors(data: bytes) -> tuple[CorsRule, ...]:
    """The rules of a ``<CORSConfiguration>``; S3Error MalformedXML or InvalidRequest."""
    rules = tuple(_rule(element) for element in xml.parse(data, "CORSConfiguration"))
    if not rules:
        raise xml.malformed()
    if len(rules) > MAX_RULES:
        raise invalid_request(
            f"The number of CORS rules should not exceed allowed limit of {MAX_RULES} rules."
        )
    return rules


def cors_document(rules: Sequence[CorsRule]) -> bytes:
    return xml.document("CORSConfiguration", (rule.element() for rule in rules))


def _rule(element: xml.Element) -> CorsRule:
    if xml.local_name(element) != "CORSRule":
        raise xml.malformed()
    many: dict[str, list[str]] = {
        "AllowedMethod": [],
        "AllowedOrigin": [],
        "AllowedHeader": [],
        "ExposeHeader": [],
    }
    single: dict[str, str] = {}
    for child in element:
        name, text = xml.local_name(child), child.text or ""
        if name in many:
            many[name].append(text)
        elif name in ("ID", "MaxAgeSeconds") and name not in single:
            single[name] = text
        else:
            raise xml.malformed()
    if not many["AllowedMethod"] or not many["AllowedOrigin"]:
        raise xml.malformed()
    _check(many)
    if len(single.get("ID", "")) > _MAX_ID:
        raise invalid_request(f"ID length should not exceed allowed limit of {_MAX_ID}")
    age = single.get("MaxAgeSeconds", "").strip()
    if "MaxAgeSeconds" in single and not (age.isascii() and age.isdigit() and len(age) < 11):
        raise xml.malformed()
    return CorsRule(
        methods=tuple(many["AllowedMethod"]),
        origins=tuple(many["AllowedOrigin"]),
        headers=tuple(many["AllowedHeader"]),
        exposed=tuple(many["ExposeHeader"]),
        max_age=int(age) if age else None,
        id=single.get("ID", ""),
    )


def _check(many: dict[str, list[str]]) -> None:
    for method in many["AllowedMethod"]:
        if method not in _METHODS:
            raise invalid_request(
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            )
    for name in ("AllowedOrigin", "AllowedHeader"):
        for pattern in many[name]:
            if pattern.count("*") > 1:
                raise invalid_request(f'{name} "{pattern}" can not have more than one wildcard.')
    for header in many["ExposeHeader"]:
        if "*" in header:
            raise invalid_request(
                f'ExposeHeader "{header}" contains wildcard. We currently do not support wildcard '
                "for ExposeHeader."
            )


def answer_headers(
    rules: Sequence[CorsRule], origin: str, method: str, asked: Sequence[str]
) -> Headers | None:
    """What the first rule that allows the request adds to its answer; ``None`` without one.

    ``asked`` are the names of ``Access-Control-Request-Headers``.
    """
    names = [name.lower() for name in asked]
    for rule in rules:
        pattern = rule.allowed_origin(origin)
        if pattern is None or method not in rule.methods or not rule.allows_headers(names):
            continue
        headers: Headers = [
            ("Access-Control-Allow-Origin", "*" if pattern == "*" else origin),
            ("Access-Control-Allow-Methods", ", ".join(rule.methods)),
        ]
        if names:
            headers.append(("Access-Control-Allow-Headers", ", ".join(names)))
        if rule.exposed:
            headers.append(("Access-Control-Expose-Headers", ", ".join(rule.exposed)))
        if rule.max_age is not None:
            headers.append(("Access-Control-Max-Age", str(rule.max_age)))
        if pattern != "*":
            headers.append(("Access-Control-Allow-Credentials", "true"))
        headers.append(("Vary", _VARY))
        return headers
    return None
