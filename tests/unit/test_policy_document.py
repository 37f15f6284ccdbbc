"""Which policies are accepted, and what is said of those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3posixfs.core.errors import OperatorError
from s3posixfs.identity.policy import (
    KNOWN_ACTIONS,
    PREDEFINED,
    PolicyError,
    canonical_action,
    parse_policy,
)

STATEMENT: dict[str, Any] = {
    "Sid": "S1",
    "Effect": "Allow",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::shared/*",
}


def policy(*statements: dict[str, Any], **elements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **elements})


def changed(without: str = "", **elements: Any) -> dict[str, Any]:
    return {key: value for key, value in {**STATEMENT, **elements}.items() if key != without}


def when(operator: str, key: str, value: Any) -> str:
    return policy(changed(Condition={operator: {key: value}}))


ACCEPTED = {
    "plain": policy(STATEMENT),
    "no version": json.dumps({"Statement": STATEMENT}),
    "old version": policy(STATEMENT, Version="2008-10-17"),
    "Policy Generator's Id": policy(STATEMENT, Id="Policy1700000000000"),
    "lists": policy(changed(Action=["s3:Get*", "s3:Put*"], Resource=["*", "arn:aws:s3:::a"])),
    "not action": policy(changed("Action", NotAction="s3:DeleteBucket")),
    "not resource": policy(changed("Resource", NotResource="arn:aws:s3:::secret/*")),
    "any case of action": policy(changed(Action="S3:GETobject")),
    "all actions": policy(changed(Action="*")),
    "question mark": policy(changed(Action="s3:?etObject")),
    "own action": policy(changed(Action="s3posixfs:ListIdentities", Resource="*")),
    "role": policy(changed(Action="sts:AssumeRole", Resource="arn:aws:iam:::user/*")),
    "role in an account": policy(
        changed(Action="sts:AssumeRole", Resource="arn:aws:iam::123456789012:user/bob")
    ),
    "any partition": policy(changed(Resource="arn:*:s3:::shared")),
    "empty condition": policy(changed(Condition={})),
    "numbers and booleans": policy(
        changed(
            Condition={
                "NumericLessThan": {"s3:max-keys": 10},
                "Bool": {"aws:SecureTransport": True},
            }
        )
    ),
    "empty sids": policy(changed(Sid=""), changed(Sid="")),
    "a default": policy(changed(Resource="arn:aws:s3:::b/${aws:PrincipalTag/team, 'none'}/*")),
    "a dollar": policy(changed(Resource="arn:aws:s3:::b/$x$")),
    "a broken variable where there are none": policy(
        changed(Resource="arn:aws:s3:::b/${"), Version="2008-10-17"
    ),
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(text: str) -> None:
    document = parse_policy(text)
    assert parse_policy(document.compact).compact == document.compact
    assert json.loads(document.compact) == json.loads(text)


REFUSED = {
    "no JSON": ("{", "no JSON: .* at line 1, column 2"),
    "not UTF-8": (b"\xff\xfe{}", "UTF-8"),
    "no object": ("[]", "JSON object"),
    "NaN": ('{"Statement": NaN}', "NaN"),
    "infinity": (when("StringEquals", "aws:username", "@").replace('"@"', "1e999"), "number"),
    "deep": ('{"Statement":' + "[" * 100_000, "nesting"),
    "huge number": ('{"Statement":' + "9" * 5_000 + "}", "number"),
    "half a surrogate": (policy(changed(Sid="\ud800")), "surrogate"),
    "unknown top element": (policy(STATEMENT, Statments=[]), "unknown policy element 'Statments'"),
    "case of elements": (policy(STATEMENT, version="2012-10-17"), "'version'"),
    "version": (policy(STATEMENT, Version="2012-10-18"), "Version"),
    "version of a wrong type": (policy(STATEMENT, Version=["2012-10-17"]), "Version"),
    "id": (policy(STATEMENT, Id=1), "Id"),
    "no statement": (policy(), "no Statement"),
    "statement is no object": (policy("x"), "statement 1 is no object"),  # type: ignore[arg-type]
    "sid": (policy(changed(Sid=1)), "statement 1: Sid"),
    "sid over two lines": (policy(changed(Sid="a\nb")), "statement 1: Sid"),
    "same sid": (policy(STATEMENT, STATEMENT), "'S1' is given to more than one"),
    "unknown element": (
        policy(STATEMENT, changed(Sid="X", Actions="s3:*")),
        r"statement 2 \(Sid 'X'\): unknown element 'Actions'",
    ),
    "effect": (policy(changed(Effect="allow")), r"\(Sid 'S1'\): Effect"),
    "no effect": (policy(changed("Effect")), "Effect"),
    "no action": (policy(changed("Action")), "neither Action nor NotAction"),
    "both actions": (policy(changed(NotAction="s3:*")), "both Action and NotAction"),
    "no resource": (policy(changed("Resource")), "neither Resource nor NotResource"),
    "both resources": (policy(changed(NotResource="*")), "both Resource and NotResource"),
    "empty action": (policy(changed(Action=[])), "Action is empty"),
    "empty text": (policy(changed(Action="")), "Action is neither"),
    "action of a wrong type": (policy(changed(Action={"a": 1})), "Action is neither"),
    "unknown action": (
        policy(changed(Action=["s3:GetObject", "s3:GetObjct"])),
        "unknown action 's3:GetObjct'; did you mean s3:GetObject?",
    ),
    "unknown pattern": (policy(changed(Action="s3:Fly*")), "unknown action 's3:Fly"),
    "unknown service": (policy(changed(Action="ec2:*")), "unknown action 'ec2:"),
    "pattern of a service": (policy(changed(Action="s*:GetObject")), "unknown action"),
    "no service": (policy(changed(Action="GetObject")), "SERVICE:ACTION"),
    "unknown not-action": (policy(changed("Action", NotAction="s3:Nope")), "unknown action"),
    "no ARN": (policy(changed(Resource="shared/*")), "neither '\\*' nor an ARN"),
    "short ARN": (policy(changed(Resource="arn:aws:s3:*")), "neither '\\*' nor an ARN"),
    "other partition": (policy(changed(Resource="arn:aws-cn:s3:::x")), "partition"),
    "other service": (policy(changed(Resource="arn:aws:ec2:::x")), "services"),
    "account": (policy(changed(Resource="arn:aws:s3::123456789012:x")), "account"),
    "no name": (policy(changed(Resource="arn:aws:s3:::")), "names nothing"),
    "open variable": (policy(changed(Resource="arn:aws:s3:::${aws:username")), "closing brace"),
    "empty variable": (policy(changed(Resource="arn:aws:s3:::${}")), "malformed"),
    "unquoted default": (policy(changed(Resource="arn:aws:s3:::${aws:username, x}")), "malformed"),
    "unknown variable": (policy(changed(Resource="arn:aws:s3:::${aws:user}/*")), "unknown key"),
    "principal": (policy(changed(Principal="*")), "only in a bucket policy"),
    "condition of a wrong type": (policy(changed(Condition=[])), "Condition"),
    "unknown operator": (when("StringIs", "aws:username", "x"), "unknown condition operator"),
    "case of operator": (when("stringequals", "aws:username", "x"), "unknown condition operator"),
    "unknown quantifier": (when("ForSome:StringEquals", "aws:username", "x"), "operator"),
    "Null with IfExists": (when("NullIfExists", "aws:username", True), "operator"),
    "Null with a quantifier": (when("ForAnyValue:Null", "aws:username", True), "operator"),
    "IfExists twice": (when("StringEqualsIfExistsIfExists", "aws:username", "x"), "operator"),
    "Null of text": (when("Null", "aws:username", "yes"), "neither true nor false"),
    "no key": (policy(changed(Condition={"StringEquals": {}})), "names no key"),
    "unknown key": (when("StringEquals", "s3:prefx", "x"), "unknown condition key 's3:prefx'"),
    "tag without a name": (when("StringEquals", "s3:ExistingObjectTag/", "x"), "unknown"),
    "no value": (when("StringEquals", "aws:username", []), "has no value"),
    "value of a wrong type": (when("StringEquals", "aws:username", [None]), "is no string"),
    "same key in two cases": (
        policy(changed(Condition={"StringEquals": {"aws:username": "a", "AWS:Username": "b"}})),
        "twice",
    ),
    "number": (when("NumericEquals", "s3:max-keys", "ten"), "NumericEquals .* is no number"),
    "date": (when("DateLessThan", "aws:CurrentTime", "tomorrow"), "no date"),
    "year or epoch": (when("DateLessThan", "aws:CurrentTime", "2024"), "no date"),
    "month 13": (when("DateLessThan", "aws:CurrentTime", "2024-13-01"), "no date"),
    "bool": (when("Bool", "aws:SecureTransport", "yes"), "neither true nor false"),
    "base64": (when("BinaryEquals", "aws:username", "?"), "base64"),
    "address": (when("IpAddress", "aws:SourceIp", "300.1.1.1"), "IP address"),
    "netmask": (when("IpAddress", "aws:SourceIp", "10.0.0.0/255.0.0.0"), "IP address"),
    "variable in an address": (when("IpAddress", "aws:SourceIp", "${aws:SourceIp}"), "IP"),
    "ARN condition": (when("ArnLike", "aws:PrincipalArn", "alice"), "no ARN"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        parse_policy(text)
    assert isinstance(caught.value, OperatorError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}',
        '{"Statement":[{"Effect":"Deny","Effect":"Allow","Action":"s3:*","Resource":"*"}]}',
        '{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*",'
        '"Condition":{"Bool":{"aws:SecureTransport":true},"Bool":{"aws:SecureTransport":false}}}]}',
    ],
)
def test_a_duplicate_json_key_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="appears twice"):
        parse_policy(text)


def test_the_size_is_that_of_the_compact_json() -> None:
    def of(length: int) -> dict[str, Any]:
        return {
            "Version": "2012-10-17",
            "Statement": [changed(Resource=f"arn:aws:s3:::{'é' * 100}{'x' * length}")],
        }

    base = len(json.dumps(of(0), separators=(",", ":"), ensure_ascii=False).encode())
    fits = parse_policy(json.dumps(of(2048 - base), indent=8))
    assert fits.size == 2048
    message = r"^policy is 2,049 bytes as compact JSON; at most 2,048 are allowed$"
    with pytest.raises(PolicyError, match=message):
        parse_policy(json.dumps(of(2049 - base)))


def test_a_text_that_is_far_too_long_is_refused_unread() -> None:
    with pytest.raises(PolicyError, match="at most 2,048"):
        parse_policy(" " * 300_000 + ACCEPTED["plain"])


def test_bucket_policies() -> None:
    def bucket(**principal: Any) -> str:
        return policy({**STATEMENT, **principal})

    for principal in (
        "*",
        {"AWS": "*"},
        {"AWS": ["arn:aws:iam:::user/alice", "arn:aws:iam::123456789012:user/bob"]},
        {"CanonicalUser": "alice"},
    ):
        parse_policy(bucket(Principal=principal), bucket_policy=True)
    parse_policy(
        bucket(Effect="Deny", NotPrincipal={"AWS": "arn:aws:iam:::user/alice"}), bucket_policy=True
    )
    for elements, message in (
        ({}, "neither Principal nor NotPrincipal"),
        ({"NotPrincipal": "*"}, "only with Effect Deny"),
        ({"Principal": "alice"}, "a principal is"),
        ({"Principal": []}, "a principal is"),
        ({"Principal": {}}, "a principal is"),
        ({"Principal": {"Service": "x"}}, "does not exist here"),
        ({"Principal": {"AWS": []}}, "no list of strings"),
        ({"Principal": {"AWS": "alice"}}, "neither"),
        ({"Principal": {"AWS": "arn:aws:iam:::user/*"}}, "neither"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, "neither"),
    ):
        with pytest.raises(PolicyError, match=message):
            parse_policy(bucket(**elements), bucket_policy=True)
    big = bucket(Principal="*", Resource=[f"arn:aws:s3:::shared/{n}" for n in range(200)])
    parse_policy(big, bucket_policy=True)
    with pytest.raises(PolicyError, match="20,480"):
        parse_policy(
            bucket(Principal="*", Resource=[f"arn:aws:s3:::b/{n}" for n in range(2000)]),
            bucket_policy=True,
        )


@pytest.mark.parametrize(
    ("resource", "outside"),
    [
        ("arn:aws:s3:::shared", None),
        ("arn:aws:s3:::shared/*", None),
        ("arn:aws:s3:::shared2/*", "arn:aws:s3:::shared2/*"),
        ("arn:aws:s3:::shared2", "arn:aws:s3:::shared2"),
        ("arn:aws:s3:::other/shared/*", "arn:aws:s3:::other/shared/*"),
        ("arn:aws:s3:::share*", None),
        ("arn:aws:s3:::*/*", None),
        ("*", None),
    ],
)
def test_a_bucket_policy_is_about_its_bucket(resource: str, outside: str | None) -> None:
    document = parse_policy(policy(changed(Resource=resource, Principal="*")), bucket_policy=True)
    assert document.resource_outside("shared") == outside


def test_the_predefined_policies_are_those_of_the_source_system() -> None:
    assert list(PREDEFINED) == ["readonly", "writeonly", "readwrite"]
    for document in PREDEFINED.values():
        (statement,) = json.loads(document.compact)["Statement"]
        assert document.version == "2012-10-17"
        assert (statement["Effect"], statement["Resource"]) == ("Allow", "arn:aws:s3:::*")
    (readonly,) = PREDEFINED["readonly"].statements
    assert readonly.actions == {
        "s3:listallmybuckets", "s3:listbucket", "s3:listbucketmultipartuploads",
        "s3:listmultipartuploadparts", "s3:getbucketlocation", "s3:getbucketpolicy",
        "s3:getbuckettagging", "s3:getobject",
    }  # fmt: skip
    assert PREDEFINED["writeonly"].statements[0].actions == {"s3:putobject"}
    assert PREDEFINED["readwrite"].statements[0].actions == {
        action for action in KNOWN_ACTIONS if action.startswith("s3:")
    }


def test_actions_have_one_spelling() -> None:
    assert canonical_action("S3:getOBJECT") == "s3:GetObject"
    assert canonical_action("s3:*") is None
    assert canonical_action("s3:GetObjct") is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Statement", "Effect", "Action", "Resource", "Condition", "Sid", "AWS"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from(list(STATEMENT)), JSON_VALUES), st.booleans())
def test_whatever_comes_is_accepted_or_refused(elements: dict[str, Any], bucket: bool) -> None:
    text = policy({**STATEMENT, **elements})
    try:
        document = parse_policy(text, bucket_policy=bucket)
    except PolicyError:
        return
    assert parse_policy(document.compact, bucket_policy=bucket).compact == document.compact


@settings(max_examples=100, deadline=None, database=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_policy_are_refused(text: bytes) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)
