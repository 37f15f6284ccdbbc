"""10,000 random policies and requests: the evaluator and the naive one agree on every one.

``S3POSIXFS_POLICIES=1000000 pytest tests/unit/test_policy_campaign.py`` goes on for longer.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

from s3posixfs.identity.policy import AccessRequest, decide, parse_policy
from tests.unit.test_policy_model import NaiveContext, naive

COUNT = int(os.environ.get("S3POSIXFS_POLICIES", "10000"))
ARN = "arn:aws:s3:::"
TEXTS = ("a", "b", "a/b", "home/alice/x", "home/bob/y", "*", "A", "red", "a/?", "$a", "", "alice")
PATTERNS = (
    "a", "b", "a/b", "home/${aws:username}/*", "*", "a*", "?", "${aws:username}", "*/b", "home/*/x",
    "${aws:PrincipalTag/team, 'red'}", "${*}", "a/${?}", "${$}a", "A", "${aws:userid}", "h?me/*",
    "${aws:PrincipalTag/none}",
)  # fmt: skip
ACTIONS = (
    "s3:GetObject", "S3:getobject", "s3:Get*", "s3:?etObject", "s3:*", "*", "s3:ListBucket",
    "s3:List*", "s3:PutObject", "s3:*Bucket*",
)  # fmt: skip
RESOURCES = (
    "*", *(ARN + text for text in (
        "bkt", "bkt/*", "*", "b*", "bkt/a*", "bkt/home/${aws:username}/*", "bkt/?", "other/*",
        "bkt/${aws:PrincipalTag/team, 'a'}", "bkt/${*}", "BKT/*", "b?t/a/b",
    )),
)  # fmt: skip
STRINGS = tuple(
    f"String{kind}" for kind in (
        "Equals", "NotEquals", "Like", "NotLike", "EqualsIgnoreCase", "NotEqualsIgnoreCase"
    )
)  # fmt: skip
NUMBERS = tuple(
    f"Numeric{kind}" for kind in (
        "Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"
    )
)  # fmt: skip
KEYS = ("aws:username", "aws:userid", "aws:UserAgent", "aws:TagKeys", "s3:prefix")


class Generator:
    """Random policies and requests; few values, so that they meet."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def some(self, values: tuple[str, ...]) -> Any:
        """One value, or a list of up to three."""
        if self.chance.random() < 0.6:
            return self.chance.choice(values)
        return self.chance.sample(values, min(len(values), self.chance.choice((1, 2, 3))))

    def condition(self) -> tuple[str, dict[str, Any]]:
        chance = self.chance
        kind = chance.randrange(7)
        if kind == 0:
            return "Null", {chance.choice(KEYS): chance.choice(("true", "false"))}
        operator, key, values = (
            (chance.choice(STRINGS), chance.choice(KEYS), PATTERNS)
            if kind < 4
            else (chance.choice(NUMBERS), "s3:max-keys", ("1", "2", "2.0", "-3", "10"))
            if kind == 4
            else (
                chance.choice(("IpAddress", "NotIpAddress")),
                "aws:SourceIp",
                ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32", "0.0.0.0/0"),
            )
            if kind == 5
            else ("Bool", "aws:SecureTransport", ("true", "false"))
        )
        quantifier = chance.choice(("", "", "", "ForAllValues:", "ForAnyValue:"))
        operator = quantifier + operator + chance.choice(("", "", "IfExists"))
        return operator, {key: self.some(values)}

    def statement(self) -> dict[str, Any]:
        chance = self.chance
        found = {
            "Effect": chance.choice(("Allow", "Allow", "Allow", "Deny")),
            chance.choice(("Action", "Action", "Action", "NotAction")): self.some(ACTIONS),
            chance.choice(("Resource", "Resource", "Resource", "NotResource")): self.some(
                RESOURCES
            ),
        }
        if chance.random() < 0.6:
            found["Condition"] = dict(self.condition() for _ in range(chance.choice((1, 1, 2))))
        return found

    def policy(self) -> dict[str, Any]:
        version = "2008-10-17" if self.chance.random() < 0.15 else "2012-10-17"
        count = self.chance.choice((1, 1, 2, 3))
        return {"Version": version, "Statement": [self.statement() for _ in range(count)]}

    def context(self) -> NaiveContext:
        chance = self.chance
        everything: NaiveContext = {
            "aws:username": chance.choice(("alice", "bob", "a*")),
            "aws:userid": chance.choice(TEXTS),
            "aws:useragent": chance.choice(TEXTS),
            "aws:principaltag/team": chance.choice(("red", "a", "b")),
            "aws:sourceip": chance.choice(("10.1.2.3", "10.2.0.1", "192.0.2.1", "2001:db8::1")),
            "aws:securetransport": chance.choice(("true", "false")),
            "aws:tagkeys": tuple(chance.sample(TEXTS, chance.choice((1, 2, 3)))),
            "s3:prefix": chance.choice(TEXTS),
            "s3:max-keys": chance.choice(("1", "2", "10")),
        }
        return {key: value for key, value in everything.items() if chance.random() < 0.7}


def test_the_evaluators_agree_ten_thousand_times() -> None:
    generator = Generator(20130524)
    chance = generator.chance
    allowed = 0
    for _ in range(COUNT):
        policies = [generator.policy() for _ in range(chance.choice((0, 1, 1, 1, 2)))]
        session = generator.policy() if chance.random() < 0.3 else None
        action = chance.choice(("s3:GetObject", "s3:ListBucket", "s3:PutObject"))
        resource = ARN + "bkt" + ("" if action == "s3:ListBucket" else f"/{chance.choice(TEXTS)}")
        context = generator.context()
        found = decide(
            AccessRequest(action, resource, context),
            identity=[(str(n), parse_policy(json.dumps(p))) for n, p in enumerate(policies)],
            session=None if session is None else parse_policy(json.dumps(session)),
        )
        expected = naive(policies, session, action, resource, context)
        assert (found.allowed, found.reason) == expected, (policies, session, resource, context)
        allowed += found.allowed
    assert allowed > COUNT / 20, "hardly anything was allowed: the test shows little"
