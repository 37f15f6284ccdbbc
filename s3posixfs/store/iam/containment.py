"""Whether one policy gives no more than another: nobody gives what they do not have.

That can't be decided of any two policies, so this says yes only where it is plain to see from
the texts, and no everywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from s3posixfs.identity.policy import PolicyDocument, Statement
from s3posixfs.identity.policy_patterns import Variable, Wildcard
from s3posixfs.identity.policy_resources import ResourcePattern

# Stands for a wildcard where a pattern is read as a text: no policy that is compared holds it.
_STAR, _ONE = "\ufdd0", "\ufdd1"
# Of such conditions the same text means another thing for another user.
_ABOUT_THE_CALLER = ("aws:username", "aws:userid", "aws:principal")


def within(given: PolicyDocument, held: Sequence[PolicyDocument]) -> bool:
    """Whether all that ``given`` allows anyone is allowed by the policies in ``held`` as well.

    Every statement of ``held`` that denies must stand in ``given`` too, where it could matter.
    """
    allowances = [
        (statement, _condition(document, statement))
        for document in held
        for statement in document.allowances
    ]
    for statement in given.allowances:
        condition = _condition(given, statement)
        for action in statement.actions:
            holding = [
                (other, wanted)
                for other, wanted in allowances
                if action in other.actions and _is_no_looser(condition, wanted)
            ]
            if not _resources_within(statement, [other for other, _ in holding]):
                return False
    used = frozenset[str]().union(*(statement.actions for statement in given.allowances))
    denied = [_plain(given, statement) for statement in given.denials]
    for document in held:
        for statement in document.denials:
            if statement.actions & used:
                plain = _plain(document, statement)
                if _depends_on_caller(plain) or plain not in denied:
                    return False
    return True


def _resources_within(given: Statement, held: Sequence[Statement]) -> bool:
    held = [statement for statement in held if not statement.resources_negated]
    patterns = [resource for statement in held for resource in statement.resources]
    if any(pattern.service == "*" for pattern in patterns):
        return True
    if given.resources_negated:
        return False
    return all(any(_covers(wide, narrow) for wide in patterns) for narrow in given.resources)


def _covers(wide: ResourcePattern, narrow: ResourcePattern) -> bool:
    if wide.service != narrow.service:
        return False
    tokens = wide.name.tokens
    if any(isinstance(token, Variable) for token in (*tokens, *narrow.name.tokens)):
        return False
    if Wildcard.ONE in tokens and Wildcard.ANY in narrow.name.tokens:
        return False  # "?" would match what stands for "*"
    if any(isinstance(token, str) and (_STAR in token or _ONE in token) for token in tokens):
        return False
    text = "".join(
        _STAR if token is Wildcard.ANY else _ONE if token is Wildcard.ONE else str(token)
        for token in narrow.name.tokens
    )
    return wide.name.matches(text, {})


def _raw(document: PolicyDocument, statement: Statement) -> dict[str, Any]:
    parts = json.loads(document.compact)["Statement"]
    found: dict[str, Any] = (parts if isinstance(parts, list) else [parts])[statement.number - 1]
    return found


def _plain(document: PolicyDocument, statement: Statement) -> str:
    raw = _raw(document, statement)
    raw.pop("Sid", None)
    return json.dumps(raw, sort_keys=True)


def _condition(document: PolicyDocument, statement: Statement) -> frozenset[tuple[str, str, str]]:
    """The tests of a statement, all of which must hold."""
    condition: Mapping[str, Mapping[str, Any]] = _raw(document, statement).get("Condition", {})
    return frozenset(
        (operator, key, json.dumps(values))
        for operator, tests in condition.items()
        for key, values in tests.items()
    )


def _is_no_looser(
    given: frozenset[tuple[str, str, str]], held: frozenset[tuple[str, str, str]]
) -> bool:
    return held <= given and not any(
        _depends_on_caller(f"{key}{values}") for _, key, values in held
    )


def _depends_on_caller(text: str) -> bool:
    return "${" in text or any(name in text.lower() for name in _ABOUT_THE_CALLER)
