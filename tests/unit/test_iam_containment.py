"""Whether a policy gives no more than another: the cases, and a search for counterexamples."""

from __future__ import annotations

import itertools
import random

import pytest

from s3posixfs.identity.policy import AccessRequest, PolicyDocument, decide, parse_policy
from s3posixfs.store.iam.containment import within
from tests.store.iam_kit import allow, deny, policy

S3 = "arn:aws:s3:::"


def compiled(*statements: dict[str, object]) -> PolicyDocument:
    return parse_policy(policy(*statements))


BOTH = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "Bool": {"aws:SecureTransport": "true"}}
TLS = {"Bool": {"aws:SecureTransport": "true"}}
OWN_HOME = f"{S3}home/${{aws:username}}/*"

WITHIN = {
    "the same": (compiled(allow("s3:*")), compiled(allow("s3:*"))),
    "fewer actions": (compiled(allow("s3:Get*", on=f"{S3}b/*")), compiled(allow("s3:*"))),
    "a narrower pattern": (
        compiled(allow("s3:*", on=f"{S3}b/x?*/y*")),
        compiled(allow("s3:*", on=f"{S3}b/*")),
    ),
    "a question mark under a question mark": (
        compiled(allow("s3:*", on=f"{S3}b/?")),
        compiled(allow("s3:*", on=f"{S3}b/?")),
    ),
    "from two statements": (
        compiled(allow("s3:GetObject", "s3:PutObject", on=f"{S3}b/k")),
        compiled(allow("s3:GetObject", on=f"{S3}b/*"), allow("s3:PutObject", on=f"{S3}b/*")),
    ),
    "another condition more": (
        compiled(allow("s3:*", Condition=BOTH)),
        compiled(allow("s3:*", Condition=TLS)),
    ),
    "the denial kept": (
        compiled(allow("s3:*"), deny("s3:PutObject", on=f"{S3}b/*", Sid="Mine")),
        compiled(allow("s3:*"), deny("s3:PutObject", on=f"{S3}b/*", Sid="Theirs")),
    ),
    "a denial of other things": (
        compiled(allow("s3:GetObject")),
        compiled(allow("s3:*"), deny("s3:PutObject")),
    ),
    "nothing": (compiled(deny("s3:*")), compiled(deny("s3:*"))),
}
NOT_WITHIN = {
    "more actions": (compiled(allow("s3:*")), compiled(allow("s3:Get*"))),
    "all resources": (compiled(allow("s3:*")), compiled(allow("s3:*", on=f"{S3}*"))),
    "a wider pattern": (
        compiled(allow("s3:*", on=f"{S3}b*")),
        compiled(allow("s3:*", on=f"{S3}b/*")),
    ),
    "a star under a question mark": (
        compiled(allow("s3:*", on=f"{S3}b/*")),
        compiled(allow("s3:*", on=f"{S3}b/?")),
    ),
    "a condition dropped": (
        compiled(allow("s3:*", Condition=TLS)),
        compiled(allow("s3:*", Condition=BOTH)),
    ),
    "a condition on who asks": (
        compiled(allow("s3:*", Condition={"StringNotEquals": {"aws:username": "eve"}})),
        compiled(allow("s3:*", Condition={"StringNotEquals": {"aws:username": "eve"}})),
    ),
    "a variable": (compiled(allow("s3:*", on=OWN_HOME)), compiled(allow("s3:*", on=OWN_HOME))),
    "the denial dropped": (
        compiled(allow("s3:*")),
        compiled(allow("s3:*"), deny("s3:PutObject", on=f"{S3}b/*")),
    ),
    "a denial of the caller's": (
        compiled(allow("s3:*"), deny("s3:*", on=OWN_HOME)),
        compiled(allow("s3:*"), deny("s3:*", on=OWN_HOME)),
    ),
    "NotResource": (
        compiled({"Effect": "Allow", "Action": "s3:*", "NotResource": f"{S3}b/*"}),
        compiled({"Effect": "Allow", "Action": "s3:*", "NotResource": f"{S3}b/*"}),
    ),
    "a literal star": (
        compiled(allow("s3:*", on=f"{S3}b/*")),
        compiled(allow("s3:*", on=f"{S3}b/${{*}}")),
    ),
}


@pytest.mark.parametrize("name", WITHIN)
def test_within(name: str) -> None:
    given, held = WITHIN[name]
    assert within(given, [held])


@pytest.mark.parametrize("name", NOT_WITHIN)
def test_not_within(name: str) -> None:
    given, held = NOT_WITHIN[name]
    assert not within(given, [held])


def test_nobody_without_a_policy_gives_anything() -> None:
    assert not within(compiled(allow("s3:GetObject")), [])


def test_no_request_is_allowed_by_what_is_within_and_not_by_what_is_held() -> None:
    choose = random.Random(3)
    actions = ["s3:GetObject", "s3:PutObject", "s3:Get*", "s3:*"]
    names = ["*", "b*", "b/*", "b/a*", "b/?", "b/a?", "b/a", "*/a", "?/*"]
    resources = [*(f"{S3}{name}" for name in names), "*"]
    conditions = [None, TLS, BOTH]

    def statement() -> dict[str, object]:
        make = choose.choice([allow, allow, allow, deny])
        condition = choose.choice(conditions)
        more = {} if condition is None else {"Condition": condition}
        return make(choose.choice(actions), on=choose.choice(resources), **more)

    requests = [
        AccessRequest(action, f"{S3}{key}", {**context, "aws:sourceip": ip}, None)
        for action, key, context, ip in itertools.product(
            ["s3:GetObject", "s3:PutObject"],
            ["b", "b/a", "b/ab", "b/c", "c/a", "bb/*", "b/*", "b/?"],
            [{}, {"aws:securetransport": "true"}],
            ["10.1.1.1", "192.0.2.1"],
        )
    ]
    contained = 0
    for _ in range(3_000):
        given = compiled(*(statement() for _ in range(choose.randint(1, 2))))
        held = compiled(*(statement() for _ in range(choose.randint(1, 3))))
        if not within(given, [held]):
            continue
        contained += 1
        for request in requests:
            if decide(request, identity=[("g", given)], session=None, bucket=None).allowed:
                decision = decide(request, identity=[("h", held)], session=None, bucket=None)
                assert decision.allowed, (given.compact, held.compact, request)
    assert contained > 100
