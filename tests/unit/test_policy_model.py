"""The evaluator against a naive one that reads the policy's JSON anew for every question.

The naive one shares no code with the other: regular expressions instead of segments, actions
matched as text instead of looked up, the rules written down one by one.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from s3posixfs.identity.policy import AccessRequest, decide, parse_policy

NaiveContext = dict[str, str | tuple[str, ...]]
NEVER = "(?!)"


def regex(text: str, context: NaiveContext, *, variables: bool, wildcards: bool) -> str:
    """A regular expression for a policy's text; NEVER where a variable has no value."""
    tokens = re.findall(r"\$\{[^}]*\}|.", text, re.DOTALL) if variables else list(text)
    parts = []
    for token in tokens:
        if len(token) > 1:
            inner = token[2:-1]
            if inner in "*?$":
                parts.append(re.escape(inner))
                continue
            key, comma, default = inner.partition(",")
            value = context.get(key.lower())
            if isinstance(value, str):
                parts.append(re.escape(value))
            elif isinstance(value, tuple) and len(value) == 1:
                parts.append(re.escape(value[0]))
            elif comma and value is None:
                parts.append(re.escape(default.strip()[1:-1]))
            else:
                return NEVER
        elif wildcards and token == "*":
            parts.append(".*")
        elif wildcards and token == "?":
            parts.append(".")
        else:
            parts.append(re.escape(token))
    return "".join(parts)


def like(text: str, actual: str, context: NaiveContext, variables: bool) -> bool:
    found = regex(text, context, variables=variables, wildcards=True)
    return re.fullmatch(found, actual, re.DOTALL) is not None


def equal(text: str, actual: str, context: NaiveContext, variables: bool) -> bool:
    found = regex(text, context, variables=variables, wildcards=False)
    return re.fullmatch(found, actual, re.DOTALL) is not None


def one(base: str, expected: str, actual: str, context: NaiveContext, variables: bool) -> bool:
    """Whether one value of the request satisfies a positive operator for one of the policy."""
    if base == "StringEquals":
        return equal(expected, actual, context, variables)
    if base == "StringEqualsIgnoreCase":
        lower = {
            key: value.lower() if isinstance(value, str) else tuple(v.lower() for v in value)
            for key, value in context.items()
        }
        return equal(expected.lower(), actual.lower(), lower, variables)
    if base == "StringLike":
        return like(expected, actual, context, variables)
    if base == "IpAddress":
        return ipaddress.ip_address(actual) in ipaddress.ip_network(expected)
    if base == "Bool":
        return actual == expected
    left, right = float(actual), float(expected)
    return {
        "NumericEquals": left == right,
        "NumericLessThan": left < right,
        "NumericLessThanEquals": left <= right,
        "NumericGreaterThan": left > right,
        "NumericGreaterThanEquals": left >= right,
    }[base]


def unknown(texts: list[str], context: NaiveContext, variables: bool) -> bool:
    """Whether any of a policy's texts can't be made out for want of a variable's value."""
    return variables and any(
        NEVER in regex(text, context, variables=True, wildcards=True) for text in texts
    )


def condition_holds(
    operator: str,
    key: str,
    policy_values: list[str],
    context: NaiveContext,
    variables: bool,
    allows: bool,
) -> bool:
    found = context.get(key)
    request_values = [found] if isinstance(found, str) else list(found or ())
    if operator == "Null":
        return any((value == "true") == (not request_values) for value in policy_values)
    if operator.endswith("IfExists"):
        if not request_values:
            return True
        operator = operator[: -len("IfExists")]
    quantifier, _, base = operator.rpartition(":")
    positive = base.replace("Not", "", 1)
    if quantifier == "ForAllValues" and not request_values:
        return True
    if allows and positive != base and unknown(policy_values, context, variables):
        return False

    def satisfied(value: str) -> bool:
        answers = [one(positive, text, value, context, variables) for text in policy_values]
        return not any(answers) if positive != base else any(answers)

    if quantifier == "ForAllValues":
        return [satisfied(value) for value in request_values].count(False) == 0
    if quantifier == "ForAnyValue":
        return [satisfied(value) for value in request_values].count(True) > 0
    if positive != base:
        return all(satisfied(value) for value in request_values)
    return any(satisfied(value) for value in request_values)


def applies(
    statement: dict[str, Any], action: str, resource: str, context: NaiveContext, variables: bool
) -> bool:
    allows = statement["Effect"] == "Allow"

    def listed(name: str) -> list[str]:
        value = statement[name]
        return value if isinstance(value, list) else [value]

    if "Action" in statement:
        if not any(like(a.lower(), action.lower(), {}, False) for a in listed("Action")):
            return False
    elif any(like(a.lower(), action.lower(), {}, False) for a in listed("NotAction")):
        return False
    if "Resource" in statement:
        if not any(like(r, resource, context, variables) for r in listed("Resource")):
            return False
    else:
        if any(like(r, resource, context, variables) for r in listed("NotResource")):
            return False
        if allows and unknown(listed("NotResource"), context, variables):
            return False
    for operator, keys in statement.get("Condition", {}).items():
        for key, value in keys.items():
            values = value if isinstance(value, list) else [value]
            if not condition_holds(operator, key.lower(), values, context, variables, allows):
                return False
    return True


