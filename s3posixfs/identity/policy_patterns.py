"""Texts of a policy that may hold wildcards and variables, and how they match.

Source: the AWS IAM User Guide, "IAM policy elements: Variables and tags" and "Resource".
``*`` is any run of characters (``/`` and ``:`` too), ``?`` any single one. Text put in for a
variable is literal: a user named ``*`` gets no more than the folder ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from s3posixfs.identity.policy_errors import PolicyError
from s3posixfs.identity.policy_keys import is_known_key

Context = Mapping[str, str | Sequence[str]]


class Wildcard(Enum):
    """``*`` and ``?`` where they mean more than themselves."""

    ANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    """``${key}`` or ``${key, 'default'}``; the key is in lower case."""

    key: str
    default: str | None

    def resolve(self, context: Context) -> str | None:
        """The text to put in; ``None`` where the request has no single value and no default."""
        value = context.get(self.key)
        if value is None:
            return self.default
        if isinstance(value, str):
            return value
        # IAM gives lists no text: a value that is not the only one must not stand for the rest.
        return value[0] if len(value) == 1 else None


Token = str | Wildcard | Variable


def unresolved(variables: Iterable[Variable], context: Context) -> bool:
    """Whether one of them has no value in the context of a request."""
    return any(variable.resolve(context) is None for variable in variables)


_VARIABLE = re.compile(r"\s*([^\s,'{}$]+)\s*(?:,\s*'([^'{}]*)'\s*)?")
_ESCAPES = {"*", "?", "$"}


def tokenize(text: str, *, variables: bool, wildcards: bool) -> tuple[Token, ...]:
    """Split ``text`` into literals, wildcards and variables.

    Raises :class:`PolicyError` for a variable that is malformed or names an unknown key.
    """
    tokens: list[Token] = []
    literal: list[str] = []
    position = 0

    def flush() -> None:
        if literal:
            tokens.append("".join(literal))
            literal.clear()

    while position < len(text):
        character = text[position]
        if variables and text.startswith("${", position):
            end = text.find("}", position)
            if end < 0:
                raise PolicyError(f"the variable in '{text}' has no closing brace")
            inner = text[position + 2 : end]
            position = end + 1
            if inner in _ESCAPES:
                literal.append(inner)
                continue
            flush()
            tokens.append(_parse_variable(inner))
            continue
        if wildcards and character in "*?":
            flush()
            tokens.append(Wildcard(character))
        else:
            literal.append(character)
        position += 1
    flush()
    return tuple(tokens)


def _parse_variable(inner: str) -> Variable:
    found = _VARIABLE.fullmatch(inner)
    if found is None:
        raise PolicyError(f"the variable '${{{inner}}}' is malformed")
    key, default = found.group(1).lower(), found.group(2)
    if not is_known_key(key):
        raise PolicyError(f"the variable '${{{inner}}}' names an unknown key")
    return Variable(key, default)


# Between two "*": a literal, or a run of literals and counts of "?".
_Segment = str | tuple[str | int, ...]


def _segments(tokens: Iterable[str | Wildcard]) -> tuple[_Segment, ...]:
    segments: list[_Segment] = []
    current: list[str | int] = []

    def close() -> None:
        if all(isinstance(part, str) for part in current):
            segments.append("".join(str(part) for part in current))
        else:
            segments.append(tuple(current))
        current.clear()

    for token in tokens:
        if token is Wildcard.ANY:
            close()
        elif token is Wildcard.ONE:
            current.append(1)
        elif isinstance(token, str):
            current.append(token)
    close()
    return tuple(segments)


def _length(segment: _Segment) -> int:
    if isinstance(segment, str):
        return len(segment)
    return sum(len(part) if isinstance(part, str) else part for part in segment)


def _stands_at(segment: _Segment, text: str, position: int) -> bool:
    if isinstance(segment, str):
        return text.startswith(segment, position)
    for part in segment:
        if isinstance(part, int):
            position += part
        elif text.startswith(part, position):
            position += len(part)
        else:
            return False
    return position <= len(text)


def _find(segment: _Segment, text: str, position: int) -> int:
    if isinstance(segment, str):
        return text.find(segment, position)
    for start in range(position, len(text) - _length(segment) + 1):
        if _stands_at(segment, text, start):
            return start
    return -1


def _glob(segments: Sequence[_Segment], text: str) -> bool:
    """Match without backtracking: the leftmost place for each middle segment is enough.

    Cost is at most the product of both lengths, whatever the pattern: no request can make
    the store think for long.
    """
    first = segments[0]
    if len(segments) == 1:
        if isinstance(first, str):
            return text == first
        return len(text) == _length(first) and _stands_at(first, text, 0)
    if not _stands_at(first, text, 0):
        return False
    position = _length(first)
    for segment in segments[1:-1]:
        position = _find(segment, text, position)
        if position < 0:
            return False
        position += _length(segment)
    last = segments[-1]
    start = len(text) - _length(last)
    return start >= position and _stands_at(last, text, start)


class Pattern:
    """A compiled text; ``matches`` says whether it matches in the context of a request."""

    __slots__ = ("_segments", "fold", "tokens", "variables")

    def __init__(self, tokens: Sequence[Token], *, fold: bool = False) -> None:
        self.tokens = tuple(tokens)
        self.fold = fold
        # Without variables the segments are the same for every request.
        self._segments: tuple[_Segment, ...] | None = None
        self.variables = tuple(token for token in self.tokens if isinstance(token, Variable))
        if not self.variables:
            self._segments = self._resolve({})

    def _resolve(self, context: Context) -> tuple[_Segment, ...] | None:
        resolved: list[str | Wildcard] = []
        for token in self.tokens:
            text = token.resolve(context) if isinstance(token, Variable) else token
            if text is None:
                return None
            if self.fold and isinstance(text, str):
                text = text.casefold()
            resolved.append(text)
        return _segments(resolved)

    def matches(self, text: str, context: Context) -> bool:
        """A variable without a value matches nothing at all (IAM: "effectively null")."""
        segments = self._segments
        if segments is None:
            segments = self._resolve(context)
            if segments is None:
                return False
        return _glob(segments, text.casefold() if self.fold else text)


def pattern(text: str, *, variables: bool, wildcards: bool = True, fold: bool = False) -> Pattern:
    """Compile ``text``; raises :class:`PolicyError`."""
    return Pattern(tokenize(text, variables=variables, wildcards=wildcards), fold=fold)


ARN_FIELDS = 6


def split_arn(tokens: Sequence[Token]) -> tuple[tuple[Token, ...], ...]:
    """Cut tokens at the first five colons of the literal text (not at those of variables).

    Fewer than six fields come back where the text is no ARN.
    """
    fields: list[list[Token]] = [[]]
    for token in tokens:
        if not isinstance(token, str):
            fields[-1].append(token)
            continue
        pieces = token.split(":", ARN_FIELDS - len(fields))
        if pieces[0]:
            fields[-1].append(pieces[0])
        for piece in pieces[1:]:
            fields.append([piece] if piece else [])
    return tuple(tuple(field) for field in fields)
