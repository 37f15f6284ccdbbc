"""A policy: from JSON text to statements that are ready to be evaluated.

Whatever is not understood is refused here, never ignored later. Source: AWS IAM User Guide,
"Grammar of the IAM JSON policy language".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from s3posixfs.identity.policy_actions import KNOWN_ACTIONS, expand_action
from s3posixfs.identity.policy_conditions import AnyCondition, parse_condition
from s3posixfs.identity.policy_errors import PolicyError
from s3posixfs.identity.policy_patterns import Context, unresolved
from s3posixfs.identity.policy_resources import (
    S3_ARN_PREFIX,
    Principals,
    ResourcePattern,
    parse_principals,
    parse_resource,
    split_resource,
)

MAX_POLICY_BYTES = 2048
MAX_BUCKET_POLICY_BYTES = 20 * 1024
# A text beyond this is refused unread; whitespace does not count towards a policy's size.
_MAX_TEXT_BYTES = 256 * 1024
_MAX_SID = 128
_VERSIONS = ("2012-10-17", "2008-10-17")
_STATEMENT_ELEMENTS = frozenset(
    {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
_PRINCIPAL_ELEMENTS = frozenset({"Principal", "NotPrincipal"})


@dataclass(frozen=True, slots=True)
class Statement:
    """One compiled statement. ``number`` counts from 1 in the order of the policy.

    ``actions`` are the known actions it is about, in lower case, with NotAction worked out.
    """

    number: int
    sid: str | None
    deny: bool
    actions: frozenset[str]
    resources: tuple[ResourcePattern, ...]
    resources_negated: bool
    conditions: tuple[AnyCondition, ...]
    principals: Principals | None = None
    principals_negated: bool = False

    def applies(self, action: str, arn: list[str], context: Context, principal: str | None) -> bool:
        """Whether the statement is about this request; raises EvaluationError.

        ``action`` is in lower case, ``arn`` split into its six fields.
        """
        if action not in self.actions:
            return False
        if (
            self.principals is not None
            and self.principals.matches(principal) is self.principals_negated
        ):
            return False
        if self.resources_negated and not self.deny and self._names_unknown(context):
            return False
        matched = any(resource.matches(arn, context) for resource in self.resources)
        if matched is self.resources_negated:
            return False
        return all(condition.holds(context) for condition in self.conditions)

    def _names_unknown(self, context: Context) -> bool:
        """Whether a resource has a variable without a value: "all but" it must allow nothing."""
        return any(unresolved(resource.name.variables, context) for resource in self.resources)


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A policy as it was accepted: compact JSON and its statements, denials first."""

    compact: str
    version: str
    statements: tuple[Statement, ...] = field(repr=False, compare=False)
    denials: tuple[Statement, ...] = field(repr=False, compare=False)
    allowances: tuple[Statement, ...] = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Bytes of the compact JSON, which is what the limit counts."""
        return len(self.compact.encode())

    def is_alike_below(self, action: str, resource: str) -> bool:
        """Whether all resources that begin with this ARN get the same decision on an action.

        As far as their names go: conditions can look at an object's tags. Never true where it is
        not so; false also where it is too hard to tell.
        """
        arn = split_resource(resource)
        return all(
            pattern.is_alike_below(arn)
            for statement in self.statements
            if action.lower() in statement.actions
            for pattern in statement.resources
        )

    def resource_outside(self, bucket: str) -> str | None:
        """The first resource that can't be of ``bucket``: there a bucket policy has no say.

        A name with wildcards or variables may be of any bucket.
        """
        for statement in self.statements:
            for resource in statement.resources:
                name = resource.text.removeprefix(S3_ARN_PREFIX).partition("/")[0]
                if name != bucket and not any(mark in name for mark in "*?$"):
                    return resource.text
        return None


def parse_policy(text: str | bytes, *, bucket_policy: bool = False) -> PolicyDocument:
    """Compile a policy's JSON; raises :class:`PolicyError` naming the statement at fault.

    ``bucket_policy`` asks for Principal in each statement, which is refused elsewhere, and
    allows 20 KiB instead of 2,048 bytes.
    """
    element = _load(text)
    if not isinstance(element, dict):
        raise PolicyError("a policy is a JSON object")
    compact = _compact(element)
    limit = MAX_BUCKET_POLICY_BYTES if bucket_policy else MAX_POLICY_BYTES
    size = len(compact.encode())
    if size > limit:
        raise PolicyError(
            f"policy is {size:,} bytes as compact JSON; at most {limit:,} are allowed"
        )
    for name in element:
        if name not in ("Version", "Id", "Statement"):
            raise PolicyError(f"unknown policy element '{name}'")
    version = element.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise PolicyError("the policy's Version is neither 2012-10-17 nor 2008-10-17")
    if not isinstance(element.get("Id", ""), str):
        raise PolicyError("the policy's Id is no string")
    parts = element.get("Statement")
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list) or not parts:
        raise PolicyError("the policy has no Statement")
    statements = tuple(
        _parse_statement(number, part, version=version, bucket_policy=bucket_policy)
        for number, part in enumerate(parts, start=1)
    )
    sids = [statement.sid for statement in statements if statement.sid]
    for sid in sids:
        if sids.count(sid) > 1:
            raise PolicyError(f"the Sid '{sid}' is given to more than one statement")
    return PolicyDocument(
        compact,
        version,
        statements,
        tuple(statement for statement in statements if statement.deny),
        tuple(statement for statement in statements if not statement.deny),
    )


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    element = dict(pairs)
    if len(element) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PolicyError(f"the JSON key '{twice}' appears twice in one object")
    return element


def _refuse_constant(name: str) -> object:
    raise PolicyError(f"{name} is no JSON")


def _load(text: str | bytes) -> object:
    if len(text) > _MAX_TEXT_BYTES:
        raise PolicyError(
            f"policy is {len(text):,} bytes of text; at most {MAX_POLICY_BYTES:,} bytes as"
            " compact JSON are allowed"
        )
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        element: object = json.loads(
            text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError:
        raise PolicyError("the policy is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise PolicyError(
            f"the policy is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except (RecursionError, ValueError):
        raise PolicyError("the policy holds a number or a nesting beyond all measure") from None
    return element


def _compact(element: object) -> str:
    try:
        compact = json.dumps(element, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        compact.encode()
    except UnicodeEncodeError:
        raise PolicyError("the policy holds half a surrogate pair") from None
    except (RecursionError, ValueError):
        raise PolicyError("the policy holds a number or a nesting beyond all measure") from None
    return compact


def _strings(element: Mapping[str, object], name: str) -> list[str]:
    value = element[name]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise PolicyError(f"{name} is empty")
    texts = [item for item in values if isinstance(item, str) and item]
    if len(texts) != len(values):
        raise PolicyError(f"{name} is neither a string nor a list of strings")
    return texts


def _one_of(element: Mapping[str, object], name: str, negated: str) -> str:
    if (name in element) == (negated in element):
        problem = "both" if name in element else "neither"
        raise PolicyError(f"has {problem} {name} {'and' if problem == 'both' else 'nor'} {negated}")
    return name if name in element else negated


def _parse_statement(
    number: int, element: object, *, version: str, bucket_policy: bool
) -> Statement:
    label = f"statement {number}"
    if not isinstance(element, dict):
        raise PolicyError(f"{label} is no object")
    sid = element.get("Sid", "")
    if not isinstance(sid, str) or len(sid) > _MAX_SID or not sid.isprintable():
        raise PolicyError(f"{label}: Sid is no printable string of up to {_MAX_SID} characters")
    if sid:
        label = f"{label} (Sid '{sid}')"
    try:
        return _compile(
            number, sid or None, element, variables=version == _VERSIONS[0],
            bucket_policy=bucket_policy,
        )  # fmt: skip
    except PolicyError as error:
        raise PolicyError(f"{label}: {error}") from None


def _compile(
    number: int,
    sid: str | None,
    element: dict[str, object],
    *,
    variables: bool,
    bucket_policy: bool,
) -> Statement:
    for name in element:
        if name in _PRINCIPAL_ELEMENTS and not bucket_policy:
            raise PolicyError(f"{name} belongs only in a bucket policy")
        if name not in _STATEMENT_ELEMENTS and name not in _PRINCIPAL_ELEMENTS:
            raise PolicyError(f"unknown element '{name}'")
    effect = element.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise PolicyError("Effect is neither Allow nor Deny")
    action_element = _one_of(element, "Action", "NotAction")
    resource_element = _one_of(element, "Resource", "NotResource")
    actions = frozenset[str]().union(*map(expand_action, _strings(element, action_element)))
    if action_element == "NotAction":
        actions = KNOWN_ACTIONS - actions
    principals = None
    principals_negated = False
    if bucket_policy:
        principal_element = _one_of(element, "Principal", "NotPrincipal")
        principals_negated = principal_element == "NotPrincipal"
        if principals_negated and effect == "Allow":
            raise PolicyError("NotPrincipal goes only with Effect Deny")
        principals = parse_principals(element[principal_element])
    return Statement(
        number,
        sid,
        effect == "Deny",
        actions,
        tuple(
            parse_resource(text, variables=variables)
            for text in _strings(element, resource_element)
        ),
        resource_element == "NotResource",
        parse_condition(element.get("Condition", {}), variables=variables, allow=effect == "Allow"),
        principals,
        principals_negated,
    )