def naive(
    policies: list[dict[str, Any]],
    session: dict[str, Any] | None,
    action: str,
    resource: str,
    context: NaiveContext,
) -> tuple[bool, str]:
    def effects(policy: dict[str, Any]) -> set[str]:
        variables = policy["Version"] == "2012-10-17"
        return {
            statement["Effect"]
            for statement in policy["Statement"]
            if applies(statement, action, resource, context, variables)
        }

    identity = [effects(policy) for policy in policies]
    limits = [effects(session)] if session is not None else []
    if any("Deny" in found for found in identity + limits):
        return False, "explicit deny"
    if not policies:
        return False, "no policy attached"
    if not any("Allow" in found for found in identity):
        return False, "no statement allows"
    if limits and "Allow" not in limits[0]:
        return False, "session policy does not allow"
    return True, "allowed"


# Few values, so that they meet.
PIECES = st.sampled_from(
    ["a", "b", "/", "*", "?", "home", "${aws:username}", "${aws:userid}", "${*}", "${$}",
     "${aws:PrincipalTag/team, 'a'}"]
)  # fmt: skip
PATTERNS = st.lists(PIECES, min_size=1, max_size=4).map("".join)
TEXTS = st.lists(st.sampled_from(["a", "b", "/", "*", "?", "$", "home", "A"]), max_size=4).map(
    "".join
)
ACTIONS = st.sampled_from(
    ["s3:GetObject", "S3:getobject", "s3:PutObject", "s3:Get*", "s3:?etObject", "s3:*", "*",
     "s3:*Object"]
)  # fmt: skip
RESOURCES = PATTERNS.map(lambda text: f"arn:aws:s3:::{text}") | st.just("*")


def scalar_or_list(values: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=2)


def quantified(*bases: str) -> st.SearchStrategy[str]:
    return st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]),
        st.sampled_from(bases),
        st.sampled_from(["", "IfExists"]),
    )


STRING_KEYS = st.sampled_from(["s3:prefix", "aws:username", "aws:UserId", "aws:TagKeys"])


def block(
    operators: st.SearchStrategy[str], keys: st.SearchStrategy[str], values: st.SearchStrategy[str]
) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(
        operators, st.dictionaries(keys, scalar_or_list(values), min_size=1, max_size=2)
    )


CONDITIONS = st.lists(
    st.one_of(
        block(
            quantified(
                "StringEquals", "StringNotEquals", "StringLike", "StringNotLike",
                "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase",
            ),
            STRING_KEYS,
            PATTERNS,
        ),
        block(
            quantified(
                "NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals",
                "NumericGreaterThan", "NumericGreaterThanEquals",
            ),
            st.just("s3:max-keys"),
            st.sampled_from(["1", "2", "2.0", "-3"]),
        ),
        block(
            quantified("IpAddress", "NotIpAddress"),
            st.just("aws:SourceIp"),
            st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "::/0", "10.1.2.3"]),
        ),
        block(
            quantified("Bool"), st.just("aws:SecureTransport"), st.sampled_from(["true", "false"])
        ),
        block(
            st.just("Null"),
            st.sampled_from(["s3:prefix", "s3:max-keys", "aws:TagKeys"]),
            st.sampled_from(["true", "false"]),
        ),
    ),
    max_size=2,
).map(dict)  # fmt: skip


@st.composite
def statements(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    found[draw(st.sampled_from(["Action", "Action", "NotAction"]))] = draw(scalar_or_list(ACTIONS))
    found[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(
        scalar_or_list(RESOURCES)
    )
    if draw(st.booleans()):
        found["Condition"] = draw(CONDITIONS)
    return found


POLICIES = st.fixed_dictionaries(
    {
        "Version": st.sampled_from(["2012-10-17", "2012-10-17", "2008-10-17"]),
        "Statement": st.lists(statements(), min_size=1, max_size=3),
    }
)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "aws:username": TEXTS,
        "aws:userid": TEXTS | st.lists(TEXTS, max_size=2).map(tuple),
        "aws:principaltag/team": TEXTS,
        "s3:prefix": TEXTS,
        "aws:tagkeys": st.lists(TEXTS, max_size=3).map(tuple),
        "s3:max-keys": st.sampled_from(["1", "2", "3"]),
        "aws:sourceip": st.sampled_from(["10.1.2.3", "10.2.0.1", "192.0.2.1", "2001:db8::1"]),
        "aws:securetransport": st.sampled_from(["true", "false"]),
    },
)


@settings(max_examples=600, deadline=None, database=None)
@given(
    policies=st.lists(POLICIES, max_size=2),
    session=st.none() | POLICIES,
    action=st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "sts:AssumeRole"]),
    name=TEXTS,
    context=CONTEXTS,
)
def test_the_naive_evaluator_agrees(
    policies: list[dict[str, Any]],
    session: dict[str, Any] | None,
    action: str,
    name: str,
    context: NaiveContext,
) -> None:
    resource = f"arn:aws:s3:::{name}"
    found = decide(
        AccessRequest(action, resource, context),
        identity=[(str(n), parse_policy(json.dumps(p))) for n, p in enumerate(policies)],
        session=None if session is None else parse_policy(json.dumps(session)),
    )
    assert (found.allowed, found.reason) == naive(policies, session, action, resource, context)


@settings(max_examples=500, deadline=None, database=None)
@given(pattern=PATTERNS, text=TEXTS, context=CONTEXTS)
def test_patterns_match_as_regular_expressions_do(
    pattern: str, text: str, context: NaiveContext
) -> None:
    statement = {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{pattern}",
    }
    document = parse_policy(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    request = AccessRequest("s3:GetObject", f"arn:aws:s3:::{text}", context)
    expected = like(pattern, text, context, True)
    assert decide(request, identity=[("p", document)]).allowed is expected
