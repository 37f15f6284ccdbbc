"""Every condition operator, against what the IAM User Guide says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from s3posixfs.identity.policy import AccessRequest, Decision, decide, parse_policy

Context = Mapping[str, str | Sequence[str]]


def decision(
    operator: str, key: str, value: Any, context: Context, *, version: str = "2012-10-17"
) -> Decision:
    statement = {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "*",
        "Condition": {operator: {key: value}},
    }
    document = parse_policy(json.dumps({"Version": version, "Statement": statement}))
    request = AccessRequest("s3:GetObject", "arn:aws:s3:::b/k", context)
    return decide(request, identity=[("p", document)])


def holds(operator: str, key: str, value: Any, context: Context) -> bool:
    return decision(operator, key, value, context).allowed


USER, PREFIX, KEYS = "aws:username", "s3:prefix", "s3:max-keys"
NOW, IP, ARN, TAGS = "aws:CurrentTime", "aws:SourceIp", "aws:PrincipalArn", "aws:TagKeys"
ROLE = "arn:aws:iam::123456789012:role/app/reader"

# operator, key, policy value(s), request value, holds
VALUES: list[tuple[str, str, Any, str | Sequence[str], bool]] = [
    ("StringEquals", USER, "alice", "alice", True),
    ("StringEquals", USER, "alice", "Alice", False),
    ("StringEquals", USER, ["bob", "alice"], "alice", True),
    ("StringEquals", USER, "a*", "alice", False),
    ("StringEquals", USER, "a*", "a*", True),
    ("StringEquals", USER, "", "", True),
    ("StringNotEquals", USER, "alice", "alice", False),
    ("StringNotEquals", USER, ["bob", "alice"], "alice", False),
    ("StringNotEquals", USER, ["bob", "carol"], "alice", True),
    ("StringEqualsIgnoreCase", USER, "ALICE", "aLiCe", True),
    ("StringEqualsIgnoreCase", USER, "STRASSE", "straße", True),
    ("StringNotEqualsIgnoreCase", USER, "ALICE", "alice", False),
    ("StringLike", PREFIX, "home/*", "home/", True),
    ("StringLike", PREFIX, "home/*", "home/a/b", True),
    ("StringLike", PREFIX, "home/*", "Home/a", False),
    ("StringLike", PREFIX, "home/?", "home/a", True),
    ("StringLike", PREFIX, "home/?", "home/", False),
    ("StringLike", PREFIX, "*a*b*c*", "xxaxxbxxcxx", True),
    ("StringLike", PREFIX, "*ab", "aab", True),
    ("StringLike", PREFIX, "a*a", "a", False),
    ("StringLike", PREFIX, "a.c", "abc", False),
    ("StringLike", PREFIX, "a*c", "a\nc", True),
    ("StringNotLike", PREFIX, ["secret/*", "s2/*"], "secret/x", False),
    ("StringNotLike", PREFIX, ["secret/*", "s2/*"], "open/x", True),
    ("NumericEquals", KEYS, "10", "10.0", True),
    ("NumericEquals", KEYS, 10, "10", True),
    ("NumericEquals", KEYS, ["9", "10"], "10", True),
    ("NumericNotEquals", KEYS, ["9", "10"], "10", False),
    ("NumericNotEquals", KEYS, "9", "10", True),
    ("NumericLessThan", KEYS, "10", "9", True),
    ("NumericLessThan", KEYS, "10", "10", False),
    ("NumericLessThan", KEYS, "10", "-3.5", True),
    ("NumericLessThanEquals", KEYS, "10", "10", True),
    ("NumericGreaterThan", KEYS, "10", "10", False),
    ("NumericGreaterThan", KEYS, "9", "10", True),
    ("NumericGreaterThanEquals", KEYS, "10", "10", True),
    ("DateEquals", NOW, "2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z", True),
    ("DateEquals", NOW, "2024-01-02T03:04:05Z", "2024-01-02T04:04:05+01:00", True),
    ("DateEquals", NOW, "2024-01-02T03:04:05Z", "1704164645", True),
    ("DateEquals", NOW, "1704164645", "2024-01-02T03:04:05Z", True),
    ("DateEquals", NOW, "2024-01-02", "2024-01-02T00:00:00.000Z", True),
    ("DateNotEquals", NOW, "2024-01-02", "2024-01-02T00:00:00Z", False),
    ("DateLessThan", NOW, "2024-01-02T00:00:00Z", "2024-01-01T23:59:59.999Z", True),
    ("DateLessThan", NOW, "2024-01-02T00:00:00Z", "2024-01-02T00:00:00Z", False),
    ("DateLessThanEquals", NOW, "2024-01-02T00:00:00Z", "2024-01-02T00:00:00Z", True),
    ("DateGreaterThan", NOW, "2024-01-02T00:00:00Z", "2024-01-02T00:00:01Z", True),
    ("DateGreaterThanEquals", NOW, "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z", False),
    ("NumericGreaterThan", "aws:EpochTime", "1704164644", "1704164645", True),
    ("Bool", "aws:SecureTransport", True, "true", True),
    ("Bool", "aws:SecureTransport", "TRUE", "true", True),
    ("Bool", "aws:SecureTransport", "true", "false", False),
    ("Bool", "aws:SecureTransport", ["true", "false"], "false", True),
    ("BinaryEquals", USER, "YWxpY2U=", "alice", True),
    ("BinaryEquals", USER, "YWxpY2U=", "alicf", False),
    ("IpAddress", IP, "192.0.2.0/24", "192.0.2.77", True),
    ("IpAddress", IP, "192.0.2.0/24", "192.0.3.1", False),
    ("IpAddress", IP, "192.0.2.7", "192.0.2.7", True),
    ("IpAddress", IP, "192.0.2.7/24", "192.0.2.9", True),
    ("IpAddress", IP, ["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
    ("IpAddress", IP, "192.0.2.0/24", "::ffff:192.0.2.1", True),
    ("IpAddress", IP, "0.0.0.0/0", "2001:db8::1", False),
    ("NotIpAddress", IP, "192.0.2.0/24", "192.0.2.77", False),
    ("NotIpAddress", IP, ["10.0.0.0/8", "192.0.2.0/24"], "198.51.100.1", True),
    ("NotIpAddress", IP, "192.0.2.0/24", "::ffff:192.0.2.1", False),
    ("ArnLike", ARN, "arn:aws:iam::123456789012:role/*", ROLE, True),
    ("ArnEquals", ARN, "arn:aws:iam::123456789012:role/*", ROLE, True),
    ("ArnLike", ARN, "arn:aws:iam::*:role/app/*", ROLE, True),
    # each field is compared for itself: a wildcard does not reach over a colon
    ("ArnLike", ARN, "arn:aws:*:role/app/reader:x:y", ROLE, False),
    ("ArnLike", ARN, "arn:*:*:*:*:*", ROLE, True),
    ("ArnLike", ARN, "*", ROLE, True),
    ("ArnLike", ARN, "*", "alice", False),
    ("ArnLike", ARN, "arn:aws:iam::123456789012:role/*", "alice", False),
    ("ArnNotLike", ARN, "arn:aws:iam::*:role/app/*", ROLE, False),
    ("ArnNotEquals", ARN, "arn:aws:iam::*:user/*", ROLE, True),
    # several values in the request
    ("ForAllValues:StringEquals", TAGS, ["a", "b"], ("a", "b"), True),
    ("ForAllValues:StringEquals", TAGS, ["a", "b"], ("a", "c"), False),
    ("ForAllValues:StringNotEquals", TAGS, ["a", "b"], ("c", "d"), True),
    ("ForAllValues:StringNotEquals", TAGS, ["a", "b"], ("c", "a"), False),
    ("ForAllValues:StringLike", TAGS, "a*", "ab", True),
    ("ForAnyValue:StringEquals", TAGS, ["a", "b"], ("x", "b"), True),
    ("ForAnyValue:StringEquals", TAGS, ["a", "b"], ("x", "y"), False),
    ("ForAnyValue:StringNotEquals", TAGS, ["a", "b"], ("a", "x"), True),
    ("ForAnyValue:StringNotEquals", TAGS, ["a", "b"], ("a", "b"), False),
    ("StringEquals", TAGS, "a", ("a", "x"), True),
    ("StringNotEquals", TAGS, "a", ("a", "x"), False),
    ("Null", USER, "true", "alice", False),
    ("Null", USER, "false", "alice", True),
    ("Null", USER, "false", "", True),
    ("Null", TAGS, "true", (), True),
    ("Null", USER, ["true", "false"], "alice", True),
]


@pytest.mark.parametrize(("operator", "key", "value", "actual", "expected"), VALUES)
def test_values(
    operator: str, key: str, value: Any, actual: str | Sequence[str], expected: bool
) -> None:
    assert holds(operator, key, value, {key.lower(): actual}) is expected
    if not operator.startswith("Null"):
        assert holds(f"{operator}IfExists", key, value, {key.lower(): actual}) is expected


FAMILIES = {
    "String": ("alice", ["Equals", "EqualsIgnoreCase", "Like"]),
    "Numeric": ("1", ["Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]),
    "Date": ("2024-01-01", ["Equals", "LessThan", "LessThanEquals", "GreaterThan"]),
    "Bool": ("true", [""]),
    "Binary": ("YQ==", ["Equals"]),
    "IpAddress": ("10.0.0.0/8", [""]),
    "Arn": (ROLE, ["Equals", "Like"]),
}
POSITIVE = [(family + kind, value) for family, (value, kinds) in FAMILIES.items() for kind in kinds]
NEGATED = [
    ("StringNotEquals", "alice"),
    ("StringNotEqualsIgnoreCase", "alice"),
    ("StringNotLike", "alice"),
    ("NumericNotEquals", "1"),
    ("DateNotEquals", "2024-01-01"),
    ("NotIpAddress", "10.0.0.0/8"),
    ("ArnNotEquals", ROLE),
    ("ArnNotLike", ROLE),
]


@pytest.mark.parametrize("context", [{}, {USER: ()}], ids=["missing", "no values"])
@pytest.mark.parametrize(
    ("operator", "value", "negated"),
    [(*case, False) for case in POSITIVE] + [(*case, True) for case in NEGATED],
)
def test_a_missing_key(operator: str, value: str, negated: bool, context: Context) -> None:
    assert holds(operator, USER, value, context) is negated
    assert holds(f"{operator}IfExists", USER, value, context)
    assert holds(f"ForAllValues:{operator}", USER, value, context)
    assert not holds(f"ForAnyValue:{operator}", USER, value, context)
    assert holds(f"ForAnyValue:{operator}IfExists", USER, value, context)
    assert holds("Null", USER, True, context)
    assert not holds("Null", USER, False, context)


@pytest.mark.parametrize(
    ("operator", "key", "value", "actual"),
    [
        ("NumericLessThan", KEYS, "10", "many"),
        ("NumericNotEquals", KEYS, "10", "1e1"),
        ("NumericNotEquals", KEYS, "10", "٣"),
        ("NumericNotEquals", KEYS, "10", "9" * 50),
        ("DateGreaterThan", NOW, "2024-01-01", "today"),
        ("DateNotEquals", NOW, "2024-01-01", "2024-02-30T00:00:00Z"),
        ("NotIpAddress", IP, "10.0.0.0/8", "nowhere"),
    ],
)
def test_what_cannot_be_compared_denies(operator: str, key: str, value: str, actual: str) -> None:
    found = decision(operator, key, value, {key.lower(): actual})
    assert (found.allowed, found.reason) == (False, "evaluation failed")


def test_operators_and_keys_are_all_needed() -> None:
    statement = {
        "Effect": "Allow",
        "Action": "*",
        "Resource": "*",
        "Condition": {
            "StringEquals": {USER: "alice", PREFIX: "a"},
            "Bool": {"aws:SecureTransport": True},
        },
    }
    document = parse_policy(json.dumps({"Statement": statement}))
    context = {USER: "alice", PREFIX: "a", "aws:securetransport": "true"}
    for changed in (None, *context):
        request = AccessRequest(
            "s3:GetObject",
            "arn:aws:s3:::b/k",
            {key: ("false" if key == changed else value) for key, value in context.items()},
        )
        assert decide(request, identity=[("p", document)]).allowed is (changed is None)


class TestVariables:
    def test_text_put_in_is_literal(self) -> None:
        for name in ("*", "?", "${aws:userid}", "a*"):
            assert holds(
                "StringLike",
                PREFIX,
                "home/${aws:username}/*",
                {USER: name, PREFIX: f"home/{name}/x"},
            )
            assert not holds(
                "StringLike", PREFIX, "home/${aws:username}/*", {USER: name, PREFIX: "home/ab/x"}
            )

    def test_escapes(self) -> None:
        for text, literal in (("${*}", "*"), ("${?}", "?"), ("${$}", "$")):
            assert holds("StringLike", PREFIX, f"a{text}b", {PREFIX: f"a{literal}b"})
            assert not holds("StringLike", PREFIX, f"a{text}b", {PREFIX: "axb"})
        assert holds(
            "StringEquals", PREFIX, "${$}{aws:username}", {PREFIX: "${aws:username}", USER: "x"}
        )

    def test_defaults(self) -> None:
        value = "${aws:PrincipalTag/team, 'all*'}"
        assert holds("StringLike", PREFIX, value, {PREFIX: "all*"})
        assert not holds("StringLike", PREFIX, value, {PREFIX: "allies"})
        assert holds("StringLike", PREFIX, value, {PREFIX: "red", "aws:principaltag/team": "red"})

    def test_a_variable_without_a_value_matches_nothing(self) -> None:
        for value in ("${aws:userid}", "*${aws:userid}*"):
            assert not holds("StringLike", PREFIX, value, {PREFIX: ""})
            assert not holds("StringLike", PREFIX, value, {PREFIX: "a", "aws:userid": ("a", "b")})
            # In an Allow, which is what holds() asks, not even "differs from it" is true.
            assert not holds("StringNotLike", PREFIX, value, {PREFIX: ""})

    def test_names_have_no_case(self) -> None:
        assert holds("StringEquals", "S3:Prefix", "${AWS:UserName}", {PREFIX: "al", USER: "al"})

    def test_in_an_arn(self) -> None:
        value = "arn:aws:iam::*:user/${aws:username}"
        for name, expected in (("alice", True), ("a:b", True)):
            arn = f"arn:aws:iam::1:user/{name}"
            assert holds("ArnLike", ARN, value, {ARN.lower(): arn, USER: name}) is expected
        assert not holds("ArnLike", ARN, value, {ARN.lower(): "arn:aws:iam::1:user/x", USER: "*"})

    def test_the_old_version_has_none(self) -> None:
        context = {PREFIX: "alice", USER: "alice"}
        for version, expected in (("2008-10-17", False), ("2012-10-17", True)):
            found = decision("StringEquals", PREFIX, "${aws:username}", context, version=version)
            assert found.allowed is expected
        literal = {PREFIX: "${aws:username}"}
        assert decision(
            "StringEquals", PREFIX, "${aws:username}", literal, version="2008-10-17"
        ).allowed
